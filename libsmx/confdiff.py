"""Differences between two configurations, and what each needs to take effect.

Kind: core.

A daemon reads smx.conf at its start. Of a changed file it takes over at SIGHUP what RELOADED
names; everything else needs a restart of the daemon, and what mcp itself uses (sockets, users,
programs) a restart of the whole system. Maps, certificates and log files are no part of this:
they are read and opened again in any case.
Source: SPEC rows X098, X102, X478.
"""

from collections.abc import Iterator, Mapping

import attrs

from libsmx.config import WholeFile
from libsmx.options import OptionRow, walk

RELOADED = frozenset({"log_level"})
"""Names of options, behind the section, that a reload makes effective."""

RELOAD = "mcp.sh reload"
RESTART = "mcp.sh restart"


@attrs.frozen
class Change:
    """One option that differs.

    Attributes:
        name: dotted, with its section.
        old: value as smx.conf writes it, None where the section is new.
        new: likewise, None where the section is gone.
        needs: the command that makes it effective.
    """

    name: str
    old: str | None
    new: str | None
    needs: str


def values(conf: object, prefix: str) -> dict[str, tuple[OptionRow, object]]:
    """Return the options of a built section by dotted name."""
    return {name: (row, value) for name, row, value in walk(conf, prefix)}


def changed_names(old: object, new: object, prefix: str) -> list[str]:
    """Return the dotted names of the options whose values differ."""
    before, after = values(old, prefix), values(new, prefix)
    same = {n for n in before.keys() & after.keys() if before[n][1] == after[n][1]}
    return [name for name in {**before, **after} if name not in same]


def needs_of(name: str) -> str:
    """Return what a change of an option needs; the section's name stands before the first dot."""
    return RELOAD if name.split(".", 1)[-1] in RELOADED else RESTART


def differences(old: WholeFile, new: WholeFile) -> Iterator[Change]:
    """Yield what differs between two files, by section."""
    yield from _compare("", old.globals, new.globals)
    before = {facts.label: facts.conf for facts in old.sections}
    after = {facts.label: facts.conf for facts in new.sections}
    for label in {**before, **after}:
        yield from _compare(f"{label}.", before.get(label), after.get(label))


def _compare(prefix: str, old: object | None, new: object | None) -> Iterator[Change]:
    before = values(old, prefix) if old is not None else {}
    after = values(new, prefix) if new is not None else {}
    for name in {**before, **after}:
        left, right = _shown(before, name), _shown(after, name)
        if left != right and not (old is None and _is_default(after, name)):
            yield Change(name, left, right, needs_of(name))


def _shown(found: Mapping[str, tuple[OptionRow, object]], name: str) -> str | None:
    if name not in found:
        return None
    row, value = found[name]
    return row.kind.show(value)


def _is_default(found: Mapping[str, tuple[OptionRow, object]], name: str) -> bool:
    row, value = found[name]
    return value == row.default
