"""Protected recipients: who may send to them.

Kind: core.

An entry ``protectedrcpt:ADDRESS`` of the access map lists restrictions; the first one that the
sender or the client fulfils lets the mail pass, and where none does the recipient is refused.
A restriction counts only if the server's section allows its kind.
Source: README 3.10.2; SPEC rows X394 to X408, X470; decisions D33, D34.
"""

from collections.abc import Callable

import attrs

from libsmx.accessrhs import Restriction, parse_restrictions
from libsmx.maptext import fold
from libsmx.wire import Verdict
from smar.access import AccessMap
from smar.lookuporder import client_keys
from smar.records import Steps
from smar.trace import Trace, step

REFUSED = Verdict(
    accept=False, code=550, status="5.7.1", text="you may not send mail to this address"
)
UNSURE = Verdict(
    accept=False, code=451, status="4.3.0", text="access rules cannot be looked up now"
)
_SENDER = frozenset({"allow_by_sender", "sender"})
_CLIENT = frozenset({"allow_by_client_ip", "client_ip"})

Members = Callable[[str, Trace | None], Steps[list[str] | None]]
"""(alias, trace) -> the addresses that stand in it, None where there is no such alias."""


def no_members(_alias: str, _trace: Trace | None) -> Steps[list[str] | None]:
    """Return None: there are no aliases."""
    yield from ()  # a generator, as every source of members
    return None


@attrs.frozen
class Protected:
    """Judges by restrictions.

    Attributes:
        access: the access map.
        members: looks into aliases.
    """

    access: AccessMap
    members: Members = no_members

    def judge(
        self, rcpt: str, sender: str, client: str, rules: frozenset[str], trace: Trace | None
    ) -> Steps[Verdict | None]:
        """Return the refusal of a recipient, None where it is not protected or may be sent to.

        Args:
            rcpt: the recipient.
            sender: the envelope's sender, "" for the null path.
            client: address of the client.
            rules: words of the server's configuration.
            trace: told of every lookup.
        """
        if not rules & (_SENDER | _CLIENT):
            return None
        step(trace, "RCPT 2a, protectedrcpt:")
        implicit = "implicitly_match_detail" in rules
        keys = self.access.keys_of(rcpt, implicit_detail=implicit)
        try:
            value = yield from self.access.value("protectedrcpt", keys, trace)
        except LookupError:
            return UNSURE
        if value is None:
            return None
        try:
            restrictions = parse_restrictions(value)
        except ValueError as error:
            self.access.on_odd(f"protectedrcpt:{rcpt}", value, str(error))
            return REFUSED
        for one in restrictions:
            fulfilled = yield from self._fulfils(one, sender, client, rules, trace)
            if trace is not None:
                trace.note(f"{one.kind}:{one.value or '<>'} {'yes' if fulfilled else 'no'}")
            if fulfilled:
                return None
        return REFUSED

    def _fulfils(
        self,
        one: Restriction,
        sender: str,
        client: str,
        rules: frozenset[str],
        trace: Trace | None,
    ) -> Steps[bool]:
        if one.kind == "cltaddr":
            return bool(rules & _CLIENT) and one.value in self._client_keys(client, rules)
        if not rules & _SENDER:
            return False
        mine = self._sender_keys(sender, rules)
        if one.kind == "from":
            return (one.value or "<>") in mine
        members = yield from self.members(one.value, trace)
        return any(fold(member) in mine for member in members or ())

    def _sender_keys(self, sender: str, rules: frozenset[str]) -> list[str]:
        """Return what a restriction may say to mean this sender."""
        if not sender:
            return ["<>"]
        if "implicitly_match_detail" in rules or "generic_lookup" in rules:
            implicit = "implicitly_match_detail" in rules
            return self.access.keys_of(sender, implicit_detail=implicit)
        return [fold(sender)]

    def _client_keys(self, client: str, rules: frozenset[str]) -> list[str]:
        keys = client_keys(client)
        generic = "implicitly_match_detail" in rules or "generic_lookup" in rules
        if generic:
            return keys
        # The address in full, IPv6 in its short form and in all its groups.
        return [key for key in keys if key.count(".") == 3 or key.count(":") == 8 or key == keys[0]]
