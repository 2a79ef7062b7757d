"""Mail addresses: mailboxes and SMTP paths, parsed and printed.

Kind: core. The only reader of address syntax; every function is total: any text gives a value
or AddressError, which carries what an SMTP client is told.
Limits: an address of 1,024 characters is the longest that envelopes carry; local part 512,
domain 255 (RFC 5321 4.5.3.1 asks for 64, 255 and 256; longer local parts occur in practice).
Source: RFC 5321 4.1.2, 4.1.3; SPEC rows X002, X009; decisions D41, D42.

Domains are lower-cased, and never end with a dot or with a label of digits alone (an address
literal without brackets). 8-bit text is an address only where the caller says so (SMTPUTF8, RFC
6531): local part and domain are then UTF-8 in the normal form NFC, a domain may have U-labels,
and none of them holds a control character or a blank of Unicode.
"""

import ipaddress
import re
import unicodedata
from typing import Literal

import attrs

from libsmx.errors import SmxError

MAX_LOCAL = 512
MAX_DOMAIN = 255

Kind = Literal["MAIL", "RCPT"]
Params = dict[str, str | None]

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_DOT_STRING = rf"{_ATOM}(?:\.{_ATOM})*"
_QUOTED = r'"(?:[ !#-\[\]-~]|\\[ -~])*"'
# Underscores are not in RFC 5321, but domains with them are in use (Postfix takes them too).
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"
_LITERAL = r"\[[0-9A-Za-z:.]{2,60}\]"

# RFC 6531 3.3: every character beyond ASCII may stand where a letter may; controls and blanks
# are left out, since they are no characters of names and could hide in a log or a header.
_WIDE = "\u00a1-\u1fff\u2010-\u2027\u2030-\u205e\u2070-\u2fff\u3001-\ud7ff\uf900-\U000effff"
_UTF8_ATOM = rf"[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~{_WIDE}-]+"
_UTF8_DOT_STRING = rf"{_UTF8_ATOM}(?:\.{_UTF8_ATOM})*"
_UTF8_QUOTED = rf'"(?:[ !#-\[\]-~{_WIDE}]|\\[ -~])*"'
_UTF8_LABEL = rf"[A-Za-z0-9_{_WIDE}](?:[A-Za-z0-9_{_WIDE}-]{{0,61}}[A-Za-z0-9_{_WIDE}])?"
_UTF8_DOMAIN = rf"{_UTF8_LABEL}(?:\.{_UTF8_LABEL})*"

_DOT_STRING_RE = re.compile(_DOT_STRING)
_DOMAIN_RE = re.compile(_DOMAIN)
_MAILBOX_RE = re.compile(rf"({_DOT_STRING}|{_QUOTED})@({_DOMAIN}|{_LITERAL})")
_UTF8_DOT_STRING_RE = re.compile(_UTF8_DOT_STRING)
_UTF8_DOMAIN_RE = re.compile(_UTF8_DOMAIN)
_UTF8_MAILBOX_RE = re.compile(rf"({_UTF8_DOT_STRING}|{_UTF8_QUOTED})@({_UTF8_DOMAIN}|{_LITERAL})")
_ROUTE_RE = re.compile(rf"@{_DOMAIN}(?:,@{_DOMAIN})*:")
# The address inside the brackets may hold ">" and spaces only within a quoted local part.
_PATH_RE = re.compile(r'<((?:[^<>" ]|"(?:[^"\\]|\\.)*")*)>(?: +(.*))?')
_PARAM_RE = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~]+))?")
_PAIR_RE = re.compile(r"\\(.)")


class AddressError(SmxError):
    """Text is not an address; whoever read it from the network answers with these codes.

    Attributes:
        code: SMTP reply code, 5yz.
        status: enhanced status code.
        text: what is wrong, free of the refused text itself.
    """

    def __init__(self, text: str, code: int = 501, status: str = "5.1.3") -> None:
        super().__init__(text)
        self.text = text
        self.code = code
        self.status = status


@attrs.frozen
class Mailbox:
    """An address in parts.

    Attributes:
        local: local part without quotes and backslashes.
        domain: in lower case, or a literal as ``[192.0.2.1]`` or ``[IPv6:2001:db8::1]``;
            empty only for ``postmaster`` (RFC 5321 4.1.1.3).
    """

    local: str
    domain: str

    def __str__(self) -> str:
        """Return ``local@domain``, the local part quoted if it has to be."""
        local = self.local
        if _UTF8_DOT_STRING_RE.fullmatch(local) is None:
            # RFC 5321 4.1.2: the quoted form with the fewest backslashes
            escaped = local.replace("\\", "\\\\").replace('"', '\\"')
            local = f'"{escaped}"'
        return f"{local}@{self.domain}" if self.domain else local


