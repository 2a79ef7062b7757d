"""Verdicts: may this sender or recipient be accepted?

Kind: core.

A sender must be routable, as a bounce would have to be: its domain stands in the mailertable
or has MX or address records; then come ``from:`` and ``mxbadip:``. A recipient must be local
and exist, or the session or ``to:`` must permit relaying; then come protected recipients and
``to:``. Local is a domain whose mailertable entry is ``lmtp:``. Each stage ends at the first check
that says something else than cont; a ``to:`` entry with relay only permits relaying, so that
gateways that list their users this way still greylist.
Source: README 3.12.2; SPEC rows X274, X275, X279, X302, X303, X335, X336, X454, X462 to X473;
decisions D24, D25, D60 to D62; RFC 5321 4.5.1 (postmaster), RFC 7505 4.2.
"""

from functools import lru_cache
from typing import Protocol

from libsmx.accessrhs import CONT, Action, Rule
from libsmx.wire import MailAsk, RcptAsk, Verdict
from smar.access import AccessMap
from smar.lookuporder import client_keys
from smar.mailertable import Mailertable, literal_address
from smar.mx import Exchangers, Failure, Problem, find_addresses, find_exchangers
from smar.protected import Members, Protected, no_members
from smar.records import Steps
from smar.route import domain_of
from smar.trace import Trace, step

SENDER_CODES: dict[Problem, tuple[int, str]] = {
    Problem.NO_DOMAIN: (553, "5.1.8"),
    Problem.NO_HOST: (553, "5.1.8"),
    Problem.NULL_MX: (550, "5.7.27"),
    Problem.UNUSABLE: (553, "5.1.8"),
    Problem.LOOKUP: (451, "4.1.8"),
}

_SENDER_OK = Verdict(accept=True, status="2.1.0")
_RCPT_OK = Verdict(accept=True, status="2.1.5")
_RCPT_LOCAL = Verdict(accept=True, status="2.1.5", local=True)
_NO_RELAY = Verdict(accept=False, code=550, status="5.7.1", text="relaying denied")
_BAD_SENDER = Verdict(accept=False, code=553, status="5.1.7", text="sender address is not valid")
_BAD_RCPT = Verdict(accept=False, code=553, status="5.1.3", text="recipient address is not valid")
_UNSURE_TABLE = Verdict(
    accept=False, code=451, status="4.3.5", text="the mailertable cannot be used for this domain"
)
BUSY = Verdict(accept=False, code=451, status="4.3.2", text="too many address lookups under way")
_QUICK = ("quick:ok", "quick:relay")
_RELAYS = ("relay", "quick:relay")


class Users(Protocol):
    """Who exists in local domains."""

    def refusal(self, address: str, *, sender: bool, trace: Trace | None) -> Steps[Verdict | None]:
        """Return why a local address cannot be accepted, None where it exists.

        Args:
            address: of a local domain.
            sender: it is an envelope's sender, else a recipient.
            trace: told of every lookup.
        """


@lru_cache(maxsize=256)
def rules_of(words: str) -> frozenset[str]:
    """Return the words of a server's configuration."""
    return frozenset(words.split())


def _from_rule(rule: Rule, *, accepted: Verdict) -> Verdict:
    """Return the verdict that a rule other than cont makes."""
    quick = "quick" if rule.quick else ""
    if rule.action is Action.ERROR:
        return Verdict(
            accept=False,
            code=rule.code,
            status=rule.status,
            text=rule.text,
            mark=quick,
            local=accepted.local,
        )
    discard = rule.action is Action.DISCARD
    return Verdict(
        accept=True,
        status=accepted.status,
        local=accepted.local,
        mark=quick if discard else rule.mark,
        discard=discard,
    )


def _unroutable(failure: Failure) -> Verdict:
    code, status = SENDER_CODES.get(failure.problem, (553, "5.1.8"))
    return Verdict(accept=False, code=code, status=status, text=f"sender: {failure.text}")


def _bad_hosts(access: AccessMap, hosts: list[str], trace: Trace | None) -> Steps[Rule]:
    """Look up the addresses of a sender's mail hosts; a literal is an address itself."""
    found = yield from find_addresses([host for host in hosts if literal_address(host) is None])
    addresses = [one for many in found.by_host.values() for one in many]
    addresses += [one for host in hosts if (one := literal_address(host)) is not None]
    for address in dict.fromkeys(addresses):
        rule = yield from access.rule("mxbadip", client_keys(address), trace)
        if rule.action is not Action.CONT:
            return rule
    return CONT


