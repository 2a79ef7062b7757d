"""A durable key-value store: LMDB with group commit, checksums and a check before trust.

Kind: shell. The one door to lmdb for what changes, beside the program that probes files in a
process of its own (libsmx/store_probe.py); libsmx/mapfile.py is the one for maps.

Rules, each for a way in which LMDB loses data or kills its process:

- Never a writable map and always full sync: a stray pointer or a full disk cannot harm what
  is committed, and a commit is on disk when it returns.
- A transaction lives in one function in one thread; functions wait for each other, and all
  writes that wait become one commit.
- LMDB has no checksums and dies of a damaged file (SIGBUS, abort) instead of raising. So
  every value carries a checksum, and after an unclean stop a child process reads the whole
  file before this one maps it. A file named ``clean`` marks the orderly end.
- An environment is opened after the last fork and never shared with a child.

Source: SPEC row X015.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import attrs
import lmdb
import trio

from libsmx.cdbsync import sync_directory
from libsmx.errors import StoreError
from libsmx.sealed import DamagedValue, seal, unseal

MAP_SIZE = 64 << 30
"""Address space to begin with, not disk: the file grows as it is used, the map when it is full."""
MAX_MAP_SIZE = 16 << 40
_DAMAGE = (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError)
_MARKER = "clean"
_DATA = "data.mdb"

T = TypeVar("T")


class DamagedStore(StoreError):
    """The store's file cannot be trusted; ``rebuild`` saves what can be read."""


class Txn:
    """What a function given to ``read`` or ``write`` works with; not valid afterwards."""

    def __init__(self, txn: "lmdb.Transaction[bytes]", tables: dict[str, Any]) -> None:
        self._txn = txn
        self._tables = tables

    def get(self, table: str, key: bytes) -> bytes | None:
        """Return a payload, None where there is none.

        Raises:
            DamagedValue: it does not verify.
        """
        value = self._txn.get(key, db=self._tables[table])
        if value is None:
            return None
        payload = unseal(table, key, value)
        if payload is None:
            raise DamagedValue(table, key)
        return payload

    def has(self, table: str, key: bytes) -> bool:
        """Tell whether there is a value, damaged or not."""
        return self._txn.get(key, db=self._tables[table]) is not None

    def raw(self, table: str, key: bytes) -> bytes:
        """Return a value as it stands, for keeping a damaged one; empty where there is none."""
        return self._txn.get(key, db=self._tables[table]) or b""

    def put(self, table: str, key: bytes, payload: bytes) -> None:
        """Store a payload; 0 < len(key) <= 511."""
        self._txn.put(key, seal(table, key, payload), db=self._tables[table])

    def delete(self, table: str, key: bytes) -> bool:
        """Remove a value; return whether there was one."""
        return bool(self._txn.delete(key, db=self._tables[table]))

    def keys(self, table: str, start: bytes = b"", prefix: bytes = b"") -> Iterator[bytes]:
        """Yield keys in order, from ``start`` on, as long as they begin with ``prefix``.

        The table must not be written while this runs.
        """
        with self._txn.cursor(db=self._tables[table]) as cursor:
            if not cursor.set_range(max(start, prefix)):
                return
            for key in cursor.iternext(keys=True, values=False):
                if not key.startswith(prefix):
                    return
                yield key

    def count(self, table: str) -> int:
        """Return the number of values in a table."""
        return int(self._txn.stat(self._tables[table])["entries"])


@attrs.define(eq=False)
class _Job(Generic[T]):
    """A function that waits for the next commit."""

    function: Callable[[Txn], T]
    done: bool = False
    result: T | None = None
    error: StoreError | None = None


