"""Orders in, results out: which delivery session carries out what.

Kind: shell.

An order for a session that is open and idle goes to it; any other opens a new one. What
cannot be taken (too many sessions, an order to a busy session, a stop under way) is refused
at once, so that the queue manager can give it to another process or try again.
Limits: ``capacity`` sessions at a time; sessions that only wait for the reply to QUIT, or finish
what a queue manager ordered that is gone, do not count and are as many at most.
Source: SPEC rows X016, X017, X436.
"""

from collections.abc import Callable
from typing import Any

import trio

from libsmx.channel import Channel
from libsmx.errors import StoreError
from libsmx.wire import Deliver, Delivered, Refusal, SessionEnd, SessionLost
from smtpc.conn import Conn
from smtpc.content import Content, compose_report, open_message
from smtpc.events import CONTENT_BAD, DELIVERY_REFUSED, RESULT_DROPPED
from smtpc.job import Job, Surroundings
from smtpc.report import log_results
from smtpc.result import temporary
from smtpc.sources import in_order


class Dispatcher:
    """The delivery sessions of one process.

    Args:
        nursery: runs their tasks.
        around: what they share.
        base: directory of the CDB, empty or ending in ``/``.
        capacity: most sessions at a time.
        boundary: gives a fresh random MIME boundary.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        around: Surroundings,
        base: str,
        capacity: int,
        boundary: Callable[[], str],
    ) -> None:
        self._nursery = nursery
        self._around = around
        self._base = base
        self._capacity = capacity
        self._boundary = boundary
        self._conns: dict[int, Conn] = {}
        self._channel: Channel | None = None
        self._tasks = 0
        self._stopping = False
        self._drained = trio.Event()

    def opened(self, channel: Channel) -> None:
        """Note the connection to the queue manager."""
        self._channel = channel

    def lost(self, _channel: Channel) -> None:
        """The queue manager is gone: finish what is under way, close everything else.

        Results that are still to come are dropped; the queue manager tries those recipients
        again when it is back, because it saw no result.
        """
        self._channel = None
        self._end_all()
        # A new queue manager numbers its delivery sessions anew.
        self._conns.clear()

    def stop(self) -> None:
        """Take no more orders; ``drained`` returns when the last session is closed."""
        self._stopping = True
        self._end_all()
        if not self._tasks:
            self._drained.set()

    async def drained(self) -> None:
        """Wait until no session is left after ``stop``."""
        await self._drained.wait()

    def handle(self, channel: Channel, message: Any, rid: int) -> None:  # noqa: ANN401
        """Take a message of the queue manager."""
        if isinstance(message, Deliver):
            self._deliver(channel, message, rid)
        elif isinstance(message, SessionEnd):
            conn = self._conns.get(message.da_sess)
            if conn is not None:
                conn.end()

    def _end_all(self) -> None:
        for conn in list(self._conns.values()):
            conn.end()

    # --- orders ----------------------------------------------------------------------------

    def _deliver(self, channel: Channel, deliver: Deliver, rid: int) -> None:
        conn = self._conns.get(deliver.da_sess)
        reason = self._objection(conn, deliver, rid)
        if reason:
            self._around.log.emit(
                DELIVERY_REFUSED,
                da_sess=deliver.da_sess,
                ta=deliver.envelope.ta_id,
                reason=reason,
            )
            channel.post(Refusal(code=451, status="4.3.2", text=reason), rid)
            return

        def answer(delivered: Delivered) -> None:
            if channel.closed:
                done = sum(result.code // 100 == 2 for result in delivered.results)
                self._around.log.emit(
                    RESULT_DROPPED,
                    ta=deliver.envelope.ta_id,
                    da_sess=deliver.da_sess,
                    delivered=done,
                    other=len(delivered.results) - done,
                )
            channel.post(delivered, rid)

        try:
            targets = in_order(deliver.targets, self._around.rules.prefer)
            job = Job(deliver, self._content(deliver), answer, targets)
        except StoreError as error:
            answer(self._without_content(deliver, str(error), still_open=conn is not None))
            return
        if conn is not None:
            conn.take(job)
            return
        conn = Conn(self._around, deliver.da_sess, job, self._ended)
        self._conns[deliver.da_sess] = conn
        self._tasks += 1
        self._nursery.start_soon(self._run, conn)

    def _objection(self, conn: Conn | None, deliver: Deliver, rid: int) -> str:
        """Return why an order cannot be taken, or nothing."""
        if not rid or not deliver.envelope.rcpts:
            return "an order needs a number and recipients"
        if self._stopping:
            return "the SMTP client is stopping"
        if conn is not None and not conn.idle:
            return f"delivery session {deliver.da_sess} is busy"
        # those that come to their end are not in _conns any more, but hold a socket for a while
        if conn is None and (
            len(self._conns) >= self._capacity or self._tasks >= 2 * self._capacity
        ):
            return f"all {self._capacity} delivery sessions are in use"
        return ""

    def _content(self, deliver: Deliver) -> Content:
        """Return what is to be sent.

        Raises:
            StoreError: it is missing or damaged.
        """
        envelope = deliver.envelope
        if envelope.dsn is None:
            return open_message(self._base, envelope)
        content, problem = compose_report(self._base, envelope, self._boundary())
        if problem:
            self._around.log.emit(
                CONTENT_BAD, ta=envelope.ta_id, cdb=envelope.cdb_id, error=problem
            )
        return content

    def _without_content(self, deliver: Deliver, error: str, *, still_open: bool) -> Delivered:
        """Return the result of an order whose content is not there: kept for a human."""
        envelope = deliver.envelope
        self._around.log.emit(CONTENT_BAD, ta=envelope.ta_id, cdb=envelope.cdb_id, error=error)
        verdict = temporary("4.3.0", error)
        results = [verdict.for_rcpt(rcpt.idx) for rcpt in envelope.rcpts]
        log_results(
            self._around.log,
            envelope,
            results,
            host="",
            address="",
            now_s=self._around.clock.wall(),
        )
        return Delivered(
            da_sess=deliver.da_sess,
            da_ta=deliver.da_ta,
            open=still_open,
            host="",
            address="",
            results=results,
            attempts=[],
        )

    # --- ends ------------------------------------------------------------------------------

    async def _run(self, conn: Conn) -> None:
        try:
            await conn.run()
        finally:
            self._tasks -= 1
            if self._stopping and not self._tasks:
                self._drained.set()

    def _ended(self, conn: Conn, lost: bool) -> None:  # noqa: FBT001 - the callback's signature
        """Forget a session; tell the queue manager if it does not know."""
        if self._conns.get(conn.da_sess) is conn:
            del self._conns[conn.da_sess]
            if lost and self._channel is not None:
                self._channel.post(SessionLost(da_sess=conn.da_sess))
