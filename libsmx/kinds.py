"""The kinds of values in smx.conf: how each is read, shown and described.

Kind: core.

A kind turns the text of one value into a typed value or raises ValueError with a text that
says what was expected; ``show`` is its inverse in the syntax of smx.conf.
Limits: numbers below 2**63; texts of at most 4096 characters.
Source: SPEC rows X089-X101, D07-D09.
"""

import difflib
import re
import shlex
from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")

MAX_TEXT = 4096
_MAX_NUMBER = 2**63 - 1
_NUMBER = r"0[xX][0-9a-fA-F]+|[0-9]+"
_NUMBER_RE = re.compile(_NUMBER)
_ITEM_RE = re.compile(rf"\s*({_NUMBER})\s*([A-Za-z]*)\s*")
_BARE_RE = re.compile(r'[^\s{}=;,"#\\]+')

TIME_UNITS = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}
MICRO_UNITS = {name: n * 1_000_000 for name, n in TIME_UNITS.items()} | {"ms": 1000, "us": 1}
SIZE_UNITS = {"B": 1, "KB": 1024, "MB": 1024**2, "GB": 1024**3}


def quote(text: str) -> str:
    """Return a user's text for an error message: quoted, printable, at most 40 characters."""
    return repr(text if len(text) <= 40 else text[:37] + "...")


def to_syntax(text: str) -> str:
    """Return a string as smx.conf writes it: bare where possible, else quoted and escaped."""
    if _BARE_RE.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped.replace("\n", "\\n").replace("\t", "\\t") + '"'


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean x?`` for the known name that is most like name, else ""."""
    by_lower = {word.lower(): word for word in known}
    found = difflib.get_close_matches(name.lower()[:100], by_lower, n=1, cutoff=0.6)
    return f"; did you mean {by_lower[found[0]]}?" if found else ""


def read_number(text: str) -> int:
    """Read a number with the prefixes of C: 0x hexadecimal, 0 octal, else decimal.

    Raises:
        ValueError: not such a number, or 2**63 and more.
    """
    if not _NUMBER_RE.fullmatch(text):
        raise ValueError(f"{quote(text)} is not a number (digits, 0x and hexadecimal, 0 and octal)")
    if len(text) > 24:
        raise ValueError(f"{quote(text)} is too large")
    if text[:2] in ("0x", "0X"):
        value = int(text, 16)
    elif text[0] == "0" and len(text) > 1:
        if text.strip("01234567"):
            raise ValueError(f"{quote(text)} begins with 0 and is octal: digits 0 to 7 only")
        value = int(text, 8)
    else:
        value = int(text)
    if value > _MAX_NUMBER:
        raise ValueError(f"{quote(text)} is too large")
    return value


class Kind(Generic[T]):
    """Base of all kinds.

    Attributes:
        label: one or two words for error messages and manual ("duration").
        unit: of the number that the program sees ("s", "KB", "entries"), "" for none.
        many: whether smx.conf may give several values in braces.
    """

    label = ""
    unit = ""
    many = False

    def read(self, text: str) -> T:
        """Return the value; raises ValueError."""
        raise NotImplementedError

    def join(self, parts: list[T]) -> T:
        """Return the value that the parts of a list make together."""
        return parts[-1]

    def show(self, value: T) -> str:
        """Return the value in smx.conf syntax: ``read`` of its text gives the value again."""
        return to_syntax(str(value))

    def describe(self) -> str:
        """Return what may be written, a phrase for the manual."""
        return self.label


class Count(Kind[int]):
    """A number of things; ``unit`` names them."""

    label = "number"

    def __init__(self, unit: str = "") -> None:
        self.unit = unit

    def read(self, text: str) -> int:
        """Read a number without a unit."""
        return read_number(text)


class Quantity(Kind[int]):
    """A sum of numbers with units (``1h 5m 12s``); a lone number has the option's own unit."""

    def __init__(self, label: str, units: dict[str, int], unit: str) -> None:
        self.label = label
        self.unit = unit
        self._names = ", ".join(units)
        self._units = {name.lower(): factor for name, factor in units.items()}
        self._own = units[unit]

    def read(self, text: str) -> int:
        """Return the sum in the option's own unit."""
        items: list[tuple[str, str]] = []
        at = 0
        while at < len(text):
            match = _ITEM_RE.match(text, at)
            if match is None:
                break
            items.append((match[1], match[2]))
            at = match.end()
        if not items or at < len(text):
            raise ValueError(
                f"{quote(text)} is not a {self.label}: numbers with units ({self._names})"
            )
        if len(items) == 1 and not items[0][1]:
            return read_number(items[0][0])
        total = 0
        for number, name in items:
            if name.lower() not in self._units:
                what = f"unknown unit {quote(name)}" if name else f"{quote(number)} has no unit"
                raise ValueError(f"{what} in {quote(text)}: units are {self._names}")
            total += read_number(number) * self._units[name.lower()]
        if total > _MAX_NUMBER:
            raise ValueError(f"{quote(text)} is too large")
        if total % self._own:
            raise ValueError(f"{quote(text)} is not a whole number of {self.unit}")
        return total // self._own

    def show(self, value: int) -> str:
        """Return the number and the option's own unit (SPEC row X097)."""
        return f"{value} {self.unit}"

    def describe(self) -> str:
        """Tell the option's own unit where it is not the usual one."""
        usual = self.unit in ("s", "B")
        return self.label if usual else f"{self.label}, in {self.unit} unless a unit is given"


