"""Details: everything about one transaction, and about destinations, from the queue's state.

Kind: core.

Gathers the facts for qmgr/explain.py and the answers to show, explain and destinations.
Source: SPEC row X477.
"""

from collections.abc import Iterable, Sequence
from operator import attrgetter

import attrs

from libsmx.envelope import Envelope
from libsmx.wire import Target
from libsmx.wire_control import DestState, HostState, PastTry, RcptDetail, ShowAnswer
from qmgr.core import QueueManager
from qmgr.explain import Facts, HostFacts, explain
from qmgr.places import Destination, Host
from qmgr.records import DeferredRcpt
from qmgr.suspend import describe
from qmgr.ta import Rcpt

MAX_RCPTS = 500
"""Recipients in one answer."""
MAX_TEXT = 300
"""Longest error text in an answer, characters."""
MAX_HOSTS = 20
"""Hosts of one destination in an answer."""
MAX_OTHER_HOSTS = 200


def _host_facts(core: QueueManager, targets: Iterable[Target], now_s: float) -> list[HostFacts]:
    occ, suspensions = core.dispatch.occ, core.dispatch.suspensions
    facts = []
    for target in targets:
        key = target.address, target.port
        host = occ.peek(key)
        blocked = occ.blocked(key, now_s)
        one = suspensions.of_host(now_s, target)
        facts.append(
            HostFacts(
                name=f"{target.host} [{target.address}]" if target.address else target.host,
                window=host.window if host is not None else 0,
                open=host.open if host is not None else 0,
                blocked_s=blocked.blocked_until - now_s if blocked is not None else 0.0,
                error=host.error[:MAX_TEXT] if host is not None else "",
                suspended=describe(one) if one is not None else "",
            )
        )
    return facts


def _facts(
    core: QueueManager,
    envelope: Envelope,
    now_s: float,
    rcpt: Rcpt | None,
    stored: DeferredRcpt | None,
    *,
    defedb: bool,
) -> Facts:
    """Return what is known of one recipient: one in memory, or one in the DEFEDB."""
    sched, suspensions = core.dispatch.sched, core.dispatch.suspensions
    place, tries, error, address, key, wish, due_s, aq_full = "", 0, "", "", "", "", 0.0, False
    if rcpt is not None:
        place, tries, error = rcpt.state.value, rcpt.tries, rcpt.error
        address, key, wish, due_s = rcpt.address, rcpt.dest, rcpt.wish, 0.0
        aq_full = core.aq.free <= 0
    elif stored is not None:
        place, tries, error = "held" if stored.held else "deferred", stored.tries, stored.error
        address, key, wish, due_s = stored.address, stored.dest, "", stored.next_try_at - now_s
        aq_full = core.aq.room_to_load() <= 0
    one = suspensions.find(now_s, address.rpartition("@")[2], key)
    dest = core.aq.destinations.get(key)
    return Facts(
        place=place,
        tries=tries,
        due_s=max(due_s, 0.0),
        return_s=envelope.received_at + core.limits.return_timeout_s - now_s,
        error=error[:MAX_TEXT],
        hold=envelope.hold,
        wish=wish,
        suspended=describe(one) if one is not None else "",
        suspended_s=one.until - now_s if one is not None and one.until else 0.0,
        resolver=core.resolver_open,
        stopping=core.stopping,
        defedb=defedb,
        aq_full=aq_full,
        dest=key,
        dest_waiting=dest.waiting if dest is not None else 0,
        dest_sessions=dest.sessions if dest is not None else 0,
        hosts=tuple(_host_facts(core, dest.targets, now_s)) if dest is not None else (),
        busy=sched.busy,
        capacity=sched.capacity,
    )


def _detail(
    idx: int, address: str, facts: Facts, next_try_at: float, history: Sequence[PastTry]
) -> RcptDetail:
    why, following = explain(facts)
    return RcptDetail(
        idx=idx,
        address=address,
        place=facts.place,
        dest=facts.dest,
        tries=facts.tries,
        next_try_at=next_try_at,
        history=list(history),
        why=[text[:1000] for text in why[:20]],
        next=following,
    )


