"""Handing listening sockets to a service over its pass_fd_socket.

Kind: shell.

The service listens on the socket; mcp connects, makes sure by SO_PEERCRED that the other end
is the service's user (a directory that another user may write must not lead root astray),
sends one byte, the number of descriptors, with the descriptors as SCM_RIGHTS, and closes. It
does so again for every new process.
Source: SPEC rows X127, X139, X061.
"""

import array
import errno
import socket
import struct
from collections.abc import Callable

import trio

LATE_S = 60.0
_PAUSE_S = 0.05
_UCRED = struct.Struct("3i")
_SOON = frozenset({errno.ENOENT, errno.ECONNREFUSED, errno.EAGAIN, errno.ECONNRESET, errno.EPIPE})


class PassRefused(Exception):
    """The other end of the pass_fd_socket is not who it should be, or cannot be reached."""


def try_pass(path: str, uid: int, fds: list[int]) -> bool:
    """Hand over the descriptors if the service listens; return False if it does not yet.

    Raises:
        PassRefused: somebody else listens there, or the path cannot be used.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)  # a unix socket connects at once or not at all
        try:
            sock.connect(path)
            credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
            _pid, peer_uid, _gid = _UCRED.unpack(credentials)
            if peer_uid != uid:
                raise PassRefused(f"user {peer_uid} listens there instead of user {uid}")
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))
            sock.sendmsg([bytes([len(fds)])], [rights])
        except OSError as error:
            if error.errno in _SOON:
                return False
            raise PassRefused(error.strerror or str(error)) from error
    return True


async def pass_sockets(path: str, uid: int, fds: list[int], on_late: Callable[[], None]) -> None:
    """Hand over the descriptors as soon as the service listens; on_late once after a minute.

    Raises:
        PassRefused: see try_pass.
    """
    late_at_s = trio.current_time() + LATE_S
    while not try_pass(path, uid, fds):
        if trio.current_time() >= late_at_s:
            on_late()
            late_at_s = float("inf")
        await trio.sleep(_PAUSE_S)
