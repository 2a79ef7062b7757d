"""One client's connection: bytes to the session core, its effects to socket, disk and siblings.

Kind: shell.

One task a connection and one cancel scope, whose deadline moves on as the client speaks. The
socket is used without trio's own socket class: after a reply there is nothing to read yet, so
waiting first and reading then saves a failing system call for each command, and a reply goes
out at once unless the client does not read. While a sibling or the disk is waited for, a short
deadline is off: those waits have limits of their own, and the client is not to blame.
Source: RFC 5321 4.5.3.2.7; SPEC rows X009, X011, X368.
"""

import socket
from collections.abc import Sequence
from math import inf

import attrs
import trio

from libsmx.cdb import CdbFile, CdbWriter
from libsmx.channel import Channel
from libsmx.clock import Clock
from libsmx.errors import StoreError
from libsmx.ids import TaId
from libsmx.link import Link
from libsmx.log import Log
from libsmx.logtab import CDB_FAILED
from libsmx.wire import (
    Refusal,
    SessionClose,
    SessionGranted,
    SessionOpen,
    TaAbort,
    TaCommit,
    TaOpen,
)
from smtps import events
from smtps.ask import Question, ask_all
from smtps.effects import (
    Abort,
    Answered,
    Ask,
    Close,
    Commit,
    CommitResult,
    Discard,
    Effect,
    Open,
    Opened,
    Record,
    Result,
    Send,
    Write,
)
from smtps.policy import Policy
from smtps.session import Session

READ_SIZE = 64 * 1024
ASK_TIMEOUT_S = 35.0
"""Longest wait for a verdict; the client itself waits five minutes (RFC 5321 4.5.3.2)."""
COMMIT_TIMEOUT_S = 240.0
"""Longest wait for a commit; the client waits ten minutes after its data."""
_SLACK = 0.1
"""Part of IO_timeout by which the deadline may come early: moving it costs more than a reply."""
_LAST_WORDS_S = 2.0
_MAX_LAST_WORDS = 64 * 1024