class Store:
    """A directory with one LMDB environment.

    Args:
        path: the directory, made if missing, mode 0700.
        tables: names of the tables, made if missing.
        map_size: address space to begin with, bytes.
    """

    def __init__(self, path: str, tables: tuple[str, ...], map_size: int = MAP_SIZE) -> None:
        self._path = path
        self._names = tables
        self._map_size = map_size
        self._env: lmdb.Environment | None = None
        self._tables: dict[str, Any] = {}
        self._lock = trio.Lock()
        self._waiting: list[_Job[Any]] = []
        self.commits = 0

    async def open(self, *, suspect: bool = False) -> str:
        """Open the store; after an unclean stop it is read whole by a child before.

        Takes time in proportion to the size of the file then, else a moment. May be called
        again after a failure.

        Args:
            suspect: have it read whole also after an orderly end.

        Returns:
            ``new``, ``clean`` or ``checked``.

        Raises:
            DamagedStore: the child found the file damaged, or died of it.
            StoreError: the store cannot be used for another reason.
        """
        async with self._lock:
            if self._env is not None:
                await trio.to_thread.run_sync(self._close)
            state = await trio.to_thread.run_sync(self._look)
            if suspect and state == "clean":
                state = "checked"
            if state == "checked":
                await self._probe()
            await trio.to_thread.run_sync(self._open)
            return state

    def _look(self) -> str:
        """Tell what lies in the directory, and take the mark of a clean end away."""
        try:
            os.makedirs(self._path, mode=0o700, exist_ok=True)
            if not os.path.exists(os.path.join(self._path, _DATA)):
                return "new"
            marker = os.path.join(self._path, _MARKER)
            if not os.path.exists(marker):
                return "checked"
            os.unlink(marker)
            sync_directory(self._path)
        except OSError as error:
            raise StoreError(f"{error.filename}: {error.strerror}") from error
        return "clean"

    async def _probe(self) -> None:
        code, text = await _run_probe("check", self._path)
        if code != 0:
            how = f"a child that read it died of signal {-code}" if code < 0 else text
            raise DamagedStore(f"{self._path}/{_DATA} is damaged: {how}")

    def _open(self) -> None:
        try:
            env = lmdb.open(
                self._path,
                map_size=self._map_size,
                mode=0o600,
                max_dbs=len(self._names) + 1,
                readahead=False,
                writemap=False,
                sync=True,
                metasync=True,
            )
            env.reader_check()
            self._tables = {name: env.open_db(name.encode()) for name in self._names}
        except (lmdb.Error, OSError) as error:
            raise StoreError(f"{self._path}: {error}") from error
        self._env = env

    async def rebuild(self, tables: tuple[str, ...], keep_as: str) -> int:
        """Replace a damaged file by a new one with all values that can still be read.

        The file is read by children, forwards and, where one dies, backwards, so that what
        lies on either side of a damaged page is found. Tables that are not named are empty
        afterwards. The store is not open before or after.

        Args:
            tables: those to save.
            keep_as: new name below the directory for the damaged file.

        Returns:
            Number of values saved.

        Raises:
            StoreError: the new file could not be made.
        """
        fresh = os.path.join(self._path, "rebuild")
        async with self._lock:
            await trio.to_thread.run_sync(_empty_directory, fresh)
            for table in tables:
                code, _ = await _run_probe("save", self._path, fresh, table, "forwards")
                if code != 0:
                    await _run_probe("save", self._path, fresh, table, "backwards")
            code, text = await _run_probe("count", fresh, *tables)
            if code != 0:
                raise StoreError(f"rebuilding {self._path} failed: {text}")
            await trio.to_thread.run_sync(self._exchange, fresh, keep_as)
        return int(text)

    def _exchange(self, fresh: str, keep_as: str) -> None:
        """Put the new file in the place of the old one in one step that a crash cannot halve."""
        old = os.path.join(self._path, _DATA)
        try:
            os.link(old, os.path.join(self._path, keep_as))
            sync_directory(self._path)
            os.rename(os.path.join(fresh, _DATA), old)
            sync_directory(self._path)
            _empty_directory(fresh)
            os.rmdir(fresh)
        except OSError as error:
            raise StoreError(f"{error.filename}: {error.strerror}") from error

    async def write(self, function: Callable[[Txn], T]) -> T:
        """Run a function in a write transaction; it is on disk when this returns.

        Functions that wait at the same time share a commit. A function may run more than
        once, but counts once; it must touch nothing but its transaction. Not cancellable,
        because the outcome of a commit must be known.

        Raises:
            StoreError: nothing of it is stored (full disk, broken disk), or the function
                raised it.
        """
        job: _Job[T] = _Job(function)
        self._waiting.append(job)
        with trio.CancelScope(shield=True):
            async with self._lock:
                if not job.done:
                    batch, self._waiting = self._waiting, []
                    try:
                        await trio.to_thread.run_sync(self._commit, batch)
                    finally:
                        # A fault in one function: the others try without it.
                        left = [other for other in batch if not other.done and other is not job]
                        self._waiting = left + self._waiting
        if job.error is not None:
            raise job.error
        return job.result  # type: ignore[return-value]  # None only where T allows it

    def _commit(self, batch: list[_Job[Any]]) -> None:
        """Run waiting functions in one transaction; in a thread."""
        while batch:
            failed: _Job[Any] | None = None
            try:
                with self._begin(write=True) as txn:
                    wrapped = Txn(txn, self._tables)
                    for job in batch:
                        failed = job
                        job.result = job.function(wrapped)
                    failed = None
            except StoreError as error:
                if failed is None:
                    self._settle(batch, error)
                    return
                self._settle([failed], error)
                batch = [job for job in batch if job is not failed]
            except lmdb.MapFullError as error:
                if not self._grow():
                    self._settle(batch, self._failure(error))
                    return
            except lmdb.Error as error:
                self._settle(batch, self._failure(error))
                self._reopen(error)
                return
            else:
                self.commits += 1
                self._settle(batch, None)
                return

    def _settle(self, batch: list[_Job[Any]], error: StoreError | None) -> None:
        for job in batch:
            job.done, job.error = True, error

    def _failure(self, error: lmdb.Error) -> StoreError:
        kind = DamagedStore if isinstance(error, _DAMAGE) else StoreError
        return kind(f"{self._path}: {error}")

    def _grow(self) -> bool:
        """Double the map; no transaction runs, because each holds the lock of the store."""
        size = self._map_size * 2
        if self._env is None or size > MAX_MAP_SIZE:
            return False
        self._env.set_mapsize(size)
        self._map_size = size
        return True

    def _begin(self, *, write: bool) -> "lmdb.Transaction[bytes]":
        if self._env is None:
            raise StoreError(f"{self._path} is not open")
        return self._env.begin(write=write)

    def _reopen(self, error: lmdb.Error) -> None:
        """Recover from an error after which LMDB refuses its environment."""
        if isinstance(error, lmdb.PanicError) and self._env is not None:
            self._env.close()
            self._env = None
            try:
                self._open()
            except StoreError:
                return  # whoever comes next is told that it is not open

    async def read(self, function: Callable[[Txn], T]) -> T:
        """Run a function in a read transaction, in a thread.

        Raises:
            StoreError: the store is closed or the function raised it.
        """
        async with self._lock:
            return await trio.to_thread.run_sync(self._read, function)

    def _read(self, function: Callable[[Txn], T]) -> T:
        try:
            with self._begin(write=False) as txn:
                return function(Txn(txn, self._tables))
        except lmdb.Error as error:
            raise self._failure(error) from error

    async def forget_dead_readers(self) -> int:
        """Free the places of readers whose process died; they keep the file from shrinking.

        Returns:
            How many there were.

        Raises:
            StoreError: the store is closed or its lock file cannot be used.
        """
        async with self._lock:
            return await trio.to_thread.run_sync(self._check_readers)

    def _check_readers(self) -> int:
        if self._env is None:
            raise StoreError(f"{self._path} is not open")
        try:
            return int(self._env.reader_check())
        except lmdb.Error as error:
            raise self._failure(error) from error

    async def close(self) -> None:
        """Close the store and mark its end as clean; the second time nothing happens."""
        with trio.CancelScope(shield=True):
            async with self._lock:
                await trio.to_thread.run_sync(self._close)

    def _close(self) -> None:
        if self._env is None:
            return
        self._env.close()
        self._env = None
        try:
            marker = os.path.join(self._path, _MARKER)
            os.close(os.open(marker, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            sync_directory(self._path)
        except OSError as error:
            raise StoreError(f"{error.filename}: {error.strerror}") from error


async def _run_probe(*args: str) -> tuple[int, str]:
    """Run the prober in a process of its own; return its exit status and what it said."""
    done = await trio.run_process(
        [sys.executable, "-I", "-m", "libsmx.store_probe", *args],
        capture_stdout=True,
        stderr=subprocess.STDOUT,
        check=False,
    )
    text = bytes(done.stdout or b"").decode("utf-8", "backslashreplace").strip()
    return done.returncode, text


def _empty_directory(path: str) -> None:
    os.makedirs(path, mode=0o700, exist_ok=True)
    for name in os.listdir(path):
        os.unlink(os.path.join(path, name))
