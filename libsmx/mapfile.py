"""Map files: keys and values in a single LMDB file, made anew and never changed.

Kind: shell. The door to lmdb for maps.

A file is built beside its place, synced and renamed into it, so that a reader sees the old one
or the new one, whole. A header record carries the format's version, the source's name and the
time; every value carries a checksum. LMDB dies of a file that was cut short instead of raising:
a daemon that must not die reads a map through a child (``createmap -s``).
Limits: MAP_SIZE bytes.
Source: SPEC row X209, decision D19.
"""

import json
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from typing import Self

import attrs
import lmdb

from libsmx.errors import StoreError
from libsmx.sealed import seal, unseal

FORMAT = 1
MAP_SIZE = 4 << 30
"""Address space while a map is made; the file is as large as its content."""
MODE = 0o644
_TABLE = "map"
_HEADER = b"\0header"
"""Keys of entries hold no control characters, so this is no entry."""


@attrs.frozen
class Header:
    """What a map says of itself.

    Attributes:
        source: name of the text that it was made from.
        made_at: wall time.
        entries: number of entries.
    """

    source: str
    made_at: float
    entries: int


def write_map(path: str, entries: Mapping[str, str], *, source: str, made_at: float) -> None:
    """Put a new map in the place of ``path``; it is on disk when this returns.

    The new file has the mode of the old one, and its owner if we are root.

    Raises:
        StoreError: it could not be made; the old file is untouched.
    """
    directory = os.path.dirname(path) or "."
    try:
        with tempfile.TemporaryDirectory(prefix=".createmap-", dir=directory) as place:
            fresh = os.path.join(place, "map")
            _fill(fresh, entries, Header(source, made_at, len(entries)))
            _adopt(fresh, path)
            os.rename(fresh, path)
        _sync(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise StoreError(f"{error.filename or path}: {error.strerror}") from error
    except lmdb.Error as error:
        raise StoreError(f"{path}: {error}") from error


def _fill(path: str, entries: Mapping[str, str], header: Header) -> None:
    said = json.dumps({"format": FORMAT, **attrs.asdict(header)}).encode()
    with lmdb.open(path, subdir=False, map_size=MAP_SIZE, lock=False, mode=0o600) as env:
        with env.begin(write=True) as txn:
            txn.put(_HEADER, seal(_TABLE, _HEADER, said))
            for key, value in sorted((k.encode(), v.encode()) for k, v in entries.items()):
                txn.put(key, seal(_TABLE, key, value))
        env.sync(True)


def _adopt(fresh: str, old: str) -> None:
    """Give a new file the mode and owner of the one that it replaces, and sync it."""
    try:
        was = os.stat(old)
    except FileNotFoundError:
        os.chmod(fresh, MODE)
    else:
        os.chmod(fresh, stat.S_IMODE(was.st_mode))
        if os.geteuid() == 0:
            os.chown(fresh, was.st_uid, was.st_gid)
    _sync(fresh, os.O_RDONLY)


def _sync(path: str, flags: int) -> None:
    fd = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class MapFile:
    """A map opened for reading; use as a context manager.

    Raises:
        FileNotFoundError: there is none.
        StoreError: it is no map, or of a newer format.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        os.stat(path)
        try:
            self._env = lmdb.open(path, subdir=False, readonly=True, lock=False, create=False)
        except lmdb.Error as error:
            raise StoreError(f"{path} is no map: {error}") from error
        try:
            self.header = self._header()
        except StoreError:
            self._env.close()
            raise

    def _header(self) -> Header:
        text = self._get(_HEADER)
        try:
            said = json.loads(text or "")
            number = int(said["format"])
            header = Header(str(said["source"]), float(said["made_at"]), int(said["entries"]))
        except (ValueError, KeyError, TypeError):
            raise StoreError(f"{self._path} is no map made by createmap") from None
        if number > FORMAT:
            raise StoreError(
                f"{self._path} has format {number}, this version reads {FORMAT}: make it again"
            )
        return header

    def _get(self, key: bytes) -> str | None:
        with self._env.begin() as txn:
            return self._open(key, txn.get(key))

    def _open(self, key: bytes, value: bytes | None) -> str | None:
        if value is None:
            return None
        payload = unseal(_TABLE, key, bytes(value))
        if payload is None:
            raise StoreError(f"{self._path} is damaged at key {key!r}")
        return payload.decode()

    def get(self, key: str) -> str | None:
        """Return the value of a key, None where there is none."""
        found = key.encode()
        return self._get(found) if found else None

    def items(self) -> Iterator[tuple[str, str]]:
        """Yield all entries in the order of their keys."""
        with self._env.begin() as txn, txn.cursor() as cursor:
            for key, value in cursor:
                text = self._open(bytes(key), value)
                if key != _HEADER and text is not None:
                    yield bytes(key).decode(), text

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._env.close()
