"""Routes: from a recipient to the destination and the addresses to try.

Kind: core.

Aliases go first: a recipient that stands for others has no route, the others have. Then the
mailertable decides, and the DNS where it is silent. A destination's key is made of
mailer, port and host names in an order that does not depend on chance, so that all domains
behind the same hosts share one destination.
Limits: MAX_TARGETS addresses a route, MAX_DEST characters a key.
Source: SPEC rows X312 to X320, decision D39; RFC 5321 5.1.
"""

import hashlib

import attrs

from libsmx.address import AddressError, parse_mailbox
from libsmx.idn import to_a_labels
from libsmx.wire import MAX_TARGETS, Route, Target
from smar.aliases import MAX_BYTES, AliasError, Aliases
from smar.mailertable import (
    SMTP_PORT,
    Entry,
    Host,
    HostKind,
    Mailertable,
    format_literal,
    literal_address,
)
from smar.mx import Exchangers, Failure, Problem, find_addresses, find_exchangers
from smar.records import Steps, together
from smar.site import Site
from smar.trace import Trace

MAX_DEST = 200
RANKS, MAX_RANK = 1000, 100_000
"""Ranks of targets that each host of an entry has, and all of them."""
MAX_FIXED = 10_000
"""Most routes that are kept because they need no look-up."""
MAX_TEXT = 300
LOCAL_DEST = "lmtp:"
"""Key of the local LMTP socket."""

RCPT_CODES: dict[Problem, tuple[int, str]] = {
    Problem.NO_DOMAIN: (550, "5.1.2"),
    Problem.NO_HOST: (550, "5.1.2"),
    Problem.NULL_MX: (556, "5.1.10"),
    Problem.UNUSABLE: (550, "5.4.4"),
    Problem.SELF: (554, "5.3.5"),
    Problem.LOOKUP: (451, "4.4.3"),
}
"""What a recipient's client is told; RFC 3463, RFC 7505 4.1."""


@attrs.frozen
class _Found:
    """What one host of an entry came to."""

    names: list[str]
    """For the destination's key."""
    targets: list[Target]
    failure: Failure | None = None


def domain_of(address: str, hostname: str) -> str | None:
    """Return the domain that decides on an address, in A-labels; None when it is no address.

    Args:
        address: without brackets; ``postmaster`` alone is that of this host (RFC 5321 4.5.1).
        hostname: name of this host, lower case.
    """
    try:
        domain = parse_mailbox(address, utf8=True).domain or hostname
    except AddressError:
        return None
    return to_a_labels(domain)


def dest_key(*, lmtp: bool, port: int, names: list[str]) -> str:
    """Return the key of a destination, at most MAX_DEST characters."""
    key = f"{'lmtp' if lmtp else 'esmtp'}:{port}:{'+'.join(names)}"
    if len(key) <= MAX_DEST:
        return key
    tail = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return f"{key[: MAX_DEST - len(tail) - 1]}#{tail}"


def no_route(domain: str, code: int, status: str, text: str) -> Route:
    """Return the route of a recipient that has none."""
    key = dest_key(lmtp=False, port=SMTP_PORT, names=[domain])
    return Route(dest=key, targets=[], code=code, status=status, text=text)


