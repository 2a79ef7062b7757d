"""Channels: messages between two processes over a Unix-domain stream socket.

Kind: shell.

A channel reads whatever has arrived, hands every complete message to its handler in one turn
and sends everything that was posted in a turn of the loop with one write at its end, so that
messages which become ready together travel together and no task wakes up to send them. Requests
carry a number that their answer repeats; an answer to a question nobody asked is dropped. The
outgoing buffer is bounded: a peer that does not read is cut off instead of filling memory. Any
fault of the peer ends the channel, never the process.

Who listens and who connects stands in libsmx/link.py (Server, Link).
Limits: MAX_OUT bytes wait for a slow peer, MAX_CALLS questions wait for an answer.
"""

import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import outcome
import trio

from libsmx.errors import PeerError, PeerGone
from libsmx.rcb import FrameReader, encode
from libsmx.turnend import turn_end

MAX_OUT = 32 << 20
MAX_CALLS = 100_000
READ_SIZE = 64 * 1024
"""Bytes read at a time: the allocator maps larger blocks anew for each read."""
_SWEEP_S = 0.5
ANSWER_BIT = 1 << 31
"""Set in the rid of an answer: both sides may ask, each with numbers of its own."""

Handler = Callable[["Channel", Any, int], None]
"""(channel, message, rid): called for requests (rid > 0) and notifications (rid 0)."""
OnAnswer = Callable[[Any | None], None]


class _Waiter:
    """A task that waits for several answers."""

    __slots__ = ("answers", "left", "task")

    def __init__(self, count: int) -> None:
        self.task: trio.lowlevel.Task | None = None
        self.answers: list[Any] = [None] * count
        self.left = count

    def put(self, index: int, answer: Any) -> None:  # noqa: ANN401 - any message
        """Take one answer; None says that there will be none."""
        self.answers[index] = answer
        self.left -= 1
        if self.left == 0 and self.task is not None:
            task, self.task = self.task, None
            trio.lowlevel.reschedule(task, outcome.Value(None))


