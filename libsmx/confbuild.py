"""Building typed options from the entries of smx.conf.

Kind: core.

Everything that is wrong becomes a Problem with its place; building goes on with the default,
so that one run shows all mistakes. Within a section a later option of the same name wins, with
a warning; subsections of the same name are merged.
Source: SPEC rows X092, X102, X120-X124; D05, D10.
"""

import posixpath
from typing import Any, TypeVar

import attrs

from libsmx.conffile import Entry, Option, Place, Problem, Section
from libsmx.kinds import Path, nearest
from libsmx.options import Member, OptionRow, SectionRow, members, own_rows

C = TypeVar("C")

Where = tuple[str | int, ...]
"""Attribute names, and numbers from 0 for repeated sections, from the section's class down."""

_NAME = 0
"""Where the tree of a named section keeps its name: no attribute is called so."""

MAX_REPEAT = 64
"""Greatest number of repeated subsections of one name in a section."""


@attrs.frozen
class Dirs:
    """What relative file names are relative to.

    Attributes:
        conf: directory of the file given by -f; "" is the working directory.
        queue: main queue directory; "" where the program runs in it, which keeps socket names
            short (they are limited to about 100 bytes by the operating system).
    """

    conf: str = ""
    queue: str = ""

    def resolve(self, row: OptionRow, name: str, *, written: bool) -> str:
        """Return a file name as the program opens it (D05).

        Args:
            row: an option of kind Path.
            name: its value.
            written: whether somebody wrote it, in the file or on the command line.
        """
        beside_conf = isinstance(row.kind, Path) and row.kind.beside_conf
        base = self.conf if beside_conf and not written else self.queue
        if name in ("", "-"):  # not set, and the standard output
            return name
        return posixpath.join(base, name)


@attrs.define
class Built:
    """What was found while building one section; shared by its subsections.

    Attributes:
        problems: mistakes.
        warnings: finished lines about what is legal and yet probably not meant.
        places: where each option stands that somebody wrote.
    """

    problems: list[Problem] = attrs.Factory(list)
    warnings: list[str] = attrs.Factory(list)
    places: dict[Where, Place] = attrs.Factory(dict)

    def complain(self, place: Place, text: str) -> None:
        """Add a problem."""
        self.problems.append(Problem(place, text))


def build(
    conf: type[C], entries: tuple[Entry, ...], label: str, dirs: Dirs, hint: str = ""
) -> tuple[C, Built]:
    """Return a section's options, and what was found on the way.

    Args:
        conf: class of the section.
        entries: its content.
        label: name of the section for messages, "" for the global one.
        dirs: see Dirs.
        hint: added to the message about an unknown name.
    """
    builder = _Builder(dirs, hint)
    tree: dict[str | int, Any] = {}
    builder.fill(conf, entries, label, (), tree)
    return builder.construct(conf, tree), builder.built


