"""Listening sockets: bound by mcp, because only root may bind port 25.

Kind: shell.
Source: SPEC rows X130-X138, X159; README of sendmail X, listen_socket.
"""

import contextlib
import errno
import os
import socket
import stat

import attrs

from libsmx.errors import EX_NOPERM, EX_OSERR, EX_UNAVAILABLE, StartError
from libsmx.opttab import ListenSocket
from mcp.identity import find_gid, find_uid

BACKLOG = 1024
"""The kernel cuts it to net.core.somaxconn."""


@attrs.frozen
class Listener:
    """A bound socket and its name for log lines; path is "" unless mcp made a file for it."""

    sock: socket.socket
    name: str
    path: str = ""

    def close(self) -> None:
        """Close the socket and remove its file."""
        self.sock.close()
        if self.path:
            with contextlib.suppress(OSError):
                os.unlink(self.path)


def bind(listen: ListenSocket) -> Listener:
    """Return a socket that listens.

    Raises:
        StartError: with one line that names the address and the remedy.
    """
    return _bind_unix(listen) if listen.type == "unix" else _bind_inet(listen)


def _bind_inet(listen: ListenSocket) -> Listener:
    six = listen.type == "inet6"
    address = listen.address or ("::" if six else "0.0.0.0")
    name = f"[{address}]:{listen.port}" if six else f"{address}:{listen.port}"
    try:
        sock = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_STREAM)
    except OSError as error:
        raise StartError(
            f"cannot listen on {name}: {error.strerror}; remove this listen_socket", EX_OSERR
        ) from error
    try:
        # A restart must not wait for the connections of the last run to time out.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if six:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, listen.port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise _inet_error(error, name, listen.port) from error
    return Listener(sock, name)


def _inet_error(error: OSError, name: str, port: int) -> StartError:
    if error.errno == errno.EADDRINUSE:
        return StartError(
            f"cannot listen on {name}: another program listens there; stop it"
            " or set another listen_socket.port",
            EX_UNAVAILABLE,
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return StartError(
            f"cannot listen on {name}: port {port} is privileged; start mcp as root"
            " or set a listen_socket.port of 1024 or more",
            EX_NOPERM,
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return StartError(
            f"cannot listen on {name}: this machine has no such address;"
            " set another listen_socket.address",
            EX_UNAVAILABLE,
        )
    return StartError(f"cannot listen on {name}: {error.strerror}", EX_OSERR)


def _bind_unix(listen: ListenSocket) -> Listener:
    path = listen.path
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The mask is the process's; nothing else runs while it is changed.
    old_mask = os.umask(listen.umask)
    try:
        _remove_stale(path)
        sock.bind(path)
        sock.listen(BACKLOG)
        sock.setblocking(False)
        if os.geteuid() == 0 and (listen.user or listen.group):
            uid = find_uid(listen.user) if listen.user else -1
            gid = find_gid(listen.group) if listen.group else -1
            os.chown(path, uid, gid, follow_symlinks=False)
    except (OSError, ValueError) as error:
        sock.close()
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise StartError(f"cannot listen on {path}: {text}", EX_UNAVAILABLE) from error
    finally:
        os.umask(old_mask)
    return Listener(sock, path, path)


def _remove_stale(path: str) -> None:
    """Remove a socket file that nobody listens on; raises OSError when somebody does."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise FileExistsError(errno.EEXIST, "a file is in the way; move it")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise OSError(errno.EADDRINUSE, "another program listens there; stop it or set another path")
