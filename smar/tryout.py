"""Trying out: what would be decided, with every lookup and rule on the way.

Kind: core.

Words of a request:

- ``route ADDRESS``
- ``rcpt CLIENT HELO SENDER RCPT RULES [relay]``: connect, MAIL and RCPT as a server with these
  rules would ask; relay: the session may relay by other means.
- ``map NAME KEY``: one key as it is; with ``address``, ``domain`` or ``client`` before the key the
  lookup order of such; NAME ``access`` is the access map.
- ``dns NAME [TYPE]``: MX unless told otherwise; PTR takes an address.

Nothing is changed: greylisting is named, not carried out.
Source: SPEC rows X437, X454.
"""

from collections.abc import Callable, Sequence

import attrs

from libsmx.accessrhs import BUILT_IN_TAGS
from libsmx.errors import SmxError
from libsmx.maptext import fold
from libsmx.wire import ConnVerdict, Facts, MailAsk, RcptAsk, Route, Verdict
from libsmx.wire_try import TryAnswer
from smar.clientname import name_question
from smar.connect import Connect
from smar.lookuporder import address_keys, client_keys, domain_keys
from smar.mailertable import Entry, Mailertable
from smar.maps import Map, find
from smar.records import Kind, Outcome, Question, Steps
from smar.route import Router, domain_of
from smar.trace import Trace, traced
from smar.verdict import Checks

_KINDS: dict[str, Kind] = {"mx": "MX", "a": "A", "aaaa": "AAAA", "ptr": "PTR"}


MAX_MEMBERS = 100
"""Most addresses shown for which another one stands."""


class TryError(SmxError):
    """The request is not understood."""


@attrs.frozen
class Tryout:
    """What is asked.

    Attributes:
        checks: judges addresses.
        connect: judges clients.
        router: finds routes.
        find_map: returns the map of a name, None where there is none.
        delimiter: address_delimiter.
        table: the mailertable.
        hostname: lower case, the domain of ``postmaster`` alone.
    """

    checks: Checks
    connect: Connect
    router: Router
    find_map: Callable[[str], Map | None]
    delimiter: str
    table: Mailertable
    hostname: str

    def run(self, words: Sequence[str]) -> Steps[TryAnswer]:
        """Answer a request.

        Raises:
            TryError: it is not understood.
        """
        trace = Trace()
        match list(words):
            case ["route", address]:
                steps = self._route(address, trace)
            case ["rcpt", client, helo, sender, rcpt, rules, *relay] if relay in ([], ["relay"]):
                facts = Facts(rules=rules[:128], helo=helo[:255])
                ask = RcptAsk(
                    rcpt=rcpt, client=client, relay=bool(relay), sender=sender, facts=facts
                )
                steps = self._rcpt(ask, trace)
            case ["map", name, *order, key]:
                steps = self._map(self._named(name), self._tagged(order, key), trace)
            case ["dns", name]:
                steps = self._dns(name, "mx", trace)
            case ["dns", name, kind]:
                steps = self._dns(name, kind.lower(), trace)
            case _:
                raise TryError("the request is not understood")
        found = yield from traced(steps, trace)
        return TryAnswer(lines=trace.lines, found=found)

    def _named(self, name: str) -> Map:
        found = self.find_map(name)
        if found is None:
            raise TryError(f"there is no map {name}")
        return found

    def _look_up_route(self, address: str, trace: Trace) -> None:
        """Add what the mailertable says of the domain of an address."""
        domain = domain_of(address, self.hostname) if address else None
        if domain is not None:
            keys = ", ".join(domain_keys(domain, default=True))
            trace.lookup("mailertable", keys, entry_line(self.table.find(domain)))

    def _tagged(self, order: Sequence[str], key: str) -> list[str]:
        """Return the keys to look up; a tag before what is looked up stands before each."""
        tag, colon, rest = key.partition(":")
        if order and colon and tag.lower() in BUILT_IN_TAGS:
            return [f"{tag.lower()}:{one}" for one in self._keys(order, rest)]
        return self._keys(order, key)

    def _keys(self, order: Sequence[str], key: str) -> list[str]:
        match list(order):
            case []:
                return [fold(key)]
            case ["address"]:
                return address_keys(key, delimiter=self.delimiter, local_part=True)
            case ["domain"]:
                return domain_keys(fold(key), default=True)
            case ["client"]:
                return client_keys(key)
            case _:
                raise TryError("the lookup order is address, domain or client")

    def _route(self, address: str, trace: Trace) -> Steps[bool]:
        self._look_up_route(address, trace)
        (route,) = yield from self.router.routes([address], trace)
        for line in route_lines(route):
            trace.result(line)
        if len(route.expand) == 1 and fold(route.expand[0]) != fold(address):
            # An alias of one address: where that goes is what was meant.
            (route,) = yield from self.router.routes([route.expand[0]], trace)
            for line in route_lines(route):
                trace.result(line)
        return not route.code

    def _rcpt(self, ask: RcptAsk, trace: Trace) -> Steps[bool]:
        facts = ask.facts
        if "access" in facts.rules.split():
            client = yield from self.connect.client(ask.client, trace)
            trace.result(f"connect: {verdict_line(client)}")
            if not client.accept:
                return False
            facts = attrs.evolve(
                facts, mark=client.mark, client_name=client.name, resolve=client.resolve
            )
            ask = attrs.evolve(ask, facts=facts)  # type: ignore[misc]
        self._look_up_route(ask.sender, trace)
        sender = yield from self.checks.sender(
            MailAsk(sender=ask.sender, client=ask.client, facts=facts), trace
        )
        trace.result(f"MAIL: {verdict_line(sender)}")
        self._look_up_route(ask.rcpt, trace)
        verdict = yield from self.checks.rcpt(ask, trace)
        trace.result(f"RCPT: {verdict_line(verdict)}")
        return sender.accept and verdict.accept

    def _map(self, source: Map, keys: list[str], trace: Trace) -> Steps[bool]:
        found = yield from find(source, keys, trace)
        if found is None:
            trace.result("no key is in the map")
        elif found.unsure:
            trace.result(f"cannot be told for now: {found.unsure}")
        else:
            trace.result(f"{found.key} is in the map: {found.value}")
        return found is not None and not found.unsure

    def _dns(self, name: str, kind: str, trace: Trace) -> Steps[bool]:
        if kind not in _KINDS:
            raise TryError(f"type {kind} is none of MX, A, AAAA, PTR")
        question: Question | None = Question(name.lower().rstrip("."), _KINDS[kind])
        if kind == "ptr" and not name.lower().rstrip(".").endswith(".arpa"):
            question = name_question(name)
        if question is None:
            raise TryError(f"{name} is no address")
        (answer,) = yield (question,)
        trace.result(f"lifetime {answer.ttl_s:g} s")
        return answer.outcome is Outcome.FOUND


