"""Mailertable: text that says by which mailer, port and hosts a domain is reached.

Kind: core.

::

    LHS ::= ["."] hostname | "." | address-literal
    RHS ::= [port "^"] ["esmtp:"] hostlist | "lmtp:" | port "^" "lmtp:" hostlist
    hostlist ::= host {" " host}
    host ::= "[" IPv4 "]" | "[IPv6:" IPv6 "]" | "[" hostname "]" | hostname

A host name without brackets is subject to MX lookup, in brackets only its addresses are looked
up. Port and mailer hold for all hosts of the entry, which are tried in order. Empty lines and
text after ``#`` are skipped.

Owns: the entries of the text file, read once at start; those of a map are looked up each time.
Limits: MAX_HOSTS hosts an entry, MAX_PROBLEMS messages.
Source: SPEC rows X245 to X247, X308 to X320, decision D39; the literal as LHS and the last three
forms of host are additions to the sendmail X grammar.
"""

import enum
from collections.abc import Callable, Mapping
from typing import Protocol

import attrs

from libsmx.address import AddressError, parse_domain
from libsmx.errors import ConfigError, StoreError
from smar.lookuporder import domain_keys

SMTP_PORT = 25
MAX_HOSTS = 20
MAX_PROBLEMS = 20
MAX_PARSED = 10_000
"""Most different right-hand sides of a map that are kept parsed."""
_MAX_PORT = 65535


class HostKind(enum.Enum):
    """How a host of an entry becomes addresses."""

    ADDRESS = "the address itself"
    NAME = "its address records"
    MX = "its MX hosts, or itself where it has none"


@attrs.frozen
class Host:
    """One host of an entry."""

    kind: HostKind
    name: str
    """Host name, or the address in text form."""


@attrs.frozen(eq=False)
class Entry:
    """One right-hand side; compared by identity, as one line of one table."""

    lmtp: bool
    port: int
    """0 for the local LMTP socket."""
    hosts: tuple[Host, ...]
    """Empty for the local LMTP socket of the SMTP client."""
    problem: str = ""
    """Why the entry of a map cannot be used; mail waits until that is mended."""

    @property
    def local(self) -> bool:
        """The domain is ours: mail for it is accepted from anyone (SPEC rows X317, X335)."""
        return self.lmtp and not self.hosts and not self.problem


