"""Queue manager: every event of the queue, and what follows from it.

Kind: core.
Owns: all mail between its acceptance and its delivery, return or deferral.
In/Out: each public method is an event; effects (qmgr/effects.py) collect in order and are
fetched with ``take``. ``turn`` ends a turn of the loop: what its events made possible starts
there, together. now_s is steady wall time (qmgr/retry.py) throughout.
Limits: iqdb_max_entries, aq_max_entries, occ_max_entries; nothing grows with the backlog.
Source: architecture.md; SPEC rows X008, X012-X018.
"""

from collections.abc import Callable, Sequence
from itertools import chain

import attrs

from libsmx import wire
from libsmx.envelope import Envelope
from libsmx.errors import StoreError
from libsmx.ids import format_ta_id
from libsmx.logtab import Event
from qmgr import effects as fx
from qmgr import events
from qmgr.aq import Aq
from qmgr.closing import Closing
from qmgr.dispatch import Dispatch
from qmgr.expansion import Expansion
from qmgr.iqdb import RATE_WINDOW_S, Clients, Iqdb
from qmgr.levels import Fill, Levels
from qmgr.limits import Limits
from qmgr.places import Delivery, DeliverySession
from qmgr.rates import Rates
from qmgr.records import DeferredRcpt, Entry
from qmgr.rollforward import RollForward
from qmgr.ta import Rcpt, State, Tas, Transaction

MAX_ROUTES = 1000
"""Recipients in one question to smar, see wire.RouteAsk."""
ASK_PAUSE_S = 1.0
"""Pause after a question to smar that got no answer."""
MAX_CLOCK_DIFFERENCE_S = 3600.0
"""A sender of envelopes whose clock is off by more gets its mail's age counted by ours."""

_STOPPING = wire.Refusal(code=421, status="4.3.2", text="Shutting down, try again later")
_GRANTED = wire.SessionGranted()
_OPENED = wire.TaOpened()
_COMMITTED = wire.TaCommitted()