class Octal(Kind[int]):
    """A file mode mask; without its leading 0 it would be another number, so that is refused."""

    label = "octal number"

    def read(self, text: str) -> int:
        """Read an octal number up to 0777."""
        if not re.fullmatch(r"0[0-7]{0,4}", text) or int(text, 8) > 0o777:
            raise ValueError(f"{quote(text)} is not an octal number from 0 to 0777 (as 0117)")
        return int(text, 8)

    def show(self, value: int) -> str:
        """Return the mask with its leading 0."""
        return f"0{value:o}"


class Boolean(Kind[bool]):
    """0, false, off or 1, true, on."""

    label = "boolean"
    _words = {"0": False, "false": False, "off": False, "1": True, "true": True, "on": True}  # noqa: RUF012 (a constant)

    def read(self, text: str) -> bool:
        """Read one of the six words in any case."""
        if text.lower() not in self._words:
            raise ValueError(f"{quote(text)} is not a boolean (true, on, 1, false, off, 0)")
        return self._words[text.lower()]

    def show(self, value: bool) -> str:  # noqa: FBT001 (the value of the kind)
        """Return true or false."""
        return "true" if value else "false"


class String(Kind[str]):
    """Any text without control characters; ``pattern`` narrows it, "" is always allowed."""

    def __init__(self, label: str = "string", pattern: str = "", expected: str = "") -> None:
        self.label = label
        self._pattern = re.compile(pattern) if pattern else None
        self._expected = expected

    def read(self, text: str) -> str:
        """Return the text itself."""
        if len(text) > MAX_TEXT:
            raise ValueError(f"a {self.label} of more than {MAX_TEXT} characters")
        if any(c < " " or c == "\x7f" for c in text):
            raise ValueError(f"{quote(text)} holds a control character")
        if text and self._pattern is not None and not self._pattern.fullmatch(text):
            raise ValueError(f"{quote(text)} is no {self.label}: {self._expected}")
        return text


class Path(String):
    """A file or socket name; ``beside_conf``: the default lies in smx.conf's directory.

    Every other relative name, and every name that somebody wrote, is relative to the directory
    in which the programs run, the queue directory (D05; SPEC rows X120-X124).
    """

    def __init__(self, *, beside_conf: bool = False) -> None:
        super().__init__("path")
        self.beside_conf = beside_conf


class Words(Kind[tuple[str, ...]]):
    """A command line in one string; single quotes keep blanks inside a word."""

    label = "command line"

    def read(self, text: str) -> tuple[str, ...]:
        """Split at blanks as a shell does, without any expansion."""
        if any(c < " " or c == "\x7f" for c in text):
            raise ValueError(f"{quote(text)} holds a control character")
        try:
            words = tuple(shlex.split(text))
        except ValueError as error:
            raise ValueError(f"{quote(text)} is not a command line: {error}") from None
        return words

    def show(self, value: tuple[str, ...]) -> str:
        """Join the words."""
        return to_syntax(shlex.join(value))


class Choice(Kind[str]):
    """One of several words, in any case; "" means not set where that is the default."""

    label = "choice"

    def __init__(self, *words: str) -> None:
        self.words = words

    def read(self, text: str) -> str:
        """Return the word as the table writes it."""
        for word in self.words:
            if word.lower() == text.lower():
                return word
        raise ValueError(
            f"{quote(text)} is none of {', '.join(self.words)}{nearest(text, self.words)}"
        )

    def describe(self) -> str:
        """List the words."""
        return "one of " + ", ".join(self.words)


class Flags(Kind[frozenset[str]]):
    """A set of known words; the program sees them in lower case."""

    label = "flags"
    many = True

    def __init__(self, meanings: dict[str, str]) -> None:
        self.meanings = meanings
        self._by_lower = {name.lower(): name for name in self.meanings}

    def read(self, text: str) -> frozenset[str]:
        """Return the set that holds the one flag."""
        if text.lower() not in self._by_lower:
            known = f"flags are {', '.join(self.meanings)}"
            hint = nearest(text, self.meanings)
            raise ValueError(f"unknown flag {quote(text)}; {known}{hint}")
        return frozenset((text.lower(),))

    def join(self, parts: list[frozenset[str]]) -> frozenset[str]:
        """Return the union."""
        return frozenset().union(*parts)

    def show(self, value: frozenset[str]) -> str:
        """Return the flags in the order of the table, in braces."""
        return braces(name for low, name in self._by_lower.items() if low in value)

    def describe(self) -> str:
        """List the flags."""
        return "flags: " + ", ".join(self.meanings)


class ListOf(Kind[tuple[T, ...]]):
    """Several values of one kind, at most ``most``."""

    many = True

    def __init__(self, element: Kind[T], most: int) -> None:
        self.element = element
        self.most = most
        self.label = f"list of {element.label}"
        self.unit = element.unit

    def read(self, text: str) -> tuple[T, ...]:
        """Return the list that holds the one value."""
        return (self.element.read(text),)

    def join(self, parts: list[tuple[T, ...]]) -> tuple[T, ...]:
        """Return all values in order; raises ValueError where there are too many."""
        if len(parts) > self.most:
            raise ValueError(f"{len(parts)} values are too many: at most {self.most}")
        return tuple(value for part in parts for value in part)

    def show(self, value: tuple[T, ...]) -> str:
        """Return the values in braces."""
        return braces(self.element.show(one) for one in value)

    def describe(self) -> str:
        """Tell the element and the number."""
        return f"list of at most {self.most}: {self.element.describe()}"


def braces(texts: Iterable[str]) -> str:
    """Return finished value texts as a list in smx.conf syntax."""
    inside = ", ".join(texts)
    return f"{{ {inside} }}" if inside else "{ }"
