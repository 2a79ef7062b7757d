"""Greylisting: is this client known to come back?

Kind: core.

A client is its address, cut by a mask. It is unknown, greylisted (it came, and was sent away),
or whitelisted (it came again at least grey_wait and less than grey_expire later). A whitelisted
client that sent nothing for white_timeout is unknown again; each mail renews it.

The clock is the wall clock, because entries outlive the process. Where it was set back, a
client is never older than now: no entry lives for ever, and no client waits for years.
Source: README 3.9.4; SPEC rows X252 to X260, X265; decision D30.
"""

import ipaddress
import struct

import attrs

from smar.clientname import IPAddress, client_address

_V4, _V6 = b"4", b"6"
_FORMAT = struct.Struct("!BBQQQ")
_VERSION = 1
_GREY, _WHITE = 0, 1
_MAX_TIME = 1 << 60


@attrs.frozen
class Times:
    """How long, in seconds."""

    grey_wait_s: int
    grey_expire_s: int
    white_expire_s: int
    white_timeout_s: int


@attrs.frozen
class Entry:
    """What is known of a client.

    Attributes:
        white: whitelisted, else greylisted.
        first_s: when it first came, wall clock.
        last_s: when it last sent mail or was sent away, wall clock.
        mails: recipients accepted from it, for the operator.
    """

    white: bool
    first_s: int
    last_s: int
    mails: int = 0

    def pack(self) -> bytes:
        """Return the entry as it is stored."""
        state = _WHITE if self.white else _GREY
        return _FORMAT.pack(_VERSION, state, self.first_s, self.last_s, self.mails)

    def expires_s(self, times: Times) -> int:
        """Return the time from which the entry may be removed."""
        if self.white:
            return self.last_s + min(times.white_expire_s, times.white_timeout_s)
        return self.first_s + times.grey_expire_s


def unpack(data: bytes) -> Entry | None:
    """Return a stored entry, None for one that is of no use."""
    if len(data) != _FORMAT.size:
        return None
    version, state, first, last, mails = _FORMAT.unpack(data)
    if version != _VERSION or state not in (_GREY, _WHITE) or max(first, last) > _MAX_TIME:
        return None
    return Entry(state == _WHITE, first, last, mails)


def judge(entry: Entry | None, now_s: int, times: Times) -> tuple[bool, Entry]:
    """Decide about a client that wants to send mail.

    Args:
        entry: what is known of it.
        now_s: wall clock, seconds.
        times: see Times.

    Returns:
        Whether it may, and what is known of it from now on.
    """
    if entry is not None and entry.white:
        if now_s - entry.last_s < times.white_timeout_s:
            return True, Entry(True, entry.first_s, now_s, entry.mails + 1)
    elif entry is not None:
        age_s = now_s - entry.first_s
        if times.grey_wait_s <= age_s < times.grey_expire_s:
            return True, Entry(True, entry.first_s, now_s, 1)
        if 0 <= age_s < times.grey_wait_s:
            return False, Entry(False, entry.first_s, now_s)
    return False, Entry(False, now_s, now_s)


class Mask:
    """Makes keys of addresses.

    Args:
        netmask: of IPv4, 32 bits.
        ipv6_prefix: leading bits of IPv6.
    """

    def __init__(self, netmask: int, ipv6_prefix: int) -> None:
        self._v4 = netmask
        self._v6 = ((1 << ipv6_prefix) - 1) << (128 - ipv6_prefix)

    def key(self, client: str) -> bytes | None:
        """Return the key of an address in text form, None for text that is no address."""
        address = client_address(client)
        if address is None:
            return None
        if address.version == 4:
            return _V4 + (int(address) & self._v4).to_bytes(4, "big")
        return _V6 + (int(address) & self._v6).to_bytes(16, "big")


def show_key(key: bytes) -> str:
    """Return the address in a key as text."""
    address: IPAddress
    if key[:1] == _V4:
        address = ipaddress.IPv4Address(key[1:5])
    else:
        address = ipaddress.IPv6Address(key[1:17])
    return str(address)


def state_of(entry: Entry, now_s: int, times: Times) -> str:
    """Return the state for the operator: waiting, confirming, white, or expired."""
    if entry.white:
        return "white" if now_s - entry.last_s < times.white_timeout_s else "expired"
    age_s = now_s - entry.first_s
    if age_s < times.grey_wait_s:
        return "waiting"
    return "confirming" if age_s < times.grey_expire_s else "expired"
