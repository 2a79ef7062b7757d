"""One delivery session: a task that moves bytes between a socket and the client machine.

Kind: shell.

The task waits for one thing at a time: bytes from the server. An order for an open, idle
session is written at once by whoever brings it; the task then sees the replies. So a message
on a kept session costs two wake-ups, one for the replies to the envelope and one for the reply
to the end of data, and one moved deadline for each.

If a host cannot be used, or a kept session turns out dead before the server accepted a
recipient, the transaction goes on with the next address, or with the first one again. If TLS
fails and somebody may travel in clear text, it goes on with the same address and without TLS.
Limits: those of smtpc/job.py; one block of content and one read in memory.
Source: RFC 5321 5.1, 4.5.3.2, RFC 7435; SPEC rows X006, X017, X426, X432; performance.md.
"""

from collections.abc import Callable

import trio

from libsmx.errors import StoreError
from libsmx.lines import DotStuffer
from libsmx.tlsfacts import TlsError, TlsFileError
from libsmx.wire import RcptResult, Target
from smtpc.account import Account
from smtpc.dial import DialError, dial
from smtpc.effects import Close, Done, Effect, Send, SendContent, StartTls
from smtpc.events import (
    CONTENT_BAD,
    DA_CLOSED,
    DA_OPENED,
    DA_STALE,
    OUTCOME_UNKNOWN,
    TLS_FAILED,
)
from smtpc.job import Job, Surroundings
from smtpc.pipe import Pipe
from smtpc.plan import Plan
from smtpc.result import temporary
from smtpc.rules import NO_WISHES
from smtpc.session import Session
from smtpc.tlspolicy import Secured, is_easy, may_be_clear


