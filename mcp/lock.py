"""One system per queue directory: the pid file, and the leash that all processes hold.

Kind: shell.

Two locks. mcp alone locks the pid file: whoever finds it locked knows that the system runs.
The leash, ``<pid file>.lock``, is open in mcp and inherited by every child; its lock goes
when the last of them has ended. So a new mcp after a crash waits until no process of the last
run can touch the queue any more. The leash is opened for reading only: a child can do nothing
with it but let go.
Source: SPEC rows X153, X154.
"""

import fcntl
import os
import time
from collections.abc import Callable

import attrs

from libsmx.errors import EX_CANTCREAT, EX_TEMPFAIL, StartError

LEFTOVER_LIMIT_S = 30.0
_PAUSE_S = 0.05


@attrs.frozen
class Lock:
    """Both locks, held until ``release``."""

    path: str
    pid_fd: int
    leash: int

    def release(self) -> None:
        """Remove the pid file and let go."""
        os.unlink(self.path)
        os.close(self.pid_fd)
        os.close(self.leash)


def _open(path: str, flags: int, mode: int) -> int:
    try:
        return os.open(path, flags | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    except OSError as error:
        raise StartError(
            f"cannot write {path}: {error.strerror}; choose a writable directory", EX_CANTCREAT
        ) from error


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def acquire(path: str, on_wait: Callable[[float], None]) -> Lock:
    """Take both locks and write the pid file.

    Args:
        path: of the pid file.
        on_wait: called once with the limit in seconds when leftovers have to be waited for.

    Raises:
        StartError: the system runs already, leftovers do not end, or no file can be written.
    """
    while True:
        pid_fd = _open(path, os.O_RDWR, 0o644)
        if not _try_lock(pid_fd):
            pid = os.read(pid_fd, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(pid_fd)
            raise StartError(f"smx runs already: mcp has process id {pid} ({path})", EX_TEMPFAIL)
        # The former owner may have removed the file between our open and our lock.
        try:
            if os.stat(path).st_ino == os.fstat(pid_fd).st_ino:
                break
        except FileNotFoundError:
            pass
        os.close(pid_fd)
    leash = _open(path + ".lock", os.O_RDONLY, 0o600)
    if not _try_lock(leash):
        on_wait(LEFTOVER_LIMIT_S)
        until_s = time.monotonic() + LEFTOVER_LIMIT_S
        while not _try_lock(leash):
            if time.monotonic() > until_s:
                os.close(pid_fd)
                os.close(leash)
                raise StartError(
                    f"processes of the last run do not end; find them with: fuser {path}.lock",
                    EX_TEMPFAIL,
                )
            time.sleep(_PAUSE_S)
    os.ftruncate(pid_fd, 0)
    os.write(pid_fd, f"{os.getpid()}\n".encode("ascii"))
    return Lock(path, pid_fd, leash)
