"""Makes content files durable, as many as wait at a time.

Kind: shell.

A worker thread takes all files that wait. Each is synced, and each directory once, so that a
directory entry is as durable as what it names. Several cost less with one
syncfs(2), which writes the whole file system: right on a spool of its own, wrong where others
keep the disk busy. So both ways are timed, and syncfs is left alone for a while whenever it
took clearly longer than as many files alone. Before Linux 5.8 it hides write errors, so it is
not used there, nor where the directories lie on several file systems, and never again after
it failed: the error may belong to a file that is not in this batch.
Source: SPEC rows X011, X052; performance.md.
"""

import ctypes
import os
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import attrs
import trio

MAX_PARALLEL = 16
"""Files and directories synced side by side; the device merges their flushes."""
_SLOW_FILE_S = 0.001
"""Where a file of a batch takes longer, directories are synced beside the files: on a disk whose
flush is slow each directory after the files costs a flush more, beside them it shares theirs. On
a quick one the threads for it cost more than that."""
_MIN_BESIDE = 3
"""So many directories are worth it."""
_MIN_BATCH = 2
"""Fewer files are not worth a syncfs."""
_WORTH = 1.2
"""A syncfs may take so many times longer than the files alone: it costs less processor time."""
_FIRST_PAUSE, _LAST_PAUSE = 16, 4096
"""Batches without syncfs after a slow one; doubled each time."""
_DECAY = 0.8
_REPORTS_ERRORS = (5, 8)
"""First Linux whose syncfs tells about failed writes."""
_QUICK_S = 0.003
"""So long may a lone file's sync stop the loop; a hand-over to the thread and back costs a tenth
of that."""
_SLOW_FILES = 64
"""Lone files that go to the thread after one that took longer."""

Done = Callable[[OSError | None], None]
_Waiting = tuple[int, str, Done]
"""A file that waits, its directory, and who is told."""


@attrs.define
class Choice:
    """Decides between one syncfs and a sync of each file; pure, fed with measured times."""

    possible: bool
    each_s: dict[int, float] = attrs.field(factory=dict)
    """Size of a batch in bits -> seconds that such a batch takes when each file is synced."""
    pause: int = _FIRST_PAUSE
    wait: int = 0

    def whole(self, count: int) -> bool:
        """Tell whether a batch of count files goes with one syncfs."""
        if not self.possible or count < _MIN_BATCH or count.bit_length() not in self.each_s:
            return False
        if self.wait:
            self.wait -= 1
            return False
        return True

    def took(self, count: int, seconds: float, *, whole: bool) -> None:
        """Learn from a batch that was synced."""
        size = count.bit_length()
        before = self.each_s.get(size)
        if not whole:
            self.each_s[size] = (
                seconds if before is None else before * _DECAY + seconds * (1 - _DECAY)
            )
        elif before is not None and seconds > before * _WORTH:
            self.wait, self.pause = self.pause, min(2 * self.pause, _LAST_PAUSE)
        else:
            self.pause = _FIRST_PAUSE


def sync_directory(path: str) -> None:
    """Make a directory's entries durable.

    Raises:
        OSError: the disk refused.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _find_syncfs(directories: Sequence[str]) -> Callable[[int], int] | None:
    """Return syncfs(2) if it can be relied on for files in all these directories."""
    system = os.uname()
    release = [int(word) for word in system.release.split("-")[0].split(".")[:2] if word.isdigit()]
    if system.sysname != "Linux" or tuple(release) < _REPORTS_ERRORS:
        return None
    if len({os.stat(directory).st_dev for directory in directories}) != 1:
        return None
    function = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if function is None:
        return None
    function.argtypes = [ctypes.c_int]
    function.restype = ctypes.c_int
    return function  # type: ignore[no-any-return]


def _sync_file(fd: int) -> OSError | None:
    """Make one file's data and size durable."""
    try:
        os.fdatasync(fd)
    except OSError as error:
        return error
    return None


def _sync_entries(path: str) -> OSError | None:
    """Make a directory's entries durable."""
    try:
        sync_directory(path)
    except OSError as error:
        return error
    return None


