r"""The text that an aliases map is made from, in the form of sendmail X or of sendmail 8.

Kind: core.

sendmail X writes an entry on a line: ``list: <a@b.c> <d@e.f>``, ``joe: bob``, ``bob: local:``;
``check_alias`` looks at those. sendmail 8 writes ``list: a@b.c, joe, :include:/path``, goes on in
lines that begin with a blank or after a backslash, and knows deliveries to files and programs.
``read_aliases`` reads that form, and lines of the other as well; what has no counterpart is
refused with its line. ``\joe`` for joe and a name that stands for itself become ``local:``.
Limits: MAX_VALUE bytes an entry, MAX_INCLUDES files, which include no others.
Source: README 3.9.3; aliases(5) of sendmail 8; SPEC rows X321 to X323, X329, X330.
"""

import re
from collections.abc import Callable, Iterable, Iterator

from libsmx.aliasvalue import LOCAL, MACRO_RE, read_value
from libsmx.maptext import MAX_KEY, MAX_VALUE, PROGRESS_LINES, MapText, Progress, cut, fold

MAX_INCLUDES = 100
_INCLUDE = ":include:"
_ENTRY_RE = re.compile(r'("(?:[^"\\]|\\.)*"|[^\s:"<>,]+)\s*(?::|\s)\s*(.*)', re.DOTALL)
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_ITEM_RE = re.compile(rf"(?:{_QUOTED}|<(?:{_QUOTED}|[^<>\"])*>|[^,\"<>])+")
_BRACKETS_RE = re.compile(rf"<((?:{_QUOTED}|[^<>\"])*)>")
_CONTROL_RE = re.compile("[\0-\x08\x0a-\x1f\x7f]")
_DOMAIN = "host.invalid"
"""Stands for the domain that is not known here."""

Include = Callable[[str], Iterable[bytes]]
"""Opens a file by its absolute path; raises OSError."""


def check_alias(_key: str, value: str) -> str:
    """Look at an entry in the form of sendmail X; see maptext.Check."""
    try:
        read_value(MACRO_RE.sub("x", value), _DOMAIN)
    except ValueError as error:
        raise ValueError(f"{error} (for the form of sendmail 8: createmap -t aliases)") from None
    return ""


def read_aliases(
    lines: Iterable[bytes],
    *,
    include: Include,
    keep_case: bool = False,
    progress: Progress | None = None,
) -> MapText:
    """Read aliases in the form of sendmail 8.

    Args:
        lines: with or without their ends.
        include: opens files that entries name.
        keep_case: do not fold keys to lower case.
        progress: told the number of lines from time to time.
    """
    entries: dict[str, str] = {}
    seen: dict[str, int] = {}
    problems: list[str] = []
    warnings: list[str] = []
    reader = _Reader(include)
    for number, text, trouble in _logical(lines, progress):
        try:
            if trouble:
                raise ValueError(trouble)
            key, value = reader.entry(text)
            key = key if keep_case else fold(key)
            if key in seen:
                raise ValueError(f"{key!r} stands on line {seen[key]} already; join the two lists")
            seen[key] = number
            entries[key] = value
        except ValueError as error:
            problems.append(f"line {number}: {error}")
    return MapText(entries, cut(problems), cut(warnings))


def _logical(lines: Iterable[bytes], progress: Progress | None) -> Iterator[tuple[int, str, str]]:
    """Yield (number of the first line, entry with its continuations, what is wrong)."""
    start, parts, size, trouble = 0, list[str](), 0, ""
    joined = False  # the line before ended with a backslash
    for number, line in enumerate(lines, 1):
        if progress is not None and number % PROGRESS_LINES == 0:
            progress(number)
        try:
            text = line.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            text, wrong = "?", "it is not UTF-8"
        else:
            wrong = (
                "it holds a control character" if re.search("[\0-\x08\x0a-\x1f\x7f]", text) else ""
            )
        if not joined and (not text.strip() or text.startswith("#")):
            continue
        if not joined and text[0] not in " \t":
            if parts:
                yield start, " ".join(parts), trouble
            start, parts, size, trouble = number, [], 0, ""
        elif not parts:
            start, trouble = number, "it goes on an entry that is not there"
        joined = text.endswith("\\")
        size += len(text)
        if size > MAX_VALUE:
            trouble = trouble or f"the entry is longer than {MAX_VALUE} bytes"
            parts = parts or ["?"]
        else:
            parts.append(text.rstrip("\\").strip() if joined else text.strip())
        trouble = trouble or wrong
    if parts:
        yield start, " ".join(parts), trouble


