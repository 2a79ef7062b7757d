"""One delivery session: a task that moves bytes between a socket and the client machine.

Kind: shell.

The task waits for one thing at a time: bytes from the server. An order for an open, idle
session is written at once by whoever brings it; the task then sees the replies. So a message
on a kept session costs two wake-ups, one for the replies to the envelope and one for the reply
to the end of data, and one moved deadline for each.

If a host cannot be used, or a kept session turns out dead before the server accepted a
recipient, the transaction goes on with the next address, or with the first one again.
Limits: those of smtpc/job.py; one block of content and one read of READ_SIZE bytes in memory.
Source: RFC 5321 5.1, 4.5.3.2; SPEC rows X006, X017, X432; performance.md.
"""

import socket
from collections.abc import Callable

import trio

from libsmx.envelope import MAX_TEXT
from libsmx.errors import StoreError
from libsmx.lines import DotStuffer
from libsmx.wire import Attempt, Delivered, RcptResult, Target
from smtpc.dial import DialError, close, dial
from smtpc.effects import Close, Done, Effect, Send, SendContent
from smtpc.events import (
    CONNECT_FAILED,
    CONTENT_BAD,
    DA_CLOSED,
    DA_OPENED,
    DA_STALE,
    OUTCOME_UNKNOWN,
)
from smtpc.job import Job, Surroundings
from smtpc.phases import Phase
from smtpc.report import log_results
from smtpc.result import clean, temporary
from smtpc.session import Session

