"""The value of an alias: what stands on the right-hand side, with its macros.

Kind: core.

A value is ``local:`` (the address itself is valid and mail for it is delivered), one address
without brackets, or addresses in angle brackets with blanks between them. An address without a
domain gets one: our hostname, or the domain of the address that was looked up.
Source: README 3.9.3 (Aliases), 3.12.3; SPEC rows X322, X323, X329, X330, X340 to X347.
"""

import re
from collections.abc import Mapping

from libsmx.address import AddressError, parse_mailbox

LOCAL = "local:"
MACROS = ("user", "detail", "domain", "tag", "delimiter", "subdomain", "extension")
MACRO_RE = re.compile(r"\$\{([^}]*)\}")
_LOCAL_PART = '(?:"(?:[^"\\\\]|\\\\.)*"|[^<>" ]*)'
_BRACKETED_RE = re.compile(rf"<({_LOCAL_PART}(?:@[^<>\" ]*)?)>")


def replace_macros(value: str, macros: Mapping[str, str]) -> str:
    """Return a value with its macros replaced.

    Args:
        value: with ``${name}``.
        macros: value of every name in MACROS.

    Raises:
        ValueError: a macro that does not exist.
    """

    def replaced(found: re.Match[str]) -> str:
        name = found[1].lower()
        if name not in macros:
            raise ValueError(f"there is no macro ${{{found[1][:30]}}}; known: {', '.join(MACROS)}")
        return macros[name]

    return MACRO_RE.sub(replaced, value)


def macros_for(
    *, user: str, detail: str | None, domain: str, key: str, delimiter: str
) -> dict[str, str]:
    """Return the macros of an address that an entry matched.

    Args:
        user: local part without detail.
        detail: None without delimiter.
        domain: of the address.
        key: the entry's key, which tells the subdomain: ``alias*@.domain``.
        delimiter: address_delimiter.
    """
    _, _, matched = key.rpartition("@")
    is_parent = "@" in key and matched.startswith(".") and domain.endswith(matched)
    return {
        "user": user,
        "detail": detail or "",
        "domain": domain,
        "tag": "",
        "delimiter": delimiter,
        "subdomain": domain[: -len(matched)] if is_parent else "",
        "extension": "" if detail is None else f"{delimiter}{detail}",
    }


def read_value(value: str, domain: str) -> list[str] | None:
    """Return the addresses of a value, each once; None for ``local:``.

    Args:
        value: macros replaced.
        domain: for addresses without one.

    Raises:
        ValueError: what is wrong, and what to write.
    """
    text = value.strip()
    if text.lower() == LOCAL:
        return None
    if not text.startswith("<"):
        if not text or any(char in text for char in '<>,; \t"') or ":" in text:
            raise ValueError(
                f"{_quote(text)} is no address; several stand in angle brackets with blanks"
                " between them, as <a@b.c> <d@e.f>"
            )
        return [_address(text, domain)]
    found: dict[str, None] = {}
    at = 0
    while at < len(text):
        match = _BRACKETED_RE.match(text, at)
        if match is None:
            raise ValueError(
                f"{_quote(text[at:])}: an address in angle brackets is expected, as <a@b.c>,"
                " with blanks and no commas between them"
            )
        found[_address(match[1], domain)] = None
        rest = text[match.end() :]
        at = len(text) - len(rest.lstrip(" \t"))
    return list(found)


def _address(text: str, domain: str) -> str:
    """Return an address in the form that envelopes carry."""
    try:
        return str(parse_mailbox(text if _has_domain(text) else f"{text}@{domain}", utf8=True))
    except AddressError as error:
        raise ValueError(f"{_quote(text)}: {error.text}") from None


def _has_domain(text: str) -> bool:
    """Tell whether there is an @ outside of a quoted local part."""
    return "@" in (text[text.rfind('"') + 1 :] if text.startswith('"') else text)


def _quote(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