class Mailertable:
    """All entries, by their left-hand side."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self._entries = dict(entries)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def has_local(self) -> bool:
        """Tell whether there are local domains, as far as that is known at start."""
        return any(entry.local for entry in self._entries.values())

    def is_local(self, domain: str) -> bool:
        """Tell whether a lower-case domain is ours."""
        entry = self.find(domain)
        return entry is not None and entry.local

    def find(self, domain: str) -> Entry | None:
        """Return the entry for a lower-case domain or literal, None where DNS decides."""
        entry = self._entries.get(domain)
        if entry is not None or not self._entries:
            return entry
        for key in domain_keys(domain, default=True)[1:]:
            entry = self._entries.get(key)
            if entry is not None:
                return entry
        return None


class Source(Protocol):
    """A map that answers at once."""

    def get(self, key: str) -> str | None:
        """Return the value of a folded key; StoreError where it cannot be told."""


class MapMailertable(Mailertable):
    """A mailertable whose entries stand in a declared map.

    An entry that is wrong, or a map that cannot be read, is no reason to route mail elsewhere:
    such mail waits.

    Args:
        source: the map.
        on_odd: told (key, value, what is wrong) of entries that cannot be used.
    """

    def __init__(self, source: Source, on_odd: Callable[[str, str, str], None]) -> None:
        super().__init__({})
        self._source = source
        self._on_odd = on_odd
        self._parsed: dict[str, Entry] = {}

    def find(self, domain: str) -> Entry | None:
        """Return the entry for a lower-case domain or literal, None where DNS decides."""
        for key in domain_keys(domain, default=True):
            try:
                value = self._source.get(key)
            except StoreError as error:
                return Entry(lmtp=False, port=0, hosts=(), problem=str(error))
            if value is not None:
                return self._parsed.get(value) or self._read(key, value)
        return None

    def _read(self, key: str, value: str) -> Entry:
        try:
            entry = _parse_rhs(_words(value))
        except _Problem as problem:
            self._on_odd(key, value, str(problem))
            entry = Entry(lmtp=False, port=0, hosts=(), problem=f"entry {key}: {problem}")
        if len(self._parsed) >= MAX_PARSED:
            self._parsed.clear()
        self._parsed[value] = entry
        return entry


class _Problem(Exception):
    """What is wrong with one line, and what to write instead."""


def literal_address(domain: str) -> str | None:
    """Return the address inside a canonical address literal, None for a domain name."""
    if not domain.startswith("["):
        return None
    return domain[1:-1].removeprefix("IPv6:")


def format_literal(address: str) -> str:
    """Return an address in text form as an address literal."""
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


def read_mailertable(text: str, filename: str) -> Mailertable:
    """Read a whole mailertable.

    Args:
        text: the file's content.
        filename: for messages.

    Raises:
        ConfigError: every mistake as ``file:line: what; remedy``.
    """
    entries: dict[str, Entry] = {}
    lines: dict[str, int] = {}
    problems: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        words = _words(line)
        if not words:
            continue
        try:
            key = _parse_key(words[0])
            if key in entries:
                raise _Problem(
                    f"{words[0]} stands in line {lines[key]} already; put all its hosts into one"
                    " line"
                )
            entries[key] = _parse_rhs(words[1:])
            lines[key] = number
        except _Problem as problem:
            problems.append(f"{filename}:{number}: {problem}")
    if problems:
        more = len(problems) - MAX_PROBLEMS
        if more > 0:
            problems[MAX_PROBLEMS:] = [f"{filename}: {more} more lines are wrong"]
        raise ConfigError(problems)
    return Mailertable(entries)


def _words(line: str) -> list[str]:
    """Split a line at white space, without its comment."""
    words = line.split()
    for at, word in enumerate(words):
        if word.startswith("#"):
            return words[:at]
    return words


def _parse_key(text: str) -> str:
    """Return the left-hand side as it is looked up."""
    key = text.lower()
    if key == ".":
        return key
    try:
        return "." + parse_domain(key[1:]) if key.startswith(".") else parse_domain(key)
    except AddressError as error:
        raise _Problem(
            f"{text}: {error.text}; write host.example, .example for its subdomains, [192.0.2.1],"
            " or . for everything else"
        ) from error


def _parse_rhs(words: list[str]) -> Entry:
    """Return the entry that the words after the left-hand side make."""
    if not words:
        raise _Problem("the right-hand side is missing; write esmtp:HOST or lmtp:")
    first = words[0]
    port = None
    if "^" in first:
        digits, _, first = first.partition("^")
        port = _parse_port(digits)
    mailer, colon, rest = first.partition(":")
    if colon and not first.startswith("["):
        if mailer.lower() not in {"esmtp", "lmtp"}:
            raise _Problem(f"mailer {mailer} is unknown; use esmtp: or lmtp:")
        first = rest
    else:
        mailer = "esmtp"
    hosts = tuple(_parse_host(word) for word in (first, *words[1:]) if word)
    if len(hosts) > MAX_HOSTS:
        raise _Problem(f"{len(hosts)} hosts; at most {MAX_HOSTS} are tried")
    if mailer.lower() == "esmtp":
        if not hosts:
            raise _Problem("the host is missing; write esmtp:HOST, or lmtp: for local delivery")
        return Entry(lmtp=False, port=port or SMTP_PORT, hosts=hosts)
    if (port is None) != (not hosts):
        raise _Problem(
            "LMTP over a network needs port and host, the local socket neither; write"
            " 24^lmtp:[127.0.0.1], or lmtp: alone"
        )
    return Entry(lmtp=True, port=port or 0, hosts=hosts)


def _parse_port(digits: str) -> int:
    """Return a port number."""
    if digits.isascii() and digits.isdigit() and len(digits) <= 5 and 0 < int(digits) <= _MAX_PORT:
        return int(digits)
    raise _Problem(f"port {digits or 'before ^'} is no number from 1 to {_MAX_PORT}")


def _parse_host(text: str) -> Host:
    """Return one host of a host list."""
    if "^" in text or (":" in text and not text.startswith("[")):
        raise _Problem(f"{text}: port and mailer stand once, before the first host")
    bracketed = text.startswith("[") and text.endswith("]")
    try:
        if bracketed and _is_name(text[1:-1]):
            return Host(HostKind.NAME, parse_domain(text[1:-1]))
        name = parse_domain(text.removesuffix("."))
    except AddressError as error:
        raise _Problem(
            f"{text}: {error.text}; write host.name, [host.name], [192.0.2.1] or [IPv6:2001:db8::1]"
        ) from error
    address = literal_address(name)
    if address is not None:
        return Host(HostKind.ADDRESS, address)
    return Host(HostKind.MX, name)


def _is_name(text: str) -> bool:
    """Tell whether text in brackets is meant as a name, not as an address."""
    return ":" not in text and not text.rpartition(".")[2].isdigit()