class Channel:
    """One connection to a sibling process.

    Args:
        sock: a connected socket, owned by the channel from now on.
        receives: message classes that the peer may send.
        handler: gets every message that is not an answer.

    Attributes:
        peer: role of the other side.
        peer_id: its process id among processes of that role.
        capacity: what it said it can take.
        uid: its user id, known on the server side.
        closed: True from the moment nothing can be sent any more.
    """

    def __init__(self, sock: socket.socket, receives: frozenset[type], handler: Handler) -> None:
        self.peer = ""
        self.peer_id = 0
        self.capacity = 0
        self.uid = -1
        self.closed = False
        self.reason = ""
        sock.setblocking(False)
        self._sock = sock
        self._reader = FrameReader(receives)
        self._handler = handler
        self._out: list[bytes] = []
        self._out_size = 0
        self._posted = False
        self._turn_end = turn_end()
        self._flight = memoryview(b"")
        self._writer: trio.lowlevel.Task | None = None
        self._rid = 0
        self._calls: dict[int, tuple[float, OnAnswer]] = {}
        self._scope = trio.CancelScope()

    # --- sending -----------------------------------------------------------------------

    def post(self, message: object, rid: int = 0) -> None:
        """Queue a notification, or the answer to request ``rid``; never waits.

        On a closed channel it does nothing: the peer's end of the work is handled by whoever
        watches the channel, and a sender cannot know earlier.
        """
        self._send(encode(message, rid | ANSWER_BIT if rid else 0))

    def _send(self, data: bytes) -> None:
        if self.closed:
            return
        self._out.append(data)
        self._out_size += len(data)
        if self._out_size > MAX_OUT:
            self._fail(f"the peer does not read: {self._out_size} bytes wait")
        elif not self._posted:
            self._posted = True
            self._turn_end.add(self)

    def flush(self) -> Callable[[], None] | None:
        """Send what the system takes; return what is to be done in the next turn, if anything.

        For the end of a turn only. While the peer is slow, the writing task sends instead.
        """
        self._posted = False
        if self.closed or self._flight or not self._out:
            return None
        data = self._take_out()
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            return partial(self._fail, f"sending failed: {error}")
        self._out_size -= sent
        if sent == len(data):
            return None
        self._flight = memoryview(data)[sent:]
        return self._wake_writer

    def _take_out(self) -> bytes:
        parts, self._out = self._out, []
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _wake_writer(self) -> None:
        task, self._writer = self._writer, None
        if task is not None:
            trio.lowlevel.reschedule(task, outcome.Value(None))

    def request(self, message: object, on_answer: OnAnswer, timeout_s: float) -> None:
        """Ask without waiting: on_answer(answer), or on_answer(None) when none will come.

        on_answer is never called before this returns, and exactly once.
        """
        if self.closed or len(self._calls) >= MAX_CALLS:
            trio.lowlevel.current_trio_token().run_sync_soon(on_answer, None)
            return
        self._rid = self._rid % (ANSWER_BIT - 1) + 1
        self._calls[self._rid] = (trio.current_time() + timeout_s, on_answer)
        self._send(encode(message, self._rid))

    async def call(self, message: object, timeout_s: float) -> Any:  # noqa: ANN401
        """Ask and wait for the answer.

        Raises:
            PeerGone: no answer within timeout_s seconds, or the peer went away.
        """
        return (await self.call_many((message,), timeout_s))[0]

    async def call_many(
        self,
        messages: Sequence[object],
        timeout_s: float,
    ) -> list[Any]:
        """Ask several questions in one write and wait for all answers, in order.

        Raises:
            PeerGone: any answer is missing.
        """
        waiter = _Waiter(len(messages))
        for index, message in enumerate(messages):
            self.request(message, lambda answer, i=index: waiter.put(i, answer), timeout_s)  # type: ignore[misc]
        if waiter.left:
            waiter.task = trio.lowlevel.current_task()

            def abort(_: object) -> trio.lowlevel.Abort:
                waiter.task = None
                return trio.lowlevel.Abort.SUCCEEDED

            await trio.lowlevel.wait_task_rescheduled(abort)
        if None in waiter.answers:
            raise PeerGone(self.reason or f"no answer from {self.peer} within {timeout_s:g} s")
        return waiter.answers

    # --- life --------------------------------------------------------------------------

    def close(self, reason: str = "closed") -> None:
        """End the channel; ``run`` returns soon after."""
        self._fail(reason)

    def _fail(self, reason: str) -> None:
        if not self.closed:
            self.closed = True
            self.reason = reason
            self._scope.cancel()

    async def run(self) -> None:
        """Move messages until the channel ends; ``reason`` tells why. Raises nothing."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write_loop)
                    nursery.start_soon(self._sweep_loop)
                    await self._read_loop()
        finally:
            self.closed = True
            self._last_words()
            self._sock.close()
            calls, self._calls = self._calls, {}
            for _, on_answer in calls.values():
                on_answer(None)

    def _last_words(self) -> None:
        """Send what waits if it can go at once: an answer that was posted just before close."""
        data = b"".join((self._flight, *self._out))
        if data:
            try:
                self._sock.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except OSError:
                return

    async def _read_loop(self) -> None:
        """Read and dispatch until the peer closes or errs."""
        sock, feed, handler = self._sock, self._reader.feed, self._handler
        while True:
            # Everything is read at once, so trying again before waiting is hardly ever of use.
            await trio.lowlevel.wait_readable(sock)
            try:
                data = sock.recv(READ_SIZE)
            except BlockingIOError:
                continue
            except OSError as error:
                self._fail(f"receiving failed: {error}")
                return
            if not data:
                self._fail("the peer closed the connection")
                return
            try:
                for message, rid in feed(data):
                    if rid and rid & ANSWER_BIT:
                        call = self._calls.pop(rid & ~ANSWER_BIT, None)
                        if call is not None:
                            call[1](message)
                    else:
                        handler(self, message, rid)
                    if self.closed:
                        return
            except PeerError as error:
                self._fail(f"protocol error: {error}")
                return

    async def _write_loop(self) -> None:
        """Send what did not go out at the end of its turn, because the peer is slow to read."""

        def abort(_: object) -> trio.lowlevel.Abort:
            self._writer = None
            return trio.lowlevel.Abort.SUCCEEDED

        while True:
            if not self._flight:
                self._writer = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(abort)
            while self._flight:
                await trio.lowlevel.wait_writable(self._sock)
                try:
                    sent = self._sock.send(self._flight)
                except BlockingIOError:
                    continue
                except OSError as error:
                    self._fail(f"sending failed: {error}")
                    return
                self._out_size -= sent
                self._flight = self._flight[sent:]
                if not self._flight and self._out:
                    self._flight = memoryview(self._take_out())

    async def _sweep_loop(self) -> None:
        """Give up on questions whose time is over."""
        while True:
            await trio.sleep(_SWEEP_S)
            now = trio.current_time()
            late = [rid for rid, (deadline, _) in self._calls.items() if deadline <= now]
            for rid in late:
                self._calls.pop(rid)[1](None)
