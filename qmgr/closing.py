"""Closing: what became of recipients, on its way to disk in the right order.

Kind: core.

What happened in one turn of the loop leaves as one IBDB entry and one DEFEDB batch. New mail
that is done is closed in the IBDB; what must wait goes to the DEFEDB first, and is closed in the
IBDB when it is there. Deferred mail is removed from, or replaced in, the DEFEDB. A report stands
in the same entry, or the same batch, as what it tells of, so that after a crash both exist or
neither. A recipient stays in memory until the last of these records is on disk, so that nobody
loads it again from the DEFEDB too early.
Source: architecture.md; RFC 3461; SPEC rows X013, X015, X018, X165, X182-X184; I1, I2.
"""

import math
from collections.abc import Callable

import attrs

from libsmx import wire_control
from libsmx.envelope import MAX_TEXT, Envelope, ReportedRcpt
from libsmx.errors import Bug
from libsmx.wire_control import PastTry
from qmgr import bounce, events
from qmgr.batches import Batches
from qmgr.bounce import News, addressee, make_reports
from qmgr.effects import Batch, Note
from qmgr.failures import Ended, Failures
from qmgr.limits import Limits
from qmgr.records import (
    DEFERRED,
    DELIVERED,
    DISCARDED,
    EXPANDED,
    EXPIRED,
    FAILED,
    Closed,
    DeferredRcpt,
    Entry,
)
from qmgr.retry import Retry
from qmgr.ta import Home, Rcpt, State, Tas, Transaction
from qmgr.wish import obey

MAX_NEW = 500
"""An IBDB entry with so many reports takes no more; twice as many is the most."""

MAX_ALONE = 1000
"""Members of a list that go into an entry with other things; more have one of their own."""
MAX_HISTORY = 5
"""Attempts remembered of a recipient."""
MAX_PAST = 200
"""Longest text of one of them, characters."""

Recorder = Callable[..., None]


