"""Verdicts on clients when they connect, and on certificates.

Kind: core.

The checks of README 3.12.2 (Connect) in their order, until one says something else than cont:
1 ``cltaddr:``; 2 the questions to the DNS blacklists begin; 3 the client's name is looked up;
4 ``cltresolve:``; 5 ``cltname:``; 6 what the blacklists said. A client that is accepted by an
early check is still looked up, because its name stands in Received:; one that is refused is not.
Source: SPEC rows X276 to X283, X302 to X304, X454 to X461; decisions D24 to D28, D62.
"""

from collections.abc import Callable

import attrs

from libsmx.accessrhs import CONT, Action, Rule
from libsmx.wire import ConnVerdict, Verdict
from smar.access import AccessMap
from smar.clientname import ClientName, find_client_name, name_question
from smar.dnsbl import Blacklists
from smar.records import Ahead, Steps
from smar.trace import Trace, step

_NO_LISTS = Blacklists(())
_CERT = Verdict(accept=True)
_CERT_RELAYS = Verdict(accept=True, mark="relay")

FindName = Callable[[str], Steps[ClientName]]


@attrs.frozen
class Connect:
    """Judges clients.

    Attributes:
        access: the access map.
        lists: the DNS blacklists.
        find_name: looks a client's name up.
    """

    access: AccessMap
    lists: Blacklists = _NO_LISTS
    find_name: FindName = find_client_name

    def client(self, client: str, trace: Trace | None = None) -> Steps[ConnVerdict]:
        """Judge a client's address; only for servers with the flag access."""
        step(trace, "connect 1, cltaddr:")
        rule = yield from self.access.client(client, trace)
        if rule.action in (Action.ERROR, Action.DISCARD):
            return verdict(rule, ClientName(""))
        if rule.action is not Action.CONT:
            who = yield from self._who(client, trace)
            return verdict(rule, who)
        if len(self.lists):
            step(trace, "connect 2, DNS blacklists are asked")
            name = name_question(client)
            begun = self.lists.ahead(client)
            if begun:
                yield (*((Ahead(name),) if name is not None else ()), *begun)
        who = yield from self._who(client, trace)
        rule = yield from self._named(who, trace)
        if rule.action is Action.CONT and len(self.lists):
            rule = yield from self._listed(client, trace)
        return verdict(rule, who)

    def _who(self, client: str, trace: Trace | None) -> Steps[ClientName]:
        step(trace, "connect 3, name of the client")
        who = yield from self.find_name(client)
        if trace is not None:
            forged = ", forged" if who.forged else ""
            trace.note(f"cltresolve {who.key}{forged}, cltname {who.name or 'none'}")
        return who

    def _named(self, who: ClientName, trace: Trace | None) -> Steps[Rule]:
        step(trace, "connect 4, cltresolve:")
        rule = yield from self.access.rule("cltresolve", [who.key], trace)
        if rule.action is Action.CONT and who.name:
            step(trace, "connect 5, cltname:")
            rule = yield from self.access.name(who.name, trace)
        return rule

    def _listed(self, client: str, trace: Trace | None) -> Steps[Rule]:
        step(trace, "connect 6, DNS blacklists")
        keys = yield from self.lists.keys(client)
        rule = yield from self.access.keyed(keys, trace)
        return rule or CONT

    def certificate(self, issuer: str, subject: str, trace: Trace | None = None) -> Steps[Verdict]:
        """Judge a verified certificate: may its holder relay? (SPEC rows X280, X281)."""
        step(trace, "certissuer:")
        rule = yield from self.access.keyed([f"certissuer:{issuer}"], trace)
        # An issuer that is not in the map permits nothing: only cont leads to the subject.
        if rule is not None and rule.action is Action.CONT:
            step(trace, "certsubject:")
            rule = yield from self.access.keyed([f"certsubject:{subject}"], trace)
        relays = rule is not None and rule.action is Action.RELAY
        return _CERT_RELAYS if relays else _CERT


def verdict(rule: Rule, who: ClientName) -> ConnVerdict:
    """Return what smtps is told of a client."""
    resolve = who.resolve if who.key else ""
    if rule.action is Action.ERROR:
        return ConnVerdict(
            accept=False,
            code=rule.code,
            status=rule.status,
            text=rule.text,
            mark="quick" if rule.quick else "",
            name=who.name,
            resolve=resolve,
        )
    discard = rule.action is Action.DISCARD
    return ConnVerdict(accept=True, mark=rule.mark, discard=discard, name=who.name, resolve=resolve)
