"""Reads a store that may be damaged, in a process that may die of it.

Kind: shell. Started by libsmx/store.py as ``python -I -m libsmx.store_probe``:

- ``check PATH``: read every value of every table, and the list of free pages, which only a
  writer reads; exit 0 if all verify.
- ``save PATH NEW TABLE forwards|backwards``: copy the values of a table that verify.
- ``count PATH TABLE...``: print how many values the tables hold, and sync the file.

Exit status 1 with a line that says why, or death by a signal, mean damage.
Source: architecture.md.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import lmdb

from libsmx.sealed import unseal

_MAP_SIZE = 64 << 30
_MAX_TABLES = 32


def _open(path: str) -> lmdb.Environment:
    """Open for reading; nobody writes meanwhile, the lock file may be damaged too."""
    return lmdb.open(
        path, map_size=_MAP_SIZE, max_dbs=_MAX_TABLES, readonly=True, lock=False, create=False
    )


class Snapshot:
    """A store as it stands at one moment, for reading; use as a context manager.

    Args:
        path: the store's directory.
        live: another process has it open. The lock file is not touched otherwise.
    """

    def __init__(self, path: str, *, live: bool) -> None:
        self._env = lmdb.open(
            path,
            map_size=_MAP_SIZE,
            max_dbs=_MAX_TABLES,
            readonly=True,
            lock=live,
            create=False,
            readahead=False,
        )
        self._tables: dict[str, Any] = {}
        self._txn: lmdb.Transaction[bytes]

    def __enter__(self) -> Self:
        for name in [bytes(name) for name in self._env.dbs()]:
            self._tables[name.decode()] = self._env.open_db(name, create=False)
        self._txn = self._env.begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._txn.abort()
        self._env.close()

    def items(self, table: str) -> Iterator[tuple[bytes, bytes | None]]:
        """Yield keys in order with their payload, None where it does not verify."""
        if table in self._tables:
            with self._txn.cursor(db=self._tables[table]) as cursor:
                for key, value in cursor:
                    yield bytes(key), unseal(table, key, value)

    def has(self, table: str, key: bytes) -> bool:
        """Tell whether there is a value, damaged or not."""
        return table in self._tables and self._txn.get(key, db=self._tables[table]) is not None

    def get(self, table: str, key: bytes) -> bytes | None:
        """Return a payload, None where there is none that verifies."""
        value = self._txn.get(key, db=self._tables[table]) if table in self._tables else None
        return None if value is None else unseal(table, key, value)

    def starts(self, table: str, prefix: bytes) -> bool:
        """Tell whether a key of a table begins so."""
        if table not in self._tables:
            return False
        with self._txn.cursor(db=self._tables[table]) as cursor:
            return bool(cursor.set_range(prefix)) and cursor.key().startswith(prefix)


def check(path: str) -> str:
    """Return what is wrong with a store, empty where nothing is."""
    bad = 0
    with _open(path) as env:
        names = [bytes(name) for name in env.dbs()]
        for name in names:
            table = env.open_db(name, create=False)
            with env.begin() as txn, txn.cursor(db=table) as cursor:
                for key, value in cursor:
                    if unseal(name.decode(), key, value) is None:
                        bad += 1
        # The one reader of the list of free pages: a page of it beyond the end of the file, as a
        # disk leaves it that lies about syncs, would kill whoever writes. Pages that nobody
        # knows of do no harm.
        with open(os.devnull, "wb") as nowhere, contextlib.suppress(lmdb.IncompatibleError):
            env.copyfd(nowhere.fileno(), compact=True)
    return f"{bad} values do not verify" if bad else ""


def save(path: str, new: str, name: str, *, forwards: bool) -> None:
    """Copy the values of a table that verify, one by one: a death loses none before it.

    The target is synced by ``count`` at the end.
    """
    target = lmdb.open(new, map_size=_MAP_SIZE, max_dbs=_MAX_TABLES, sync=False)
    with _open(path) as env, target:
        copy = target.open_db(name.encode())
        table = env.open_db(name.encode(), create=False)
        with env.begin() as txn, txn.cursor(db=table) as cursor:
            more = cursor.first() if forwards else cursor.last()
            while more:
                key, value = cursor.item()
                if unseal(name, key, value) is not None:
                    with target.begin(write=True) as write:
                        write.put(key, value, db=copy)
                more = cursor.next() if forwards else cursor.prev()


def count(path: str, names: list[str]) -> int:
    """Return how many values the tables hold; makes those that are missing, syncs the file."""
    total = 0
    with lmdb.open(path, map_size=_MAP_SIZE, max_dbs=_MAX_TABLES) as env:
        for name in names:
            table = env.open_db(name.encode())
            with env.begin() as txn:
                total += txn.stat(table)["entries"]
        env.sync(True)
    return total


def main(argv: list[str]) -> int:
    """Do what the arguments say; return the exit status."""
    match argv:
        case ["check", path]:
            problem = check(path)
        case ["save", path, new, table, direction]:
            save(path, new, table, forwards=direction == "forwards")
            problem = ""
        case ["count", path, *tables]:
            sys.stdout.write(f"{count(path, tables)}\n")
            problem = ""
        case _:
            problem = "usage: check PATH | save PATH NEW TABLE DIRECTION | count PATH TABLE..."
    sys.stdout.write(problem)
    return 1 if problem else 0


if __name__ == "__main__":
    try:
        STATUS = main(sys.argv[1:])
    except lmdb.Error as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from error
    raise SystemExit(STATUS)