@attrs.frozen
class Surroundings:
    """What all connections of a process share."""

    policy: Policy
    qmgr: Link
    smar: Link
    cdb: CdbWriter
    log: Log
    clock: Clock


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
        self._timeout_s = around.policy.conf.io_timeout
        self._watch_always = self._timeout_s * (1 - _SLACK) > COMMIT_TIMEOUT_S
        self._client = client
        self._id = session_id
        self._scope = trio.CancelScope()
        self._reading = False
        self._stopped = False
        self._qmgr: Channel | None = None
        self._file: CdbFile | None = None
        self._broken = False

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
        self._qmgr = None
        self.session.dialogue.disowned = True

    async def run(self) -> None:
        """Serve the client until either side ends the session. Raises nothing expected."""
        started_s = self._around.clock.mono()
        self._around.log.emit(events.SESSION_OPENED, ss_sess=self._id, client=self._client)
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
            self._sock.close()
            self._record_end(started_s)

    async def _serve(self) -> str:
        """Run the dialogue; return why it ended on the client's side."""
        session, policy = self.session, self._around.policy
        effects = session.opened(await self._open_session())
        while True:
            if not await self._perform(effects):
                return "closed"
            if policy.stopping and session.idle:
                effects = session.stop()
                continue
            self._watch()
            self._reading = True
            data = await self._recv()
            self._reading = False
            if not data:
                return "lost: the client closed the connection"
            effects = session.receive(data)

    def _watch(self) -> None:
        """Give the client its time from now on, to a tenth."""
        now = trio.current_time()
        left = self._scope.deadline - now
        if not self._timeout_s * (1 - _SLACK) < left <= self._timeout_s:
            self._scope.deadline = now + self._timeout_s

    async def _recv(self) -> bytes:
        """Return what the client has sent, empty at its end."""
        while True:
            await trio.lowlevel.wait_readable(self._sock)
            try:
                return self._sock.recv(READ_SIZE)
            except BlockingIOError:
                continue

    async def _send(self, data: bytes) -> None:
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

    async def _open_session(self) -> SessionGranted | Refusal | None:
        """Ask qmgr whether this client may come in."""
        channel = self._around.qmgr.channel
        question = SessionOpen(session=self._id, client=self._client)
        answer = (await ask_all([(channel, question)], ASK_TIMEOUT_S))[0]
        if isinstance(answer, SessionGranted) and channel is self._around.qmgr.channel:
            self._qmgr = channel
        elif isinstance(answer, SessionGranted):
            self.qmgr_lost()
        return answer if isinstance(answer, SessionGranted | Refusal) else None

    async def _perform(self, effects: Sequence[Effect]) -> bool:
        """Carry effects out, and those that their answers bring; False: the session is over."""
        while True:
            result: Result | None = None
            for effect in effects:
                match effect:
                    case Send(data):
                        await self._send(data)
                    case Write(data):
                        self._write(data)
                    case Record(event, fields):
                        self._around.log.emit(event, **fields)
                    case Ask() | Open() | Commit():
                        if not self._watch_always:
                            self._scope.deadline = inf
                        result = await self._await(effect)
                    case Discard() | Abort():
                        self._give_up(effect)
                    case Close():
                        return False
            if result is None:
                return True
            effects = self.session.answer(result)

    async def _await(self, effect: Ask | Open | Commit) -> Result:
        if isinstance(effect, Ask):
            return await self._ask(effect)
        if isinstance(effect, Open):
            return self._open_content(effect)
        return await self._commit(effect)

    def _give_up(self, effect: Discard | Abort) -> None:
        """Remove content, or release room in qmgr."""
        if isinstance(effect, Abort):
            if self._qmgr is not None:
                self._qmgr.post(TaAbort(ta_id=effect.ta_id))
        elif self._file is not None:
            self._file.discard()
            self._file = None

    # --- siblings ----------------------------------------------------------------------

    async def _ask(self, ask: Ask) -> Answered:
        """Ask smar for its verdicts and qmgr for room, both at once."""
        smar = self._around.smar.channel
        questions: list[Question] = [(smar, question) for question in ask.questions]
        ta_id = ""
        if ask.reserve:
            try:
                ta_id = await self._around.cdb.next_id()
            except StoreError as error:
                self._around.log.emit(CDB_FAILED, ta="", error=str(error))
            else:
                questions.append((self._qmgr, TaOpen(ta_id=ta_id, session=self._id)))
        answers = await ask_all(questions, ASK_TIMEOUT_S)
        count = len(ask.questions)
        room = answers[count] if ta_id else None
        return Answered(tuple(answers[:count]), ta_id, room)

    async def _commit(self, commit: Commit) -> CommitResult:
        """Content on disk first, then the envelope to qmgr, which answers when that is."""
        file, channel = self._file, self._qmgr
        if file is None or self._broken:
            return CommitResult(stored=False, answer=None)
        try:
            await file.sync()
        except StoreError as error:
            self._around.log.emit(CDB_FAILED, ta=commit.envelope.ta_id, error=str(error))
            return CommitResult(stored=False, answer=None)
        file.close()
        if channel is None or channel.closed:
            # Surely not asked: the content can go.
            return CommitResult(stored=False, answer=None)
        question = TaCommit(envelope=commit.envelope)
        answer = (await ask_all([(channel, question)], COMMIT_TIMEOUT_S))[0]
        if not isinstance(answer, Refusal):
            self._file = None  # qmgr's from now on, or perhaps qmgr's
        return CommitResult(stored=True, answer=answer)

    # --- content -----------------------------------------------------------------------

    def _open_content(self, effect: Open) -> Opened:
        self._broken = False
        try:
            self._file = self._around.cdb.create(TaId(effect.ta_id))
        except StoreError as error:
            self._around.log.emit(CDB_FAILED, ta=effect.ta_id, error=str(error))
            return Opened(None)
        return Opened(self._around.clock.wall())

    def _write(self, data: bytes) -> None:
        """Append to the content; a failure is told when the commit is asked for."""
        if self._file is None or self._broken:
            return
        try:
            self._file.write(data)
        except StoreError as error:
            self._broken = True
            self._around.log.emit(CDB_FAILED, ta=self._file.ta_id, error=str(error))

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
        self._sock.shutdown(socket.SHUT_WR)
        with trio.move_on_after(_LAST_WORDS_S):
            dropped = 0
            while dropped < _MAX_LAST_WORDS and (data := await self._recv()):
                dropped += len(data)

    def _clean_up(self, reason: str) -> None:
        """Undo what is open; sockets and siblings get what can be said without waiting."""
        for effect in self.session.lost(reason):
            if isinstance(effect, Discard | Abort):
                self._give_up(effect)
        if self._file is not None:
            self._file.close()
        if self._qmgr is not None:
            self._qmgr.post(SessionClose(session=self._id))

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
