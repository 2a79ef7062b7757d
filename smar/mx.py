"""Mail exchangers: from a domain to the hosts and addresses to try.

Kind: core.

Equal preference is a random order that the caller injects. Where this host is an exchanger
itself, it and all that are not better are left out, so that mail does not go in circles. What is
not a usable host name (an address literal, the root beside other records) is skipped; an address
that can never be a mail server is too.
Limits: MAX_MX hosts a domain, MAX_HOST_ADDRESSES addresses of each family a host.
Source: RFC 5321 5.1 (MX, implicit MX, ourselves in the list), RFC 7505 (null MX); SPEC row X320.
"""

import enum
import ipaddress
from collections.abc import Collection, Iterable
from functools import lru_cache
from itertools import groupby, zip_longest

import attrs

from smar.records import Answer, Kind, Outcome, Question, Steps, is_dns_name
from smar.site import FAMILIES, Shuffle, Site

MAX_MX = 20
MAX_HOST_ADDRESSES = 10
_UNUSABLE_A = frozenset({"0.0.0.0", "255.255.255.255"})
_KINDS: dict[str, Kind] = {"ipv4": "A", "ipv6": "AAAA"}


class Problem(enum.Enum):
    """Why a domain has no hosts."""

    NO_DOMAIN = "the domain does not exist"
    NO_HOST = "the domain has neither MX nor address records"
    NULL_MX = "the domain accepts no mail (null MX)"
    UNUSABLE = "none of the domain's mail hosts has a usable name and address"
    SELF = (
        "its best mail exchanger is this host, where it is neither local nor routed on"
        " (a mistake in the configuration or in the DNS: mail would go in circles)"
    )
    LOOKUP = "the DNS lookup failed"


@attrs.frozen
class Failure:
    """No way to a domain."""

    problem: Problem
    name: str
    """The domain or host in question."""
    detail: str = ""

    @property
    def text(self) -> str:
        """One sentence for replies and logs."""
        return f"{self.name}: {self.problem.value}" + (f": {self.detail}" if self.detail else "")


@attrs.frozen
class Exchangers:
    """The hosts of a domain."""

    groups: tuple[tuple[str, ...], ...]
    """Hosts of equal preference, in order of name; the best group first."""
    implicit: bool = False
    """The domain has no MX records and is its own host."""

    @property
    def names(self) -> list[str]:
        """All hosts in an order that does not change from lookup to lookup."""
        return [name for group in self.groups for name in group]

    def before(self, site: Site, found: "Addresses") -> "Exchangers":
        """Return the hosts that are better than this one: without us and all from us on."""
        kept = []
        for group in self.groups:
            if any(site.is_here(host, found.by_host.get(host, ())) for host in group):
                break
            kept.append(group)
        return Exchangers(tuple(kept), self.implicit)

    def ordered(self, shuffle: Shuffle) -> list[str]:
        """Return all hosts in the order to try, equal preference at random."""
        names: list[str] = []
        for group in self.groups:
            members = list(group)
            if len(members) > 1:
                shuffle(members)
            names += members
        return names


@attrs.frozen
class Addresses:
    """What address lookups brought."""

    by_host: dict[str, tuple[str, ...]]
    """Only hosts that have addresses."""
    failed: str = ""
    """Why some host's addresses could not be had for now; empty when none failed."""


def find_exchangers(
    domain: str, families: Collection[str] = FAMILIES
) -> Steps[Exchangers | Failure]:
    """Find the mail hosts of a domain. For an implicit MX the addresses are known to exist.

    Args:
        domain: lower case, without the final dot.
        families: of addresses that may make an implicit MX.
    """
    if not is_dns_name(domain):
        return Failure(Problem.NO_DOMAIN, domain)
    (answer,) = yield (Question(domain, "MX"),)
    if answer.outcome is Outcome.NO_NAME:
        return Failure(Problem.NO_DOMAIN, domain)
    if answer.outcome is Outcome.FAILED:
        return Failure(Problem.LOOKUP, domain, answer.detail)
    if answer.outcome is Outcome.FOUND:
        return _sort_mx(domain, answer.mx)
    found = yield from find_addresses([domain], families)
    if found.by_host:
        return Exchangers(((domain,),), implicit=True)
    if found.failed:
        return Failure(Problem.LOOKUP, domain, found.failed)
    return Failure(Problem.NO_HOST, domain)


def _sort_mx(domain: str, records: Iterable[tuple[int, str]]) -> Exchangers | Failure:
    """Return the usable hosts of MX records."""
    best: dict[str, int] = {}
    null = False
    for preference, host in records:
        if not host:
            null = True
        elif is_host_name(host):
            best[host] = min(preference, best.get(host, preference))
    if not best:
        # A null MX among others is against RFC 7505 3 and then says nothing.
        return Failure(Problem.NULL_MX if null else Problem.UNUSABLE, domain)
    ranked = sorted((preference, host) for host, preference in best.items())[:MAX_MX]
    return Exchangers(
        tuple(tuple(host for _, host in group) for _, group in groupby(ranked, lambda r: r[0]))
    )


def is_host_name(name: str) -> bool:
    """Tell whether a name can have addresses; one with a numeric top-level label cannot.

    That excludes ``192.0.2.1.``, a mistake often seen in MX records.
    """
    return is_dns_name(name) and not name.rpartition(".")[2].isdigit()


def find_addresses(hosts: list[str], families: Collection[str] = FAMILIES) -> Steps[Addresses]:
    """Find the addresses of hosts; those of all families and hosts are asked for at once.

    The addresses of a host alternate between the families, the preferred one first: a machine
    without one of them loses one attempt at most before it gets to an address it can reach.

    Args:
        hosts: lower case, without the final dot.
        families: ``ipv4`` and ``ipv6``, in the order of preference.
    """
    if not hosts:
        return Addresses({})
    answers = yield tuple(Question(host, _KINDS[name]) for name in families for host in hosts)
    by_host: dict[str, tuple[str, ...]] = {}
    failed = ""
    for number, host in enumerate(hosts):
        mine = answers[number :: len(hosts)]
        addresses = _alternate(mine)
        if addresses:
            by_host[host] = addresses
        elif all(answer.outcome is not Outcome.NO_NAME for answer in mine):
            # A name that does not exist has no records of the other type either.
            for answer in mine:
                if answer.outcome is Outcome.FAILED:
                    failed = f"{host}: {answer.detail}"
    return Addresses(by_host, failed)


def _alternate(answers: Iterable[Answer]) -> tuple[str, ...]:
    """Return the usable addresses of all families in turn."""
    usable = [
        [a for a in answer.addresses if (_usable_v6 if ":" in a else _usable_v4)(a)]
        for answer in answers
    ]
    turns = zip_longest(*(found[:MAX_HOST_ADDRESSES] for found in usable))
    return tuple(address for turn in turns for address in turn if address is not None)


_MULTICAST_V4 = tuple(f"{first}." for first in range(224, 240))


def _usable_v4(text: str) -> bool:
    """Tell whether an IPv4 address from the DNS can be a mail server."""
    return text not in _UNUSABLE_A and not text.startswith(_MULTICAST_V4)


@lru_cache(maxsize=4096)  # an address comes back with every message; parsing it costs 5 us
def _usable_v6(text: str) -> bool:
    """Tell whether an IPv6 address from the DNS can be a mail server."""
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return False
    mapped_or_link = address.ipv4_mapped is not None or address.is_link_local
    return not (address.is_unspecified or address.is_multicast or mapped_or_link)