def show(
    core: QueueManager,
    ta_id: str,
    found: tuple[Envelope, Sequence[DeferredRcpt]] | None,
    now_s: float,
    *,
    defedb: bool,
) -> ShowAnswer | None:
    """Return all about a transaction, None where nothing of it is in the queue.

    Args:
        core: the queue.
        ta_id: which one.
        found: what the DEFEDB has of it.
        now_s: wall clock.
        defedb: the DEFEDB could be asked.
    """
    envelope = found[0] if found is not None else None
    left_out: set[int] = set()
    details: dict[int, RcptDetail] = {}
    for home in (core.tas.ibdb, core.tas.defedb):
        ta = home.get(ta_id)
        if ta is None:
            continue
        envelope = envelope or ta.envelope
        for rcpt in ta.rcpts.values():
            if len(details) >= MAX_RCPTS:
                left_out.add(rcpt.idx)
                continue
            facts = _facts(core, ta.envelope, now_s, rcpt, None, defedb=defedb)
            details[rcpt.idx] = _detail(rcpt.idx, rcpt.address, facts, 0, rcpt.history)
    if envelope is None:
        return None
    for stored in found[1] if found is not None else ():
        if stored.idx in details:
            continue
        if len(details) >= MAX_RCPTS:
            left_out.add(stored.idx)
            continue
        facts = _facts(core, envelope, now_s, None, stored, defedb=defedb)
        at = 0 if stored.held else stored.next_try_at
        details[stored.idx] = _detail(stored.idx, stored.address, facts, at, stored.history)
    rcpts = sorted(details.values(), key=attrgetter("idx"))
    total = len(envelope.rcpts)
    if total > MAX_RCPTS:
        envelope = attrs.evolve(envelope, rcpts=envelope.rcpts[:MAX_RCPTS])
    return ShowAnswer(envelope=envelope, total=total, rcpts=rcpts, left_out=len(left_out))


# --- destinations --------------------------------------------------------------------------


def _host_state(core: QueueManager, host: Host | None, target: Target, now_s: float) -> HostState:
    one = core.dispatch.suspensions.of_host(now_s, target)
    blocked = core.dispatch.occ.blocked((target.address, target.port), now_s)
    return HostState(
        host=target.host,
        address=target.address,
        port=target.port,
        window=host.window if host is not None else core.limits.out_initial_connections,
        maximum=core.dispatch.occ.widest((target.address, target.port)),
        open=max(host.open, 0) if host is not None else 0,
        blocked_until=blocked.blocked_until if blocked is not None else 0.0,
        failures=host.failures if host is not None else 0,
        error=host.error[:MAX_TEXT] if host is not None else "",
        suspended=describe(one) if one is not None else "",
    )


def _dest_state(core: QueueManager, dest: Destination, now_s: float) -> DestState:
    occ = core.dispatch.occ
    one = core.dispatch.suspensions.find(now_s, dest.key)
    return DestState(
        dest=dest.key,
        waiting=dest.waiting,
        sessions=dest.sessions,
        idle=len(dest.idle),
        suspended=describe(one) if one is not None else "",
        hosts=[
            _host_state(core, occ.peek((target.address, target.port)), target, now_s)
            for target in dest.targets[:MAX_HOSTS]
        ],
    )


def _means(dest: Destination, match: str) -> bool:
    match = match.lower()
    if not match or dest.key.lower() == match:
        return True
    return any(match in (t.host.lower(), t.address.lower()) for t in dest.targets)


def deferred_destination(core: QueueManager, now_s: float, name: str) -> DestState:
    """Return a destination that has nothing in memory."""
    one = core.dispatch.suspensions.find(now_s, name)
    text = describe(one) if one is not None else ""
    return DestState(dest=name, waiting=0, sessions=0, idle=0, suspended=text, hosts=[])


def destinations(
    core: QueueManager, now_s: float, after: str, match: str, limit: int
) -> tuple[list[DestState], str]:
    """Return a page of destinations in memory by name, and the name to go on from.

    The last page ends with the addresses that are remembered and belong to none of them: they
    failed, and their mail is deferred. A destination asked for by name is there in any case.
    """
    names = sorted(key for key, dest in core.aq.destinations.items()
                   if key > after and _means(dest, match))  # fmt: skip
    rows = [_dest_state(core, core.aq.destinations[key], now_s) for key in names[:limit]]
    if len(names) > limit:
        return rows, names[limit - 1]
    if match and not rows:
        rows.append(deferred_destination(core, now_s, match))
    known = {
        (target.address, target.port)
        for dest in core.aq.destinations.values()
        for target in dest.targets
    }
    others = []
    for host in core.dispatch.occ.hosts():
        address, port = host.key
        if host.key not in known and host.error and match.lower() in ("", address.lower()):
            target = Target(host=address, address=address, port=port)
            others.append(_host_state(core, host, target, now_s))
            if len(others) >= MAX_OTHER_HOSTS:
                break
    if others:
        rows.append(DestState(dest="", waiting=0, sessions=0, idle=0, hosts=others))
    return rows, ""