def entry_line(entry: Entry | None) -> str | None:
    """Return an entry of the mailertable for people."""
    if entry is None or entry.problem:
        return f"cannot be used: {entry.problem}" if entry else None
    if entry.local:
        return "lmtp: (local)"
    hosts = " ".join(host.name for host in entry.hosts)
    return f"{entry.port}^{'lmtp' if entry.lmtp else 'esmtp'}:{hosts}"


def route_lines(route: Route) -> list[str]:
    """Return a route for people."""
    if route.code:
        return [f"no route: {route.code} {route.status} {route.text}"]
    if route.expand:
        owner = f", mailed in the name of {route.owner}" if route.owner else ""
        shown = [f"  {one}" for one in route.expand[:MAX_MEMBERS]]
        if len(route.expand) > MAX_MEMBERS:
            shown.append(f"  and {len(route.expand) - MAX_MEMBERS} more")
        return [f"stands for {len(route.expand)}{owner}", *shown]
    lines = [f"destination {route.dest}" + (" by LMTP" if route.lmtp else "")]
    for number, target in enumerate(route.targets, 1):
        place = f"[{target.address}]:{target.port}" if target.address else "the LMTP socket"
        lines.append(f"  {number}. {target.host} {place}")
    return lines


def verdict_line(verdict: Verdict | ConnVerdict) -> str:
    """Return a verdict for people."""
    if not verdict.accept:
        at_once = " at once" if verdict.mark == "quick" else ""
        return f"refused{at_once}: {verdict.code} {verdict.status} {verdict.text}"
    words = ["accepted and discarded" if verdict.discard else "accepted"]
    if verdict.mark:
        words.append(verdict.mark)
    if isinstance(verdict, Verdict) and verdict.local:
        words.append("local")
    return ", ".join(words)
