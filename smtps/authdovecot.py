"""The connection to Dovecot's auth service.

Kind: shell.

One connection a process, shared by all sessions, made anew when it breaks. A session that waits
for an answer gets None when the connection is lost or the answer takes too long.
Source: Dovecot, doc/auth-protocol.
"""

import itertools
import os
from collections.abc import Callable

import trio

from libsmx.log import Log
from libsmx.saslserver import Challenge
from smtps import authevents
from smtps.authsteps import Remote, RemoteStep
from smtps.authwire import AuthReader, AuthServerError, Ready, cancel, go_on, hello, request

ANSWER_S = 60.0
"""Longest wait for an answer; the service itself holds answers to failures back for seconds."""
_RETRY_S = 2.0
_READ = 16 * 1024


class _Waiting:
    """A session that waits for an answer."""

    def __init__(self) -> None:
        self.event = trio.Event()
        self.step: RemoteStep = None

    def tell(self, step: RemoteStep) -> None:
        self.step = step
        self.event.set()


class AuthServer:
    """The service.

    Args:
        path: its Unix socket.
        log: gets when it comes and goes.
        on_mechanisms: called with the mechanisms that it has.
    """

    def __init__(
        self, path: str, log: Log, on_mechanisms: Callable[[tuple[str, ...]], None]
    ) -> None:
        self._path = path
        self._log = log
        self._on_mechanisms = on_mechanisms
        self._stream: trio.SocketStream | None = None
        self._ready = False
        self._waiting: dict[int, _Waiting] = {}
        self.generation = 0
        self.numbers = itertools.count(1)
        self._lost = False
        self._sending = trio.Lock()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the connection up until cancelled; ready after the first try."""
        started = False
        while True:
            error = "the service closed the connection"
            try:
                with trio.fail_after(ANSWER_S):
                    stream = await trio.open_unix_socket(self._path)
                async with stream:
                    self._stream = stream
                    if not started:
                        started = True
                        task_status.started()
                    await stream.send_all(hello(os.getpid()))
                    await self._read(stream)
            except (OSError, trio.BrokenResourceError, trio.TooSlowError) as fault:
                error = getattr(fault, "strerror", None) or str(fault) or "connection broken"
            except AuthServerError as fault:
                error = str(fault)
            self._drop(error)
            if not started:
                started = True
                task_status.started()
            await trio.sleep(_RETRY_S)

    async def _read(self, stream: trio.SocketStream) -> None:
        reader = AuthReader()
        while data := await stream.receive_some(_READ):
            for one in reader.feed(data):
                if isinstance(one, Ready):
                    self._ready, self._lost = True, False
                    self.generation += 1
                    self._on_mechanisms(one.mechanisms)
                    mechs = " ".join(one.mechanisms)
                    self._log.emit(authevents.AUTH_SERVER_READY, path=self._path, mechs=mechs)
                elif (waiting := self._waiting.get(one.number)) is not None:
                    waiting.tell(one.step)

    def _drop(self, error: str) -> None:
        """Tell everybody who waits that nothing will come."""
        self._stream, self._ready = None, False
        if not self._lost:  # told once, not at each try
            self._lost = True
            self._log.emit(authevents.AUTH_SERVER_LOST, path=self._path, error=error)
        for waiting in self._waiting.values():
            waiting.tell(None)

    def exchange(self, client: str) -> "RemoteExchange":
        """Return a new exchange for a client with this IP address."""
        return RemoteExchange(self, client)

    async def ask(self, number: int, line: bytes) -> RemoteStep:
        """Send a line about a request and return the answer, None where none comes."""
        stream = self._stream
        if stream is None or not self._ready:
            return None
        waiting = self._waiting[number] = _Waiting()
        try:
            with trio.move_on_after(ANSWER_S):
                await self.tell(line)
                await waiting.event.wait()
        finally:
            del self._waiting[number]
        return waiting.step

    async def tell(self, line: bytes) -> None:
        """Send a line."""
        stream = self._stream
        if stream is None:
            return
        try:
            async with self._sending:
                await stream.send_all(line)
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            self._drop("connection broken")


class RemoteExchange:
    """One session's exchanges with the service, one after the other."""

    def __init__(self, server: AuthServer, client: str) -> None:
        self._server = server
        self._client = client
        self._number = 0
        self._generation = -1

    async def begin(self, asked: Remote) -> RemoteStep:
        """Begin one."""
        self._number = number = next(self._server.numbers)
        self._generation = self._server.generation
        return self._note(await self._server.ask(number, request(number, asked, self._client)))

    async def reply(self, data: bytes) -> RemoteStep:
        """Answer its challenge."""
        if not self._is_open:
            return None
        return self._note(await self._server.ask(self._number, go_on(self._number, data)))

    async def cancel(self) -> None:
        """Give it up."""
        if self._is_open:
            self._note(None)
            await self._server.tell(cancel(self._number))

    @property
    def _is_open(self) -> bool:
        # A service that was started anew knows nothing of the exchange.
        return self._generation == self._server.generation

    def _note(self, step: RemoteStep) -> RemoteStep:
        if not isinstance(step, Challenge):
            self._generation = -1
        return step
