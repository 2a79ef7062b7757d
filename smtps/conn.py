"""One client's connection: bytes to the session core, its effects to socket, disk and siblings.

Kind: shell.

One task a connection and one cancel scope, whose deadline moves on as the client speaks. The
socket is used without trio's own socket class: after a reply there is nothing to read yet, so
waiting first and reading then saves a failing system call for each command, and a reply goes
out at once unless the client does not read. While a sibling or the disk is waited for, a short
deadline is off: those waits have limits of their own, and the client is not to blame.
Source: RFC 5321 4.5.3.2.7; SPEC rows X009, X011, X368.
"""

import contextlib
import socket
from collections.abc import Sequence
from math import inf

import trio

from libsmx.tlsfacts import TlsFacts
from smtps import authevents, events
from smtps.authsteps import Prove, Secured, StartTls
from smtps.effects import (
    Abort,
    Ask,
    Close,
    Commit,
    Consult,
    Delay,
    Discard,
    Effect,
    ForgetMessage,
    Inspect,
    Introduce,
    Open,
    Record,
    Result,
    Send,
    Write,
)
from smtps.errands import COMMIT_TIMEOUT_S, Errands, Surroundings
from smtps.pace import Pace
from smtps.policy import plain_address
from smtps.proxy import ProxyError, read_proxy
from smtps.session import Session
from smtps.tlsconn import TlsBroken, TlsConn
from smtps.xclient import Introduction

__all__ = ["Connection", "Surroundings"]

READ_SIZE = 64 * 1024
Awaited = Ask | Open | Commit | Introduce | Consult | Inspect | Prove
"""Effects for others than the client, during which it may wait."""
_PROXY_TIMEOUT_S = 10.0
_LAST_WORDS_S = 2.0
_MAX_LAST_WORDS = 64 * 1024


