"""The PROXY protocol: a load balancer tells, before anything else, whose connection it is.

Kind: core.
Limits: 107 bytes for version 1, MAX_HEADER for version 2 with its extensions, which are ignored.
Source: The PROXY protocol, versions 1 and 2 (HAProxy, doc/proxy-protocol.txt) 2.1, 2.2.
"""

import ipaddress
import re

import attrs

from libsmx.errors import SmxError

MAX_V1 = 107
MAX_HEADER = 4096
_V2 = b"\r\n\r\n\0\r\nQUIT\n"
_V1_RE = re.compile(
    rb"PROXY (?:UNKNOWN(?: [ -~]*)?|(TCP4|TCP6) ([0-9a-fA-F:.]+) ([0-9a-fA-F:.]+) "
    rb"(0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4}))"
)
_SIZES = {1: 4, 2: 16}
"""Address family -> bytes of an address."""
_LOCAL, _PROXY = 0x20, 0x21


class ProxyError(SmxError):
    """What came is no PROXY header; the connection must be closed."""


@attrs.frozen
class Proxied:
    """What a header says.

    Attributes:
        client: IP address of the client; empty: the balancer speaks for itself.
        length: of the header, bytes.
    """

    client: str
    length: int


def read_proxy(data: bytes) -> Proxied | None:
    """Return what the header at the beginning of data says, None if it is not whole yet.

    Raises:
        ProxyError: no header, or one that is too long.
    """
    if data[: len(_V2)] == _V2[: len(data)] and data:
        return _read_v2(data) if len(data) >= 16 else None
    if data[:6] != b"PROXY "[: len(data)]:
        raise ProxyError("no PROXY header")
    end = data.find(b"\r\n", 0, MAX_V1)
    if end < 0:
        if len(data) >= MAX_V1:
            raise ProxyError("PROXY header without end")
        return None
    found = _V1_RE.fullmatch(data[:end])
    if found is None:
        raise ProxyError("PROXY header is malformed")
    if found[1] is None:
        return Proxied("", end + 2)
    family = ipaddress.IPv4Address if found[1] == b"TCP4" else ipaddress.IPv6Address
    try:
        client = family(found[2].decode("ascii"))
        family(found[3].decode("ascii"))
    except ValueError as error:
        raise ProxyError("PROXY header holds a bad address") from error
    if max(int(found[4]), int(found[5])) > 65535:
        raise ProxyError("PROXY header holds a bad port")
    return Proxied(str(client), end + 2)


def _read_v2(data: bytes) -> Proxied | None:
    command, family = data[12], data[13] >> 4
    length = 16 + int.from_bytes(data[14:16], "big")
    if command not in {_LOCAL, _PROXY} or length > MAX_HEADER:
        raise ProxyError("PROXY header of version 2 is malformed or too long")
    if len(data) < length:
        return None
    size = _SIZES.get(family, 0)
    if command == _LOCAL or not size:
        return Proxied("", length)
    if length < 16 + 2 * size + 4:
        raise ProxyError("PROXY header of version 2 is too short for its addresses")
    address = data[16 : 16 + size]
    return Proxied(str(ipaddress.ip_address(address)), length)