class Conn:
    """A delivery session.

    Args:
        around: what all sessions share.
        da_sess: its number.
        job: its first order.
        on_end: called once, when the session cannot take another order any more; tells
            whether it ended by itself while idle.
    """

    def __init__(
        self,
        around: Surroundings,
        da_sess: int,
        job: Job,
        on_end: Callable[["Conn", bool], None],
    ) -> None:
        self.da_sess = da_sess
        self._around = around
        self._job: Job | None = job
        self._on_end = on_end
        self._ended = False
        self._ending = False
        self._account = Account(around.log, around.clock, da_sess, around.lmtp_socket)
        self._session = Session(Plan(""))
        self._wishes = NO_WISHES
        self._pipe: Pipe | None = None
        self._scope = trio.CancelScope()
        self._woken = False
        self._steps = 0
        self._content_due: SendContent | None = None
        self._closing = ""
        self._expires_s = 0.0

    # --- what the daemon may ask -----------------------------------------------------------

    @property
    def idle(self) -> bool:
        """True while ``take`` may be called."""
        return self._job is None and self._session.idle and not self._ended

    def take(self, job: Job) -> None:
        """Begin another transaction on the idle session."""
        self._job = job
        self._wishes = self._around.rules.wishes(job.deliver.envelope, self._account.target)
        self._account.begin(trio.current_time())
        self._obey(self._session.start(job.transaction(self._wishes)))
        self._wake()

    def end(self) -> None:
        """Say QUIT as soon as no transaction is under way."""
        self._ending = True
        if self.idle:
            self._over(lost=False)
            self._obey(self._session.quit())
            self._wake()

    # --- the task --------------------------------------------------------------------------

    async def run(self) -> None:
        """Carry out orders until the session is over."""
        try:
            while self._job is not None and await self._open(self._job):
                await self._converse()
        finally:
            self._over(lost=False)
            if self._pipe is not None:
                self._pipe.close()
                self._pipe = None
            if self._job is not None:
                self._job.content.close()

    async def _open(self, job: Job) -> bool:
        """Connect to the next address that answers; if there is none, answer the order."""
        around, rules = self._around, self._around.rules
        account = self._account
        while job.more(rules.all_connects_s):
            account.target = target = job.targets[job.at]
            clear, job.clear = job.clear, ""
            connect_s = rules.connect_s if job.at else rules.connect_first_s
            job.at += 1
            begun_s = trio.current_time()
            account.begin(begun_s)
            try:
                own = rules.sources.find(target).address
                sock = await dial(target, around.lmtp_socket, connect_s, own)
            except DialError as error:
                account.host_failed(job, str(error), refused=True)
                verdict = temporary("4.4.1", f"cannot connect to {account.where}: {error}")
                job.deferral = job.verdict(verdict)
                continue
            self._expires_s = trio.current_time() + rules.longest_session_s
            account.connected(trio.current_time())
            around.log.emit(
                DA_OPENED, da_sess=self.da_sess, host=target.host,
                address=account.address, port=target.port,
            )  # fmt: skip
            self._wishes = rules.wishes(job.deliver.envelope, target)
            plan = rules.plan(
                target, self._wishes, lmtp=job.deliver.lmtp,
                nonce=around.nonce() if self._wishes.login is not None else "",
                why_clear=clear or self._why_clear(target),
            )  # fmt: skip
            self._session, self._pipe = Session(plan), Pipe(sock)
            self._closing, self._content_due = "", None
            self._obey(self._session.start(job.transaction(self._wishes)))
            if plan.on_connect:
                self._begin_tls()
            return True
        verdict = temporary("4.4.4", "no address to deliver to")
        self._answer(job.deferral or job.verdict(verdict), usable=False)
        return False

    def _why_clear(self, target: Target) -> str:
        """Return why TLS is not to be tried with a target, empty if it is."""
        tls = self._around.tls
        if tls is None:
            return "TLS is switched off"
        policies = self._wishes.policies
        if tls.failed_lately(target, trio.current_time()) and is_easy(policies):
            return "the handshake failed a short while ago"
        return ""

    async def _converse(self) -> None:
        """Serve the connection until it is closed."""
        pipe = self._pipe
        while pipe is not None and not self._closing:
            with trio.CancelScope() as self._scope:
                self._steps = -1  # a new scope has no deadline yet
                while not self._closing:
                    self._set_deadline()
                    if pipe.broken:
                        self._drain(pipe)
                        self._obey(self._session.lost(pipe.broken))
                    elif self._content_due is not None:
                        await self._send_content(pipe, self._content_due)
                    elif pipe.waiting:
                        await pipe.flush()
                    else:
                        await pipe.readable()
                        self._read_once(pipe)
            if self._scope.cancelled_caught and not self._woken and not self._closing:
                self._drain(pipe)
                self._obey(self._session.timed_out())
            self._woken = False
        self._account.log.emit(
            DA_CLOSED, da_sess=self.da_sess, host=self._account.target.host,
            address=self._account.address, transactions=self._session.transactions,
            reason=self._closing,
        )  # fmt: skip
        if pipe is not None:
            self._close(pipe)
        if self._job is None:
            self._over(lost=True)

    def _close(self, pipe: Pipe) -> None:
        """Close the connection; keep what makes the next handshake short."""
        secure = self._session.secure
        if self._around.tls is not None and pipe.machine is not None and secure is not None:
            self._around.tls.keep(self._account.target, secure.ca, pipe.machine)
        pipe.close()
        self._pipe = None

    def _set_deadline(self) -> None:
        """Move the deadline if a new wait began."""
        if self._session.steps != self._steps:
            self._steps = self._session.steps
            now_s = trio.current_time()
            self._account.enter(self._session.phase, now_s)
            deadline_s = now_s + self._session.timeout_s
            ends_s = self._job.ends_s if self._job is not None else deadline_s
            self._scope.deadline = min(deadline_s, ends_s)

    def _wake(self) -> None:
        """Let the task see what another task did to this session."""
        self._set_deadline()
        pipe = self._pipe
        if self._content_due or self._closing or (pipe and (pipe.waiting or pipe.broken)):
            self._woken = True
            self._scope.cancel()

    def _read_once(self, pipe: Pipe) -> bool:
        """Read what is there; return False if that was nothing."""
        if self._closing:
            return False
        try:
            data = pipe.read()
        except TlsError as error:
            self._obey(self._session.lost(f"TLS failed ({error})"))
            return False
        if pipe.facts is not None and self._session.secure is None:
            secure = Secured(pipe.facts, self._account.target.host, self._wishes.ca)
            self._account.secured(secure)
            self._obey(self._session.secured(secure))
        if data:
            self._obey(self._session.receive(data))
        if pipe.ended and not self._closing:
            self._obey(self._session.lost(pipe.ended))
        return data is not None and not self._closing

    def _drain(self, pipe: Pipe) -> None:
        """Hear a server's last words: it may have said 421 or 552 before it went."""
        for _ in range(4):
            if not self._read_once(pipe):
                return

    # --- TLS -------------------------------------------------------------------------------

    def _begin_tls(self) -> None:
        """Begin the handshake; what is read carries it on."""
        pipe, tls = self._pipe, self._around.tls
        if pipe is None or tls is None:
            return
        try:
            pipe.begin_tls(tls.machine(self._account.target, self._wishes.ca))
        except (TlsError, TlsFileError) as error:
            self._obey(self._session.handshake_failed(str(error)))

    # --- effects ---------------------------------------------------------------------------

    def _obey(self, effects: list[Effect]) -> None:
        """Do what the machine wants."""
        for effect in effects:
            match effect:
                case Send(data):
                    if self._pipe is not None:
                        self._pipe.write(data)
                case SendContent():
                    self._begin_content(effect)
                case StartTls():
                    self._begin_tls()
                case Done():
                    self._finish(effect)
                case Close(reason):
                    self._closing = reason

    def _begin_content(self, how: SendContent) -> None:
        """Send a small content in one go; a large one is the task's work."""
        job, pipe = self._job, self._pipe
        if job is None or pipe is None or job.content.data is None:
            self._content_due = how
            return
        data = job.content.data
        if how.chunk:
            pipe.write(b"BDAT %d LAST\r\n%b" % (len(data), data))
        else:
            stuffer = DotStuffer()
            pipe.write(stuffer.encode(data) + stuffer.end())
        if pipe.waiting:
            self._content_due = how
        elif not pipe.broken:
            self._session.content_sent()

    async def _send_content(self, pipe: Pipe, how: SendContent) -> None:
        """Send the content, or what is left of it, block by block."""
        job = self._job
        if job is None:
            return
        content, stuffer = job.content, DotStuffer()
        try:
            if how.chunk and content.data is None and content.left == content.size:
                pipe.write(b"BDAT %d LAST\r\n" % content.size)
            while content.data is None and content.left and not pipe.broken:
                block = await content.read()
                if not how.chunk:
                    block = stuffer.encode(block) + (b"" if content.left else stuffer.end())
                pipe.write(block)
                await pipe.flush()
                self._session.block_sent()
                self._set_deadline()
                self._read_once(pipe)
                if self._closing:
                    return
            await pipe.flush()
        except StoreError as error:
            self._account.log.emit(
                CONTENT_BAD, ta=job.deliver.envelope.ta_id, cdb=job.deliver.envelope.cdb_id,
                error=str(error),
            )  # fmt: skip
            self._obey(self._session.fail(temporary("4.3.0", "the content cannot be read")))
            return
        self._content_due = None
        if not pipe.broken:
            self._session.content_sent()

    # --- results ---------------------------------------------------------------------------

    def _finish(self, done: Done) -> None:
        """A transaction is over on this connection: answer, or go on with another address."""
        job = self._job
        if job is None:
            return
        if done.elsewhere and self._try_again(job, done):
            return
        if done.unknown:
            self._account.log.emit(
                OUTCOME_UNKNOWN, ta=job.deliver.envelope.ta_id, da_sess=self.da_sess,
                host=self._account.target.host, address=self._account.address,
                reason=done.reason,
            )  # fmt: skip
        # Permanent only if every host said so: one that is down may take the message tomorrow.
        deferral = job.deferral if done.elsewhere else None
        self._answer(deferral or done.results, usable=done.usable, unknown=done.unknown)

    def _try_again(self, job: Job, done: Done) -> bool:
        """The host failed: prepare another try; tell whether there is one."""
        if self._session.transactions > 1 and not job.reopened:
            job.reopened, job.at = True, 0
            self._account.log.emit(
                DA_STALE, da_sess=self.da_sess, ta=job.deliver.envelope.ta_id,
                reason=done.reason,
            )  # fmt: skip
            return True
        policies = self._wishes.policies
        again = done.tls_failed and may_be_clear(policies)
        if done.tls_failed and self._around.tls is not None:
            self._around.tls.note_failure(self._account.target, trio.current_time())
            self._account.log.emit(
                TLS_FAILED, da_sess=self.da_sess, host=self._account.target.host,
                address=self._account.address, reason=done.reason,
                next="clear text" if again else "another address or time",
            )  # fmt: skip
        if done.results[0].code < 500:
            job.deferral = done.results
        if again:
            job.at -= 1
            job.clear = done.reason
        else:
            self._account.host_failed(job, done.reason, refused=not self._session.greeted)
        return job.more(self._around.rules.all_connects_s)

    def _answer(self, results: list[RcptResult], *, usable: bool, unknown: bool = False) -> None:
        """Log and report the results of the order."""
        job, self._job = self._job, None
        if job is None:
            return
        job.content.close()
        now_s = trio.current_time()
        keep = usable and not self._ending and now_s < self._expires_s
        if not keep:
            # from here on the queue manager does not count on this session
            self._over(lost=False)
        self._account.report(
            job, results, now_s, keep=keep, unknown=unknown, secure=self._session.secure,
            dsn="DSN" in self._session.extensions,
        )  # fmt: skip
        if usable and not keep:
            self._obey(self._session.quit())

    def _over(self, *, lost: bool) -> None:
        """Tell the daemon once that no further order can be taken."""
        if not self._ended:
            self._ended = True
            self._on_end(self, lost)
