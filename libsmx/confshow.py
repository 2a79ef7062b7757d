"""The effective configuration and the version, as text.

Kind: core.

Source: SPEC rows X073-X076, X097, X098; D05.
"""

import posixpath
from collections.abc import Iterator, Mapping, Sequence

from libsmx.confload import Loaded
from libsmx.kinds import Flags, Path, Quantity
from libsmx.options import OptionRow, SectionRow, own_rows, walk
from libsmx.version import PRODUCT

DUMP_LEVEL = 5
FLAGS_LEVEL = 6


def version_text(
    level: int,
    name: str,
    facts: Sequence[tuple[int, str]] = (),
    loaded: Loaded | None = None,
    cwd: str = "",
) -> str:
    """Return the text of -V.

    Args:
        level: number of V, 1 to 6; each level adds to the one below.
        name: of the program.
        facts: lines about the build (libraries, system) with the level that shows them.
        loaded: the configuration, needed from level 5.
        cwd: working directory, to show relative file names as absolute ones.
    """
    lines = [f"{name} {PRODUCT}"]
    lines += [text for needed, text in facts if needed <= level]
    if loaded is not None and level >= DUMP_LEVEL:
        lines += dump(loaded.globals, "", cwd)
        lines += dump(loaded.conf, f"{loaded.component}.", cwd)
    if loaded is not None and level >= FLAGS_LEVEL:
        lines += flag_lines(loaded.globals, "")
        lines += flag_lines(loaded.conf, f"{loaded.component}.")
    return "\n".join(lines) + "\n"


def dump(
    conf: object, prefix: str, cwd: str = "", baseline: Mapping[str, object] | None = None
) -> Iterator[str]:
    """Yield ``section.option = value  # default ..., unit`` for every option of a section.

    Args:
        conf: built options.
        prefix: in front of the names.
        cwd: see version_text.
        baseline: values by dotted name; what is equal to them is left out.
    """
    for dotted, row, value in walk(conf, prefix):
        if baseline is not None and value == baseline.get(dotted, row.default):
            continue
        notes = [f"default {row.default_text()}"]
        if row.kind.unit and not isinstance(row.kind, Quantity):
            notes.append(row.kind.unit)
        yield f"{dotted} = {row.kind.show(_absolute(row, value, cwd))}  # {', '.join(notes)}"


def _absolute(row: OptionRow, value: object, cwd: str) -> object:
    if isinstance(row.kind, Path) and isinstance(value, str) and value not in ("", "-"):
        return posixpath.join(cwd, value)
    return value


def flag_lines(conf: object, prefix: str) -> Iterator[str]:
    """Yield ``section.option: flag - meaning`` for every flag there is (SPEC row X076)."""
    for attribute, row in own_rows(type(conf)).items():
        if isinstance(row, SectionRow):
            if not row.repeat:
                inner = f"{prefix}{row.name}." if row.name else prefix
                yield from flag_lines(getattr(conf, attribute), inner)
        elif isinstance(row.kind, Flags):
            for flag, meaning in row.kind.meanings.items():
                yield f"{prefix}{row.name}: {flag} - {meaning}"
