"""Parameters of delivery status notifications on MAIL and RCPT, read and written.

Kind: core.

What a client says is decoded, checked and kept in one form; what goes on to the next server is
encoded again, so that nothing of a stranger reaches a command line or a report unchecked.
Limits: an ENVID of 100 characters, an ORCPT of 500 (RFC 3461 4.2, 4.4), before decoding.
Source: RFC 3461 4.1-4.4.
"""

import re

MAX_ENVID = 100
MAX_ORCPT = 500

_XTEXT_RE = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")
_HEX_RE = re.compile(r"\+([0-9A-F]{2})")
_PLAIN_RE = re.compile(r"[^!-*,-<>-~]")
_TYPE_RE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,30}[A-Za-z0-9])?")
_CASES = ("SUCCESS", "FAILURE", "DELAY")
_NEVER = "NEVER"


def decode_xtext(text: str) -> str:
    """Return what xtext stands for (RFC 3461 4).

    Raises:
        ValueError: it is no xtext, or stands for anything but printable ASCII.
    """
    if _XTEXT_RE.fullmatch(text) is None:
        raise ValueError("no xtext")
    plain = _HEX_RE.sub(lambda found: chr(int(found[1], 16)), text)
    if not (plain.isascii() and plain.isprintable()):
        raise ValueError("xtext of unprintable characters")
    return plain


def encode_xtext(text: str) -> str:
    """Return text as xtext; characters that are not ASCII become ``?``."""
    ascii_only = text.encode("ascii", "replace").decode("ascii")
    return _PLAIN_RE.sub(lambda found: f"+{ord(found[0]):02X}", ascii_only)


def read_ret(value: str) -> str:
    """Return FULL or HDRS.

    Raises:
        ValueError: it is neither, in any case.
    """
    word = value.upper()
    if word not in {"FULL", "HDRS"}:
        raise ValueError("neither FULL nor HDRS")
    return word


def read_envid(value: str) -> str:
    """Return the decoded envelope id.

    Raises:
        ValueError: it is too long, no xtext, or not printable.
    """
    if not 0 < len(value) <= MAX_ENVID:
        raise ValueError("empty or too long")
    return decode_xtext(value)


def read_notify(value: str) -> str:
    """Return NEVER, or the cases asked for, each once and always in the same order.

    Raises:
        ValueError: a word is none of RFC 3461 4.1, or NEVER stands with others.
    """
    words = value.upper().split(",")
    if words == [_NEVER]:
        return _NEVER
    if not set(words) <= set(_CASES):
        raise ValueError("neither NEVER nor a list of SUCCESS, FAILURE, DELAY")
    return ",".join(case for case in _CASES if case in words)


def write_notify(notify: str) -> str:
    """Return a kept NOTIFY as it is given to a server, empty if it makes no sense."""
    try:
        return read_notify(notify)
    except ValueError:
        return ""


def read_orcpt(value: str) -> str:
    """Return the original recipient as ``type;address`` with the address decoded.

    Raises:
        ValueError: it is too long, has no type, is no xtext, or not printable.
    """
    kind, separator, address = value.partition(";")
    if len(value) > MAX_ORCPT or not separator or not address or not _TYPE_RE.fullmatch(kind):
        raise ValueError("not type;address")
    return f"{kind};{decode_xtext(address)}"


def write_orcpt(orcpt: str) -> str:
    """Return a kept ORCPT as it is given to a server."""
    kind, _, address = orcpt.partition(";")
    return f"{encode_xtext(kind)};{encode_xtext(address)}"


def wants(notify: str, case: str) -> bool:
    """Tell whether a sender wants a report.

    Args:
        notify: as kept; empty: FAILURE and DELAY, as RFC 3461 4.1 allows.
        case: SUCCESS, FAILURE or DELAY.
    """
    return case in notify.split(",") if notify else case != "SUCCESS"