class Router:
    """Finds routes.

    Args:
        table: the mailertable.
        site: this host.
        aliases: None where there are none.
    """

    def __init__(self, table: Mailertable, site: Site, aliases: Aliases | None = None) -> None:
        self._table = table
        self._site = site
        self._aliases = aliases
        self._fixed: dict[Entry, Route] = {}

    def routes(self, rcpts: list[str], trace: Trace | None = None) -> Steps[list[Route]]:
        """Find the routes of recipients, each domain once; in the order of rcpts."""
        hostname = self._site.hostname
        if len(rcpts) == 1:
            return [(yield from self._rcpt(rcpts[0], domain_of(rcpts[0], hostname), trace))]
        domains = [domain_of(rcpt, hostname) for rcpt in rcpts]
        # What stands for others is found for each recipient, a route for each domain.
        single = [
            rcpt if self._may_stand_for_others(rcpt, domain) else ""
            for rcpt, domain in zip(rcpts, domains, strict=True)
        ]
        keys = list(zip(single, domains, strict=True))
        distinct = list(dict.fromkeys(keys))
        found = yield from together(
            [
                self._rcpt(rcpt, domain, trace) if rcpt else self._route(domain)
                for rcpt, domain in distinct
            ]
        )
        by_key = dict(zip(distinct, found, strict=True))
        return _fitting([by_key[key] for key in keys])

    def _may_stand_for_others(self, rcpt: str, domain: str | None) -> bool:
        if self._aliases is None or domain is None:
            return False
        return "@" not in rcpt or self._aliases.may_know(domain)

    def _rcpt(self, rcpt: str, domain: str | None, trace: Trace | None) -> Steps[Route]:
        """Find the route of a recipient, or for whom it stands."""
        if self._aliases is not None and self._may_stand_for_others(rcpt, domain):
            try:
                found = yield from self._aliases.expand(rcpt, trace)
            except AliasError as error:
                return no_route(domain or "", error.code, error.status, error.text)
            if found is not None:
                # What a recipient's members share is its key; they are routed one by one.
                key = dest_key(lmtp=False, port=SMTP_PORT, names=[f"alias:{rcpt}"])
                return Route(dest=key, targets=[], expand=found.members, owner=found.owner)
        return (yield from self._route(domain))

    def _route(self, domain: str | None) -> Steps[Route]:
        """Find the route of a domain."""
        if domain is None:
            return no_route("", 553, "5.1.3", "the address is not valid")
        entry = self._table.find(domain)
        if entry is None:
            address = literal_address(domain)
            kind = HostKind.MX if address is None else HostKind.ADDRESS
            host = Host(kind, address or domain)
            entry = Entry(lmtp=False, port=SMTP_PORT, hosts=(host,))
        elif entry.problem:
            return no_route(domain, 451, "4.3.5", f"mailertable: {entry.problem}"[:MAX_TEXT])
        elif entry in self._fixed:
            return self._fixed[entry]
        elif all(host.kind is HostKind.ADDRESS for host in entry.hosts):
            if len(self._fixed) >= MAX_FIXED:
                self._fixed.clear()
            route = self._fixed[entry] = _fixed_route(entry)
            return route
        return (yield from self._resolve(domain, entry))

    def _resolve(self, domain: str, entry: Entry) -> Steps[Route]:
        """Find the addresses of an entry's hosts, all hosts side by side."""
        if len(entry.hosts) == 1:
            parts = [(yield from self._host(entry.hosts[0], entry.port))]
        else:
            parts = yield from together([self._host(host, entry.port) for host in entry.hosts])
        targets: dict[str, Target] = {}
        for number, part in enumerate(parts):
            for target in part.targets:
                if number:  # the hosts of an entry are tried in their order
                    rank = min(target.rank + number * RANKS, MAX_RANK) if target.rank else 0
                    target = attrs.evolve(target, rank=rank)  # noqa: PLW2901
                targets.setdefault(target.address, target)
        if targets:
            names = [name for part in parts for name in part.names]
            return Route(
                dest=dest_key(lmtp=entry.lmtp, port=entry.port, names=list(dict.fromkeys(names))),
                lmtp=entry.lmtp,
                targets=list(targets.values())[:MAX_TARGETS],
            )
        failures = [part.failure for part in parts if part.failure is not None]
        # One host that may come back is enough to try again later.
        failures.sort(key=lambda failure: failure.problem is not Problem.LOOKUP)
        code, status = RCPT_CODES[failures[0].problem]
        return no_route(domain, code, status, failures[0].text)

    def _host(self, host: Host, port: int) -> Steps[_Found]:
        """Find the addresses of one host of an entry."""
        if host.kind is HostKind.ADDRESS:
            target = Target(host=host.name, address=host.name, port=port)
            return _Found([format_literal(host.name)], [target])
        if host.kind is HostKind.NAME:
            addresses = yield from find_addresses([host.name], self._site.families)
            found = Exchangers(((host.name,),), implicit=True)
            names = [f"[{host.name}]"]
        else:
            asked = yield from find_exchangers(host.name, self._site.families)
            if isinstance(asked, Failure):
                return _Found([], [], asked)
            addresses = yield from find_addresses(asked.names, self._site.families)
            # On another port of this host something else listens, as a filter.
            found = asked.before(self._site, addresses) if port == SMTP_PORT else asked
            if not found.groups:
                return _Found([], [], Failure(Problem.SELF, host.name))
            names = found.names
        ranks = {name: n for n, group in enumerate(found.groups, 1) for name in group}
        targets = [
            Target(host=name, address=address, port=port, rank=ranks[name])
            for name in found.ordered(self._site.shuffle)
            for address in addresses.by_host.get(name, ())
        ]
        if targets:
            return _Found(names, targets)
        if addresses.failed:
            return _Found([], [], Failure(Problem.LOOKUP, host.name, addresses.failed))
        missing = Problem.NO_HOST if found.implicit else Problem.UNUSABLE
        return _Found([], [], Failure(missing, host.name))


def _fitting(routes: list[Route]) -> list[Route]:
    """Return routes that fit into one answer; lists beyond that have to wait for another."""
    size = sum(len(one) for route in routes for one in route.expand)
    if size <= MAX_BYTES:
        return routes
    kept, size = [], 0
    for route in routes:
        mine = sum(len(one.encode()) for one in route.expand)
        if size and mine and size + mine > MAX_BYTES:
            text = "too many members of lists at a time"
            kept.append(Route(dest=route.dest, targets=[], code=451, status="4.3.2", text=text))
        else:
            size += mine
            kept.append(route)
    return kept


def _fixed_route(entry: Entry) -> Route:
    """Return the route of an entry that needs no lookup."""
    if entry.local:
        target = Target(host=LOCAL_DEST, address="", port=0)
        return Route(dest=LOCAL_DEST, lmtp=True, targets=[target])
    names = list(dict.fromkeys(host.name for host in entry.hosts))
    return Route(
        dest=dest_key(
            lmtp=entry.lmtp, port=entry.port, names=[format_literal(name) for name in names]
        ),
        lmtp=entry.lmtp,
        targets=[Target(host=name, address=name, port=entry.port) for name in names],
    )
