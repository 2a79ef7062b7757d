"""The content database: one file a message, safe on disk before anybody answers 250.

Kind: shell.

``<base><last counter digit>/S<16 hex><2 hex server id>``, mode 0640, written by smtps, read by
smtpc, removed by qmgr. Files that wait for the disk are synced together (libsmx/cdbsync.py).
A file whose sync failed is never trusted again.
Source: SPEC rows X011, X049 to X052, X108, X109; D04.
"""

import errno
import os
import stat
from collections.abc import Iterable, Iterator

import outcome
import trio

from libsmx.cdbsync import MAX_PARALLEL, Syncer, sync_directory
from libsmx.clock import Clock
from libsmx.errors import EX_CANTCREAT, StartError, StoreError
from libsmx.ids import Counter, TaId, content_path, first_counter, format_ta_id, is_ta_id

DIRECTORIES = "0123456789ABCDEF"
_BLOCK = 256 * 1024


class CdbFile:
    """A content file under construction; made by CdbWriter.create."""

    def __init__(self, path: str, fd: int, ta_id: TaId, syncer: Syncer) -> None:
        self.path = path
        self.ta_id = ta_id
        self.size = 0
        self._fd = fd
        self._syncer = syncer
        syncer.files += 1
        self._parts: list[bytes] = []
        self._waiting = 0

    def write(self, data: bytes) -> None:
        """Append; small pieces are joined before they go to the system.

        Raises:
            StoreError: the disk is full or broken; discard the file.
        """
        self._parts.append(data)
        self.size += len(data)
        self._waiting += len(data)
        if self._waiting >= _BLOCK:
            self.flush()

    def flush(self) -> None:
        """Give the system what waits to be joined, so that a reader of the file sees it.

        Raises:
            StoreError: the disk is full or broken; discard the file.
        """
        if not self._parts:
            return
        data = memoryview(self._parts[0] if len(self._parts) == 1 else b"".join(self._parts))
        self._parts, self._waiting = [], 0
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError as error:
            raise StoreError(f"{self.path}: writing failed: {error.strerror}") from error

    def replace(self, other: "CdbFile") -> None:
        """Take the place and the name of another file, which is closed and gone then.

        Raises:
            StoreError: that cannot be done; both files are as they were.
        """
        try:
            os.replace(self.path, other.path)
        except OSError as error:
            raise StoreError(f"{other.path}: cannot be replaced: {error.strerror}") from error
        self.path, self.ta_id = other.path, other.ta_id
        other.close()

    async def sync(self) -> None:
        """Return when the content and its directory entry are on disk.

        Raises:
            StoreError: they may not be; discard the file, never sync it again.
        """
        self.flush()
        directory = os.path.dirname(self.path)
        if self._syncer.alone():
            error = self._syncer.sync_now(self._fd, directory)
        else:
            error = await self._sync_together(directory)
        if error is not None:
            raise StoreError(f"{self.path}: syncing failed: {error.strerror}")

    async def _sync_together(self, directory: str) -> OSError | None:
        """Have the file synced with others that wait."""
        task = trio.lowlevel.current_task()

        def done(error: OSError | None) -> None:
            trio.lowlevel.reschedule(task, outcome.Value(error))

        def abort(_: object) -> trio.lowlevel.Abort:
            # Not cancellable: the worker holds the descriptor until the disk has answered.
            return trio.lowlevel.Abort.FAILED

        self._syncer.sync(self._fd, directory, done)
        result: OSError | None = await trio.lowlevel.wait_task_rescheduled(abort)
        return result

    def close(self) -> None:
        """Close the descriptor; the file stays."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._syncer.files -= 1

    def discard(self) -> None:
        """Close and remove the file; nobody was told that it exists."""
        self.close()
        try:
            os.unlink(self.path)
        except OSError:
            return  # qmgr removes what no envelope names after a grace period


class CdbWriter:
    """Makes content files and their names.

    Args:
        base: directory that holds the sixteen subdirectories; empty or ending in ``/``.
        server_id: 0 to 255, unique among the SMTP servers that share the base.
        gid: group that files get, None to leave it.
        lease_path: file that holds the end of the current lease of numbers.
        clock: wall clock for a first start.
        parallel: most files that are synced side by side, each by a thread.
    """

    def __init__(
        self,
        base: str,
        server_id: int,
        gid: int | None,
        lease_path: str,
        clock: Clock,
        parallel: int = MAX_PARALLEL,
    ) -> None:
        self._base = base
        self._server_id = server_id
        self._gid = gid
        self._lease_path = lease_path
        self._clock = clock
        self._parallel = parallel
        self._counter = Counter(0)
        self._syncer: Syncer | None = None
        self._extending = trio.Lock()

    async def start(self) -> None:
        """Check the directories and take the first lease.

        Raises:
            StartError: a directory is missing or cannot be written.
        """
        self._check_directories()
        try:
            directories = [self._base + name for name in DIRECTORIES]
            self._syncer = Syncer(directories, self._clock.mono, self._parallel)
        except OSError as error:
            raise StartError(f"content directory: {error}", EX_CANTCREAT) from error
        try:
            leased = _read_lease(self._lease_path)
            self._counter = Counter(first_counter(leased, self._clock.wall()))
            await self._extend()
        except (OSError, StoreError) as error:
            raise StartError(f"lease file {self._lease_path}: {error}", EX_CANTCREAT) from error

    def _check_directories(self) -> None:
        for name in DIRECTORIES:
            path = self._base + name
            if not os.access(path, os.W_OK | os.X_OK):
                raise StartError(
                    f"content directory {os.path.abspath(path)} is missing or not writable; "
                    "run sm.setup.sh or correct its owner",
                    EX_CANTCREAT,
                )

    def stop(self) -> None:
        """End the sync thread; files that wait are synced first."""
        if self._syncer is not None:
            self._syncer.stop()

    async def next_id(self) -> TaId:
        """Return a transaction id that was never used before.

        Raises:
            StoreError: a new lease was due and could not be written.
        """
        while not self._counter.left:
            async with self._extending:
                if not self._counter.left:
                    await self._extend()
        return format_ta_id(self._counter.take(), self._server_id)

    async def _extend(self) -> None:
        until = self._counter.extend()
        try:
            await trio.to_thread.run_sync(_write_lease, self._lease_path, until)
        except OSError as error:
            raise StoreError(f"{self._lease_path}: {error.strerror}") from error
        self._counter.granted(until)

    def create(self, ta_id: TaId) -> CdbFile:
        """Return a new, empty content file.

        Raises:
            StoreError: it cannot be made, or start was not called.
        """
        if self._syncer is None:
            raise StoreError("the content database is not open")
        path = self._base + content_path(ta_id)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            fd = os.open(path, flags, 0o640)
        except OSError as error:
            raise StoreError(f"{path}: cannot be created: {error.strerror}") from error
        try:
            if self._gid is not None:
                os.fchown(fd, -1, self._gid)
        except OSError as error:
            os.close(fd)
            os.unlink(path)
            raise StoreError(f"{path}: group {self._gid}: {error.strerror}") from error
        return CdbFile(path, fd, ta_id, self._syncer)


def _read_lease(path: str) -> int | None:
    """Return the end of the last lease; None where there is no usable file."""
    try:
        with open(path, encoding="ascii") as file:
            text = file.read(64).strip()
    except FileNotFoundError:
        return None
    # A damaged lease counts as a lost one: the wall clock is ahead of any number it held.
    return int(text) if text.isascii() and text.isdigit() else None


def _write_lease(path: str, until: int) -> None:
    """Replace the lease file durably."""
    fresh = f"{path}.new"
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, b"%d\n" % until)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.replace(fresh, path)
    sync_directory(os.path.dirname(path) or ".")


def open_content(base: str, cdb_id: str) -> int:
    """Return a descriptor on a content file.

    Raises:
        FileNotFoundError: there is none.
        StoreError: it is no plain file, has a second name, or cannot be read.
    """
    path = base + content_path(cdb_id)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StoreError(f"{path}: cannot be opened: {error.strerror}") from error
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode) or info.st_nlink != 1:
        os.close(fd)
        raise StoreError(f"{path}: not a plain file with one name")
    return fd


def remove_contents(base: str, cdb_ids: Iterable[str]) -> list[str]:
    """Remove content files; return the ids that are still there."""
    kept = []
    for cdb_id in cdb_ids:
        try:
            os.unlink(base + content_path(cdb_id))
        except OSError as error:
            if error.errno != errno.ENOENT:
                kept.append(cdb_id)
    return kept


def list_contents(base: str) -> Iterator[tuple[str, float]]:
    """Yield (cdb_id, modification time in wall seconds) of every content file."""
    for name in DIRECTORIES:
        try:
            entries = os.scandir(base + name)
        except OSError:
            continue
        with entries:
            for entry in entries:
                if not is_ta_id(entry.name):
                    continue
                try:
                    yield entry.name, entry.stat(follow_symlinks=False).st_mtime
                except FileNotFoundError:
                    continue
