"""Listening sockets: where they come from, and taking connections from them.

Kind: shell.

A server that mcp starts with start_action pass listens on its pass_fd_socket; mcp, or a
process of our own user, connects and sends one byte, the number of descriptors, with the
descriptors as SCM_RIGHTS. Later ones replace earlier ones. Without a pass_fd_socket the
process binds its listen_sockets itself, which works for ports that need no privilege (D46).
Several processes may hold the same listening socket.
Limits: 64 descriptors a time; at most MAX_BURST connections are taken in one turn.
Source: SPEC rows X061, X127, X131-X133, X139, X429, X431.
"""

import array
import errno
import os
import socket
import stat
from collections.abc import Callable, Sequence

import trio

from libsmx.errors import EX_NOPERM, EX_UNAVAILABLE, StartError
from libsmx.log import Log
from libsmx.opttab import ListenSocket
from libsmx.unixsock import bind_unix, inode_of, peer_credentials, remove_socket
from smtps import events

MAX_BURST = 64
MAX_FDS = 64
_BACKLOG = 1024
_PAUSE_S = 0.25
_PASS_TIMEOUT_S = 10.0

OnClient = Callable[[socket.socket, str], None]
"""(connected socket, IP address of the client)."""
LOCAL_ADDRESS = "127.0.0.1"
"""Address of clients on a Unix socket: who may open it is decided by its mode and owner."""


def bind_listeners(sockets: Sequence[ListenSocket]) -> list[socket.socket]:
    """Return listening TCP sockets for listen_socket sections.

    Raises:
        StartError: names address and port and what to do.
    """
    made: list[socket.socket] = []
    try:
        for row in sockets:
            if row.type == "unix":
                raise StartError(
                    "listen_socket: type unix needs start_action pass: mcp makes the socket"
                )
            made.append(_bind(row))
    except StartError:
        for sock in made:
            sock.close()
        raise
    return made


def _bind(row: ListenSocket) -> socket.socket:
    family = socket.AF_INET6 if row.type == "inet6" else socket.AF_INET
    address = row.address or ("::" if row.type == "inet6" else "0.0.0.0")
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # IPv4 has a socket of its own, as the configuration says (type inet).
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, row.port))
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        code = EX_NOPERM if error.errno == errno.EACCES else EX_UNAVAILABLE
        raise StartError(
            f"cannot listen on {address} port {row.port}: {error.strerror}; choose another "
            "address or port, or stop what uses it",
            code,
        ) from error
    return sock


def receive_listeners(sock: socket.socket) -> list[socket.socket]:
    """Return the listening sockets that wait on a connected Unix socket.

    Raises:
        ValueError: not the agreed message, or something else than listening TCP sockets.
        OSError: the connection broke.
    """
    fds = array.array("i")
    # Not socket.recv_fds, which forgets its flags in Python 3.11: a descriptor must never be
    # without close-on-exec, not for a moment.
    data, parts, flags, _ = sock.recvmsg(
        2, socket.CMSG_SPACE(MAX_FDS * fds.itemsize), socket.MSG_CMSG_CLOEXEC
    )
    for level, kind, payload in parts:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    made: list[socket.socket] = []
    try:
        if flags & socket.MSG_CTRUNC or len(data) != 1 or data[0] != len(fds) or not fds:
            raise ValueError("one byte with as many descriptors is expected")
        if not all(stat.S_ISSOCK(os.fstat(fd).st_mode) for fd in fds):
            raise ValueError("a descriptor is no socket")
        while fds:
            made.append(socket.socket(fileno=fds.pop(0)))
        if not all(_is_listener(one) for one in made):
            raise ValueError("a descriptor is no listening TCP or Unix socket")
    except (ValueError, OSError):
        for one in made:
            one.close()
        for fd in fds:
            os.close(fd)
        raise
    return made


