"""Control: what operators see of the queue.

Kind: core.

Status figures, and the queue page by page: first new mail, which is in memory, then deferred
mail, as the DEFEDB gives it. A page is bounded in entries and recipients, so that an answer
fits into a frame and a listing never holds the queue manager up.
Source: SPEC rows X162, X477.
"""

from collections.abc import Iterable, Sequence

from libsmx.envelope import Envelope
from libsmx.wire_control import Figure, QueueEntry, QueueRcpt, Select
from qmgr.admin import place_of, place_of_stored
from qmgr.core import QueueManager
from qmgr.levels import NORMAL, SLOW, STOP
from qmgr.records import DeferredRcpt
from qmgr.selection import chooses_rcpt, chooses_ta
from qmgr.ta import State, Tas

PAGE_RCPTS = 2000
"""Most recipients on one page and in one entry; a larger new transaction is shown in part."""
MAX_ERROR = 300
"""Longest error text in a listing, characters."""

EVERYTHING = Select()

_ACTIVE = "active"


def figures(core: QueueManager) -> list[Figure]:
    """Return the fill levels and counters of the queue in memory."""
    limits, sched, aq = core.limits, core.dispatch.sched, core.aq
    waiting = sum(dest.waiting for dest in aq.destinations.values())
    rows: list[tuple[str, int, int, str]] = [
        ("sessions", core.iqdb.sessions, 0, "sessions"),
        ("reserved_tas", core.iqdb.reserved, 0, "transactions"),
        ("iqdb_entries", core.iqdb.entries, limits.iqdb_max_entries, "entries"),
        ("iqdb_waiting", len(core.iqdb.waiting), 0, "recipients"),
        ("aq_rcpts", aq.entries, limits.aq_max_entries, "recipients"),
        ("aq_from_defedb", aq.loaded, aq.limit // 2, "recipients"),
        ("aq_unrouted", aq.routing, 0, "recipients"),
        ("aq_waiting", waiting, 0, "recipients"),
        ("destinations", len(aq.destinations), 0, "destinations"),
        ("occ_entries", len(core.dispatch.occ), limits.occ_max_entries, "addresses"),
        ("occ_idle_timeout", int(core.dispatch.occ.idle_s), 0, "seconds"),
        ("smtpc_processes", len(sched.carriers), 0, "processes"),
        ("delivery_sessions_busy", sched.busy, sched.capacity, "sessions"),
        ("delivery_sessions_idle", sched.idle, 0, "sessions"),
        ("contents", len(core.tas.contents), 0, "files"),
        ("sessions_granted", core.iqdb.granted, 0, "sessions"),
        ("sessions_refused", core.iqdb.refused, 0, "sessions"),
        ("accepted", core.accepted, 0, "transactions"),
        ("delivered", core.closing.delivered, 0, "recipients"),
        ("deferred", core.closing.deferred, 0, "attempts"),
        ("failed", core.closing.failed, 0, "recipients"),
        ("bounces", core.closing.bounces, 0, "transactions"),
        ("suspensions", len(core.dispatch.suspensions.names), 0, "names"),
    ]
    names = ("accepted", "delivered", "deferred", "failed")
    rates = core.rates.last_minute(core.counters)
    rows += [(f"{name}_last_minute", n, 0, "") for name, n in zip(names, rates, strict=True)]
    return [Figure(name=n, value=v, limit=limit, unit=unit) for n, v, limit, unit in rows]


def _entry(envelope: Envelope, rcpts: Iterable[QueueRcpt]) -> QueueEntry:
    return QueueEntry(
        ta_id=envelope.ta_id,
        received_at=envelope.received_at,
        size=envelope.size,
        sender=envelope.sender,
        rcpts=list(rcpts)[:PAGE_RCPTS],
    )


def memory_page(
    tas: Tas, after: str, limit: int, select: Select = EVERYTHING, now_s: float = 0.0
) -> tuple[list[QueueEntry], str]:
    """Return new mail after a transaction id, and the id to go on from ("" at the end)."""
    entries: list[QueueEntry] = []
    count = 0
    for ta_id in sorted(ta_id for ta_id in tas.ibdb if ta_id > after):
        ta = tas.ibdb[ta_id]
        if not chooses_ta(select, ta.envelope, now_s):
            continue
        rcpts = [
            QueueRcpt(
                address=rcpt.address,
                place=_ACTIVE if rcpt.active else rcpt.state.value,
                next_try_at=0,
                tries=rcpt.tries,
                error=rcpt.error[:MAX_ERROR],
            )
            for rcpt in ta.rcpts.values()
            if rcpt.state is not State.CLOSING
            and chooses_rcpt(select, rcpt.address, rcpt.dest, place_of(rcpt))
        ]
        if not rcpts:
            continue
        if entries and (len(entries) >= limit or count + len(rcpts) > PAGE_RCPTS):
            return entries, entries[-1].ta_id
        entries.append(_entry(ta.envelope, rcpts))
        count += len(rcpts)
    return entries, ""


def deferred_page(
    tas: Tas,
    page: Sequence[tuple[Envelope, Sequence[DeferredRcpt]]],
    select: Select = EVERYTHING,
    now_s: float = 0.0,
) -> list[QueueEntry]:
    """Return a page of the DEFEDB, which is bounded in recipients, as entries."""
    entries = []
    for envelope, stored in page:
        if not chooses_ta(select, envelope, now_s):
            continue
        rcpts = []
        for rcpt in stored:
            active = tas.holds(rcpt.ta_id, rcpt.idx)
            place = _ACTIVE if active else place_of_stored(rcpt)
            if chooses_rcpt(select, rcpt.address, rcpt.dest, place):
                rcpts.append(
                    QueueRcpt(
                        address=rcpt.address,
                        place=place,
                        next_try_at=0 if rcpt.held else rcpt.next_try_at,
                        tries=rcpt.tries,
                        error=rcpt.error[:MAX_ERROR],
                    )
                )
        if rcpts:
            entries.append(_entry(envelope, rcpts))
    return entries


def state_of(core: QueueManager, *, defedb: bool) -> tuple[str, str]:
    """Return the state in a word, and the reasons for it: empty where all is normal.

    Args:
        core: the queue.
        defedb: the deferred queue is open.
    """
    levels = core.levels
    reasons = []
    if core.disk_problem:
        reasons.append(core.disk_problem)
    if not defedb:
        reasons.append("the deferred queue is not open yet")
    if not core.resolver_open:
        reasons.append("no address resolver: mail waits for routes")
    if not core.dispatch.sched.capacity:
        reasons.append("no smtpc process: nothing is delivered")
    if levels.reason and not core.disk_problem:
        reasons.append(levels.reason)
    if core.stopping:
        return "stopping", "; ".join(reasons)
    stop = core.disk_problem or levels.level == STOP
    return STOP if stop else SLOW if reasons else NORMAL, "; ".join(reasons)