READ_SIZE = 64 * 1024


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
        self._target = Target(host="", address="", port=0)
        self._session = Session(around.helo, lmtp=job.deliver.lmtp)
        self._sock: socket.socket | None = None
        self._scope = trio.CancelScope()
        self._woken = False
        self._steps = 0
        self._out = b""
        self._content_due = False
        self._closing = ""
        self._broken = ""

    # --- what the daemon may ask -----------------------------------------------------------

    @property
    def idle(self) -> bool:
        """True while ``take`` may be called."""
        return self._job is None and self._session.idle and not self._ended

    def take(self, job: Job) -> None:
        """Begin another transaction on the idle session."""
        self._job = job
        self._obey(self._session.start(job.transaction()))
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
            if self._sock is not None:
                close(self._sock)
                self._sock = None
            if self._job is not None:
                self._job.content.close()

    async def _open(self, job: Job) -> bool:
        """Connect to the next address that answers; if there is none, answer the order."""
        while job.more:
            self._target = target = job.deliver.targets[job.at]
            job.at += 1
            try:
                self._sock = await dial(
                    target, self._around.lmtp_socket, self._around.connect_timeout_s
                )
            except DialError as error:
                self._host_failed(job, str(error), refused=True)
                verdict = temporary("4.4.1", f"cannot connect to {self._where()}: {error}")
                job.deferral = job.verdict(verdict)
                continue
            self._around.log.emit(
                DA_OPENED, da_sess=self.da_sess, host=target.host,
                address=self._address(), port=target.port,
            )  # fmt: skip
            self._session = Session(self._around.helo, lmtp=job.deliver.lmtp)
            self._out, self._closing, self._broken, self._content_due = b"", "", "", False
            self._obey(self._session.start(job.transaction()))
            return True
        verdict = temporary("4.4.4", "no address to deliver to")
        self._answer(job.deferral or job.verdict(verdict), usable=False)
        return False

    async def _converse(self) -> None:
        """Serve the connection until it is closed."""
        while not self._closing:
            with trio.CancelScope() as self._scope:
                self._steps = -1  # a new scope has no deadline yet
                while not self._closing:
                    self._set_deadline()
                    if self._broken:
                        self._drain()
                        self._obey(self._session.lost(self._broken))
                    elif self._content_due:
                        await self._send_content()
                    elif self._out:
                        await self._flush()
                    else:
                        await self._receive()
            if self._scope.cancelled_caught and not self._woken and not self._closing:
                self._drain()
                self._obey(self._session.timed_out())
            self._woken = False
        self._around.log.emit(
            DA_CLOSED, da_sess=self.da_sess, host=self._target.host, address=self._address(),
            transactions=self._session.transactions, reason=self._closing,
        )  # fmt: skip
        if self._sock is not None:
            close(self._sock)
            self._sock = None
        if self._job is None:
            self._over(lost=True)

    def _set_deadline(self) -> None:
        """Move the deadline if a new wait began."""
        if self._session.steps != self._steps:
            self._steps = self._session.steps
            timeout_s = self._session.timeout_s
            if self._session.phase is not Phase.IDLE:
                timeout_s = min(timeout_s, self._around.io_timeout_s)
            deadline_s = trio.current_time() + timeout_s
            ends_s = self._job.ends_s if self._job is not None else deadline_s
            self._scope.deadline = min(deadline_s, ends_s)

    def _wake(self) -> None:
        """Let the task see what another task did to this session."""
        self._set_deadline()
        if self._out or self._content_due or self._broken or self._closing:
            self._woken = True
            self._scope.cancel()

    async def _receive(self) -> None:
        """Take what the server sent."""
        if self._sock is None:
            return
        await trio.lowlevel.wait_readable(self._sock)
        self._read_once()

    def _read_once(self) -> bool:
        """Read what is there; return False if that was nothing."""
        if self._sock is None or self._closing:
            return False
        try:
            data = self._sock.recv(READ_SIZE)
        except BlockingIOError:
            return False
        except OSError as error:
            self._obey(self._session.lost(f"connection lost ({error.strerror})"))
            return False
        if not data:
            self._obey(self._session.lost("connection closed by the server"))
            return False
        self._obey(self._session.receive(data))
        return True

    def _drain(self) -> None:
        """Hear a server's last words: it may have said 421 or 552 before it went."""
        for _ in range(4):
            if not self._read_once():
                return

    # --- effects ---------------------------------------------------------------------------

    def _obey(self, effects: list[Effect]) -> None:
        """Do what the machine wants."""
        for effect in effects:
            match effect:
                case Send(data):
                    self._write(data)
                case SendContent():
                    self._begin_content()
                case Done():
                    self._finish(effect)
                case Close(reason):
                    self._closing = reason

    def _write(self, data: bytes) -> None:
        """Send now what the system takes; the task sends the rest."""
        if self._out or self._sock is None:
            self._out += data
            return
        try:
            sent = self._sock.send(data, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._broken = f"connection lost ({error.strerror})"
            return
        if sent < len(data):
            self._out = data[sent:]

    async def _flush(self) -> None:
        """Send what waits."""
        view = memoryview(self._out)
        try:
            while view and self._sock is not None and not self._broken:
                await trio.lowlevel.wait_writable(self._sock)
                try:
                    view = view[self._sock.send(view, socket.MSG_NOSIGNAL) :]
                except BlockingIOError:
                    continue
                except OSError as error:
                    self._broken = f"connection lost ({error.strerror})"
        finally:
            self._out = bytes(view)

    def _begin_content(self) -> None:
        """Send a small content in one go; a large one is the task's work."""
        job = self._job
        if job is None or job.content.data is None:
            self._content_due = True
            return
        stuffer = DotStuffer()
        self._write(stuffer.encode(job.content.data) + stuffer.end())
        if self._out:
            self._content_due = True
        elif not self._broken:
            self._session.content_sent()

    async def _send_content(self) -> None:
        """Send the content, or what is left of it, block by block."""
        job = self._job
        if job is None:
            return
        content, stuffer = job.content, DotStuffer()
        try:
            while content.data is None and content.left and not self._broken:
                block = stuffer.encode(await content.read())
                self._out += block if content.left else block + stuffer.end()
                await self._flush()
                self._session.block_sent()
                self._set_deadline()
                self._read_once()
                if self._closing:
                    return
            await self._flush()
        except StoreError as error:
            self._around.log.emit(
                CONTENT_BAD, ta=job.deliver.envelope.ta_id, cdb=job.deliver.envelope.cdb_id,
                error=str(error),
            )  # fmt: skip
            self._obey(self._session.fail(temporary("4.3.0", "the content cannot be read")))
            return
        self._content_due = False
        if not self._broken:
            self._session.content_sent()

    # --- results ---------------------------------------------------------------------------

    def _finish(self, done: Done) -> None:
        """A transaction is over on this connection: answer, or go on with another address."""
        job = self._job
        if job is None:
            return
        if done.elsewhere:
            kept = self._session.transactions > 1
            if kept and not job.reopened:
                job.reopened, job.at = True, 0
                self._around.log.emit(
                    DA_STALE, da_sess=self.da_sess, ta=job.deliver.envelope.ta_id,
                    reason=done.reason,
                )  # fmt: skip
                return
            self._host_failed(job, done.reason, refused=not self._session.greeted)
            if done.results[0].code < 500:
                job.deferral = done.results
            if job.more:
                return
        if done.unknown:
            self._around.log.emit(
                OUTCOME_UNKNOWN, ta=job.deliver.envelope.ta_id, da_sess=self.da_sess,
                host=self._target.host, address=self._address(), reason=done.reason,
            )  # fmt: skip
        # Permanent only if every host said so: one that is down may take the message tomorrow.
        deferral = job.deferral if done.elsewhere else None
        self._answer(deferral or done.results, usable=done.usable)

    def _host_failed(self, job: Job, reason: str, *, refused: bool) -> None:
        text = clean(f"{self._where()}: {reason}", MAX_TEXT)
        job.attempts.append(Attempt(address=self._target.address, text=text, refused=refused))
        self._around.log.emit(
            CONNECT_FAILED, da_sess=self.da_sess, host=self._target.host,
            address=self._address(), port=self._target.port, reason=reason,
        )  # fmt: skip

    def _answer(self, results: list[RcptResult], *, usable: bool) -> None:
        """Log and report the results of the order."""
        job, self._job = self._job, None
        if job is None:
            return
        job.content.close()
        keep = usable and not self._ending
        if not keep:
            # from here on the queue manager does not count on this session
            self._over(lost=False)
        log_results(
            self._around.log, job.deliver.envelope, results,
            host=self._target.host, address=self._address(), now_s=self._around.clock.wall(),
        )  # fmt: skip
        job.answer(
            Delivered(
                da_sess=self.da_sess,
                da_ta=job.deliver.da_ta,
                open=keep,
                host=self._target.host,
                address=self._target.address,
                results=results,
                attempts=job.attempts,
                dsn="DSN" in self._session.extensions,
            )
        )
        if usable and not keep:
            self._obey(self._session.quit())

    def _over(self, *, lost: bool) -> None:
        """Tell the daemon once that no further order can be taken."""
        if not self._ended:
            self._ended = True
            self._on_end(self, lost)

    def _address(self) -> str:
        return self._target.address or self._around.lmtp_socket

    def _where(self) -> str:
        """Return the target as results and logs name it."""
        target = self._target
        if not target.address:
            return self._around.lmtp_socket
        return f"{target.host}[{target.address}]:{target.port}"