class _Builder:
    def __init__(self, dirs: Dirs, hint: str) -> None:
        self.built = Built()
        self._dirs = dirs
        self._hint = hint
        self._aliased: set[Where] = set()

    def fill(
        self,
        conf: type[Any],
        entries: tuple[Entry, ...],
        label: str,
        at: Where,
        tree: dict[str | int, Any],
    ) -> None:
        """Put the values of the entries into a tree of attribute names."""
        known = members(conf)
        for entry in entries:
            name = entry.name if isinstance(entry, Option) else entry.keyword
            member = known.get(name.lower())
            full = f"{label}.{name}" if label else name
            if member is None:
                self._unknown(entry, full, known)
            elif isinstance(entry, Section):
                self._section(entry, member, full, at, tree)
            elif isinstance(member.row, SectionRow):
                self.built.complain(
                    entry.place, f"{full}: this is a section: write {name} {{ ... }}"
                )
            else:
                self._option(entry, member, f"{label}.{member.row.name}", at, tree)

    def construct(self, conf: type[C], tree: dict[str | int, Any]) -> C:
        """Make the instance, with defaults where the tree has no value."""
        values: dict[str, object] = {}
        for attribute, row in own_rows(conf).items():
            value = tree.get(attribute)
            if isinstance(row, OptionRow):
                if value is None:
                    value = row.default
                    if isinstance(row.kind, Path):
                        value = self._dirs.resolve(row, str(value), written=False)
            elif row.repeat:
                value = tuple(self._repeated(row, one) for one in (value or {}).values())
            else:
                value = self.construct(row.conf, value if value is not None else {})
            values[attribute] = value
        return conf(**values)

    def _repeated(self, row: SectionRow, tree: Any) -> object:  # noqa: ANN401
        """Make one of several subsections, with its name where it has one."""
        one: Any = self.construct(row.conf, tree)
        return attrs.evolve(one, name=tree[_NAME]) if row.named else one

    def _section(
        self, entry: Section, member: Member, full: str, at: Where, tree: dict[str | int, Any]
    ) -> None:
        row = member.row
        if isinstance(row, OptionRow):
            text = f"{full}: this is an option: write {row.name} = ...;"
            self.built.complain(entry.place, text)
            return
        inner = _inside(tree, member.path)
        problem = _name_problem(entry, row, inner)
        if problem:
            self.built.complain(entry.place, f"{full}: {problem}")
            return
        where: Where = (*at, *member.path)
        if row.repeat:
            if len(inner) >= MAX_REPEAT:
                text = f"{full}: given more than {MAX_REPEAT} times"
                self.built.complain(entry.place, text)
                return
            where = (*where, len(inner))
            self.built.places[where] = entry.place
            inner = inner.setdefault(len(inner), {})
            if row.named:
                inner[_NAME] = entry.name
                full = f"{full}.{entry.name}"
        self.fill(row.conf, entry.entries, full, where, inner)

    def _option(
        self, entry: Option, member: Member, full: str, at: Where, tree: dict[str | int, Any]
    ) -> None:
        row = member.row
        if not isinstance(row, OptionRow):
            return
        full = full.removeprefix(".")
        value = self._read(entry, row, full)
        where: Where = (*at, *member.path)
        if value is None:
            return
        if member.is_alias and where in self.built.places and where not in self._aliased:
            return  # the subsection has it already, which wins (D10)
        before = self.built.places.get(where)
        was_alias = where in self._aliased
        if before is not None and was_alias == member.is_alias and before.line and entry.place.line:
            self.built.warnings.append(
                f"{entry.place}: {full}: given before at {before}; this one holds"
            )
        if member.is_alias:
            self._aliased.add(where)
        else:
            self._aliased.discard(where)
        self.built.places[where] = entry.place
        if isinstance(row.kind, Path):
            value = self._dirs.resolve(row, str(value), written=True)
        _inside(tree, member.path[:-1])[member.path[-1]] = value

    def _read(self, entry: Option, row: OptionRow, full: str) -> object | None:
        """Return the value, None after a mistake."""
        if entry.braced and not row.kind.many:
            self.built.complain(entry.place, f"{full}: takes one value, without braces")
            return None
        parts: list[Any] = []
        for value in entry.values:
            try:
                parts.append(row.check(value.text))
            except ValueError as error:
                self.built.complain(value.place, f"{full}: {error}")
        if len(parts) < len(entry.values):
            return None
        try:
            joined: object = row.kind.join(parts)
        except ValueError as error:
            self.built.complain(entry.place, f"{full}: {error}")
            return None
        return joined

    def _unknown(self, entry: Entry, full: str, known: dict[str, Member]) -> None:
        what = "option" if isinstance(entry, Option) else "section"
        name = entry.name if isinstance(entry, Option) else entry.keyword
        names = [member.row.name for member in known.values()]
        text = f"{full}: unknown {what}{nearest(name, names) or self._hint}"
        self.built.complain(entry.place, text)


def _name_problem(entry: Section, row: SectionRow, inner: dict[str | int, Any]) -> str:
    """Return what is wrong with the name of a subsection, "" if nothing is."""
    if not row.named:
        return "" if entry.name is None else "this section takes no name"
    if entry.name is None:
        return f"this section needs a name: write {row.name} NAME {{ ... }}"
    if any(one[_NAME] == entry.name for one in inner.values()):
        return f"{entry.name} is declared already; give each {row.name} a name of its own"
    return ""


def _inside(tree: dict[str | int, Any], path: tuple[str, ...]) -> dict[str | int, Any]:
    """Return the dict at a path of attribute names, made where it is missing."""
    for name in path:
        tree = tree.setdefault(name, {})
    return tree
