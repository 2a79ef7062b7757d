"""The rows of the options table: how a class of typed options is declared and looked up.

Kind: core.

A section of smx.conf is a frozen attrs class. Each field is declared by ``option`` (one
option), ``section`` (a subsection) or ``shared`` (options of another class that are written in
the same section); the row that describes it lies in the field's metadata, and parsing, error
texts, -V output, ``smxconf`` and smx.conf(5) are made from these rows alone. The attribute is
the option's name in lower case and holds a number in the option's own unit.
Source: SPEC rows X092, X100, X102; D10.
"""

from collections.abc import Iterator
from typing import Any

import attrs

from libsmx.kinds import Choice, Kind, quote

ROW = "smx.row"
"""Key of the row in a field's metadata."""

_MAX_SHOWN = 60


@attrs.frozen
class OptionRow:
    """One option.

    Attributes:
        name: as the manual writes it; smx.conf may write it in any case.
        kind: reads and shows values.
        text: the default as smx.conf would write it, one text for each value of a list.
        default: the default as a value.
        low: the least value allowed, as text, "" for no bound.
        high: the greatest value allowed, as text, "" for no bound.
        doc: meaning, sentences for the manual.
        rows: the requirements it answers.
    """

    name: str
    kind: Kind[Any]
    text: tuple[str, ...]
    default: object
    low: str
    high: str
    doc: str
    rows: tuple[str, ...]

    def check(self, text: str) -> object:
        """Return one value read from its text, checked against the bounds.

        Raises:
            ValueError: what is wrong, without place and option name.
        """
        value = self.kind.read(text)
        text = text[:_MAX_SHOWN]
        low, high = self._bounds()
        if isinstance(value, int):
            if low is not None and value < low:
                raise ValueError(f"{text} is below the minimum {self.low} ({self.kind.label})")
            if high is not None and value > high:
                raise ValueError(f"{text} is above the maximum {self.high} ({self.kind.label})")
        return value

    def _bounds(self) -> tuple[int | None, int | None]:
        low = self.kind.read(self.low) if self.low else None
        return low, self.kind.read(self.high) if self.high else None

    def default_text(self) -> str:
        """Return the default for a manual: ``5d``, ``{ a, b }``, ``""`` for an empty one."""
        if self.kind.many:
            return "{ " + ", ".join(self.text) + " }" if self.text else "{ }"
        return self.text[0] or '""'


@attrs.frozen
class SectionRow:
    """One subsection.

    Attributes:
        name: keyword; "" for options of another class written in the enclosing section.
        conf: its class.
        repeat: it may be given several times; the field is a tuple.
        named: each is given with a name of its own, which its class holds as ``name``.
        aliases: options of it that may also stand in the enclosing section (D10).
        doc: meaning, sentences for the manual.
    """

    name: str
    conf: type[Any]
    repeat: bool
    aliases: frozenset[str]
    doc: str
    named: bool = False


Row = OptionRow | SectionRow


def option(
    name: str,
    kind: Kind[Any],
    default: str | tuple[str, ...],
    *,
    doc: str,
    rows: str = "",
    low: str = "",
    high: str = "",
) -> Any:  # noqa: ANN401 (stands for a field of any type)
    """Declare a field that is an option; the parameters are those of OptionRow."""
    texts = default if isinstance(default, tuple) else (default,)
    # "" is "not set" of a choice, which nobody may write (start_action)
    unset = texts == ("",) and isinstance(kind, Choice)
    value = "" if unset else kind.join([kind.read(text) for text in texts])
    row = OptionRow(name, kind, texts, value, low, high, doc, tuple(rows.split()))
    return attrs.field(default=value, metadata={ROW: row})


def section(
    name: str,
    conf: type[Any],
    *,
    doc: str,
    repeat: bool = False,
    named: bool = False,
    aliases: tuple[str, ...] = (),
) -> Any:  # noqa: ANN401 (stands for a field of any type)
    """Declare a field that is a subsection; the parameters are those of SectionRow."""
    row = SectionRow(name, conf, repeat or named, frozenset(aliases), doc, named)
    return attrs.field(factory=tuple if row.repeat else conf, metadata={ROW: row})


def shared(conf: type[Any]) -> Any:  # noqa: ANN401 (stands for a field of any type)
    """Declare a field whose options are written directly in the enclosing section."""
    return attrs.field(factory=conf, metadata={ROW: SectionRow("", conf, False, frozenset(), "")})


@attrs.frozen
class Member:
    """Where the value of a name in a section belongs.

    Attributes:
        path: attribute names from the section's class down.
        row: what describes it.
        is_alias: the name is a second place for an option of a subsection.
    """

    path: tuple[str, ...]
    row: Row
    is_alias: bool = False


def own_rows(conf: type[Any]) -> dict[str, Row]:
    """Return attribute name -> row, in the order of declaration.

    A field that nobody writes as an option, the name of a section, has none.
    """
    fields = attrs.fields(conf)
    return {field.name: field.metadata[ROW] for field in fields if ROW in field.metadata}


def members(conf: type[Any]) -> dict[str, Member]:
    """Return what may stand in a section: name in lower case -> member."""
    found: dict[str, Member] = {}
    for attribute, row in own_rows(conf).items():
        if isinstance(row, SectionRow) and not row.name:
            for name, member in members(row.conf).items():
                found[name] = attrs.evolve(member, path=(attribute, *member.path))
            continue
        found[row.name.lower()] = Member((attribute,), row)
        if isinstance(row, SectionRow):
            for alias in row.aliases:
                inner = members(row.conf)[alias.lower()]
                found[alias.lower()] = Member((attribute, *inner.path), inner.row, is_alias=True)
    return found


def walk(conf: object, prefix: str = "") -> Iterator[tuple[str, OptionRow, object]]:
    """Yield (dotted name, row, value) of every option of a built section, in table order.

    The members of a repeated subsection are numbered from 1: ``smtps.listen_socket.2.port``,
    or named: ``smar.map.users.file``.
    """
    for attribute, row in own_rows(type(conf)).items():
        value = getattr(conf, attribute)
        if isinstance(row, OptionRow):
            yield prefix + row.name, row, value
        elif row.repeat:
            for number, one in enumerate(value, 1):
                which = one.name if row.named else number
                yield from walk(one, f"{prefix}{row.name}.{which}.")
        else:
            yield from walk(value, f"{prefix}{row.name}." if row.name else prefix)


def find_row(conf: type[Any], path: tuple[str, ...]) -> OptionRow:
    """Return the row of an option by names from the section's class down, in any case.

    Raises:
        KeyError: no such option.
    """
    for name in path[:-1]:
        member = members(conf)[name.lower()]
        if not isinstance(member.row, SectionRow):
            raise KeyError(quote(name))
        conf = member.row.conf
    row = members(conf)[path[-1].lower()].row
    if not isinstance(row, OptionRow):
        raise KeyError(quote(path[-1]))
    return row
