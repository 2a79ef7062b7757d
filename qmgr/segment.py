"""One segment file of the IBDB: made, appended to, synced, removed.

Kind: shell.

A segment is written full of zeros and synced before its first record, its directory entry
too: overwriting bytes that exist needs no metadata in the sync that a client waits for
(4,000 against 1,300 syncs a second measured). Files are never recycled.
Source: SPEC rows X172, X174; architecture.md.
"""

import os
import re

from qmgr.ibdb import HEADER_SIZE, seal_header

_NAME = re.compile(r"([0-9]{12})\.ibdb")
_ZEROS = bytes(1 << 20)


def segment_name(number: int) -> str:
    """Return the file name of a segment."""
    return f"{number:012d}.ibdb"


def list_segments(directory: str) -> list[tuple[int, str]]:
    """Return (number, path) of the segments in a directory, oldest first."""
    found = []
    for name in os.listdir(directory):
        match = _NAME.fullmatch(name)
        if match:
            found.append((int(match[1]), os.path.join(directory, name)))
    return sorted(found)


def sync_directory(directory: str) -> None:
    """Make names that were added to or removed from a directory durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def keep_segment(path: str) -> None:
    """Rename a segment to ``*.damaged``, out of the sequence, for somebody to look at."""
    os.rename(path, path + ".damaged")
    sync_directory(os.path.dirname(path))


def remove_segment(path: str) -> None:
    """Remove a segment for certain."""
    os.unlink(path)
    # Without this a power loss could bring an older segment back while a newer one, which
    # closes its transactions, is gone.
    sync_directory(os.path.dirname(path))


class Segment:
    """A segment that is open for appending.

    Attributes:
        number: place in the sequence, never used twice.
        end: bytes written.
        synced: bytes known to be on disk.
        pending: records written whose sync has not ended.
    """

    def __init__(self, number: int, path: str, fd: int, size: int) -> None:
        self.number = number
        self.path = path
        self.size = size
        self.end = HEADER_SIZE
        self.synced = HEADER_SIZE
        self.pending = 0
        self._fd = fd

    @classmethod
    def create(cls, directory: str, number: int, size: int) -> "Segment":
        """Make a segment file, whole and empty on disk when this returns.

        Raises:
            OSError: it could not be made; nothing is left behind.
        """
        path = os.path.join(directory, segment_name(number))
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(path, flags, 0o600)
        done = False
        try:
            os.posix_fallocate(fd, 0, size)  # a full disk is found here, not at a record
            at = 0
            while at < size:
                at += os.pwrite(fd, _ZEROS[: size - at], at)
            os.pwrite(fd, seal_header(number), 0)
            os.fsync(fd)
            sync_directory(directory)
            done = True
        finally:
            if not done:
                os.close(fd)
                os.unlink(path)
        return cls(number, path, fd, size)

    def append(self, data: bytes) -> None:
        """Write at the end, to the page cache.

        Raises:
            OSError: the file must not be used any more.
        """
        view = memoryview(data)
        while view:
            done = os.pwrite(self._fd, view, self.end)
            self.end += done
            view = view[done:]

    def sync(self) -> None:
        """Put everything written before this call on disk; may run in another thread.

        Raises:
            OSError: the file must not be used any more.
        """
        end = self.end
        os.fdatasync(self._fd)
        self.synced = end

    def close(self) -> None:
        """Close the file; the second time nothing happens."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