class _Reader:
    """Reads entries; counts the files that they include."""

    def __init__(self, include: Include) -> None:
        self._include = include
        self._included = 0

    def entry(self, text: str) -> tuple[str, str]:
        """Return key and value of an entry; ValueError says what is wrong."""
        found = _ENTRY_RE.fullmatch(text)
        if found is None or not found[2].strip():
            raise ValueError(f"{text[:40]!r} is no entry; write name: address, address")
        key, value = found.groups()
        if key.startswith('"'):
            key = re.sub(r"\\(.)", r"\1", key[1:-1])
        if not key or len(key.encode()) > MAX_KEY:
            raise ValueError(f"the name is empty or longer than {MAX_KEY} bytes")
        if value.strip().lower() == LOCAL:
            return key, LOCAL
        members = list(dict.fromkeys(self._members(value, nested=False)))
        mine = [one for one in members if fold(one.removeprefix("\\")) == fold(key)]
        escaped = [one for one in members if one.startswith("\\")]
        if mine and len(members) == 1:
            return key, LOCAL
        if escaped and not mine:
            raise ValueError(f"{escaped[0]!r}: write the name, and give it the value {LOCAL}")
        if mine:
            raise ValueError(
                f"{mine[0]!r} beside others means delivery here and elsewhere, which"
                " one name cannot say; give the local mailbox a name of its own"
            )
        made = " ".join(f"<{one}>" for one in members)
        if len(made.encode()) > MAX_VALUE:
            raise ValueError(f"the members are longer than {MAX_VALUE} bytes; split the list")
        read_value(MACRO_RE.sub("x", made), _DOMAIN)
        return key, made

    def _members(self, value: str, *, nested: bool) -> Iterator[str]:
        """Yield the addresses of a list."""
        at = 0
        while at < len(value):
            found = _ITEM_RE.match(value, at)
            if found is None:
                if value[at] != ",":
                    raise ValueError(f"{value[at:][:40]!r}: a quote or bracket is not closed")
                at += 1
                continue
            at = found.end()
            item = found[0].strip()
            if item:
                yield from self._item(item, nested=nested)

    def _item(self, item: str, *, nested: bool) -> Iterator[str]:
        plain = item[1:-1] if item.startswith('"') and item.endswith('"') else item
        if plain.lower().startswith(_INCLUDE):
            if nested:
                raise ValueError(f"{plain[:60]!r} stands in a file that is included itself")
            yield from self._file(plain[len(_INCLUDE) :].strip())
        elif plain.startswith("|"):
            raise ValueError(
                f"{plain[:60]!r}: programs are not run; deliver to an LMTP service instead"
            )
        elif plain.startswith("/"):
            raise ValueError(
                f"{plain[:60]!r}: files are not written; deliver to an LMTP service instead"
            )
        elif "<" in item:
            # "Full Name <a@b.c>", or several in the form of sendmail X
            yield from (one.strip() for one in _BRACKETS_RE.findall(item))
        elif re.search(r"\s", re.sub(_QUOTED, "", item)):
            raise ValueError(f"{item[:60]!r}: put commas between addresses")
        else:
            yield item

    def _file(self, path: str) -> Iterator[str]:
        """Yield the addresses in a file, one or several on a line."""
        self._included += 1
        if not path.startswith("/"):
            raise ValueError(f"{_INCLUDE}{path[:60]}: the path must be absolute")
        if self._included > MAX_INCLUDES:
            raise ValueError(f"more than {MAX_INCLUDES} files are included")
        size = 0
        try:
            for line in self._include(path):
                size += len(line)
                if size > MAX_VALUE:
                    raise ValueError(f"{path} is longer than {MAX_VALUE} bytes; split the list")
                text = line.decode("utf-8", "replace").strip()
                if text and not text.startswith("#"):
                    yield from self._members(text, nested=True)
        except OSError as error:
            raise ValueError(f"{path}: {error.strerror}") from None
