"""This host and its place in the mail system, as far as routes depend on it.

Kind: core.

Source: RFC 5321 5.1 (a host that finds itself among the exchangers), RFC 1123 5.3.4.
"""

from collections.abc import Callable, Collection
from typing import Any

import attrs

Shuffle = Callable[[list[Any]], None]
"""Puts a list into random order, in place."""

FAMILIES = ("ipv4", "ipv6")


def _never(_: str) -> bool:
    return False


@attrs.frozen
class Site:
    """What a route has to know of this host.

    Attributes:
        hostname: name of this host, lower case; the domain of ``postmaster`` alone.
        shuffle: puts hosts of equal preference into random order.
        families: families of addresses to use, ``ipv4`` and ``ipv6``, the preferred one first.
        names: other names of this host, lower case.
        is_own: tells whether an address in text form is this host's.
    """

    hostname: str
    shuffle: Shuffle
    families: Collection[str] = FAMILIES
    names: frozenset[str] = frozenset()
    is_own: Callable[[str], bool] = _never

    def is_here(self, host: str, addresses: Collection[str]) -> bool:
        """Tell whether a mail exchanger is this host."""
        if host == self.hostname or host in self.names:
            return True
        return any(self.is_own(address) for address in addresses)
