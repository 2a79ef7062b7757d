"""Overrides: limits of single addresses and nets, which go before those of smx.conf.

Kind: core.

Keys of the map: ``oci:`` and ``ocm:`` (first and greatest number of connections to an address),
``icr:`` and ``icm:`` (rate and number of connections from one), each with an address, a net (an
IPv4 address with numbers left out at its end, ``IPv6:`` and groups left out at the end) or with
nothing, which means all other addresses; and ``octo``, how long an unused address is remembered.
The most specific key counts. Limits are those of each single address, nothing is added up.
Source: SPEC rows X198-X207; D13, D48.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping

import attrs

from libsmx.kinds import TIME_UNITS, Quantity, quote, read_number

BOUNDS = {"oci": (1, 10_000), "ocm": (1, 10_000), "icr": (0, 1_000_000), "icm": (0, 1_000_000)}
"""Least and greatest value of each limit; none at all may come in, one must go out."""
MAX_IDLE_S = 4 * 7 * 86_400
_DURATION = Quantity("duration", TIME_UNITS, "s")
_V6 = "ipv6:"

Net = tuple[int, ...]
"""The leading numbers of an address: bytes of IPv4, groups of IPv6, with the version in front."""


def address_numbers(text: str) -> Net:
    """Return all numbers of an address; empty for what is none (the LMTP socket).

    An IPv4 address in IPv6 form is the IPv4 address.
    """
    try:
        address = ipaddress.ip_address(text[len(_V6) :] if text[:5].lower() == _V6 else text)
    except ValueError:
        return ()
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            packed = address.packed
            return (6, *(packed[at] << 8 | packed[at + 1] for at in range(0, 16, 2)))
        address = address.ipv4_mapped
    return (4, *address.packed)


def read_net(text: str) -> Net:
    """Read the address or net of a key.

    Raises:
        ValueError: it is none.
    """
    if not text:
        return ()
    if text[:5].lower() == _V6:
        whole = address_numbers(text)
        if whole:
            return whole
        groups = text[5:].removesuffix(":").split(":")
        if len(groups) < 8 and all(re.fullmatch(r"[0-9a-fA-F]{1,4}", group) for group in groups):
            return (6, *(int(group, 16) for group in groups))
        raise ValueError(f"{quote(text)} is no IPv6 address or prefix of whole groups")
    numbers = text.removesuffix(".").split(".")
    if len(numbers) <= 4 and all(
        re.fullmatch(r"0|[1-9][0-9]{0,2}", number) and int(number) < 256 for number in numbers
    ):
        return (4, *map(int, numbers))
    raise ValueError(f"{quote(text)} is no IPv4 address or net (as 10, 10.1), nor IPv6: and one")


@attrs.frozen
class Overrides:
    """See the module.

    Attributes:
        idle_s: how long an address is remembered after its last use; None where not said.
        values: limit -> net -> value; the empty net is every other address.
    """

    idle_s: float | None = None
    values: Mapping[str, Mapping[Net, int]] = attrs.field(factory=dict)

    def find(self, limit: str, address: str, default: int) -> int:
        """Return a limit for an address, ``default`` where the map says nothing of it."""
        nets = self.values.get(limit)
        if not nets:
            return default
        numbers = address_numbers(address)
        for length in range(len(numbers), 1, -1):
            value = nets.get(numbers[:length])
            if value is not None:
                return value
        return nets.get((), default)

    def outgoing(self, address: str, initial: int, maximum: int) -> tuple[int, int]:
        """Return first and greatest number of connections to an address, given the defaults.

        A first number beyond the greatest is cut to it (D13).
        """
        if not self.values:
            return initial, maximum
        most = self.find("ocm", address, maximum)
        return min(self.find("oci", address, initial), most), most


NONE = Overrides()


def read_overrides(entries: Iterable[tuple[str, str]]) -> tuple[Overrides, list[tuple[str, str]]]:
    """Read the entries of a map.

    Returns:
        What holds, and for each entry that does not its key and the reason.
    """
    idle_s: float | None = None
    values: dict[str, dict[Net, int]] = {name: {} for name in BOUNDS}
    problems: list[tuple[str, str]] = []
    for key, text in entries:
        name, colon, argument = key.lower().partition(":")
        try:
            if name == "octo" and not argument:
                idle_s = _read_idle(text)
            elif name in BOUNDS and colon:
                values[name][read_net(argument)] = _read_value(text, *BOUNDS[name])
            else:
                raise ValueError("unknown key: it begins with oci:, ocm:, icr:, icm: or is octo")
        except ValueError as error:
            problems.append((key, str(error)))
    return Overrides(idle_s, {name: nets for name, nets in values.items() if nets}), problems


def _read_idle(text: str) -> float:
    seconds = _DURATION.read(text)
    if not 1 <= seconds <= MAX_IDLE_S:
        raise ValueError(f"{quote(text)} is not between 1s and 4w")
    return float(seconds)


def _read_value(text: str, low: int, high: int) -> int:
    value = read_number(text)
    if not low <= value <= high:
        raise ValueError(f"{quote(text)} is not between {low} and {high}")
    return value
