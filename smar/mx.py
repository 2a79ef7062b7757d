"""Mail exchangers: from a domain to the hosts and addresses to try.

Kind: core.

Equal preference is a random order that the caller injects. What is not a usable host name (an
address literal, the root beside other records) is skipped; an address that can never be a mail
server is too.
Limits: MAX_MX hosts a domain, MAX_HOST_ADDRESSES addresses of each family a host.
Source: RFC 5321 5.1 (MX, implicit MX), RFC 7505 (null MX); SPEC row X320.
"""

import enum
import ipaddress
from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import groupby, zip_longest
from typing import Any

import attrs

from smar.records import Answer, Outcome, Question, Steps, is_dns_name

MAX_MX = 20
MAX_HOST_ADDRESSES = 10
_UNUSABLE_A = frozenset({"0.0.0.0", "255.255.255.255"})

Shuffle = Callable[[list[Any]], None]
"""Puts a list into random order, in place."""


class Problem(enum.Enum):
    """Why a domain has no hosts."""

    NO_DOMAIN = "the domain does not exist"
    NO_HOST = "the domain has neither MX nor address records"
    NULL_MX = "the domain accepts no mail (null MX)"
    UNUSABLE = "none of the domain's mail hosts has a usable name and address"
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


def find_exchangers(domain: str) -> Steps[Exchangers | Failure]:
    """Find the mail hosts of a domain. For an implicit MX the addresses are known to exist.

    Args:
        domain: lower case, without the final dot.
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
    found = yield from find_addresses([domain])
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


def find_addresses(hosts: list[str]) -> Steps[Addresses]:
    """Find the addresses of hosts; IPv4 and IPv6 of all hosts are asked for at once.

    IPv4 and IPv6 alternate, IPv4 first: a machine without one of them loses one attempt at most
    before it gets to an address it can reach.
    """
    if not hosts:
        return Addresses({})
    questions = [Question(host, "A") for host in hosts]
    questions += [Question(host, "AAAA") for host in hosts]
    answers = yield tuple(questions)
    by_host: dict[str, tuple[str, ...]] = {}
    failed = ""
    for host, v4, v6 in zip(hosts, answers, answers[len(hosts) :], strict=False):
        addresses = _alternate(v4, v6)
        if addresses:
            by_host[host] = addresses
        elif Outcome.NO_NAME not in {v4.outcome, v6.outcome}:
            # A name that does not exist has no records of the other type either.
            for answer in (v4, v6):
                if answer.outcome is Outcome.FAILED:
                    failed = f"{host}: {answer.detail}"
    return Addresses(by_host, failed)


def _alternate(v4: Answer, v6: Answer) -> tuple[str, ...]:
    """Return the usable addresses of both families in turn."""
    four = [a for a in v4.addresses if a not in _UNUSABLE_A and not a.startswith(_MULTICAST_V4)]
    six = [a for a in v6.addresses if _usable_v6(a)]
    if not six:
        return tuple(four[:MAX_HOST_ADDRESSES])
    pairs = zip_longest(four[:MAX_HOST_ADDRESSES], six[:MAX_HOST_ADDRESSES])
    return tuple(address for pair in pairs for address in pair if address is not None)


_MULTICAST_V4 = tuple(f"{first}." for first in range(224, 240))


@lru_cache(maxsize=4096)  # an address comes back with every message; parsing it costs 5 us
def _usable_v6(text: str) -> bool:
    """Tell whether an IPv6 address from the DNS can be a mail server."""
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return False
    mapped_or_link = address.ipv4_mapped is not None or address.is_link_local
    return not (address.is_unspecified or address.is_multicast or mapped_or_link)
