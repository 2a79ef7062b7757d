"""XCLIENT: a trusted client says on whose behalf it speaks.

Kind: core.
Source: Postfix XCLIENT_README, whose protocol it is; RFC 3461 4 (xtext).
"""

import ipaddress
import re

import attrs

from libsmx.envelope import MAX_ADDRESS

XCLIENT_OFFER = "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT"
"""Line of the EHLO reply."""
_UNKNOWN = ("[UNAVAILABLE]", "[TEMPUNAVAIL]")
_HEX_RE = re.compile(r"\+([0-9A-F]{2})")
_XTEXT_RE = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})+")
_NAME_RE = re.compile(r"[A-Za-z0-9_.:-]{1,255}")


@attrs.frozen
class Introduction:
    """Who a client is said to be.

    Attributes:
        client: IP address, empty: that of the connection.
        name: verified name, empty: none.
        helo: argument of its EHLO, empty: it has to be said yet.
        esmtp: that was EHLO.
        login: authenticated identity, empty: none.
    """

    client: str = ""
    name: str = ""
    helo: str = ""
    esmtp: bool = False
    login: str = ""


def read_xclient(arg: bytes) -> Introduction | None:
    """Return what the attributes of an XCLIENT command say; None if one is wrong."""
    found: dict[str, str] = {}
    for word in arg.decode("ascii", "replace").split():
        name, separator, value = word.partition("=")
        name = name.upper()
        if not separator or name in found or name not in XCLIENT_OFFER.split()[1:]:
            return None
        found[name] = "" if value.upper() in _UNKNOWN else _read_xtext(value)
        if not found[name] and value.upper() not in _UNKNOWN:
            return None
    address = read_address(found.get("ADDR", ""))
    name, helo = found.get("NAME", ""), found.get("HELO", "")
    proto = found.get("PROTO", "").upper()
    ports = (found.get("PORT", ""), found.get("DESTPORT", ""))
    if (
        address is None
        or read_address(found.get("DESTADDR", "")) is None
        or (name and not _NAME_RE.fullmatch(name))
        or len(helo) > MAX_ADDRESS
        or proto not in {"", "SMTP", "ESMTP"}
        or any(port and not _is_port(port) for port in ports)
    ):
        return None
    return Introduction(address, name, helo, proto == "ESMTP", found.get("LOGIN", "")[:MAX_ADDRESS])


def read_address(text: str) -> str | None:
    """Return an IP address in its shortest form, None if it is none; empty stays empty."""
    if not text:
        return ""
    try:
        address = ipaddress.ip_address(text[5:] if text[:5].upper() == "IPV6:" else text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return None
        return str(address.ipv4_mapped or address)
    return str(address)


def _is_port(text: str) -> bool:
    return text.isdigit() and len(text) <= 5 and int(text) < 65536


def _read_xtext(text: str) -> str:
    """Return decoded xtext; empty if it is none or holds what is not printable ASCII."""
    if len(text) > MAX_ADDRESS or not _XTEXT_RE.fullmatch(text):
        return ""
    plain = _HEX_RE.sub(lambda found: chr(int(found[1], 16)), text)
    return plain if plain.isascii() and plain.isprintable() else ""
