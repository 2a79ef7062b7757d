"""Both ends of a channel's life: servers that listen, clients that connect and come back.

Kind: shell.

A server accepts only peers whose user is expected for the role that they announce
(SO_PEERCRED) and who speak the same protocol version. A client connects, says hello and
reconnects with growing pauses for as long as it runs; between connections its calls fail at
once, so that nobody waits for a process that is not there.
Source: SPEC rows X113, X193, X194, X435.
"""

import errno
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import trio

from libsmx import wire
from libsmx.channel import Channel, Handler
from libsmx.errors import EX_UNAVAILABLE, PeerGone, StartError
from libsmx.log import Log
from libsmx.logtab import CHANNEL_CLOSED, CHANNEL_OPENED, LINK_LOST, LINK_OPENED, PEER_REFUSED
from libsmx.stats import OnStats, report
from libsmx.tally import Tally
from libsmx.unixsock import (
    bind_unix,
    connect_unix,
    inode_of,
    peer_credentials,
    remove_socket,
)

MAX_PEERS = 256
"""Most channels that one listening socket serves at a time."""
HELLO_TIMEOUT_S = 10.0
_FIRST_STATS_S = 1.0
"""The hello is long over by then; a link that is not is told nothing."""
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 2.0

OnChannel = Callable[[Channel], None]


