"""A message's header as content filters see and change it.

Kind: core.
Limits: those of the content; a change adds at most one packet of a filter.
Source: RFC 5322 2.2; libmilter/docs (smfi_addheader, smfi_insheader, smfi_chgheader).

A field that a filter deletes keeps its place until the filter is done, so that the numbers by
which it names others stay what it has seen.
"""

import re
from collections.abc import Iterator

import attrs

_NAME_RE = re.compile(rb"([!-9;-~]+)[ \t]*:")
_BREAK_RE = re.compile(r"\r\n|\r|\n")


@attrs.define
class Field:
    """One header field.

    Attributes:
        name: as written.
        raw: the whole field with its CRLF; empty: deleted.
        ours: we added it, and filters do not see it.
    """

    name: str
    raw: bytes
    ours: bool = False

    @property
    def value(self) -> str:
        """What stands behind the colon, without the last CRLF."""
        text = self.raw.partition(b":")[2].removesuffix(b"\r\n")
        return text.decode("utf-8", "surrogateescape")


class Draft:
    """The header of one message.

    Args:
        data: the beginning of the content, with the whole header.
        head: bytes at its beginning that are ours.

    Attributes:
        body_at: where the body begins in the content.
        changed: a field was added, changed or deleted.
    """

    def __init__(self, data: bytes, head: int) -> None:
        self.changed = False
        self._fields: list[Field] = []
        at = 0
        while data[at : at + 2] != b"\r\n":
            end = _field_end(data, at)
            found = _NAME_RE.match(data, at, end)
            if found is None:
                break  # no header field: the body begins without an empty line
            self._fields.append(Field(found[1].decode("ascii"), data[at:end], ours=at < head))
            at = end
        self._gap = data[at : at + 2] if data[at : at + 2] == b"\r\n" else b""
        self.body_at = at + len(self._gap)
        self._ended = bool(self._gap) or data.find(b"\r\n", at) >= 0

    @property
    def ended(self) -> bool:
        """True where data held the whole header: what follows is surely no more of it."""
        return self._ended

    def shown(self) -> Iterator[tuple[str, str]]:
        """Yield name and value of the fields that filters see."""
        for field in self._fields:
            if not field.ours:
                yield field.name, field.value

    def encode(self) -> bytes:
        """Return the header with the empty line behind it."""
        return b"".join(field.raw for field in self._fields) + (self._gap or b"")

    def settle(self) -> None:
        """Forget deleted fields: the next filter does not see them."""
        self._fields = [field for field in self._fields if field.raw]

    def add(self, name: str, value: str) -> None:
        """Add a field at the end."""
        self._insert(len(self._fields), name, value)

    def insert(self, at: int, name: str, value: str) -> None:
        """Add a field so that so many stand before it; ours count."""
        self._insert(min(at, len(self._fields)), name, value)

    def _insert(self, at: int, name: str, value: str) -> None:
        raw = _format(name, value)
        if raw:
            self._fields.insert(at, Field(name, raw))
            self.changed = True

    def change(self, number: int, name: str, value: str) -> None:
        """Change the field that has this number among those of its name, from 1.

        An empty value deletes it; where there are fewer, a value is added.
        """
        same = [
            field for field in self._fields if not field.ours and field.name.lower() == name.lower()
        ]
        number = max(1, number)
        if number > len(same):
            if value:
                self.add(name, value)
            return
        field = same[number - 1]
        raw = _format(field.name, value) if value else b""
        if raw or not value:
            field.raw = raw
            self.changed = True


def _field_end(data: bytes, at: int) -> int:
    """Return where the field that begins at a place ends, with its continuation lines."""
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            return len(data)
        if data[end + 2 : end + 3] not in (b" ", b"\t"):
            return end + 2
        at = end + 2


def _format(name: str, value: str) -> bytes:
    """Return a field; empty where the name is none. No value ends the header or the field."""
    key = name.encode("utf-8", "surrogateescape")
    if _NAME_RE.fullmatch(key + b":") is None:
        return b""
    first, *others = _BREAK_RE.split(value.replace("\0", "?"))
    lines = [
        first,
        *(line if line[0] in " \t" else f"\t{line}" for line in others if line.strip()),
    ]
    text = "\r\n".join(lines).encode("utf-8", "surrogateescape")
    return key + b":" + text + b"\r\n"


class LineEnds:
    """Makes every line of a body that comes in pieces end in CRLF."""

    def __init__(self) -> None:
        self._cr = False

    def feed(self, data: bytes) -> bytes:
        """Return the next piece."""
        text = b"\r" + data if self._cr else data
        self._cr = text.endswith(b"\r")
        if self._cr:
            text = text[:-1]
        return _clean(text)

    def end(self) -> bytes:
        """Return what is left."""
        left, self._cr = self._cr, False
        return b"\r\n" if left else b""


def _clean(text: bytes) -> bytes:
    if text.count(b"\r\n") == text.count(b"\n") == text.count(b"\r"):
        return text
    return text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
