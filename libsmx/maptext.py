"""The text that a map is made from: a key and a value on each line.

Kind: core.

The key ends at the first blank; the rest of the line, without the blanks around it, is the
value. Empty lines and lines that begin with ``#`` say nothing. Keys are folded to lower case
unless told otherwise, because what they name (addresses, domains, limits) has no case.
Limits: MAX_KEY and MAX_VALUE bytes.
Source: SPEC rows X329, X421, X476.
"""

import re
from collections.abc import Callable, Iterable

import attrs

MAX_KEY = 480
"""Longest key in bytes; LMDB takes 511."""
MAX_VALUE = 65_536
"""Longest value in bytes."""
MAX_PROBLEMS = 20
"""More are counted, not listed."""
PROGRESS_LINES = 200_000
_CONTROL_RE = re.compile("[\0-\x08\x0a-\x1f\x7f]")

Progress = Callable[[int], None]
Check = Callable[[str, str], str]
"""(key, value) -> a warning, "" for none; ValueError says why an entry cannot stand."""


@attrs.frozen
class MapText:
    """What was read.

    Attributes:
        entries: in their order.
        problems: what is wrong, each with its line number; a map must not be made of it.
        warnings: what is odd.
    """

    entries: dict[str, str]
    problems: list[str]
    warnings: list[str]


def fold(key: str) -> str:
    """Return a key as it stands in a map that does not keep case."""
    return key.lower()


def read_map_text(
    lines: Iterable[bytes],
    *,
    keep_case: bool = False,
    check: Check | None = None,
    progress: Progress | None = None,
    colon: bool = False,
) -> MapText:
    """Read the lines of a map's source.

    Args:
        lines: with or without their ends.
        keep_case: do not fold keys to lower case.
        check: looks at each entry.
        progress: told the number of lines from time to time.
        colon: a colon that ends a key does not belong to it.
    """
    entries: dict[str, str] = {}
    seen: dict[str, int] = {}
    problems: list[str] = []
    warnings: list[str] = []
    for number, line in enumerate(lines, 1):
        if progress is not None and number % PROGRESS_LINES == 0:
            progress(number)
        try:
            entry = _entry(line)
            if entry is None:
                continue
            key = entry[0] if keep_case else fold(entry[0])
            if colon and key.endswith(":") and len(key) > 1:
                key = key[:-1]
            if len(key.encode()) > MAX_KEY:
                raise ValueError(f"the key is longer than {MAX_KEY} bytes")
            if key in seen:
                raise ValueError(f"key {key!r} stands on line {seen[key]} already")
            odd = check(key, entry[1]) if check is not None else ""
        except ValueError as error:
            problems.append(f"line {number}: {error}")
            continue
        if odd:
            warnings.append(f"line {number}: {odd}")
        seen[key] = number
        entries[key] = entry[1]
    return MapText(entries, cut(problems), cut(warnings))


def cut(texts: list[str]) -> list[str]:
    """Return at most MAX_PROBLEMS texts, and how many more there are."""
    if len(texts) <= MAX_PROBLEMS:
        return texts
    return [*texts[:MAX_PROBLEMS], f"and {len(texts) - MAX_PROBLEMS} more"]


def _entry(line: bytes) -> tuple[str, str] | None:
    """Return key and value of a line, None where it says nothing."""
    try:
        text = line.rstrip(b"\r\n").decode()
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    if text.startswith("#") or not text.strip():
        return None
    if text[0] in " \t":
        raise ValueError("it begins with a blank; an entry stands on one line, key first")
    if _CONTROL_RE.search(text) is not None:
        raise ValueError("it holds a control character")
    key, *rest = text.split(None, 1)
    if not rest:
        raise ValueError(f"key {key[:40]!r} has no value")
    value = rest[0].rstrip()
    if len(value.encode()) > MAX_VALUE:
        raise ValueError(f"the value is longer than {MAX_VALUE} bytes")
    return key, value