def _call(job: Callable[[], OSError | None]) -> OSError | None:
    return job()


class Syncer:
    """The thread that makes files durable.

    Args:
        directories: all that files will lie in.
        mono: returns monotonic seconds.
        parallel: most files that are synced side by side.

    Attributes:
        files: content files that are open now; whoever opens and closes them counts.
    """

    def __init__(
        self,
        directories: Sequence[str],
        mono: Callable[[], float],
        parallel: int = MAX_PARALLEL,
    ) -> None:
        self.files = 0
        self._slow = 0
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._token = trio.lowlevel.current_trio_token()
        self._mono = mono
        self._syncfs = _find_syncfs(directories)
        self._choice = Choice(possible=self._syncfs is not None)
        # Open from the start: syncfs tells of the errors since its descriptor was opened.
        self._root = os.open(directories[0], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._beside = False
        self._pool = ThreadPoolExecutor(min(parallel, MAX_PARALLEL), "cdb-sync")
        self._thread = threading.Thread(target=self._run, name="cdb-sync", daemon=True)
        self._thread.start()

    def sync(self, fd: int, directory: str, done: Done) -> None:
        """Have done called in the trio thread once the file and its entry are on disk."""
        self._queue.put((fd, directory, done))

    def alone(self) -> bool:
        """Tell whether the one open file should be synced in the loop, by sync_now.

        A lone client waits for nothing but its own sync: there is no batch to share, and nobody
        whom a stop of the loop would delay.
        """
        if self.files > 1:
            return False
        if self._slow:
            self._slow -= 1
            return False
        return True

    def sync_now(self, fd: int, directory: str) -> OSError | None:
        """Sync one file and its directory here and now; return what went wrong."""
        began = self._mono()
        error = _sync_file(fd) or _sync_entries(directory)
        if self._mono() - began > _QUICK_S:
            self._slow = _SLOW_FILES
        return error

    def stop(self) -> None:
        """Let the thread end after what is queued."""
        self._queue.put(None)

    def _run(self) -> None:
        going = True
        while going:
            first = self._queue.get()
            batch = []
            while first is not None:
                batch.append(first)
                try:
                    first = self._queue.get_nowait()
                except queue.Empty:
                    break
            else:
                going = False
            if batch:
                self._sync_batch(batch)
        self._pool.shutdown()
        os.close(self._root)

    def _sync_batch(self, batch: list[_Waiting]) -> None:
        began = self._mono()
        whole = self._choice.whole(len(batch)) and self._sync_whole()
        finished = [(done, None) for _, _, done in batch] if whole else self._sync_each(batch)
        self._choice.took(len(batch), self._mono() - began, whole=whole)

        def report() -> None:
            for done, error in finished:
                done(error)

        try:
            self._token.run_sync_soon(report)
        except trio.RunFinishedError:
            return

    def _sync_whole(self) -> bool:
        """Sync the file system; False: that failed and is not tried again."""
        if self._syncfs is not None and self._syncfs(self._root) == 0:
            return True
        self._choice.possible = False
        return False

    def _sync_each(self, batch: list[_Waiting]) -> list[tuple[Done, OSError | None]]:
        began = self._mono()
        directories = list({directory for _, directory, _ in batch})
        jobs: list[Callable[[], OSError | None]] = [partial(_sync_file, fd) for fd, _, _ in batch]
        later = [partial(_sync_entries, directory) for directory in directories]
        if self._beside and len(directories) >= _MIN_BESIDE:
            results = list(self._pool.map(_call, jobs + later))
        else:
            results = [jobs[0]()] if len(jobs) == 1 else list(self._pool.map(_call, jobs))
            results += [job() for job in later]
        self._beside = self._mono() - began > _SLOW_FILE_S * len(batch)
        of_directory = dict(zip(directories, results[len(batch) :], strict=True))
        return [
            (done, result or of_directory[directory])
            for (_, directory, done), result in zip(batch, results[: len(batch)], strict=True)
        ]
