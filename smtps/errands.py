"""What a session has done for it outside: questions to siblings and filters, content on disk.

Kind: shell.

One object serves one session; smtps/conn.py carries the session's effects here.
Source: SPEC rows X009, X011, X461.
"""

from collections.abc import Callable

import attrs

from libsmx.cdb import CdbFile, CdbWriter
from libsmx.channel import Channel
from libsmx.clock import Clock
from libsmx.errors import StoreError
from libsmx.ids import TaId
from libsmx.link import Link
from libsmx.log import Log
from libsmx.logtab import CDB_FAILED
from libsmx.reply import CANNOT_STORE
from libsmx.tlssource import TlsSource
from libsmx.wire import (
    CertAsk,
    ConnAsk,
    ConnVerdict,
    Refusal,
    SessionClose,
    SessionGranted,
    SessionOpen,
    TaAbort,
    TaCommit,
    TaOpen,
)
from smtps.ask import Question, ask_all
from smtps.authsource import AuthSource, ClientAuth
from smtps.authsteps import Proved
from smtps.authsteps import Question as AuthQuestion
from smtps.effects import (
    Abort,
    Answered,
    Ask,
    Commit,
    CommitResult,
    Consult,
    Consulted,
    Discard,
    ForgetMessage,
    Inspect,
    Inspected,
    Introduced,
    Open,
    Opened,
    Said,
)
from smtps.milterio import FilterConf
from smtps.milters import Milters
from smtps.policy import Policy

ASK_TIMEOUT_S = 35.0
"""Longest wait for a verdict; the client itself waits five minutes (RFC 5321 4.5.3.2)."""
COMMIT_TIMEOUT_S = 240.0
"""Longest wait for a commit; the client waits ten minutes after its data."""


@attrs.frozen
class Surroundings:
    """What all connections of a process share."""

    policy: Policy
    qmgr: Link
    smar: Link
    cdb: CdbWriter
    log: Log
    clock: Clock
    tls: TlsSource | None = None
    auth: AuthSource | None = None
    filters: tuple[FilterConf, ...] = ()


class Errands:
    """Serves one session.

    Args:
        around: what all connections share.
        session_id: of the session.
        on_forgotten: called when qmgr has forgotten the session.
        port: of the client.
    """

    def __init__(
        self,
        around: Surroundings,
        session_id: str,
        on_forgotten: Callable[[], None],
        port: int = 0,
    ) -> None:
        self._around = around
        self._id = session_id
        self._on_forgotten = on_forgotten
        self._auth: ClientAuth | None = None
        self._qmgr: Channel | None = None
        self._file: CdbFile | None = None
        self._broken = False
        self._port = port
        self._milters: Milters | None = None

    def qmgr_lost(self) -> None:
        """Note that qmgr forgot this session; it ends before its next transaction."""
        self._qmgr = None
        self._on_forgotten()

    async def open_session(self, client: str) -> Introduced:
        """Ask whether this client may come in: qmgr, and smar where the access map is used."""
        if self._qmgr is not None:
            self._qmgr.post(SessionClose(session=self._id))
            self._qmgr = None
        channel = self._around.qmgr.channel
        questions: list[Question] = [(channel, SessionOpen(session=self._id, client=client))]
        if self._around.policy.access:
            questions.append((self._around.smar.channel, ConnAsk(client=client)))
        answer, *verdicts = await ask_all(questions, ASK_TIMEOUT_S)
        if isinstance(answer, SessionGranted) and channel is self._around.qmgr.channel:
            self._qmgr = channel
        elif isinstance(answer, SessionGranted):
            self.qmgr_lost()
        verdict = verdicts[0] if verdicts else None
        return Introduced(
            answer if isinstance(answer, SessionGranted | Refusal) else None,
            verdict if isinstance(verdict, ConnVerdict | Refusal) else None,
        )

    async def ask(self, ask: Ask) -> Answered:
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

    async def commit(self, commit: Commit) -> CommitResult:
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

    async def prove(self, question: AuthQuestion, client: str) -> Proved:
        """Find out who a client is: AUTH, or what the access map says of its certificate."""
        if isinstance(question, CertAsk):
            smar = self._around.smar.channel
            return Proved((await ask_all([(smar, question)], ASK_TIMEOUT_S))[0])
        if self._around.auth is None:
            return Proved(None)
        if self._auth is None or self._auth.client != client:
            self._auth = self._around.auth.exchange(client)
        return Proved(await self._auth.answer(question))

    async def consult(self, consult: Consult) -> Consulted:
        """Ask the content filters about steps of the dialogue."""
        if self._milters is None:
            around = self._around
            self._milters = Milters(
                around.filters, around.cdb, around.log, self._id, around.policy.hostname, self._port
            )
        return await self._milters.consult(consult)

    async def inspect(self, inspect: Inspect) -> Inspected:
        """Show the content to the filters; what they change is in a new file then."""
        file, milters = self._file, self._milters
        if file is None or self._broken or milters is None:
            return Inspected(Said(CANNOT_STORE))
        try:
            result, self._file = await milters.inspect(inspect, file)
        except StoreError as error:
            self._around.log.emit(CDB_FAILED, ta=file.ta_id, error=str(error))
            return Inspected(Said(CANNOT_STORE))
        return result

    # --- content -----------------------------------------------------------------------

    def open_content(self, effect: Open) -> Opened:
        """Begin a content file."""
        self._broken = False
        try:
            self._file = self._around.cdb.create(TaId(effect.ta_id))
        except StoreError as error:
            self._around.log.emit(CDB_FAILED, ta=effect.ta_id, error=str(error))
            return Opened(None)
        return Opened(self._around.clock.wall())

    def write(self, data: bytes) -> None:
        """Append to the content; a failure is told when the commit is asked for."""
        if self._file is None or self._broken:
            return
        try:
            self._file.write(data)
        except StoreError as error:
            self._broken = True
            self._around.log.emit(CDB_FAILED, ta=self._file.ta_id, error=str(error))

    def give_up(self, effect: Discard | Abort | ForgetMessage) -> None:
        """Remove content, release room in qmgr, or let the filters forget a message."""
        if isinstance(effect, Abort):
            if self._qmgr is not None:
                self._qmgr.post(TaAbort(ta_id=effect.ta_id))
        elif isinstance(effect, ForgetMessage):
            if self._milters is not None:
                self._milters.forget()
        elif self._file is not None:
            self._file.discard()
            self._file = None

    def close(self) -> None:
        """Leave everything; siblings get what can be said without waiting."""
        if self._file is not None:
            self._file.close()
        if self._qmgr is not None:
            self._qmgr.post(SessionClose(session=self._id))
        if self._milters is not None:
            self._milters.close()
