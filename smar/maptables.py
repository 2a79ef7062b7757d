"""Maps kept in memory: text and networks.

Kind: core.

Both are read from text with libsmx/maptext.py's lines. In a cidr map the key is a network,
with a tag before it where the map is an access map: ``cltaddr:10.0.0.0/8``, ``2001:db8::/32``;
the smallest network that holds the address answers, and what is no address has no value.
Source: SPEC rows X208, X287; decision D48.
"""

import ipaddress
import re
from collections.abc import Iterable
from typing import Protocol

from libsmx.maptext import MapText, read_map_text

_TAG_RE = re.compile(r"((?:(?!ipv6:)[a-z][a-z0-9_-]*:)?)(?:ipv6:)?([0-9a-f:.]+(?:/[0-9]{1,3})?)")


class Table(Protocol):
    """Keys and values that do not change."""

    def get(self, key: str) -> str | None:
        """Return the value of a folded key."""

    def starts(self, prefix: str) -> bool:
        """Tell whether a key may begin so."""

    def close(self) -> None:
        """Give back what it holds."""

    def __len__(self) -> int:
        """Return the number of entries."""


class TextTable:
    """Entries of a text, by key."""

    def __init__(self, entries: dict[str, str]) -> None:
        self._entries = entries
        self._tags = {key.partition(":")[0] + ":" for key in entries if ":" in key}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> str | None:
        """Return the value of a folded key."""
        return self._entries.get(key)

    def starts(self, prefix: str) -> bool:
        """Tell whether a key begins with a tag."""
        return prefix in self._tags

    def close(self) -> None:
        """Nothing is to be given back."""


class CidrTable:
    """Networks, by tag, family and length."""

    def __init__(self, entries: dict[str, str]) -> None:
        found: dict[tuple[str, int], dict[int, dict[int, str]]] = {}
        for key, value in entries.items():
            tag, network = _parse(key)
            lengths = found.setdefault((tag, network.version), {})
            lengths.setdefault(network.prefixlen, {})[int(network.network_address)] = value
        self._count = len(entries)
        self._nets = {
            which: [(length, nets[length]) for length in sorted(nets, reverse=True)]
            for which, nets in found.items()
        }

    def __len__(self) -> int:
        return self._count

    def get(self, key: str) -> str | None:
        """Return the value of the smallest network that holds an address."""
        found = _TAG_RE.fullmatch(key)
        if found is None:
            return None
        try:
            address = ipaddress.ip_address(found[2])
        except ValueError:
            return None
        number, bits = int(address), address.max_prefixlen
        for length, networks in self._nets.get((found[1], address.version), ()):
            value = networks.get(number >> (bits - length) << (bits - length))
            if value is not None:
                return value
        return None

    def starts(self, prefix: str) -> bool:
        """Tell whether there are networks with a tag."""
        return any(tag == prefix for tag, _ in self._nets)

    def close(self) -> None:
        """Nothing is to be given back."""


def _parse(key: str) -> tuple[str, ipaddress.IPv4Network | ipaddress.IPv6Network]:
    found = _TAG_RE.fullmatch(key)
    if found is None:
        raise ValueError(f"{key[:60]!r} is no network, as 10.0.0.0/8 or cltaddr:2001:db8::/32")
    try:
        return found[1], ipaddress.ip_network(found[2])
    except ValueError as error:
        raise ValueError(f"{found[2]} is no network: {error}") from None


def _check(key: str, _: str) -> str:
    _parse(key)
    return ""


def read_cidr(lines: Iterable[bytes]) -> MapText:
    """Read a map of networks; see the module's docstring."""
    return read_map_text(lines, check=_check)
