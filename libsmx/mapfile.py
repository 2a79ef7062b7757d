"""Map files: keys and values in a single LMDB file, made anew and never changed.

Kind: shell. The door to lmdb for maps.

A file is built beside its place, synced and renamed into it, so that a reader sees the old one
or the new one, whole. A header record carries the format's version, the source's name and the
time; every value carries a checksum. LMDB dies of a file that was cut short instead of raising,
so a checksum of all its bytes stands behind its last page, and nothing is opened before that
was found right. A daemon reads a copy of its own: what happens to the file later (somebody
writes into it instead of replacing it) does not reach it.
Limits: MAP_SIZE bytes.
Source: SPEC row X209, decision D19.
"""

import contextlib
import hashlib
import json
import os
import stat
import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Self

import attrs
import lmdb

from libsmx.errors import StoreError
from libsmx.maptext import MAX_KEY
from libsmx.sealed import seal, unseal

FORMAT = 1
MAP_SIZE = 4 << 30
"""Address space while a map is made; the file is as large as its content."""
MODE = 0o644
_TABLE = "map"
_HEADER = b"\0header"
"""Keys of entries hold no control characters, so this is no entry."""
_FOOTER = struct.Struct(">8sQ16s")
_MAGIC = b"smxmap1\n"
_CHUNK = 1 << 20


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
            items = sorted((key.encode(), value) for key, value in entries.items())
            sealed = ((key, seal(_TABLE, key, value.encode())) for key, value in items)
            with txn.cursor() as cursor:
                cursor.putmulti(sealed, append=True)
        env.sync(True)
    with open(path, "r+b") as file:
        size, digest = _digest(file.read, os.fstat(file.fileno()).st_size)
        file.write(_FOOTER.pack(_MAGIC, size, digest))


def _digest(
    read: Callable[[int], bytes], size: int, write: Callable[[bytes], object] | None = None
) -> tuple[int, bytes]:
    """Read at most size bytes, copy them with write; return how many there were, and their sum."""
    total, found = 0, hashlib.blake2b(digest_size=16)
    while total < size and (chunk := read(min(_CHUNK, size - total))):
        total += len(chunk)
        found.update(chunk)
        if write is not None:
            write(chunk)
    return total, found.digest()


def _verify(path: str, *, copy: bool) -> str:
    """Check the file's bytes against its footer.

    Returns:
        The path of a copy of them, to be removed once it is open; without copy the path itself.

    Raises:
        OSError: it cannot be read, or there is no room for the copy.
        StoreError: it is not as createmap wrote it.
    """
    with open(path, "rb") as file:
        length = os.fstat(file.fileno()).st_size - _FOOTER.size
        file.seek(max(length, 0))
        footer = file.read(_FOOTER.size)
        if length <= 0 or not footer.startswith(_MAGIC):
            raise StoreError(f"{path} is no map made by createmap")
        file.seek(0)
        if not copy:
            _compare(path, _digest(file.read, length), footer)
            return path
        with tempfile.NamedTemporaryFile(prefix="smxmap-", delete=False) as own:
            try:
                _compare(path, _digest(file.read, length, own.write), footer)
            except (OSError, StoreError):
                _unlink(own.name)
                raise
        return own.name


def _compare(path: str, found: tuple[int, bytes], footer: bytes) -> None:
    if _FOOTER.pack(_MAGIC, *found) != footer:
        raise StoreError(f"{path} is damaged: its checksum is wrong; make it again")


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


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

    Args:
        path: the file.
        private: read a copy of the file that nobody else can reach.

    Raises:
        OSError: there is none (FileNotFoundError), it cannot be read or copied.
        StoreError: it is no map, damaged, or of a newer format.
    """

    def __init__(self, path: str, *, private: bool = False) -> None:
        self._path = path
        verified = _verify(path, copy=private)
        try:
            self._env = lmdb.open(verified, subdir=False, readonly=True, lock=False, create=False)
        except lmdb.Error as error:
            raise StoreError(f"{path} is no map: {error}") from error
        finally:
            if private:
                _unlink(verified)
        # Nobody writes: one view for all lookups
        self._txn = self._env.begin()
        try:
            self.header = self._header()
        except StoreError:
            self.close()
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
        return self._open(key, self._txn.get(key))

    def _open(self, key: bytes, value: bytes | None) -> str | None:
        if value is None:
            return None
        payload = unseal(_TABLE, key, bytes(value))
        if payload is None:
            raise StoreError(f"{self._path} is damaged at key {key!r}")
        return payload.decode()

    def get(self, key: str) -> str | None:
        """Return the value of a key, None where there is none."""
        found = key.encode("utf-8", "replace")
        return self._get(found) if 0 < len(found) <= MAX_KEY and found != _HEADER else None

    def starts(self, prefix: str) -> bool:
        """Tell whether a key begins so."""
        with self._txn.cursor() as cursor:
            wanted = prefix.encode()
            return bool(cursor.set_range(wanted)) and bytes(cursor.key()).startswith(wanted)

    def items(self) -> Iterator[tuple[str, str]]:
        """Yield all entries in the order of their keys."""
        with self._txn.cursor() as cursor:
            for key, value in cursor:
                text = self._open(bytes(key), value)
                if key != _HEADER and text is not None:
                    yield bytes(key).decode(), text

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file; nothing may be asked any more."""
        self._txn.abort()
        self._env.close()
