"""Scheduler: which destination delivers next, over which session of which smtpc.

Kind: core.

Destinations take turns as qmgr/turns.py has it, one transaction each.

A session that is open to a destination is used again, up to STREAK turns before others have
theirs; else a new one is opened if the remote address has room in its window and this
destination does not hold more sessions than are left for all others. What cannot start now waits
where the reason is: at the address (window), or with the starved (capacity). Nothing here waits
for time: an address that is blocked ends the wait of its mail at once (the caller defers it).
Limits: sessions by the capacity that the smtpc processes announced.
Source: SPEC rows X016, X187-X190, X195; architecture.md; I5.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable
from itertools import takewhile

import attrs

from libsmx.wire import Target
from qmgr.aq import Aq
from qmgr.limits import Limits
from qmgr.occ import Occ
from qmgr.places import Carrier, Delivery, DeliverySession, Destination, Host, HostKey
from qmgr.ta import State
from qmgr.turns import Turns, extra_turns

STREAK = 10
"""Turns that a session may take in a row while other destinations wait."""


@attrs.define
class Round:
    """What one round of scheduling decided."""

    deliveries: list[Delivery] = attrs.field(factory=list)
    ended: list[DeliverySession] = attrs.field(factory=list)
    """Idle sessions to be closed, to make room."""
    blocked: list[Destination] = attrs.field(factory=list)
    """Destinations none of whose addresses may be tried now."""


def equals(targets: list[Target]) -> list[Target]:
    """Return the addresses that are as good as the first one."""
    rank = targets[0].rank
    return list(takewhile(lambda target: target.rank == rank > 0, targets)) or targets[:1]


def first_to(host: Host, targets: list[Target]) -> list[Target]:
    """Return addresses to try with that of a host first, if it is as good as the first one."""
    key = host.key
    if (targets[0].address, targets[0].port) == key or not targets[0].rank:
        return targets
    mine = [target for target in equals(targets) if (target.address, target.port) == key]
    return mine + [target for target in targets if target not in mine]


class Scheduler:
    """See the module.

    Attributes:
        turns: counts busy sessions and knows who comes next.
        carriers: smtpc processes by channel.
    """

    def __init__(self, aq: Aq, occ: Occ, limits: Limits) -> None:
        self.turns = Turns(occ)
        self.carriers: dict[int, Carrier] = {}
        self._aq = aq
        self._occ = occ
        self._limits = limits
        self._starved: list[Destination] = []
        self._resume: deque[DeliverySession] = deque()
        self._idle: OrderedDict[int, DeliverySession] = OrderedDict()
        self._last_id = 0

    @property
    def idle(self) -> int:
        """Sessions that are kept for more mail."""
        return len(self._idle)

    @property
    def busy(self) -> int:
        """Sessions that have a transaction."""
        return self.turns.busy

    @property
    def capacity(self) -> int:
        """Sessions that all smtpc processes can run."""
        return self.turns.capacity

    # --- smtpc processes ---------------------------------------------------------------

    def carrier_opened(self, channel: int, capacity: int) -> None:
        """Count with a smtpc process."""
        self.carriers[channel] = Carrier(channel, capacity)
        self.turns.capacity += capacity
        self._wake_starved()

    def carrier_closed(self, channel: int) -> list[Delivery]:
        """Forget a smtpc process and its sessions; return what it was delivering."""
        carrier = self.carriers.pop(channel, None)
        if carrier is None:
            return []
        self.turns.capacity -= carrier.capacity
        lost = []
        for session in list(carrier.sessions.values()):
            if session.delivery is not None:
                lost.append(session.delivery)
            self.end(session)
        return lost

    # --- rounds ------------------------------------------------------------------------

    def enqueue(self, dest: Destination) -> None:
        """Let a destination take its turn."""
        self.turns.enqueue(dest)

    def start(self, now_s: float) -> Round:
        """Start everything that may start now."""
        done = Round()
        while self._resume:
            session = self._resume.popleft()
            if session.id not in self._idle or not session.dest.waiting:
                continue
            if self.turns.must_wait(session.dest):
                session.streak = 0
                self.enqueue(session.dest)
            else:
                self._run(session, now_s, done)
        while (dest := self.turns.next()) is not None:
            if not dest.waiting:
                self._aq.forget(dest)
                continue
            chosen = dest.idle[-1] if dest.idle else self._open(dest, now_s, done)
            if chosen is not None:
                self._run(chosen, now_s, done)
                if dest.waiting:
                    self.enqueue(dest)
        return done

    def _usable(self, dest: Destination, now_s: float) -> list[Target]:
        blocked = self._occ.blocked
        return [t for t in dest.targets if blocked((t.address, t.port), now_s) is None]

    def _open(self, dest: Destination, now_s: float, done: Round) -> DeliverySession | None:
        """Return a new session, or None where there may be none now."""
        targets = self._usable(dest, now_s)
        if not targets:
            done.blocked.append(dest)
            return None
        if dest.sessions >= max(self.turns.free, 1):
            self._starve(dest)
            return None
        host = self._roomiest(targets, now_s)
        if host.open >= host.allowed and not self._end_idle_of(host, done):
            dest.queued = True
            host.parked.append(dest)
            return None
        carrier = self._carrier(done)
        if carrier is None:
            self._starve(dest)
            return None
        self._last_id += 1
        session = DeliverySession(self._last_id, carrier, dest, host)
        carrier.sessions[session.id] = session
        host.open += 1
        dest.sessions += 1
        if host.open < host.allowed:
            self._wake(host)
        return session

    def _roomiest(self, targets: list[Target], now_s: float) -> Host:
        """Return the first address with room among those as good as the first one, else that one.

        A worse address is for when the better ones fail, not for when they are busy.
        """
        first = self._occ.host((targets[0].address, targets[0].port), now_s)
        if first.open < first.allowed:
            return first
        for target in equals(targets)[1:]:
            host = self._occ.host((target.address, target.port), now_s)
            if host.open < host.allowed:
                return host
        return first

    def _starve(self, dest: Destination) -> None:
        dest.queued = True
        self._starved.append(dest)

    def _end_idle_of(self, host: Host, done: Round) -> bool:
        """End an idle session to this address, if there is one."""
        for session in self._idle.values():
            if session.host is host:
                self.end(session)
                done.ended.append(session)
                return True
        return False

    def _carrier(self, done: Round) -> Carrier | None:
        """Return the process with most room, made by ending an idle session if need be."""
        usable = [carrier for carrier in self.carriers.values() if not carrier.full]
        if not usable:
            return None
        best = max(usable, key=lambda carrier: carrier.capacity - len(carrier.sessions))
        if best.capacity > len(best.sessions):
            return best
        for session in self._idle.values():
            if not session.carrier.full:
                self.end(session)
                done.ended.append(session)
                return session.carrier
        return None

    def _run(self, session: DeliverySession, now_s: float, done: Round) -> None:
        """Give the next transaction of its destination to a session."""
        dest = session.dest
        if self._idle.pop(session.id, None) is not None:
            dest.idle.remove(session)
        limits, retry = self._limits, dest.retry_next
        group = dest.take(limits.lmtp_max_rcpts if dest.lmtp else limits.smtp_max_rcpts)
        for rcpt in group.rcpts:
            rcpt.state = State.DELIVERING
        extra = extra_turns(len(group.rcpts))
        dest.debt = dest.debt + extra if dest.waiting else 0
        session.streak += 1 + extra
        self._last_id += 1
        targets = first_to(session.host, self._usable(dest, now_s) or dest.targets)
        slow = session.host.slow
        session.delivery = Delivery(
            self._last_id, session, group.ta, group.rcpts, targets, now_s, retry, slow
        )
        session.host.used_at = now_s
        self.turns.begun(session.delivery)
        done.deliveries.append(session.delivery)

    # --- ends --------------------------------------------------------------------------

    def finished(self, session: DeliverySession, now_s: float, *, is_open: bool) -> None:
        """Take a session back after its transaction.

        Args:
            session: one whose delivery is done; its destination may have got mail back.
            now_s: wall time.
            is_open: the session can take another transaction; it is forgotten if it cannot,
                or has had as many as it may.
        """
        session.tas += 1
        dest = session.dest
        keep = is_open and session.tas < self._limits.max_tas_per_session
        session.carrier.full = False
        if not keep:
            self.end(session)
            if dest.waiting:
                self.enqueue(dest)
            return
        self._rest(session)
        session.idle_since = now_s
        dest.idle.append(session)
        self._idle[session.id] = session
        if dest.waiting and session.streak < STREAK:
            self._resume.append(session)
        else:
            session.streak = 0
            self._wake(session.host)
            if dest.waiting:
                self.enqueue(dest)
        self._wake_starved()

    def _rest(self, session: DeliverySession) -> None:
        """Note that a session does nothing now."""
        if session.delivery is not None:
            self.turns.ended(session.delivery)
            session.delivery = None

    def end(self, session: DeliverySession) -> None:
        """Forget a session, busy or idle."""
        del session.carrier.sessions[session.id]
        dest, host = session.dest, session.host
        if self._idle.pop(session.id, None) is not None:
            dest.idle.remove(session)
        self._rest(session)
        dest.sessions -= 1
        host.open -= 1
        host.good -= session.good
        self._wake(host)
        self._wake_starved()
        self._aq.forget(dest)

    def refused(self, session: DeliverySession) -> None:
        """Note that a process could not take a delivery; the session does not exist."""
        session.carrier.full = True
        self.end(session)

    def idle_lost(self, channel: int, session_id: int) -> None:
        """Note that an idle session closed by itself; one that got work meanwhile is alive."""
        carrier = self.carriers.get(channel)
        session = carrier.sessions.get(session_id) if carrier is not None else None
        if session is not None and session.delivery is None:
            self.end(session)

    def expire(self, now_s: float) -> list[DeliverySession]:
        """End sessions that were idle for too long; let full processes be asked again."""
        ended = []
        while self._idle:
            session = next(iter(self._idle.values()))
            if now_s - session.idle_since < self._limits.max_idle_s:
                break
            self.end(session)
            ended.append(session)
        for carrier in self.carriers.values():
            carrier.full = False
        self._wake_starved()
        return ended

    # --- what the remote addresses showed ------------------------------------------------

    def moved(self, session: DeliverySession, key: HostKey, now_s: float) -> Host:
        """Count a session against the address it really reached; return that address."""
        old = session.host
        if key != old.key:
            new = self._occ.host(key, now_s)
            old.open -= 1
            old.good -= session.good
            new.open += 1
            new.good += session.good
            session.host = new
            self._wake(old)
        return session.host

    def worked(self, session: DeliverySession) -> None:
        """Note a transaction that the host of a session took or judged."""
        host = session.host
        if not session.good:
            session.good = True
            host.good += 1
        self._occ.succeeded(host)
        self._wake(host)

    def wake_all(self, hosts: Iterable[Host]) -> None:
        """Let everything that waits for these addresses see that they are blocked now."""
        for host in hosts:
            while host.parked:
                self._wake(host)

    def _wake(self, host: Host) -> None:
        """Let one destination that waits for an address try again."""
        if host.parked:
            dest = host.parked.popleft()
            dest.queued = False
            self.enqueue(dest)

    def _wake_starved(self) -> None:
        """Let all destinations that wait for capacity try again."""
        if self._starved:
            starved, self._starved = self._starved, []
            for dest in starved:
                dest.queued = False
                self.enqueue(dest)
