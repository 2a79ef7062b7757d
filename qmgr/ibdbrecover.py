"""Incoming queue backup database: what the last run left in it.

Kind: shell.

Reads all segments in order before the new one is begun. Nothing is changed on disk here: a
crash during recovery finds everything as it was.
Source: SPEC row X013; architecture.md.
"""

import fcntl
import os

import attrs
import trio

from libsmx.envelope import Envelope
from libsmx.errors import EX_CANTCREAT, StartError
from libsmx.log import Log
from qmgr.ibdb import Damage, OpenTas, scan_segment
from qmgr.segment import keep_segment, list_segments, remove_segment
from qmgr.storeevents import IBDB_CUT, IBDB_DAMAGED, IBDB_RECOVERED
from qmgr.syncer import store_error


@attrs.frozen(kw_only=True)
class Recovery:
    """The result of reading the log.

    Attributes:
        open: transactions with open recipients, oldest first, each with its open idxs.
        problems: what could not be read, one line each, fit for people.
        segments: segment files read.
        last_number: number of the newest one.
        paths: their files, oldest first.
        damaged: those that hold damage and must be kept for inspection.
    """

    open: list[tuple[Envelope, list[int]]]
    problems: list[str]
    segments: int
    last_number: int
    paths: list[str]
    damaged: frozenset[str]


class Lock:
    """Keeps a second queue manager out of the directory; ends with the process."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._fd = -1

    def take(self) -> None:
        """Make the directory if it is missing and lock it.

        Raises:
            StartError: it cannot be used or somebody else uses it.
        """
        if self._fd >= 0:
            return
        path = os.path.join(self._directory, "lock")
        try:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StartError(
                f"IBDB directory {self._directory}: {error.strerror}; it must belong to the "
                "user of the queue manager",
                EX_CANTCREAT,
            ) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            raise StartError(
                f"{path} is locked: another queue manager uses this directory; stop it first"
            ) from error
        self._fd = fd

    def release(self) -> None:
        """Let others in."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


async def forget(recovery: Recovery) -> None:
    """Remove the segments that were read, oldest first; keep damaged ones aside.

    Raises:
        StoreError: one could not be removed; the rest stay too, and it may be called again.
    """
    for path in recovery.paths:
        remove = keep_segment if path in recovery.damaged else remove_segment
        try:
            await trio.to_thread.run_sync(remove, path)
        except FileNotFoundError:
            continue  # removed by an earlier call that failed later
        except OSError as error:
            raise store_error(path, error) from error


def read_log(directory: str, log: Log) -> Recovery:
    """Read every segment of a directory, oldest first.

    Raises:
        StartError: a segment is of another version; nothing must be started then.
    """
    tas = OpenTas()
    problems: list[str] = []
    damaged: set[str] = set()
    damages: list[tuple[int, str, Damage]] = []
    newest_used = 0
    found = list_segments(directory)
    for number, path in found:
        name = os.path.basename(path)
        try:
            with open(path, "rb") as file:
                data = file.read()
        except OSError as error:
            problems.append(f"{name}: {error.strerror}")
            log.emit(IBDB_DAMAGED, segment=number, what=str(error))
            damaged.add(path)
            continue
        for item in scan_segment(data, number):
            newest_used = number
            if isinstance(item, Damage):
                damages.append((number, path, item))
            else:
                tas.apply(number, item)
    for number, path, item in damages:
        problems.append(f"{os.path.basename(path)}: {item}")
        # Only the newest segment with records (an empty one may have been made ahead) can have
        # been in use when the last run ended; bad bytes in an older one are not beyond doubt.
        if item.acknowledged or number != newest_used:
            damaged.add(path)
            log.emit(IBDB_DAMAGED, segment=number, what=str(item))
        else:
            log.emit(IBDB_CUT, segment=number, what=str(item))
    if found:
        log.emit(IBDB_RECOVERED, segments=len(found), open=len(tas), problems=len(problems))
    return Recovery(
        open=tas.list_open(),
        problems=problems,
        segments=len(found),
        last_number=found[-1][0] if found else 0,
        paths=[path for _, path in found],
        damaged=frozenset(damaged),
    )