def parse_domain(text: str, *, utf8: bool = False) -> str:
    """Return a domain name or an address literal in the one form that is stored.

    Args:
        text: as it came.
        utf8: U-labels are allowed.

    Raises:
        AddressError: text is neither.
    """
    if text.startswith("["):
        return _parse_literal(text)
    domain = text.lower()
    if utf8 and not domain.isascii():
        domain = unicodedata.normalize("NFC", domain)
        if _UTF8_DOMAIN_RE.fullmatch(domain) is None or len(domain.encode()) > MAX_DOMAIN:
            raise AddressError("Bad domain")
        return domain
    if len(domain) > MAX_DOMAIN or _DOMAIN_RE.fullmatch(domain) is None:
        raise AddressError("Bad domain")
    if domain.rpartition(".")[2].isdigit():
        raise AddressError("Bad domain: an address literal needs brackets")
    return domain


def _parse_literal(text: str) -> str:
    """Return an address literal in canonical form (RFC 5321 4.1.3)."""
    inner = text[1:-1]
    try:
        if text[-1] != "]":
            raise ValueError("no closing bracket")
        if inner[:5].lower() == "ipv6:":
            if "%" in inner:
                raise ValueError("a scope means nothing to other hosts")
            return f"[IPv6:{ipaddress.IPv6Address(inner[5:])}]"
        return f"[{ipaddress.IPv4Address(inner)}]"
    except ValueError as error:
        raise AddressError("Bad address literal") from error


def parse_mailbox(text: str, *, utf8: bool = False) -> Mailbox:
    """Return the mailbox that text names, without angle brackets.

    ``postmaster`` in any case may stand alone.

    Args:
        text: as it came.
        utf8: it may hold characters beyond ASCII (RFC 6531).

    Raises:
        AddressError: 501 bad syntax, 553 8-bit text or no domain.
    """
    wide = utf8 and not text.isascii()
    if wide:
        text = unicodedata.normalize("NFC", text)
    found = (_UTF8_MAILBOX_RE if wide else _MAILBOX_RE).fullmatch(text)
    if found is None:
        if text.lower() == "postmaster":
            return Mailbox(text, "")
        raise _explain(text, utf8=utf8)
    local, domain = found.groups()
    if len(local.encode()) > MAX_LOCAL:
        raise AddressError(f"Local part longer than {MAX_LOCAL} characters")
    if local.startswith('"'):
        local = _PAIR_RE.sub(r"\1", local[1:-1])
    return Mailbox(local, parse_domain(domain, utf8=wide))


def _explain(text: str, *, utf8: bool) -> AddressError:
    """Return the error for text that is not a mailbox."""
    if not text.isascii() and not utf8:
        return AddressError("Address is not ASCII and SMTPUTF8 was not said", 553, "5.6.7")
    if _DOT_STRING_RE.fullmatch(text) is not None:
        return AddressError("Domain name required", 553, "5.5.4")
    return AddressError("Bad address syntax")


def parse_path(arg: bytes, kind: Kind, *, utf8: bool = False) -> tuple[str, Params]:
    """Return address and parameters of a MAIL or RCPT command.

    Args:
        arg: what follows ``FROM:`` or ``TO:``, for example ``<a@b> SIZE=1000``.
        kind: MAIL takes the null path ``<>``, RCPT takes ``<postmaster>``.
        utf8: addresses beyond ASCII are possible: in MAIL with the parameter SMTPUTF8, in RCPT
            because MAIL had it.

    Returns:
        The address without brackets and source route (RFC 5321 4.1.1.3, appendix C), empty for
        the null path; parameters by upper-case keyword, None for those without a value.

    Raises:
        AddressError: the reply to give.
    """
    bad_status = "5.1.7" if kind == "MAIL" else "5.1.3"
    if not arg.isascii() and not utf8:
        raise AddressError("Address is not ASCII and SMTPUTF8 was not said", 553, "5.6.7")
    try:
        found = _PATH_RE.fullmatch(arg.decode())
    except UnicodeDecodeError:
        raise AddressError("Address is not UTF-8", 501, bad_status) from None
    if found is None:
        raise AddressError("Bad address syntax: <address> is expected", 501, bad_status)
    text, rest = found.groups()
    params = _parse_params(rest) if rest else {}
    if kind == "MAIL":
        utf8 = utf8 and "SMTPUTF8" in params
    if not text:
        if kind == "MAIL":
            return "", params
        raise AddressError("The null path is no recipient", 501, bad_status)
    if text.startswith("@"):
        route = _ROUTE_RE.match(text)
        text = text[route.end() :] if route is not None else text
    try:
        mailbox = parse_mailbox(text, utf8=utf8)
    except AddressError as error:
        if error.status == "5.1.3":
            error.status = bad_status
        raise
    if not mailbox.domain and kind == "MAIL":
        raise AddressError("Domain name required", 553, "5.5.4")
    return str(mailbox), params


def _parse_params(text: str) -> Params:
    """Return ESMTP parameters (RFC 5321 4.1.2 Mail-parameters)."""
    params: Params = {}
    for word in text.split():
        found = _PARAM_RE.fullmatch(word)
        if found is None:
            raise AddressError("Bad parameter syntax", 501, "5.5.4")
        keyword = found[1].upper()
        if keyword in params:
            raise AddressError("The same parameter twice", 501, "5.5.4")
        params[keyword] = found[2]
    return params