def _is_listener(sock: socket.socket) -> bool:
    """Tell whether a socket is a stream socket of a family that we serve, and listens."""
    listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    return bool(listening) and sock.family in {socket.AF_INET, socket.AF_INET6, socket.AF_UNIX}


class Listeners:
    """The listening sockets in use; takes connections from all of them.

    Args:
        on_client: gets every connection.
        log: gets what is listened on and what fails.
    """

    def __init__(self, on_client: OnClient, log: Log) -> None:
        self._on_client = on_client
        self._log = log
        self._scope: trio.CancelScope | None = None

    def use(self, sockets: list[socket.socket], nursery: trio.Nursery) -> None:
        """Accept from these sockets and no longer from earlier ones."""
        self.stop()
        self._scope = trio.CancelScope()
        nursery.start_soon(self._serve, sockets, self._scope)

    def stop(self) -> None:
        """Accept no more."""
        if self._scope is not None:
            self._scope.cancel()

    async def _serve(self, sockets: list[socket.socket], scope: trio.CancelScope) -> None:
        try:
            with scope:
                async with trio.open_nursery() as nursery:
                    for sock in sockets:
                        self._log.emit(events.LISTENING, **_name_of(sock))
                        nursery.start_soon(self._accept, sock)
        finally:
            for sock in sockets:
                sock.close()

    async def _accept(self, listener: socket.socket) -> None:
        """Take what is ready, then wait for more."""
        listener.setblocking(False)
        while True:
            await trio.lowlevel.wait_readable(listener)
            for _ in range(MAX_BURST):
                try:
                    sock, address = listener.accept()
                except BlockingIOError:
                    break  # none is left, or another process was faster
                except OSError as error:
                    if error.errno not in _TRANSIENT:
                        # Out of descriptors or memory: those who are served go on.
                        self._log.emit(events.ACCEPT_FAILED, reason=error.strerror)
                        await trio.sleep(_PAUSE_S)
                        break
                else:
                    is_local = listener.family == socket.AF_UNIX
                    self._on_client(sock, LOCAL_ADDRESS if is_local else address[0])


def _name_of(sock: socket.socket) -> dict[str, str | int]:
    """Return address and port of a listening socket for the log; port 0 is a Unix socket."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return {"address": str(name), "port": 0}
    return {"address": name[0], "port": name[1]}


_TRANSIENT = frozenset(
    (errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.EINTR,
     errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH)
)  # fmt: skip
"""accept(2): errors of the one connection that would have been taken."""


async def serve_passed(
    path: str,
    listeners: Listeners,
    nursery: trio.Nursery,
    log: Log,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Take listening sockets on a pass_fd_socket until cancelled.

    Raises:
        StartError: the socket cannot be made.
    """
    raw = bind_unix(path, 0o600)
    inode = inode_of(path)
    gate = trio.socket.from_stdlib_socket(raw)
    try:
        task_status.started()
        while True:
            try:
                peer, _ = await gate.accept()
            except OSError as error:
                log.emit(events.ACCEPT_FAILED, reason=error.strerror)
                await trio.sleep(_PAUSE_S)
                continue
            with socket.socket(fileno=peer.detach()) as sock:
                sockets = await _take_passed(sock, path, log)
            if sockets:
                listeners.use(sockets, nursery)
    finally:
        gate.close()
        remove_socket(path, inode)


async def _take_passed(sock: socket.socket, path: str, log: Log) -> list[socket.socket]:
    """Return what one peer passes; nothing if it may not or does not in time."""
    _, uid, _ = peer_credentials(sock)
    reason = "no descriptors in time"
    try:
        if uid not in {0, os.geteuid()}:
            raise ValueError("only root and the server's own user may pass descriptors")
        with trio.move_on_after(_PASS_TIMEOUT_S):
            await trio.lowlevel.wait_readable(sock)
            return receive_listeners(sock)
    except (ValueError, OSError) as error:
        reason = str(error)
    log.emit(events.PASS_REFUSED, path=path, uid=uid, reason=reason)
    return []