class QueueManager:
    """See the module.

    Args:
        limits: all numbers.
        first_id: first value of the counter in the ids of bounces; never used before.
        draw: returns a random number, 0 <= r < 1.

    Attributes:
        stopping: an orderly stop has begun: nothing new is accepted or started.
        accepted: transactions accepted since the start.
    """

    def __init__(self, limits: Limits, *, first_id: int, draw: Callable[[], float]) -> None:
        self.tas = Tas()
        self.iqdb = Iqdb(
            limits.iqdb_max_entries,
            Clients(limits.in_max_rate, limits.in_max_connections, limits.iqdb_max_entries),
        )
        self.aq = Aq(limits.aq_max_entries)
        self.closing = Closing(self.tas, limits, self._record, self._bounce_id)
        expansion = Expansion(
            self.closing, self.iqdb, self._record, self._bounce_id, limits.retry_min_s
        )
        self.dispatch = Dispatch(self.aq, self.closing, limits, self._record, draw, expansion)
        self.limits = limits
        self.stopping = False
        self.disk_problem = ""
        self.levels = Levels()
        self.accepted = 0
        self.rates = Rates()
        self._effects: list[fx.Effect] = []
        self._counter = first_id
        self._smtps: set[int] = set()
        self._smar_open = False
        self._ask_after = 0.0
        self._failed_notes: list[fx.Note] = []
        self._expired_at = 0.0

    def take(self) -> list[fx.Effect]:
        """Return the effects since the last call, to be carried out in order."""
        effects, self._effects = self._effects, []
        return effects

    def _record(self, event: Event, **fields: str | float) -> None:
        self._effects.append(fx.Record(event, fields))

    def _answer(self, channel: int, rid: int, message: object) -> None:
        self._effects.append(fx.Answer(channel, message, rid))

    def _bounce_id(self) -> str:
        self._counter += 1
        return format_ta_id(self._counter, 0, "Q")

    # --- smtps -----------------------------------------------------------------------------

    def smtps_opened(self, channel: int) -> None:
        """A smtps process connected."""
        self._smtps.add(channel)
        self.iqdb.open_channel(channel)
        if self.disk_problem:
            self._answer(channel, 0, wire.Throttle(stop=True, reason=self.disk_problem))

    def smtps_closed(self, channel: int) -> None:
        """A smtps process went away with its sessions; what it committed stays."""
        self._smtps.discard(channel)
        self.iqdb.close_channel(channel)

    def session_open(self, now_s: float, channel: int, rid: int, ask: wire.SessionOpen) -> None:
        """A client connected to smtps."""
        if self.stopping:
            self._answer(channel, rid, _STOPPING)
            return
        refusal = self.iqdb.open_session(channel, ask.session, ask.client, now_s)
        self._answer(channel, rid, refusal or _GRANTED)

    def session_close(self, channel: int, message: wire.SessionClose) -> None:
        """A client's session ended."""
        self.iqdb.close_session(channel, message.session)

    def ta_open(self, channel: int, rid: int, ask: wire.TaOpen) -> None:
        """A transaction wants room."""
        refusal: wire.Refusal | None
        if self.stopping:
            refusal = _STOPPING
        elif self.disk_problem:
            refusal = wire.Refusal(code=452, status="4.3.1", text="Too little disk space")
        elif ask.ta_id in self.tas:
            refusal = wire.Refusal(code=451, status="4.3.5", text="Transaction id is in use")
        else:
            refusal = self.iqdb.reserve(channel, ask.ta_id, ask.session)
        self._answer(channel, rid, refusal or _OPENED)

    def ta_abort(self, channel: int, message: wire.TaAbort) -> None:
        """A transaction ended without mail."""
        self.iqdb.abort(channel, message.ta_id)

    def ta_commit(self, now_s: float, channel: int, rid: int, ask: wire.TaCommit) -> None:
        """A transaction is complete: write it to disk. Also done while stopping."""
        envelope = ask.envelope
        refusal = self.iqdb.commit(channel, envelope)
        if refusal is not None:
            self._refuse_ta(channel, rid, envelope.ta_id, refusal)
            return
        if not abs(envelope.received_at - now_s) <= MAX_CLOCK_DIFFERENCE_S:  # also for a NaN
            envelope = attrs.evolve(envelope, received_at=now_s)
        ta = self.tas.accept(envelope)
        self._effects.append(fx.Commit(ta, channel, rid, Entry(new=[envelope], closed=[])))

    def _refuse_ta(self, channel: int, rid: int, ta_id: str, refusal: wire.Refusal) -> None:
        code, status, text = refusal.code, refusal.status, refusal.text
        self._record(events.TA_REFUSED, ta=ta_id, code=code, status=status, text=text)
        self._answer(channel, rid, refusal)

    # --- IBDB ------------------------------------------------------------------------------

    def committed(self, now_s: float, commit: fx.Commit, error: StoreError | None) -> None:
        """A transaction is on disk, or is not: the only place that says so to smtps."""
        ta = commit.ta
        rcpts = list(ta.rcpts.values())
        self.iqdb.committing -= len(rcpts)
        ta_id = ta.envelope.ta_id
        if error is not None:
            for rcpt in rcpts:
                self.tas.close(rcpt)  # smtps removes the content: it was told "no"
            self._record(events.COMMIT_FAILED, ta=ta_id, error=str(error))
            refusal = wire.Refusal(code=451, status="4.3.0", text="Cannot write to disk")
            self._refuse_ta(commit.channel, commit.rid, ta_id, refusal)
            return
        self.accepted += 1
        self._answer(commit.channel, commit.rid, _COMMITTED)
        self._record(events.TA_QUEUED, ta=ta_id, rcpts=len(rcpts), size=ta.envelope.size)
        if ta.envelope.hold:
            self._hold(now_s, ta)
        else:
            self._queue(now_s, rcpts)

    def _hold(self, now_s: float, ta: Transaction) -> None:
        """Let an accepted transaction wait in the DEFEDB until somebody releases it."""
        self._record(events.TA_HELD, ta=ta.envelope.ta_id, reason=ta.envelope.hold)
        self.iqdb.spilling += len(ta.rcpts)
        for rcpt in list(ta.rcpts.values()):
            self.closing.postpone(rcpt, now_s, text=ta.envelope.hold, held=True)

    def _queue(self, now_s: float, rcpts: list[Rcpt]) -> None:
        """Let accepted recipients wait for the active queue, or spill them into the DEFEDB."""
        if self.iqdb.room_to_wait(len(rcpts)) or (
            not self.iqdb.waiting and len(rcpts) <= self.aq.free
        ):
            self.iqdb.waiting.extend(rcpts)
            return
        self._record(events.SPILLED, rcpts=len(rcpts))
        self.iqdb.spilling += len(rcpts)
        for rcpt in rcpts:
            self.closing.postpone(rcpt, now_s)

    def noted(self, now_s: float, note: fx.Note, error: StoreError | None) -> None:
        """The end of recipients is on disk: they leave memory, bounces begin their way."""
        if error is not None:
            self._record(events.NOTE_FAILED, rcpts=len(note.rcpts), error=str(error))
            if note.rcpts or note.bounces:
                self._failed_notes.append(note)
            # else it opens a transaction anew, which may be over when it is written again; if
            # it is not, its old segment is found to be held again.
            return
        self._release(note.rcpts, [])
        for ta in note.bounces:
            if ta.envelope.expanded:
                self.iqdb.spilling -= len(ta.rcpts)  # they were made with room for them
            self._queue(now_s, list(ta.rcpts.values()))

    def _release(self, rcpts: Sequence[Rcpt], contents: list[str]) -> None:
        """Forget recipients whose fate is on disk, and contents that nobody needs."""
        for rcpt in rcpts:
            if rcpt.active:
                self.aq.leave(rcpt)
            else:
                self.iqdb.spilling -= 1
            cdb_id = self.tas.close(rcpt)
            if cdb_id:
                contents.append(cdb_id)
        if contents:
            self._effects.append(fx.RemoveContents(contents))

    def segment_held(self, now_s: float, held: Sequence[tuple[Envelope, Sequence[int]]]) -> None:
        """Old IBDB segments are kept by these recipients: they are moved out of them."""
        roll = RollForward(self.tas, self.iqdb, self.aq, self.closing, self._record)
        self._effects += roll.free(now_s + self.limits.retry_min_s, held)

    # --- DEFEDB ----------------------------------------------------------------------------

    def applied(self, batch: fx.Batch, unreferenced: Sequence[str]) -> None:
        """A batch is in the DEFEDB; these contents have no reference there any more."""
        done = self.closing.applied(batch)
        contents = self.tas.contents
        self._release(done, [cdb_id for cdb_id in unreferenced if contents.unreferenced(cdb_id)])

    def apply_failed(self, batch: fx.Batch, error: StoreError) -> None:
        """A batch is not in the DEFEDB; it will be taken again."""
        self._record(events.DEFEDB_FAILED, error=str(error))
        self.closing.put_back(batch)

    def loaded(self, loaded: Sequence[tuple[Envelope, Sequence[DeferredRcpt]]]) -> None:
        """These deferred recipients are due; those that find no place stay in the DEFEDB."""
        for envelope, rcpts in loaded:
            for stored in rcpts:
                if self.aq.free <= 0 or self.tas.holds(stored.ta_id, stored.idx):
                    continue
                self.aq.admit(self.tas.take(envelope, stored))

    # --- smar ------------------------------------------------------------------------------

    def smar_opened(self) -> None:
        """The resolver can be asked."""
        self._smar_open = True
        self._ask_after = 0.0

    @property
    def resolver_open(self) -> bool:
        """The resolver can be asked now."""
        return self._smar_open

    def smar_closed(self) -> None:
        """The resolver is away; what needs a route waits in the active queue."""
        self._smar_open = False

    def routed(self, now_s: float, ask: fx.AskRoute, answer: wire.RouteAnswer) -> None:
        """The resolver answered."""
        if len(answer.routes) == len(ask.rcpts):
            self.dispatch.routed(now_s, ask.rcpts, answer.routes)
        else:
            self.route_failed(now_s, ask)

    def route_refused(self, now_s: float, ask: fx.AskRoute, refusal: wire.Refusal) -> None:
        """The resolver cannot say anything about these recipients now."""
        self.dispatch.unroutable(now_s, ask.rcpts, refusal)

    def route_failed(self, now_s: float, ask: fx.AskRoute) -> None:
        """No answer came; the question is repeated after a pause, or when smar is back."""
        self._ask_after = now_s + ASK_PAUSE_S
        self.aq.unrouted.extendleft(reversed(ask.rcpts))

    # --- smtpc -----------------------------------------------------------------------------

    def smtpc_opened(self, channel: int, capacity: int) -> None:
        """A smtpc process connected."""
        self.dispatch.sched.carrier_opened(channel, capacity)

    def smtpc_closed(self, now_s: float, channel: int) -> None:
        """A smtpc process went away; what it was delivering is done again."""
        self.dispatch.carrier_closed(now_s, channel)

    def delivered(self, now_s: float, delivery: Delivery, message: wire.Delivered) -> None:
        """A delivery has its results."""
        session = delivery.session
        mine = session.delivery is delivery
        self.dispatch.delivered(now_s, delivery, message)
        if mine and message.open and session.id not in session.carrier.sessions:
            self._end_session(session)

    def delivery_refused(self, now_s: float, delivery: Delivery, refusal: wire.Refusal) -> None:
        """A smtpc process did not take a delivery."""
        self.dispatch.refused(now_s, delivery, refusal)

    def delivery_lost(self, now_s: float, delivery: Delivery) -> None:
        """A delivery will have no results."""
        self.dispatch.lost(now_s, delivery)

    def session_lost(self, channel: int, message: wire.SessionLost) -> None:
        """An idle delivery session closed by itself."""
        self.dispatch.sched.idle_lost(channel, message.da_sess)

    def _end_session(self, session: DeliverySession) -> None:
        self._answer(session.carrier.channel, 0, wire.SessionEnd(da_sess=session.id))

    # --- the rest --------------------------------------------------------------------------

    def disk(self, problem: str) -> None:
        """Free disk space fell too low (a sentence says where), or suffices again ("")."""
        if bool(problem) != bool(self.disk_problem):
            message = wire.Throttle(stop=bool(problem), reason=problem)
            for channel in self._smtps:
                self._answer(channel, 0, message)
            if problem:
                self._record(events.DISK_LOW, reason=problem)
            else:
                self._record(events.DISK_OK)
        self.disk_problem = problem

    def flush(self, now_s: float, match: str) -> None:
        """Let what was unreachable be tried again: all, or one destination or domain."""
        self.dispatch.flush(now_s, match)

    def stop(self) -> None:
        """Begin an orderly stop."""
        self.stopping = True

    def idle(self) -> bool:
        """Tell whether nothing is under way: no delivery, no commit, no record."""
        return not (
            self.dispatch.sched.busy
            or self.iqdb.committing
            or any(
                rcpt.state is State.CLOSING
                for ta in chain(self.tas.ibdb.values(), self.tas.defedb.values())
                for rcpt in ta.rcpts.values()
            )
        )

    @property
    def counters(self) -> tuple[int, ...]:
        """Accepted, delivered, deferred, failed since the start."""
        closing = self.closing
        return self.accepted, closing.delivered, closing.deferred, closing.failed

    def tick(self, now_s: float) -> None:
        """Let time pass; call about once a second."""
        self.rates.tick(now_s, self.counters)
        for session in self.dispatch.tick(now_s):
            self._end_session(session)
        fills = (
            Fill("incoming queue", self.iqdb.entries, self.limits.iqdb_max_entries, True),
            Fill("active queue", self.aq.entries, self.aq.limit, False),
        )
        if self.levels.look(fills, self.disk_problem):
            level, reason = self.levels.level, self.levels.reason
            self._record(events.QUEUE_LEVEL, level=level, reason=reason)
        if now_s - self._expired_at >= RATE_WINDOW_S:
            self._expired_at = now_s
            self.iqdb.clients.expire(now_s)
        if self._failed_notes and not self.stopping:
            self._effects += self._failed_notes
            self._failed_notes = []

    def turn(self, now_s: float) -> None:
        """End a turn of the loop: start what its events made possible."""
        if not self.stopping:
            waiting, aq = self.iqdb.waiting, self.aq
            while waiting and aq.entries < aq.limit:
                aq.admit(waiting.popleft())
            if aq.unrouted and self._smar_open and now_s >= self._ask_after:
                self._effects += map(fx.AskRoute, aq.take_unrouted(MAX_ROUTES))
            done = self.dispatch.start(now_s)
            for session in done.ended:
                self._end_session(session)
            for delivery in done.deliveries:
                self._effects.append(fx.Deliver(delivery.session.carrier.channel, delivery))
        if self.dispatch.losses:
            self._record(events.DELIVERIES_LOST, count=self.dispatch.losses)
            self.dispatch.losses = 0
        self._effects += self.closing.take_notes(now_s, last=self.stopping)
