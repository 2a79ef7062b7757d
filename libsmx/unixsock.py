"""Unix-domain sockets in the file system: bind, connect, remove, and who is at the other end.

Kind: shell.

A socket gets its mode before anybody can connect, a dead one is replaced, a living one and any
other file are not. Who connects is told by the kernel (SO_PEERCRED).
Source: unix(7); SPEC row X113.
"""

import errno
import os
import socket
import stat
import struct

from libsmx.errors import EX_CANTCREAT, StartError

_BACKLOG = 64
_MAX_PATH = 107
"""Bytes of a path in sockaddr_un(7)."""


def peer_credentials(sock: socket.socket) -> tuple[int, int, int]:
    """Return (pid, uid, gid) of the process that holds the other end."""
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    pid, uid, gid = struct.unpack("3i", data)
    return pid, uid, gid


def bind_unix(path: str, mode: int) -> socket.socket:
    """Return a listening Unix socket at path with exactly this mode.

    A socket that a dead process left behind is replaced; one that somebody serves is not, and
    neither is a file of another kind.

    Raises:
        StartError: names the path and what to do.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        _remove_stale(path)
        old = os.umask(0o777)
        try:
            sock.bind(path)
        finally:
            os.umask(old)
        os.chmod(path, mode)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise StartError(
            f"cannot listen on {os.path.abspath(path)}: {error.strerror or error}; "
            "check that the directory exists and belongs to this user",
            EX_CANTCREAT,
        ) from error
    except StartError:
        sock.close()
        raise
    return sock


def connect_unix(sock: socket.socket, path: str) -> None:
    """Connect to a Unix socket whatever the length of its path.

    A socket address holds 107 bytes; a longer path is reached through its directory.

    Raises:
        OSError: there is no such socket, or nobody serves it.
    """
    if len(os.fsencode(path)) <= _MAX_PATH:
        sock.connect(path)
        return
    directory, name = os.path.split(path)
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sock.connect(f"/proc/self/fd/{fd}/{name}")
    finally:
        os.close(fd)


def inode_of(path: str) -> int:
    """Return the number by which remove_socket knows a socket again."""
    return os.stat(path).st_ino


def remove_socket(path: str, inode: int) -> None:
    """Remove a socket at an orderly end, unless a successor has made its own there."""
    try:
        if os.stat(path).st_ino == inode:
            os.unlink(path)
    except OSError:
        return  # gone already, or not ours to remove


def _remove_stale(path: str) -> None:
    """Remove a socket nobody listens on."""
    try:
        kind = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise StartError(f"{os.path.abspath(path)} is in the way and no socket; move it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        try:
            probe.connect(path)
        except OSError as error:
            if error.errno not in (errno.ECONNREFUSED, errno.ENOENT):
                raise
            os.unlink(path)
            return
    raise StartError(f"{os.path.abspath(path)} is served by another process; stop that first")
