"""Going to the background: the caller waits until the system is ready or has failed.

Kind: shell.

The process forks before anything is opened. The parent keeps the terminal and waits for one
byte through a pipe; the end of the pipe without a byte means that the child gave up, and its
exit code becomes the parent's.
Source: SPEC row X153.
"""

import os
import select
import sys

from libsmx.errors import EX_OK, EX_SOFTWARE, EX_TEMPFAIL

WAIT_S = 90.0
"""Longer than the services wait for each other (wait_for_server, 60 s)."""


class Starter:
    """The child's end of the pipe."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def ready(self) -> None:
        """Tell the waiting parent that all is well, and let go of the terminal."""
        if self._fd < 0:
            return
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.close(null)
        os.write(self._fd, b"+")
        os.close(self._fd)
        self._fd = -1


def fork() -> Starter | int:
    """Fork; return a Starter in the child and the exit code in the parent."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        os.setsid()
        return Starter(write_end)
    os.close(write_end)
    return _wait(read_end, child)


def _wait(read_end: int, child: int) -> int:
    if not select.select([read_end], [], [], WAIT_S)[0]:
        print(
            f"mcp: not ready after {WAIT_S:.0f} s; it goes on trying, see its log", file=sys.stderr
        )
        return EX_TEMPFAIL
    if os.read(read_end, 1):
        return EX_OK
    _pid, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else EX_SOFTWARE