class Server:
    """Serves channels on one listening socket.

    Args:
        path: the socket.
        mode: its permission bits.
        role: our role, the receiver's name in wire.CHANNELS.
        handler: called for every message but Hello.
        clients: role -> user ids it may have; None: any that can open the socket.
        log: gets connections and refusals.
        on_open: called after the hello of each peer.
        on_close: called when a channel that was opened has ended.
        on_stats: called with the numbers that peers tell of themselves.
    """

    def __init__(  # noqa: PLR0913 - keyword arguments, each of one meaning
        self,
        path: str,
        mode: int,
        role: str,
        handler: Handler,
        *,
        clients: Mapping[str, frozenset[int] | None],
        log: Log,
        on_open: OnChannel | None = None,
        on_close: OnChannel | None = None,
        on_stats: OnStats | None = None,
    ) -> None:
        self._path = path
        self._mode = mode
        self._role = role
        self._handler = handler
        self._clients = clients
        self._log = log
        self._on_open = on_open
        self._on_close = on_close
        self._on_stats = on_stats
        self._open = 0
        self._receives = frozenset[type]().union(*(wire.CHANNELS[c, role] for c in clients))

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen and serve until cancelled; ``started`` once the socket is there.

        Raises:
            StartError: the socket cannot be made.
        """
        raw = bind_unix(self._path, self._mode)
        inode = inode_of(self._path)
        listener = trio.socket.from_stdlib_socket(raw)
        try:
            async with trio.open_nursery() as nursery:
                task_status.started()
                while True:
                    try:
                        sock, _ = await listener.accept()
                    except OSError as error:
                        # Out of descriptors or memory: those we serve go on; try again later.
                        self._refuse(-1, -1, f"accept: {error.strerror}")
                        await trio.sleep(0.1)
                        continue
                    peer = socket.socket(fileno=sock.detach())
                    nursery.start_soon(self._serve, peer)
        finally:
            listener.close()
            remove_socket(self._path, inode)

    def _refuse(self, pid: int, uid: int, reason: str) -> None:
        self._log.emit(PEER_REFUSED, path=self._path, uid=uid, pid=pid, reason=reason)

    async def _serve(self, sock: socket.socket) -> None:
        """Serve one peer: hello first, then everything else."""
        pid, uid, _ = peer_credentials(sock)
        if self._open >= MAX_PEERS:
            self._refuse(pid, uid, f"more than {MAX_PEERS} connections")
            sock.close()
            return
        greeted = False

        def first(channel: Channel, message: Any, rid: int) -> None:  # noqa: ANN401
            nonlocal greeted
            if greeted:
                if isinstance(message, wire.Stats):
                    if self._on_stats is not None:
                        self._on_stats(channel, message)
                else:
                    self._handler(channel, message, rid)
                return
            problem = self._check_hello(message, uid)
            if problem:
                self._refuse(pid, uid, problem)
                channel.post(wire.Refusal(code=550, status="5.7.1", text=problem), rid)
                channel.close(problem)
                return
            greeted = True
            scope.deadline = float("inf")
            channel.peer, channel.peer_id = message.role, message.id
            channel.capacity, channel.uid = message.capacity, uid
            self._log.emit(
                CHANNEL_OPENED, peer=channel.peer, peer_id=channel.peer_id, uid=uid, pid=pid
            )
            channel.post(wire.Welcome(version=wire.PROTOCOL_VERSION, name=self._role), rid)
            if self._on_open is not None:
                self._on_open(channel)

        channel = Channel(sock, self._receives, first)
        self._open += 1
        try:
            with trio.move_on_after(HELLO_TIMEOUT_S) as scope:
                await self._run(channel)
        finally:
            self._open -= 1
            if greeted:
                self._log.emit(
                    CHANNEL_CLOSED,
                    peer=channel.peer,
                    peer_id=channel.peer_id,
                    reason=channel.reason,
                )
                if self._on_close is not None:
                    self._on_close(channel)
            elif not channel.reason or "protocol" in channel.reason:
                self._refuse(pid, uid, channel.reason or "no hello in time")

    async def _run(self, channel: Channel) -> None:
        """Run a channel; a client that wants our numbers gets them (smar tells qmgr)."""
        wanted = [c for c in self._clients if wire.Stats in wire.CHANNELS[self._role, c]]
        if self._log.tally is None or not wanted:
            await channel.run()
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_tell, channel, self._log.tally, frozenset(wanted))
            await channel.run()
            nursery.cancel_scope.cancel()

    def _check_hello(self, message: object, uid: int) -> str:
        """Return what is wrong with a first message, or nothing."""
        if not isinstance(message, wire.Hello):
            return "the first message is no hello"
        if message.role not in self._clients:
            return f"role {message.role} is not served here"
        uids = self._clients[message.role]
        if uids is not None and uid not in uids:
            return f"user id {uid} may not act as {message.role}"
        if message.version != wire.PROTOCOL_VERSION:
            return (
                f"protocol version {message.version} is not ours ({wire.PROTOCOL_VERSION}); "
                "restart all processes after an upgrade"
            )
        return ""


class Link:
    """A client's connection to a server process, kept up for ever.

    Args:
        path: the server's socket.
        role: our role.
        server: the server's role.
        id: our process id among those of our role.
        capacity: see wire.Hello.
        log: gets losses and returns.
        handler: for requests and notifications of the server.
        on_open: called with each new channel after the hello.
        on_close: called when it ended.
        wait_s: longest wait for the first connection.
        server_uid: user that must own the server process; None: any.
        on_stats: called with the numbers that the server tells of itself.
    """

    def __init__(  # noqa: PLR0913 - keyword arguments, each of one meaning
        self,
        path: str,
        role: str,
        server: str,
        *,
        log: Log,
        id: int = 0,  # noqa: A002 - the name on the wire
        capacity: int = 0,
        handler: Handler | None = None,
        on_open: OnChannel | None = None,
        on_close: OnChannel | None = None,
        wait_s: float = 60.0,
        server_uid: int | None = None,
        on_stats: OnStats | None = None,
    ) -> None:
        self.channel: Channel | None = None
        self._path = path
        self._server = server
        self._log = log
        self._hello = wire.Hello(version=wire.PROTOCOL_VERSION, role=role, id=id, capacity=capacity)
        self._receives = wire.CHANNELS[server, role]
        self._sends = wire.CHANNELS[role, server]
        self._handler = handler or _ignore
        if on_stats is not None:
            self._handler = _apart(self._handler, on_stats)
        self._on_open = on_open
        self._on_close = on_close
        self._wait_s = wait_s
        self._server_uid = server_uid

    async def call(self, message: object, timeout_s: float) -> Any:  # noqa: ANN401
        """Ask the server; see Channel.call.

        Raises:
            PeerGone: also when there is no connection now.
        """
        return (await self.call_many((message,), timeout_s))[0]

    async def call_many(
        self,
        messages: Sequence[object],
        timeout_s: float,
    ) -> list[Any]:
        """Ask several questions at once; see Channel.call_many.

        Raises:
            PeerGone: also when there is no connection now.
        """
        if self.channel is None:
            raise PeerGone(f"{self._server} is not connected")
        return await self.channel.call_many(messages, timeout_s)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Connect, serve, connect again until cancelled; ``started`` at the first connection.

        Raises:
            StartError: no connection within wait_s seconds of the start, or the server
                refuses us.
        """
        give_up = trio.current_time() + self._wait_s
        first = True
        pause = _FIRST_PAUSE_S
        reason = ""
        while True:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            try:
                connect_unix(sock, self._path)
                self._check_owner(sock)
            except OSError as error:
                sock.close()
                reason = error.strerror or str(error)
            else:
                opened, reason = await self._serve(
                    sock, task_status if first else trio.TASK_STATUS_IGNORED
                )
                if opened:
                    first = False
                    pause = _FIRST_PAUSE_S
                    self._log.emit(LINK_LOST, server=self._server, reason=reason)
            if first and trio.current_time() >= give_up:
                raise StartError(
                    f"no connection to {self._server} at {self._path} "
                    f"within {self._wait_s:g} s: {reason}; is {self._server} running?",
                    EX_UNAVAILABLE,
                )
            await trio.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE_S)

    def _check_owner(self, sock: socket.socket) -> None:
        _, uid, _ = peer_credentials(sock)
        if self._server_uid is not None and uid not in (self._server_uid, 0):
            raise PermissionError(errno.EPERM, f"the server runs as user id {uid}")

    async def _serve(
        self, sock: socket.socket, task_status: trio.TaskStatus[None]
    ) -> tuple[bool, str]:
        """Run one connection; return whether the hello succeeded and why it ended."""
        channel = Channel(sock, self._receives, self._handler)
        channel.peer = self._server
        opened = False

        def welcomed(answer: object | None) -> None:
            nonlocal opened
            if not isinstance(answer, wire.Welcome):
                text = answer.text if isinstance(answer, wire.Refusal) else "no answer"
                channel.close(f"hello refused: {text}")
                return
            opened = True
            self.channel = channel
            self._log.emit(LINK_OPENED, server=self._server)
            if self._on_open is not None:
                self._on_open(channel)
            task_status.started()

        channel.request(self._hello, welcomed, HELLO_TIMEOUT_S)
        tally = self._log.tally if wire.Stats in self._sends else None
        try:
            if tally is None:
                await channel.run()
            else:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_tell, channel, tally, frozenset({self._server}))
                    await channel.run()
                    nursery.cancel_scope.cancel()
        finally:
            self.channel = None
            if opened and self._on_close is not None:
                self._on_close(channel)
        return opened, channel.reason


async def _tell(channel: Channel, tally: Tally, peers: frozenset[str]) -> None:
    """Tell a peer our numbers, if it is one of those and once the hello is through."""
    await trio.sleep(_FIRST_STATS_S)
    if channel.peer in peers:
        await report(channel, tally)


def _apart(handler: Handler, on_stats: OnStats) -> Handler:
    """Return a handler that takes numbers out of what comes."""

    def handle(channel: Channel, message: Any, rid: int) -> None:  # noqa: ANN401
        if isinstance(message, wire.Stats):
            on_stats(channel, message)
        else:
            handler(channel, message, rid)

    return handle


def _ignore(_channel: Channel, _message: object, _rid: int) -> None:
    """Drop a message that nobody wants."""