class Connection:
    """Serves one client.

    Args:
        around: what all connections share.
        sock: the connected socket, owned by the connection.
        client: IP address of the client.
        session_id: unique among the sessions of this system.
    """

    def __init__(
        self, around: Surroundings, sock: socket.socket, client: str, session_id: str
    ) -> None:
        self.session = Session(around.policy, client, session_id)
        self._around = around
        sock.setblocking(False)
        self._sock = sock
        conf = around.policy.conf
        self._pace = Pace(conf.io_timeout, conf.transaction_timeout, conf.min_data_rate)
        self._watch_always = self._pace.lazy_s > COMMIT_TIMEOUT_S and not around.policy.filtered
        self._ahead = b""
        self._tls: TlsConn | None = None
        self._client = client
        self._id = session_id
        self._scope = trio.CancelScope()
        self._reading = False
        self._stopped = False
        port = _port_of(sock) if around.filters else 0
        self._errands = Errands(around, session_id, self._disown, port)

    def wake(self) -> None:
        """End the connection now if it waits for a command between transactions."""
        if self._reading and self.session.idle:
            self._stopped = True
            self._scope.cancel()

    def cancel(self) -> None:
        """End the connection whatever it does; a message under way is not accepted."""
        self._stopped = True
        self._scope.cancel()

    def qmgr_lost(self) -> None:
        """Note that qmgr forgot this session; it ends before its next transaction."""
        self._errands.qmgr_lost()

    def _disown(self) -> None:
        self.session.dialogue.disowned = True

    async def run(self) -> None:
        """Serve the client until either side ends the session. Raises nothing expected."""
        started_s = self._around.clock.mono()
        reason = "cancelled"
        try:
            with self._scope:
                reason = await self._serve()
            if self._scope.cancelled_caught:
                await self._say_last()
            await self._linger()
        except OSError as error:
            reason = error.strerror or str(error)
        finally:
            self._clean_up(reason)
            self._end_tls()
            self._sock.close()
            self._record_end(started_s)

    async def _serve(self) -> str:
        """Run the dialogue; return why it ended on the client's side."""
        session, policy = self.session, self._around.policy
        if policy.is_proxy(self._client) and not await self._read_proxy():
            return "no PROXY header"
        self._around.log.emit(events.SESSION_OPENED, ss_sess=self._id, client=self._client)
        if self._is_implicit():
            self._watch()
            session.secured(await self._start_tls())
        answer = await self._errands.open_session(self._client)
        if policy.conf.greeting_delay and await self._is_early(policy.conf.greeting_delay):
            effects = session.spoke_early()
        else:
            effects = session.opened(answer.answer, answer.verdict)
        while True:
            if not await self._perform(effects):
                return "closed"
            if policy.stopping and session.idle:
                effects = session.stop()
                continue
            if self._pace.is_slow(self._watch()):
                effects = session.too_slow()
                continue
            self._reading = True
            data = self._take_ahead() or await self._recv()
            self._reading = False
            if not data:
                return "lost: the client closed the connection"
            effects = session.receive(data)

    def _take_ahead(self) -> bytes:
        """Return what came before the greeting."""
        data, self._ahead = self._ahead, b""
        return data

    async def _read_proxy(self) -> bool:
        """Learn the client from the balancer; False: it does not say so in time."""
        data = b""
        with trio.move_on_after(_PROXY_TIMEOUT_S):
            try:
                while (found := read_proxy(data)) is None:
                    more = await self._recv()
                    if not more:
                        return False
                    data += more
            except ProxyError as error:
                self._around.log.emit(events.PROXY_REFUSED, client=self._client, reason=str(error))
                return False
            self._ahead = data[found.length :]
            self._client = plain_address(found.client) if found.client else self._client
            self.session.dialogue.origin = self._client
            self.session.dialogue.introduce(Introduction(self._client))
            return True
        return False

    async def _is_early(self, seconds: int) -> bool:
        """Tell whether the client speaks before the greeting, which is held back so long."""
        if self._ahead:
            return True
        with trio.move_on_after(seconds):
            self._ahead = await self._recv()
        return bool(self._ahead)

    def _watch(self) -> float:
        """Give the client its time from now on; return now."""
        now = trio.current_time()
        scope = self._scope
        deadline = self._pace.deadline(now, scope.deadline, self.session.dialogue.ta)
        if deadline != scope.deadline:
            scope.deadline = deadline
        return now

    async def _recv(self) -> bytes:
        """Return what the client has sent, empty at its end."""
        if self._tls is not None:
            return await self._tls.recv()
        return await self._recv_raw()

    async def _recv_raw(self) -> bytes:
        while True:
            await trio.lowlevel.wait_readable(self._sock)
            try:
                return self._sock.recv(READ_SIZE)
            except BlockingIOError:
                continue

    async def _send(self, data: bytes) -> None:
        if self._tls is not None:
            await self._tls.send(data)
        else:
            await self._send_raw(data)

    async def _send_raw(self, data: bytes) -> None:
        """Send all of data; a client that does not read is as silent as one that does not send."""
        while True:
            try:
                sent = self._sock.send(data)
            except BlockingIOError:
                sent = 0
            if sent == len(data):
                return
            data = data[sent:]
            self._watch()
            await trio.lowlevel.wait_writable(self._sock)

    async def _start_tls(self) -> TlsFacts:
        """Shake hands.

        Raises:
            TlsBroken: the connection is over.
        """
        around = self._around
        context = around.tls.context(around.clock.mono()) if around.tls is not None else None
        try:
            if context is None:
                raise TlsBroken("there is no certificate")
            tls = TlsConn(context, self._recv_raw, self._send_raw)
            timeout_s = around.policy.conf.tls.handshake_timeout
            facts, self._ahead = await tls.shake(self._take_ahead(), timeout_s)
        except OSError as error:
            text = str(error)
            around.log.emit(
                authevents.TLS_FAILED, ss_sess=self._id, client=self._client, error=text
            )
            raise
        self._tls = tls
        return facts

    def _is_implicit(self) -> bool:
        """Tell whether TLS begins with the connection."""
        ports = self._around.policy.conf.tls.implicit_ports
        if not ports or self._sock.family == socket.AF_UNIX:
            return False
        return self._sock.getsockname()[1] in ports

    async def _perform(self, effects: Sequence[Effect]) -> bool:
        """Carry effects out, and those that their answers bring; False: the session is over."""
        while True:
            result: Result | None = None
            for effect in effects:
                match effect:
                    case Send(data):
                        await self._send(data)
                    case Write(data):
                        self._errands.write(data)
                    case Record(event, fields):
                        self._around.log.emit(event, **fields)
                    case StartTls():
                        result = Secured(await self._start_tls())
                    case (
                        Ask() | Open() | Commit() | Introduce() | Consult() | Inspect() | Prove()
                    ) as waiting:
                        if not self._watch_always or self._pace.limited:
                            self._scope.deadline = inf
                        result = await self._await(waiting)
                    case Discard() | Abort() | ForgetMessage():
                        self._errands.give_up(effect)
                    case Delay(seconds):
                        self._scope.deadline = inf
                        await self._delay(seconds)
                    case Close():
                        return False
            if result is None:
                return True
            effects = self.session.answer(result)

    async def _await(self, effect: Awaited) -> Result:
        errands = self._errands
        match effect:
            case Ask():
                return await errands.ask(effect)
            case Open():
                return errands.open_content(effect)
            case Commit():
                return await errands.commit(effect)
            case Prove(question):
                return await errands.prove(question, self.session.dialogue.client)
            case Consult():
                return await errands.consult(effect)
            case Inspect():
                return await errands.inspect(effect)
            case Introduce():
                self._client = self.session.dialogue.client
                return await errands.open_session(self._client)

    async def _delay(self, seconds: int) -> None:
        """Answer errors slowly, unless so many sessions wait already that it would harm us."""
        policy = self._around.policy
        if policy.delaying >= policy.max_delaying or policy.stopping:
            return
        policy.delaying += 1
        try:
            await trio.sleep(seconds)
        finally:
            policy.delaying -= 1

    # --- the end -----------------------------------------------------------------------

    async def _say_last(self) -> None:
        """Tell the client why it is left, if it can hear that at once."""
        session = self.session
        if self._stopped:
            effects = session.stop()
        elif self._reading:
            effects = session.time_out()
        else:
            return
        with trio.move_on_after(_LAST_WORDS_S):
            await self._perform(effects)

    async def _linger(self) -> None:
        """Let the client read why it was left.

        A socket that is closed with unread input is reset, which destroys what was sent last;
        so input is read and dropped for a moment.
        """
        if not self.session.dialogue.left:
            return
        self._end_tls()
        self._sock.shutdown(socket.SHUT_WR)
        with trio.move_on_after(_LAST_WORDS_S):
            dropped = 0
            while dropped < _MAX_LAST_WORDS and (data := await self._recv_raw()):
                dropped += len(data)

    def _end_tls(self) -> None:
        """Say that no more comes, if the client can hear that at once (RFC 8446 6.1)."""
        tls, self._tls = self._tls, None
        if tls is not None:
            with contextlib.suppress(OSError):
                self._sock.send(tls.last_words())

    def _clean_up(self, reason: str) -> None:
        """Undo what is open; sockets and siblings get what can be said without waiting."""
        for effect in self.session.lost(reason):
            if isinstance(effect, Discard | Abort | ForgetMessage):
                self._errands.give_up(effect)
        self._errands.close()

    def _record_end(self, started_s: float) -> None:
        dialogue = self.session.dialogue
        counters = dialogue.counters
        self._around.log.emit(
            events.SESSION_CLOSED,
            ss_sess=self._id,
            client=self._client,
            helo=dialogue.helo,
            tas=counters.tas,
            accepted=counters.accepted,
            rcpts=counters.rcpts,
            refused=counters.refused,
            bad=counters.bad,
            secs=self._around.clock.mono() - started_s,
            reason=dialogue.reason,
        )


def _port_of(sock: socket.socket) -> int:
    """Return the port of the client, 0 where it has none or is gone already."""
    try:
        name = sock.getpeername()
    except OSError:
        return 0
    return int(name[1]) if isinstance(name, tuple) else 0
