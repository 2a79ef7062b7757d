"""The text that a map is made from: a key and a value on each line.

Kind: core.

The key ends at the first blank; the rest of the line, without the blanks around it, is the
value. Empty lines and lines that begin with ``#`` say nothing. Keys are folded to lower case
unless told otherwise, because what they name (addresses, domains, limits) has no case.
Limits: MAX_KEY and MAX_VALUE bytes.
Source: SPEC rows X329, X421, X476.
"""

from collections.abc import Iterable

MAX_KEY = 480
"""Longest key in bytes; LMDB takes 511."""
MAX_VALUE = 65_536
"""Longest value in bytes."""
MAX_PROBLEMS = 20
"""More are counted, not listed."""


def fold(key: str) -> str:
    """Return a key as it stands in a map that does not keep case."""
    return key.lower()


def read_map_text(
    lines: Iterable[bytes], *, keep_case: bool = False
) -> tuple[dict[str, str], list[str]]:
    """Read the lines of a map's source.

    Args:
        lines: with or without their ends.
        keep_case: do not fold keys to lower case.

    Returns:
        The entries in their order, and what is wrong, each with its line number. A map must
        not be made where anything is wrong.
    """
    entries: dict[str, str] = {}
    seen: dict[str, int] = {}
    problems: list[str] = []
    for number, line in enumerate(lines, 1):
        try:
            entry = _entry(line)
        except ValueError as error:
            problems.append(f"line {number}: {error}")
            continue
        if entry is None:
            continue
        key = entry[0] if keep_case else fold(entry[0])
        if key in seen:
            problems.append(f"line {number}: key {key!r} stands on line {seen[key]} already")
        else:
            seen[key] = number
            entries[key] = entry[1]
    if len(problems) > MAX_PROBLEMS:
        more = len(problems) - MAX_PROBLEMS
        problems[MAX_PROBLEMS:] = [f"and {more} more"]
    return entries, problems


def _entry(line: bytes) -> tuple[str, str] | None:
    """Return key and value of a line, None where it says nothing."""
    try:
        text = line.rstrip(b"\r\n").decode()
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    if not text.strip() or text.startswith("#"):
        return None
    if text[0] in " \t":
        raise ValueError("it begins with a blank; an entry stands on one line, key first")
    if any((char < " " and char != "\t") or char == "\x7f" for char in text):
        raise ValueError("it holds a control character")
    key, *rest = text.split(None, 1)
    if not rest:
        raise ValueError(f"key {key[:40]!r} has no value")
    value = rest[0].rstrip()
    if len(key.encode()) > MAX_KEY:
        raise ValueError(f"the key is longer than {MAX_KEY} bytes")
    if len(value.encode()) > MAX_VALUE:
        raise ValueError(f"the value is longer than {MAX_VALUE} bytes")
    return key, value
