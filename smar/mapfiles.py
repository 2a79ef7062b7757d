"""Map files that are read again when they change.

Kind: shell.

The file's place, size and time of change are looked at every POLL_S seconds, in a thread. A
changed file is read in that thread and put into use at once if it is right; if it is not, the old
content stays in use and the log says why, once for each state of the file. A text is read when
it was left alone for one look, because editors write in steps. A file that goes away is no
change.
Limits: MAX_TEXT bytes of text.
Source: SPEC rows X209, X213, X478; decision D19.
"""

import os
from collections.abc import Callable, Iterable

import attrs

from libsmx.errors import EX_CONFIG, SmxError, StartError, StoreError
from libsmx.log import Log
from libsmx.mapfile import MapFile
from libsmx.maptext import MapText, read_map_text
from smar.events import MAP_GONE, MAP_READ, MAP_UNREAD
from smar.mapregex import RegexTable, read_regex
from smar.maptables import CidrTable, Table, TextTable, read_cidr

POLL_S = 1.0
MAX_TEXT = 64 << 20

Signature = tuple[int, int, int]


class MapFileError(SmxError):
    """A file cannot be used as a map."""


class HashTable:
    """A file made by createmap."""

    def __init__(self, path: str) -> None:
        self._file = MapFile(path, private=True)

    def __len__(self) -> int:
        return self._file.header.entries

    def get(self, key: str) -> str | None:
        """Return the value of a folded key."""
        return self._file.get(key)

    def starts(self, prefix: str) -> bool:
        """Tell whether a key begins so."""
        return self._file.starts(prefix)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


_EMPTY = TextTable({})


def _read_lines(path: str, read: Callable[[Iterable[bytes]], MapText]) -> dict[str, str]:
    if os.stat(path).st_size > MAX_TEXT:
        raise MapFileError(f"{path}: longer than {MAX_TEXT} bytes, which is the limit")
    with open(path, "rb") as file:
        found = read(file)
    if found.problems:
        raise MapFileError("; ".join(f"{path}: {problem}" for problem in found.problems))
    return found.entries


_LOADERS: dict[str, Callable[[str], Table]] = {
    "hash": HashTable,
    "text": lambda path: TextTable(_read_lines(path, read_map_text)),
    "regex": lambda path: RegexTable(_read_lines(path, read_regex)),
    "cidr": lambda path: CidrTable(_read_lines(path, read_cidr)),
}


def load_table(kind: str, path: str) -> Table:
    """Read a file.

    Args:
        kind: hash, text, regex or cidr.
        path: the file.

    Raises:
        FileNotFoundError: there is none.
        MapFileError: it cannot be used; the text names the file.
    """
    try:
        return _LOADERS[kind](path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise MapFileError(f"{error.filename or path}: {error.strerror}") from error
    except (StoreError, ValueError) as error:
        raise MapFileError(str(error)) from error


@attrs.define
class _Change:
    """What a look at a file brought."""

    signature: Signature | None
    table: Table | None = None
    error: str = ""


class FileMap:
    """A map in a file.

    Args:
        name: of the map.
        kind: hash, text, regex or cidr.
        path: the file.
        log: told of what is read, and what cannot be.
        optional: the file need not exist; the map is empty without it.
    """

    later = False

    def __init__(self, name: str, kind: str, path: str, log: Log, *, optional: bool) -> None:
        self.name = name
        self._kind = kind
        self._path = path
        self._log = log
        self._optional = optional
        self._table: Table = _EMPTY
        self._used: Signature | None = None
        self._seen: Signature | None = None
        self._gone = False

    @property
    def members(self) -> tuple["FileMap", ...]:
        """The map itself."""
        return (self,)

    def __len__(self) -> int:
        return len(self._table)

    def get(self, key: str) -> str | None:
        """Return the value of a folded key."""
        return self._table.get(key)

    def starts(self, prefix: str) -> bool:
        """Tell whether a key may begin so."""
        return self._table.starts(prefix)

    def open(self) -> None:
        """Read the file for the first time.

        Raises:
            StartError: it is missing and must not be, or cannot be used; EX_CONFIG.
        """
        self._seen = self._signature()
        try:
            table = load_table(self._kind, self._path)
        except FileNotFoundError as error:
            if not self._optional:
                text = f"{self._path}: no such file; map {self.name} needs it"
                raise StartError(text, EX_CONFIG) from error
            return
        except MapFileError as error:
            raise StartError(f"map {self.name}: {error}", EX_CONFIG) from error
        self._use(_Change(self._seen, table))

    def _signature(self) -> Signature | None:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return (found.st_ino, found.st_size, found.st_mtime_ns)

    def look(self) -> _Change | None:
        """Look at the file, and read it if it changed; runs in a thread.

        Returns:
            What to ``apply``, None where nothing changed.
        """
        signature, before = self._signature(), self._seen
        self._seen = signature
        if signature == self._used or (signature is None and self._gone):
            return None
        if signature is None:
            return _Change(None)
        if self._kind != "hash" and signature != before:
            return None
        try:
            return _Change(signature, load_table(self._kind, self._path))
        except FileNotFoundError:
            return None
        except MapFileError as error:
            return _Change(signature, error=str(error))

    def apply(self, change: _Change) -> None:
        """Put into use what ``look`` found; runs where lookups do."""
        if change.signature is None:
            self._gone = True
            if self._used is not None:
                self._log.emit(MAP_GONE, map=self.name, file=self._path)
        elif change.error:
            self._used, self._gone = change.signature, False
            self._log.emit(MAP_UNREAD, map=self.name, file=self._path, error=change.error[:500])
        else:
            self._use(change)

    def _use(self, change: _Change) -> None:
        if change.table is None:
            return
        old, self._table = self._table, change.table
        old.close()
        self._used, self._gone = change.signature, False
        self._log.emit(MAP_READ, map=self.name, file=self._path, entries=len(self._table))
