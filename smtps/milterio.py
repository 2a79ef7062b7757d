"""The connection to one content filter.

Kind: shell.

Limits: what is awaited has a time limit each (options connect_timeout, send_timeout,
reply_timeout, end_timeout), what comes is bounded by packets and by the caller.
Source: SPEC rows X385-X389.
"""

import os
import socket
from collections.abc import Callable

import attrs
import trio

from libsmx.opt_smtps_parts import MilterConf, MilterSocket, PolicyMilterConf
from smtps.milter import ACTIONS, Filter
from smtps.milterwire import MilterError, Packet, PacketReader

_READ_SIZE = 65_536


@attrs.frozen
class FilterConf:
    """What a filter is configured with, whichever section it has.

    Attributes:
        name: for logs.
        socket: where it listens.
        connect_s, send_s, reply_s, end_s: longest waits.
        on_failure: accept, tempfail, reject, quarantine or abort.
        actions: what it may change, as bits of the protocol.
    """

    name: str
    socket: MilterSocket
    connect_s: float
    send_s: float
    reply_s: float
    end_s: float
    on_failure: str
    actions: int


def filters_of(
    policy: tuple[PolicyMilterConf, ...], others: tuple[MilterConf, ...]
) -> tuple[FilterConf, ...]:
    """Return all filters in the order in which they are asked."""
    found = [
        FilterConf(
            "policy",
            one.socket,
            one.timeout,
            one.timeout,
            one.timeout,
            one.timeout,
            "abort" if "abort" in one.flags else "accept",
            _actions(one.changes),
        )
        for one in policy
    ]
    found += [
        FilterConf(
            one.name or f"milter{number}",
            one.socket,
            one.connect_timeout,
            one.send_timeout,
            one.reply_timeout,
            one.end_timeout,
            one.on_failure,
            _actions(one.changes),
        )
        for number, one in enumerate(others, 1)
    ]
    return tuple(found)


def _actions(words: frozenset[str]) -> int:
    return sum(ACTIONS[word] for word in words)


class FilterLink:
    """One filter in one session, connected.

    Args:
        conf: of the filter.

    Attributes:
        machine: what it was told and said.
    """

    def __init__(self, conf: FilterConf) -> None:
        self.conf = conf
        self.machine = Filter(conf.actions)
        self._reader = PacketReader()
        self._ready: list[Packet] = []
        self._stream: trio.SocketStream | None = None

    async def open(self) -> None:
        """Connect and negotiate.

        Raises:
            OSError, MilterError, trio.TooSlowError: the filter cannot be used.
        """
        with trio.fail_after(self.conf.connect_s):
            self._stream = await _connect(self.conf.socket)
        await self.tell(self.machine.hello())

    async def tell(self, data: bytes, on_body: Callable[[bytes], None] | None = None) -> None:
        """Send what the machine returned and wait for the answer if one is due.

        Args:
            data: empty: nothing is done.
            on_body: gets each piece of a new body.

        Raises:
            OSError, MilterError, trio.TooSlowError: the filter cannot be used any more.
        """
        machine, stream = self.machine, self._stream
        if not data:
            return
        if stream is None:
            raise MilterError("is not connected")
        with trio.fail_after(self.conf.send_s):
            await stream.send_all(data)
        limit_s = self.conf.end_s if machine.stage == "end" else self.conf.reply_s
        while machine.waiting:
            with trio.fail_after(limit_s):
                packet = await self._receive(stream)
            piece = machine.take(packet)
            if piece is not None and on_body is not None:
                on_body(piece)

    async def _receive(self, stream: trio.SocketStream) -> Packet:
        while not self._ready:
            data = await stream.receive_some(_READ_SIZE)
            if not data:
                raise MilterError("closed the connection")
            self._ready = self._reader.feed(data)
        return self._ready.pop(0)

    def say(self, data: bytes) -> None:
        """Send what has no answer if that is possible without waiting."""
        if self._stream is not None:
            try:
                # A few bytes: they fit into the socket's buffer, or the filter has stalled.
                os.write(self._stream.socket.fileno(), data)
            except OSError:
                self.close()

    def close(self) -> None:
        """End the connection."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.socket.close()


async def _connect(where: MilterSocket) -> trio.SocketStream:
    family = {"unix": socket.AF_UNIX, "inet6": socket.AF_INET6}.get(where.type, socket.AF_INET)
    sock = trio.socket.socket(family, socket.SOCK_STREAM)
    stream = None
    try:
        if where.type == "unix":
            await sock.connect(where.path)
        else:
            local = "::1" if where.type == "inet6" else "127.0.0.1"
            await sock.connect((where.address or local, where.port))
        stream = trio.SocketStream(sock)
        return stream
    finally:
        if stream is None:
            sock.close()
