"""Children: programs executed under their own user.

Kind: shell.

Between fork and exec a child gives up root for good (ids, groups, no_new_privs), proves that it
cannot have it back, takes its resource limits, and asks the kernel for SIGTERM when mcp dies:
without its supervisor a half system would run on unseen.
With start_action accept or nostartaccept it inherits the listening sockets the way systemd
hands them over (sd_listen_fds(3)): as descriptors 3 and up in the order of smx.conf, with their
count in LISTEN_FDS and its own process id in LISTEN_PID.
Standard output and error come back through a pipe and become log lines, because a daemon's
last words before a crash are often all there is.
Source: SPEC rows X046, X078, X128, X129, X140-X146, X152; D01.
"""

import contextlib
import ctypes
import fcntl
import os
import signal
import subprocess
from collections.abc import Sequence
from typing import NoReturn

import attrs

from libsmx.errors import EX_OSERR
from mcp import rlimits
from mcp.identity import Identity
from mcp.services import Service, Slot

UMASK = 0o007
"""Nothing that a service makes is for others; it may widen its own sockets and files."""

MAX_LINE = 1000
MAX_LINES = 200
"""Lines logged of a child in one window; more are counted only."""
WINDOW_S = 10.0

FIRST_LISTEN_FD = 3
"""Number of the first listening socket that a child inherits."""

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_CHUNK = 65536

# Loaded before any fork: between fork and exec nothing may be imported.
_libc = ctypes.CDLL(None, use_errno=True)


@attrs.define
class Output:
    """What a child writes, cut into lines and bounded; ``fd`` is non-blocking."""

    fd: int
    _rest: bytes = b""
    _window_at_s: float = 0.0
    _lines: int = 0
    dropped: int = 0
    """Lines that were too many since the last call of ``take_dropped``."""

    def read(self, now_s: float) -> tuple[list[str], bool]:
        """Return the whole lines that are there, and whether the other end is still open."""
        data, is_open = b"", True
        with contextlib.suppress(BlockingIOError):
            data = os.read(self.fd, _CHUNK)
            is_open = bool(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        if not is_open or len(self._rest) > MAX_LINE:
            lines.append(self._rest)
            self._rest = b""
        return [text for line in lines if (text := self._admit(line, now_s))], is_open

    def _admit(self, line: bytes, now_s: float) -> str:
        line = line.strip()[:MAX_LINE]
        if not line:
            return ""
        if now_s >= self._window_at_s + WINDOW_S:
            self._window_at_s, self._lines = now_s, 0
        self._lines += 1
        if self._lines > MAX_LINES:
            self.dropped += 1
            return ""
        return line.decode("utf-8", "backslashreplace")

    def take_dropped(self) -> int:
        """Return how many lines were dropped, and begin to count anew."""
        count, self.dropped = self.dropped, 0
        return count

    def close(self) -> None:
        """Close the pipe."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


@attrs.frozen
class Child:
    """A running process of a slot."""

    slot: Slot
    process: "subprocess.Popen[bytes]"
    output: Output


def make_environment() -> dict[str, str]:
    """Return the environment of all children: nothing of what mcp's caller had, but the zone."""
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/"}
    if "TZ" in os.environ:
        env["TZ"] = os.environ["TZ"]
    return env


class _Handover:
    """Descriptors on their way into a child: held in mcp above all numbers that it will see.

    Every number below is occupied meanwhile, because a pipe of subprocess's own that stood
    there would be overwritten in the child.
    """

    def __init__(self, leash: int, listeners: Sequence[int]) -> None:
        self._held: list[int] = []
        try:
            limit = FIRST_LISTEN_FD + len(listeners)
            self._listeners = [self._lift(fd, limit) for fd in listeners]
            self.kept = [*range(FIRST_LISTEN_FD, limit), self._lift(leash, limit)]
            while (fd := os.dup(leash)) < limit:
                self._held.append(fd)
            os.close(fd)
        except OSError:
            self.close()
            raise

    def _lift(self, fd: int, limit: int) -> int:
        self._held.append(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, limit))
        return self._held[-1]

    def land(self) -> None:
        """In the child: put the listening sockets where they belong and say so."""
        for number, fd in enumerate(self._listeners, FIRST_LISTEN_FD):
            os.dup2(fd, number)
        if self._listeners:
            os.environ["LISTEN_FDS"] = str(len(self._listeners))
            os.environ["LISTEN_PID"] = str(os.getpid())

    def close(self) -> None:
        """Close mcp's side."""
        for fd in self._held:
            os.close(fd)


def is_confined(identity: Identity) -> bool:
    """Tell whether this process is the identity and nothing else, and cannot become root."""
    if os.getresuid() != (identity.uid,) * 3 or os.getresgid() != (identity.gid,) * 3:
        return False
    if 0 in os.getgroups():
        return False
    for regain in (os.setresuid, os.setresgid):
        try:
            regain(0, 0, 0)
        except PermissionError:
            continue
        return False
    return True


def _refuse(text: str) -> NoReturn:
    """End a child before its program is executed; the text comes into mcp's log."""
    os.write(2, f"not started: {text}\n".encode())
    os._exit(EX_OSERR)


def spawn(
    service: Service,
    slot: Slot,
    identity: Identity | None,
    leash: int,
    listeners: Sequence[int] = (),
) -> Child:
    """Execute a service's program in the current directory.

    Args:
        service: what to execute.
        slot: the copy.
        identity: who it becomes; None when mcp is not root.
        leash: descriptor that the child holds while it lives, see mcp/lock.py.
        listeners: listening sockets that the child inherits.

    Raises:
        OSError: fork or exec failed; PermissionError when the user may not execute the file.
    """
    handover = _Handover(leash, listeners)
    try:
        return _spawn(service, slot, identity, handover)
    finally:
        handover.close()


def _spawn(service: Service, slot: Slot, identity: Identity | None, handover: _Handover) -> Child:
    limits, _cut = rlimits.find_limits(service.limits)
    read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.set_blocking(write_end, True)
    parent, environment = os.getpid(), make_environment()

    def before_exec() -> None:
        # After the change of ids, which would clear the death signal. SIGHUP means reload to
        # a service that is up; one that is not must not die of it.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.environ.clear()
        os.environ.update(environment)
        handover.land()
        try:
            rlimits.apply(limits)
        except (OSError, ValueError):
            _refuse("its resource_limits cannot be set")
        if identity is not None:
            if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
                os._exit(EX_OSERR)
            if not is_confined(identity):
                _refuse("it could become root again")
        if _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
            os._exit(EX_OSERR)
        if os.getppid() != parent:  # mcp died before the kernel knew our wish
            os._exit(EX_OSERR)

    try:
        process = subprocess.Popen(
            service.command(slot),
            executable=os.path.abspath(service.path),
            stdin=subprocess.DEVNULL,
            stdout=write_end,
            stderr=write_end,
            env=None,  # as before_exec leaves it: only the child knows its process id
            umask=UMASK,
            user=identity.uid if identity else None,
            group=identity.gid if identity else None,
            extra_groups=identity.groups if identity else None,
            pass_fds=handover.kept,
            start_new_session=True,  # Ctrl-C reaches mcp alone, which stops them in order
            preexec_fn=before_exec,  # noqa: PLW1509 (mcp has no other thread)
        )
    except (OSError, subprocess.SubprocessError) as error:
        os.close(read_end)
        if isinstance(error, OSError):
            raise
        raise OSError(0, str(error)) from error
    finally:
        os.close(write_end)
    return Child(slot, process, Output(read_end))
