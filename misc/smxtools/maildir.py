"""A Maildir: messages written so that a reader never sees half of one.

Kind: shell.
Limits: none of its own; the writer decides how much it writes.
Source: https://cr.yp.to/proto/maildir.html.
"""

import contextlib
import os
import socket
import time


def make(path: str) -> None:
    """Create the directories; existing ones are kept."""
    for name in ("tmp", "new", "cur"):
        os.makedirs(os.path.join(path, name), mode=0o770, exist_ok=True)


def sync_directory(path: str) -> None:
    """Bring the directory's entries to disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class Entry:
    """A message that is being written to tmp/.

    Args:
        path: of the Maildir.
        number: distinguishes the entries of one process.
    """

    _host = socket.gethostname().replace("/", "\\057").replace(":", "\\072")

    def __init__(self, path: str, number: int) -> None:
        self._directory = path
        self.name = f"{time.time():.6f}.P{os.getpid()}Q{number}.{self._host}"
        self._tmp = os.path.join(path, "tmp", self.name)
        self._file = open(self._tmp, "xb", opener=_private)  # noqa: SIM115 (closed by commit)

    def write(self, data: bytes) -> None:
        """Append data; raises OSError."""
        self._file.write(data)

    def commit(self) -> str:
        """Return the path in new/ when the message is on disk there; raises OSError."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        final = os.path.join(self._directory, "new", self.name)
        os.rename(self._tmp, final)
        sync_directory(os.path.join(self._directory, "new"))
        return final

    def discard(self) -> None:
        """Forget the message; harmless after commit."""
        with contextlib.suppress(OSError):
            self._file.close()
            os.unlink(self._tmp)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o640)
