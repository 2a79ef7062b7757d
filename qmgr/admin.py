"""Admin: an operator's changes to recipients in the queue.

Kind: core.

A recipient that waits in memory leaves its queue and ends at once as the operator wants; one
under delivery keeps the wish until its attempt has ended; one in the DEFEDB is taken into
memory for the change, like one that is due. Everything then goes the way of all mail
(qmgr/closing.py), so that a change is on disk as a whole or has not happened.
Source: SPEC row X477; architecture.md (I2).
"""

from collections import deque
from collections.abc import Iterable, Sequence

import attrs

from libsmx.envelope import Envelope
from libsmx.wire_control import HOLD, REDIRECT, RELEASE, REQUEUE, Select
from qmgr.core import QueueManager
from qmgr.records import DeferredRcpt
from qmgr.selection import chooses_rcpt, chooses_ta
from qmgr.ta import Rcpt, State
from qmgr.wish import obey

INCOMING, ACTIVE, DEFERRED, HELD = "incoming", "active", "deferred", "held"

Page = Sequence[tuple[Envelope, Sequence[DeferredRcpt]]]


def place_of(rcpt: Rcpt) -> str:
    """Return the place of a recipient in memory, one of wire_control.STATES."""
    return ACTIVE if rcpt.active else INCOMING


def place_of_stored(stored: DeferredRcpt) -> str:
    """Return the place of a recipient that is only in the DEFEDB."""
    return HELD if stored.held else DEFERRED


@attrs.frozen
class Change:
    """What an operator wants: one of wire_control.ACTIONS, and for a redirect the address."""

    action: str
    address: str = ""

    def fits(self, rcpt: Rcpt) -> bool:
        """Tell whether it means anything to a recipient in memory."""
        if rcpt.state is State.CLOSING:
            return False
        if rcpt.state is State.DELIVERING and rcpt.wish == self.action != REDIRECT:
            return False
        if self.action == RELEASE:
            return rcpt.wish == HOLD
        return self.action != REQUEUE  # which is being tried already

    def fits_stored(self, stored: DeferredRcpt) -> bool:
        """Tell whether it means anything to a recipient in the DEFEDB."""
        if self.action == RELEASE:
            return stored.held
        return not (stored.held and self.action in (HOLD, REQUEUE))


@attrs.define
class Chosen:
    """Recipients of one page that are meant and can be changed."""

    rcpts: list[Rcpt] = attrs.field(factory=list)
    stored: list[tuple[Envelope, DeferredRcpt]] = attrs.field(factory=list)

    def __len__(self) -> int:
        return len(self.rcpts) + len(self.stored)


def choose_new(
    core: QueueManager, select: Select, change: Change, now_s: float, after: str, limit: int
) -> tuple[Chosen, str]:
    """Choose among new mail, in the order of ids, whole transactions.

    Args:
        core: the queue.
        select: which recipients.
        change: what will be done.
        now_s: wall clock.
        after: transaction id that the last page ended with, empty to begin.
        limit: the page ends with the transaction that reaches it.

    Returns:
        The recipients, and the id to go on from, empty at the end.
    """
    chosen = Chosen()
    incoming = set(core.iqdb.waiting)
    for ta_id in sorted(ta_id for ta_id in core.tas.ibdb if ta_id > after):
        ta = core.tas.ibdb[ta_id]
        if chooses_ta(select, ta.envelope, now_s):
            chosen.rcpts += [
                rcpt
                for rcpt in ta.rcpts.values()
                if (rcpt.active or rcpt in incoming)  # not before its acceptance is on disk
                and change.fits(rcpt)
                and chooses_rcpt(select, rcpt.address, rcpt.dest, place_of(rcpt))
            ]
        if len(chosen) >= limit:
            return chosen, ta_id
    return chosen, ""


def choose_deferred(
    core: QueueManager, select: Select, change: Change, now_s: float, page: Page
) -> Chosen:
    """Choose among a page of the DEFEDB; what is in memory too is changed there."""
    chosen = Chosen()
    for envelope, rcpts in page:
        if not chooses_ta(select, envelope, now_s):
            continue
        for stored in rcpts:
            if core.tas.holds(stored.ta_id, stored.idx):
                ta = core.tas.defedb.get(stored.ta_id)
                rcpt = ta.rcpts.get(stored.idx) if ta is not None else None
                if (
                    rcpt is not None
                    and change.fits(rcpt)
                    and chooses_rcpt(select, rcpt.address, rcpt.dest, place_of(rcpt))
                ):
                    chosen.rcpts.append(rcpt)
            elif change.fits_stored(stored) and chooses_rcpt(
                select, stored.address, stored.dest, place_of_stored(stored)
            ):
                chosen.stored.append((envelope, stored))
    return chosen


def apply(core: QueueManager, change: Change, chosen: Chosen, now_s: float) -> list[Rcpt]:
    """Carry a change out; return the recipients whose new fate is on its way to disk.

    The rest are under delivery and keep the change as a wish.

    Args:
        core: the queue.
        change: what to do.
        chosen: recipients, none of which has moved since they were chosen.
        now_s: wall clock.
    """
    for rcpt in chosen.rcpts:
        rcpt.wish = "" if change.action == RELEASE else change.action
        rcpt.redirect = change.address
    waiting = [rcpt for rcpt in chosen.rcpts if rcpt.wish and rcpt.state is not State.DELIVERING]
    _withdraw(core, waiting)
    for envelope, stored in chosen.stored:
        rcpt = core.tas.take(envelope, stored)
        rcpt.wish = change.action
        rcpt.redirect = change.address
        core.iqdb.spilling += 1
        waiting.append(rcpt)
    for rcpt in waiting:
        obey(core.closing, rcpt, now_s)
    return waiting


def _withdraw(core: QueueManager, rcpts: Iterable[Rcpt]) -> None:
    """Take recipients out of the queues in which they wait."""
    by_state: dict[State, set[Rcpt]] = {}
    for rcpt in rcpts:
        by_state.setdefault(rcpt.state, set()).add(rcpt)
    incoming = by_state.get(State.INCOMING)
    if incoming:
        core.iqdb.waiting = deque(r for r in core.iqdb.waiting if r not in incoming)
        core.iqdb.spilling += len(incoming)
    core.aq.routing -= len(by_state.get(State.ROUTING, ()))
    gone = by_state.get(State.WAITING, set())
    for key in {rcpt.dest for rcpt in gone}:
        dest = core.aq.destinations.get(key)
        if dest is not None:
            dest.remove(gone)


def is_there(rcpt: Rcpt) -> bool:
    """Tell whether a recipient is still in memory."""
    return rcpt.ta.rcpts.get(rcpt.idx) is rcpt
