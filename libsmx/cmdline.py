"""The command line of a component: options in order, usage text.

Kind: core.

``-f FILE``, ``-N NAME``, ``-i ID``, ``-h`` and ``-V`` (repeated for more) are everybody's. A
daemon adds flags that set an option of the table: ``{"-C": ("qmgr", "smtpc",
"max_connections")}``, or with a letter inside the value ``{"-O R": ...}`` for ``-O R=5``
(SPEC rows X079-X082, D12). Flags before -f give way to the file, those behind it win (X071).
Source: SPEC rows X070-X082.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import attrs

from libsmx.confload import Override
from libsmx.errors import UsageError
from libsmx.kinds import Quantity, quote, read_number
from libsmx.options import OptionRow, find_row, walk
from libsmx.opttab import COMPONENTS, GlobalConf

Flags = Mapping[str, tuple[str, ...]]

MAX_ID = 255
MAX_VERSION_LEVEL = 6
_MAX_ARGUMENTS = 100
_COMMON = ("-f", "-N", "-i")


@attrs.frozen
class CommandLine:
    """What the command line asks for.

    Attributes:
        action: run, or print one of two texts.
        version_level: number of V, 1 to 6; 0 without.
        config: file of -f, None for the built-in defaults.
        section: name of -N.
        id: number of -i, 0 without (SPEC row X078).
        overrides: settings in their order.
    """

    action: Literal["run", "help", "version"] = "run"
    version_level: int = 0
    config: str | None = None
    section: str | None = None
    id: int = 0
    overrides: tuple[Override, ...] = ()


class _Parser:
    def __init__(self, flags: Flags) -> None:
        self._flags = {name.rstrip("="): path for name, path in flags.items()}
        self._overrides: list[Override] = []
        self._found: dict[str, str] = {}
        self._version = 0
        self._help = False

    def parse(self, argv: Sequence[str]) -> CommandLine:
        words = list(argv)
        if len(words) > _MAX_ARGUMENTS:
            raise UsageError(f"more than {_MAX_ARGUMENTS} arguments")
        at = 0
        while at < len(words):
            word = words[at]
            at += 1
            if word[:2] == "-V" and not word.strip("V-"):
                self._version += word.count("V")
            elif word == "-h":
                self._help = True
            elif len(word) >= 2 and word[0] == "-" and self._takes_value(word[:2]):
                value = word[2:]
                if not value:
                    if at == len(words):
                        raise UsageError(f"option {word} needs a value")
                    value = words[at]
                    at += 1
                self._set(word[:2], value)
            elif word[:1] == "-":
                raise UsageError(f"unknown option {quote(word)}; -h lists the options")
            else:
                raise UsageError(f"unexpected argument {quote(word)}; -h lists the options")
        return self._result()

    def _takes_value(self, flag: str) -> bool:
        return flag in _COMMON or any(name.split()[0] == flag for name in self._flags)

    def _set(self, flag: str, value: str) -> None:
        if flag in _COMMON:
            if flag in self._found:
                raise UsageError(f"option {flag} is given twice")
            self._found[flag] = value
            return
        if flag not in self._flags:
            # one letter stands for several options: -O R=5
            letter, equals, rest = value.partition("=")
            flag, value = f"{flag} {letter}", rest
            if not equals or flag not in self._flags:
                known = ", ".join(f"{name}=N" for name in self._flags if name[:2] == flag[:2])
                raise UsageError(f"option {flag[:40]}: expected {known}")
        path = self._flags[flag]
        row = row_of(path)
        try:
            row.check(value)
        except ValueError as error:
            raise UsageError(f"option {flag}: {error}") from None
        self._overrides.append(Override(path, value, flag, early="-f" not in self._found))

    def _result(self) -> CommandLine:
        number = self._found.get("-i", "0")
        try:
            number_id = read_number(number)
        except ValueError as error:
            raise UsageError(f"option -i: {error}") from None
        if number_id > MAX_ID:
            raise UsageError(f"option -i: {number} is above the maximum {MAX_ID}")
        return CommandLine(
            action="help" if self._help else "version" if self._version else "run",
            version_level=min(self._version, MAX_VERSION_LEVEL),
            config=self._found.get("-f"),
            section=self._found.get("-N"),
            id=number_id,
            overrides=tuple(self._overrides),
        )


def parse_command_line(argv: Sequence[str], flags: Flags | None = None) -> CommandLine:
    """Parse the arguments behind the program's name.

    Args:
        argv: the arguments.
        flags: flag -> path of the option that it sets, component first.

    Raises:
        UsageError: unknown option, missing or bad value.
    """
    return _Parser(flags or {}).parse(argv)


def row_of(path: tuple[str, ...]) -> OptionRow:
    """Return the row of an option by its path, component first."""
    return find_row(COMPONENTS[path[0]], path[1:])


def usage_text(name: str, purpose: str, flags: Flags | None = None) -> str:
    """Return the text of -h: the options and the defaults (SPEC row X072).

    Args:
        name: of the program; a component's defaults are listed.
        purpose: one sentence.
        flags: as for parse_command_line.
    """
    flags = flags or {}
    lines = [
        f"usage: {name} [options]",
        purpose,
        "",
        "  -f FILE    read this configuration file; without it only the defaults below apply",
        "  -N NAME    use the section of this name",
        "  -i ID      number of this process, 0 to 255",
        "  -h         print this text",
        "  -V         print the version; repeated up to six times for more:",
        "             five print the effective configuration, six all flags as well",
    ]
    for flag, path in flags.items():
        row = row_of(path)
        shown = f"{flag.rstrip('=')}=N" if " " in flag else f"{flag} N"
        lines.append(f"  {shown:<10} {'.'.join(path)} [default: {row.default_text()}]")
    if name in COMPONENTS:
        conf = COMPONENTS[name]()
        lines += ["", "Options of smx.conf and their defaults, see smx.conf(5):"]
        for prefix, conf_object in (("", GlobalConf()), (f"{name}.", conf)):
            for dotted, row, _value in walk(conf_object, prefix):
                named = row.kind.unit and not isinstance(row.kind, Quantity)
                unit = f"  # {row.kind.unit}" if named else ""
                lines.append(f"  {dotted} = {row.default_text()}{unit}")
    return "\n".join(lines) + "\n"