class Closing:
    """See the module.

    Args:
        tas: the transactions in memory; bounces are added to them.
        limits: for bounces and retries.
        record: logs an event.
        next_id: returns a new transaction id for a bounce.

    Attributes:
        delivered, deferred, failed, bounces: counters since the start; bounces are reports
            of any kind.
    """

    def __init__(
        self, tas: Tas, limits: Limits, record: Recorder, next_id: Callable[[], str]
    ) -> None:
        self.retry = Retry(limits.retry_min_s, limits.retry_max_s, limits.return_timeout_s)
        self.delivered = 0
        self.deferred = 0
        self.failed = 0
        self.bounces = 0
        self._tas = tas
        self._limits = limits
        self._record = record
        self._next_id = next_id
        self._closed: dict[tuple[str, str], list[int]] = {}
        self._rcpts: list[Rcpt] = []
        self._failures = Failures(limits.dsn_merge_s, limits.aq_max_entries // 4)
        self._successes: dict[tuple[Transaction, str], list[Ended]] = {}
        self._delays: dict[Transaction, list[ReportedRcpt]] = {}
        self._expanded: list[tuple[Rcpt, list[Envelope], News | None]] = []
        never = limits.delay_timeout_s > limits.return_timeout_s
        self._delay_s = math.inf if never else limits.delay_timeout_s
        self._batches = Batches()

    # --- verdicts on recipients ----------------------------------------------------------

    def deliver(self, rcpt: Rcpt, news: News | None = None) -> None:
        """The next hop has it; news of it are told if the sender asked for them."""
        self.delivered += 1
        self._begin(rcpt)
        envelope = rcpt.ta.envelope
        if news is not None and addressee(envelope, rcpt.recipient, news.action, ""):
            # With its report in one record: not ended before that is made.
            told = self._successes.setdefault((rcpt.ta, news.action), [])
            told.append(Ended(rcpt, news, DELIVERED))
        else:
            self._end(rcpt, DELIVERED)

    def fail(
        self,
        rcpt: Rcpt,
        *,
        status: str,
        text: str,
        remote: str = "",
        outcome: str = FAILED,
        attempt_at: float = 0.0,
    ) -> None:
        """It failed for good; its sender is told, unless an operator wants it removed."""
        if rcpt.wish == wire_control.REMOVE:
            self.discard(rcpt)
            return
        self.failed += 1
        self._begin(rcpt)
        news = News(bounce.FAILED, status, text, remote, attempt_at)
        self._failures.add(Ended(rcpt, news, outcome))

    def defer(
        self,
        rcpt: Rcpt,
        now_s: float,
        wait_s: float,
        *,
        dest: str,
        status: str,
        text: str,
        remote: str = "",
    ) -> None:
        """It must be tried again after wait_s seconds, or it has been here for too long."""
        past = PastTry(at=now_s, status=status, text=text[:MAX_PAST], remote=remote)
        rcpt.history = (*rcpt.history[1 - MAX_HISTORY :], past)
        rcpt.error = text
        if rcpt.wish:
            obey(self, rcpt, now_s)
            return
        received_at = rcpt.ta.envelope.received_at
        if self.retry.expired(received_at, now_s):
            self.fail(
                rcpt,
                status="4.4.7",
                text=f"Delivery time expired; last error: {text}",
                remote=remote,
                outcome=EXPIRED,
                attempt_at=now_s,
            )
            return
        self.deferred += 1
        if now_s - received_at >= self._delay_s and not rcpt.warned:
            self._warn(rcpt, News(bounce.DELAYED, status, text, remote, now_s))
        self.postpone(
            rcpt,
            self.retry.next_try_at(received_at, now_s, wait_s),
            dest=dest,
            status=status,
            text=text,
        )

    def _warn(self, rcpt: Rcpt, news: News) -> None:
        """Tell the sender once that a recipient is delayed; it is about to be postponed."""
        envelope = rcpt.ta.envelope
        if addressee(envelope, rcpt.recipient, bounce.DELAYED, ""):
            rcpt.warned = True
            until = envelope.received_at + self._limits.return_timeout_s
            told = attrs.evolve(news, retry_until=until).about(rcpt.recipient)
            self._delays.setdefault(rcpt.ta, []).append(told)

    def expand(self, rcpt: Rcpt, into: list[Envelope], news: News | None) -> None:
        """It gives way to these; its sender is told so if there is news that he asked for."""
        self._begin(rcpt)
        self._expanded.append((rcpt, into, news))

    def discard(self, rcpt: Rcpt) -> None:
        """Forget it, nobody is told: an operator wants it so."""
        self._begin(rcpt)
        self._end(rcpt, DISCARDED)
        self._record(events.RCPT_REMOVED, ta=rcpt.ta.envelope.ta_id, rcpt=rcpt.address)

    def postpone(
        self,
        rcpt: Rcpt,
        next_try_at: float,
        *,
        dest: str = "",
        status: str = "",
        text: str = "",
        held: bool = False,
        via: str = "",
    ) -> None:
        """Move it to the DEFEDB whatever its age; nothing was tried that failed."""
        self._begin(rcpt)
        ta_id = rcpt.ta.envelope.ta_id
        deferred = DeferredRcpt(
            ta_id=ta_id,
            idx=rcpt.idx,
            address=rcpt.address,
            dest=dest,
            tries=rcpt.tries,
            next_try_at=next_try_at,
            error=text,
            status=status,
            warned=rcpt.warned,
            held=held or rcpt.wish == wire_control.HOLD,
            redirected=rcpt.redirected,
            via=via,
            history=list(rcpt.history),
        )
        self._batches.put(rcpt, deferred)
        self._record(
            events.RCPT_POSTPONED, ta=ta_id, rcpt=rcpt.address, next=next_try_at, text=text
        )

    def _begin(self, rcpt: Rcpt) -> None:
        if rcpt.state is State.CLOSING:
            raise Bug(f"recipient {rcpt.idx} of {rcpt.ta.envelope.ta_id} is closed twice")
        rcpt.state = State.CLOSING
        self._failures.touch(rcpt.ta)

    def _end(self, rcpt: Rcpt, outcome: str) -> None:
        """Tell the home of a recipient that it is done."""
        ta_id = rcpt.ta.envelope.ta_id
        if rcpt.ta.home is Home.IBDB:
            self._closed.setdefault((ta_id, outcome), []).append(rcpt.idx)
            self._rcpts.append(rcpt)
        else:
            self._batches.remove(rcpt)

    # --- IBDB ------------------------------------------------------------------------------

    def take_notes(self, now_s: float, *, last: bool = False) -> list[Note]:
        """Return what must be written to the IBDB now.

        Args:
            now_s: wall time.
            last: nothing waits for more of its kind any longer.
        """
        notes: list[Note] = []
        bounces: list[Transaction] = []
        ended = [(ta, told) for (ta, _), told in self._successes.items()]
        ended += self._failures.ripe(now_s, last=last)
        self._successes = {}
        most = MAX_NEW * self._limits.max_errors_per_dsn
        for ta, all_of_ta in ended:
            for at in range(0, len(all_of_ta), most):
                bounces += self._report(ta, all_of_ta[at : at + most], now_s)
                if len(bounces) >= MAX_NEW:
                    notes.append(self._note(bounces))
                    bounces = []
        for rcpt, into, news in self._expanded:
            large = sum(len(envelope.rcpts) for envelope in into) > MAX_ALONE
            if len(bounces) >= MAX_NEW // 2 or (large and (self._closed or bounces)):
                notes.append(self._note(bounces))
                bounces = []
            bounces += self._expand(rcpt, into, news, now_s)
            if large and bounces:
                notes.append(self._note(bounces))
                bounces = []
        self._expanded = []
        if self._closed or bounces:
            notes.append(self._note(bounces))
        return notes

    def _note(self, bounces: list[Transaction]) -> Note:
        entry = Entry(
            new=[ta.envelope for ta in bounces],
            closed=[
                Closed(ta_id=ta_id, idxs=idxs, outcome=outcome)
                for (ta_id, outcome), idxs in self._closed.items()
            ],
        )
        rcpts, self._rcpts = self._rcpts, []
        self._closed = {}
        return Note(entry, rcpts, bounces)

    def _report(self, ta: Transaction, ended: list[Ended], now_s: float) -> list[Transaction]:
        """End recipients whose fate is known; return reports that go to the IBDB."""
        envelope = ta.envelope
        to = ""
        told: list[ReportedRcpt] = []
        for one in ended:
            self._end(one.rcpt, one.outcome)
            recipient, news = one.rcpt.recipient, one.news
            reader = addressee(envelope, recipient, news.action, self._limits.double_bounce)
            if reader:
                to = reader
                told.append(news.about(recipient))
            if news.action == bounce.FAILED:
                unread = events.RCPT_UNREPORTED if envelope.sender else events.DOUBLE_BOUNCE
                self._record(
                    events.RCPT_RETURNED if reader else unread,
                    ta=envelope.ta_id,
                    rcpt=recipient.address,
                    status=news.status,
                    text=news.text[:MAX_TEXT],
                )
        made = self._make(ta, told, to, now_s)
        if ta.home is Home.IBDB:
            return [self._tas.accept(report) for report in made]
        self._batches.put_new(made, now_s)
        return []

    def _expand(
        self, rcpt: Rcpt, into: list[Envelope], news: News | None, now_s: float
    ) -> list[Transaction]:
        """End a recipient; return what goes to the IBDB: its members, and news of it."""
        made: list[Transaction] = []
        if news is None:
            self._end(rcpt, EXPANDED)
        else:
            made = self._report(rcpt.ta, [Ended(rcpt, news, EXPANDED)], now_s)
        if rcpt.ta.home is Home.IBDB:
            return made + [self._tas.accept(envelope) for envelope in into]
        self._batches.put_new(into, now_s)
        return made

    def _make(
        self, ta: Transaction, told: list[ReportedRcpt], to: str, now_s: float
    ) -> list[Envelope]:
        """Return the reports to one reader about recipients of one transaction."""
        envelope = ta.envelope
        made = make_reports(
            envelope, told, to, limits=self._limits, now_s=now_s, next_id=self._next_id
        )
        self.bounces += len(made)
        for report in made:
            if report.dsn is None:
                raise Bug(f"report {report.ta_id} has nothing to tell")
            self._record(
                events.BOUNCE_QUEUED,
                ta=report.ta_id,
                about=envelope.ta_id,
                rcpt=to,
                action=report.dsn.rcpts[0].action,
                count=len(report.dsn.rcpts),
            )
            if not report.dsn.headers_only:
                self._note_returned(ta)
        return made

    def _note_returned(self, ta: Transaction) -> None:
        """Remember, also in the DEFEDB, that the whole message went back."""
        envelope = ta.envelope
        ta.note_returned()
        elsewhere = (
            ta.home is Home.DEFEDB
            or self._batches.puts(envelope.ta_id)
            or self._tas.contents.is_spilled(envelope.cdb_id)
        )
        if elsewhere and len(envelope.rcpts) > 1:
            self._batches.note_returned(envelope.ta_id)

    # --- DEFEDB ----------------------------------------------------------------------------

    @property
    def batch_waits(self) -> bool:
        """Something must be written to the DEFEDB."""
        return self._batches.wait

    @property
    def batch_size(self) -> int:
        """Recipients that wait for the next batch."""
        return self._batches.size

    def take_batch(self) -> Batch | None:
        """Return what must be written to the DEFEDB; a batch that failed comes first."""
        if self._batches.failed:
            return self._batches.take()
        for ta, told in self._delays.items():
            # In the batch that says of these recipients that their sender knows.
            now_s = told[0].attempt_at
            self._batches.put_new(self._make(ta, told, ta.envelope.sender, now_s), now_s)
        self._delays = {}
        return self._batches.take()

    def put_back(self, batch: Batch) -> None:
        """Keep a batch that could not be written."""
        self._batches.put_back(batch)

    def applied(self, batch: Batch) -> list[Rcpt]:
        """Note that a batch is on disk; return the recipients that are done with it.

        New mail is not done: the IBDB must hear that it is in the DEFEDB now.
        """
        done = []
        for rcpt in batch.rcpts:
            if rcpt.ta.home is Home.IBDB:
                self._tas.contents.spilled(rcpt.ta.envelope.cdb_id)
                self._end(rcpt, DEFERRED)
            else:
                done.append(rcpt)
        return done
