"""The Received: field, the one line that smx adds to a message.

Kind: core.
Source: RFC 5321 4.4, RFC 5322 3.6.7; RFC 3848; SPEC rows X001, X107, X366; decision D57.
"""

import re
from datetime import UTC, datetime

from libsmx.tlsfacts import TlsFacts
from libsmx.version import PRODUCT

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)
# What a client says of itself stands in the field, but cannot end a comment or begin a line.
_STRANGE = re.compile(r"[^A-Za-z0-9.:_\[\]-]")
_MAX_HELO = 255


def format_date(at_s: float) -> str:
    """Return a date-time of RFC 5322 in UTC for a wall clock in seconds."""
    at = datetime.fromtimestamp(int(at_s), UTC)
    return (
        f"{_DAYS[at.weekday()]}, {at.day} {_MONTHS[at.month - 1]} {at.year} "
        f"{at.hour:02}:{at.minute:02}:{at.second:02} +0000"
    )


def format_client(client: str) -> str:
    """Return an IP address as an address literal (RFC 5321 4.1.3)."""
    return f"[IPv6:{client}]" if ":" in client else f"[{client}]"


def protocol_name(
    *, esmtp: bool, utf8: bool, tls: bool, auth: bool, facts: TlsFacts | None = None
) -> str:
    """Return the name of a protocol with its variants (RFC 3848, RFC 6531 4.3).

    Args:
        esmtp: EHLO was used.
        utf8: SMTPUTF8 was used.
        tls: the connection is encrypted.
        auth: the client has authenticated.
        facts: of the encryption, which follow the name as a comment.
    """
    if not esmtp and not tls:
        return "SMTP"
    name = f"{'UTF8SMTP' if utf8 else 'ESMTP'}{'S' if tls else ''}{'A' if auth else ''}"
    return name if facts is None else f"{name}\r\n\t({facts.describe()})"


def format_received(
    *,
    helo: str,
    client: str,
    hostname: str,
    protocol: str,
    ta_id: str,
    rcpt: str,
    at_s: float,
    name: str = "",
) -> bytes:
    """Return the field with its CRLF.

    Args:
        helo: argument of EHLO or HELO as it came.
        client: IP address of the client.
        hostname: our name.
        protocol: as protocol_name gives it.
        ta_id: transaction id.
        rcpt: the recipient if it is the only one, else empty: several would tell each
            recipient of the others (RFC 5321 7.2).
        at_s: wall clock, seconds.
        name: verified name of the client, empty where it is not known.
    """
    said = _STRANGE.sub("?", helo[:_MAX_HELO]) or "unknown"
    known = f"{_STRANGE.sub('?', name[:_MAX_HELO])} " if name else ""
    target = f"\r\n\tfor <{rcpt}>" if rcpt else ""
    return (
        f"Received: from {said} ({known}{format_client(client)})\r\n"
        f"\tby {hostname} ({PRODUCT}) with {protocol} id {ta_id}"
        f"{target};\r\n\t{format_date(at_s)}\r\n"
    ).encode()