class Checks:
    """Judges addresses.

    Args:
        table: the mailertable.
        hostname: name of this host, lower case; the domain of ``postmaster`` alone.
        access: the access map, None where there is none.
        users: who exists in local domains, None where everybody does.
        members: looks into aliases, for protected recipients.
    """

    def __init__(
        self,
        table: Mailertable,
        hostname: str,
        access: AccessMap | None = None,
        users: Users | None = None,
        members: Members = no_members,
    ) -> None:
        self._table = table
        self._hostname = hostname
        self._access = access
        self._users = users
        self._protected = Protected(access, members) if access is not None else None

    def _map(self, rules: frozenset[str]) -> AccessMap | None:
        """Return the access map if the server asks for it (decision D61)."""
        return self._access if "access" in rules else None

    def sender(self, ask: MailAsk, trace: Trace | None = None) -> Steps[Verdict]:
        """Judge a reverse-path."""
        if not ask.sender:
            return _SENDER_OK
        domain = domain_of(ask.sender, self._hostname)
        if domain is None:
            return _BAD_SENDER
        if ask.facts.mark in _QUICK:
            if trace is not None:
                trace.note(f"no check of the sender: the session is {ask.facts.mark}")
            return _SENDER_OK
        access = self._map(rules_of(ask.facts.rules))
        step(trace, "MAIL 1, is the sender routable?")
        entry = self._table.find(domain)
        if entry is not None and entry.problem:
            return _UNSURE_TABLE
        found: Exchangers | None = None
        if entry is None and literal_address(domain) is None:
            hosts = yield from find_exchangers(domain)
            if isinstance(hosts, Failure):
                return _unroutable(hosts)
            found = hosts
        if entry is not None and entry.local and self._users is not None:
            step(trace, "MAIL 2, does the local sender exist?")
            refusal = yield from self._users.refusal(ask.sender, sender=True, trace=trace)
            if refusal is not None:
                return refusal
        if access is None:
            return _SENDER_OK
        names = [] if entry is not None else found.names if found is not None else [domain]
        return (yield from self._sender_rule(access, ask.sender, names, trace))

    def _sender_rule(
        self, access: AccessMap, sender: str, hosts: list[str], trace: Trace | None
    ) -> Steps[Verdict]:
        """Judge a routable sender by the access map."""
        step(trace, "MAIL 3, from:")
        rule = yield from access.address("from", sender, trace)
        if rule.action is Action.CONT and hosts and access.has("mxbadip"):
            step(trace, "MAIL 4, mxbadip:")
            rule = yield from _bad_hosts(access, hosts, trace)
        if rule.action is Action.CONT:
            return _SENDER_OK
        return _from_rule(rule, accepted=_SENDER_OK)

    def rcpt(self, ask: RcptAsk, trace: Trace | None = None) -> Steps[Verdict]:
        """Judge a forward-path."""
        domain = domain_of(ask.rcpt, self._hostname)
        if domain is None:
            return _BAD_RCPT
        rules, mark = rules_of(ask.facts.rules), ask.facts.mark
        access = self._map(rules)
        entry = self._table.find(domain)
        if entry is not None and entry.problem:
            return _UNSURE_TABLE
        alone = "@" not in ask.rcpt  # <postmaster> is always ours (decision D41)
        local = alone or (entry is not None and entry.local)
        accepted = _RCPT_LOCAL if local else _RCPT_OK
        may_relay = ask.relay or mark in _RELAYS or alone
        rule: Rule | None = None
        if not may_relay and (not local or "lmtp_does_not_imply_relaying" in rules):
            step(trace, "RCPT 1b, is relaying permitted?")
            rule = (yield from access.address("to", ask.rcpt, trace)) if access else CONT
            if rule.action is not Action.RELAY:
                refused = rule.action is Action.ERROR
                return _from_rule(rule, accepted=accepted) if refused else _NO_RELAY
        if local and self._users is not None:
            step(trace, "RCPT 1a, does the local recipient exist?")
            refusal = yield from self._users.refusal(ask.rcpt, sender=False, trace=trace)
            if refusal is not None:
                return refusal
        if access is None or self._protected is None:
            return accepted
        refusal = yield from self._protected.judge(ask.rcpt, ask.sender, ask.client, rules, trace)
        if refusal is not None:
            return refusal
        if mark == "quick:relay" or (mark == "quick:ok" and may_relay):
            if trace is not None:
                trace.note(f"no lookup of to: the session is {mark}")
            return accepted
        if rule is None:
            step(trace, "RCPT 2b, to:")
            rule = yield from access.address("to", ask.rcpt, trace)
        return accepted if rule.action is Action.CONT else _from_rule(rule, accepted=accepted)
