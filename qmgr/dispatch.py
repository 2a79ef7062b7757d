"""Dispatch: from routes to deliveries, from results to verdicts.

Kind: core.

Between the address resolver's answer and the closing of a recipient: puts routed recipients
into the queue of their destination, starts what may start, and turns what smtpc reports into
verdicts on recipients and knowledge about addresses.
Source: SPEC rows X016, X017, X195, X196; architecture.md; I5.
"""

from collections.abc import Callable, Sequence

from libsmx.wire import Delivered, RcptResult, Refusal, Route, Target
from libsmx.wire_control import Suspension
from qmgr import events
from qmgr.aq import Aq
from qmgr.bounce import DELIVERED, RELAYED, News
from qmgr.closing import Closing, Recorder
from qmgr.expansion import Expansion
from qmgr.limits import Limits
from qmgr.occ import Occ
from qmgr.places import Delivery, DeliverySession, Destination, Host, HostKey
from qmgr.sched import Round, Scheduler
from qmgr.suspend import Suspensions, describe
from qmgr.ta import Rcpt, State, Transaction
from qmgr.wish import KEEP, obey

CROWD_PAUSE_S = 60.0
"""Mail beyond a destination's share of the active queue comes back after this time."""
MAX_LOSSES = 3
"""A recipient is handed out again so often when its smtpc process dies or a host that works
elsewhere refuses one more connection; then it is deferred, lest it do so for ever."""
FLUSH_MEMORY_S = 600.0
MAX_FLUSHES = 100


def _key(target: Target) -> HostKey:
    return target.address, target.port


def _permanent(code: int) -> bool:
    return 500 <= code < 600


class Dispatch:
    """See the module.

    Args:
        aq: the active queue.
        closing: takes verdicts.
        limits: for the scheduler and the connection cache.
        record: logs an event.
        draw: returns a random number, 0 <= r < 1, for jitter.
        expansion: lets members take the place of a list.

    Attributes:
        losses: deliveries that were lost since somebody set this to 0.
    """

    def __init__(
        self,
        aq: Aq,
        closing: Closing,
        limits: Limits,
        record: Recorder,
        draw: Callable[[], float],
        expansion: Expansion,
    ) -> None:
        self.aq = aq
        self._expansion = expansion
        self.occ = Occ(
            limits.out_initial_connections,
            limits.out_max_connections,
            limits.occ_max_entries,
            closing.retry,
        )
        self.sched = Scheduler(aq, self.occ, limits)
        self._closing = closing
        self._record = record
        self._draw = draw
        self._crowd_pause_s = min(CROWD_PAUSE_S, limits.retry_min_s)
        self._flushes: dict[str, float] = {}
        self.losses = 0
        self.suspensions = Suspensions()

    def _delay_s(self, rcpt: Rcpt) -> float:
        return self._closing.retry.delay_s(rcpt.tries, self._draw())

    # --- routes ----------------------------------------------------------------------------

    def routed(self, now_s: float, rcpts: Sequence[Rcpt], routes: Sequence[Route]) -> None:
        """Take the routes of recipients, in their order."""
        for rcpt, route in zip(rcpts, routes, strict=True):
            if rcpt.state is not State.ROUTING:
                continue  # it left the active queue meanwhile
            self.aq.routing -= 1
            if route.expand:
                self._expansion.expand(now_s, rcpt, route)
            elif route.targets and not route.code:
                self._wait(now_s, rcpt, route)
            elif _permanent(route.code):
                self._closing.fail(rcpt, status=route.status or "5.4.4", text=route.text)
            else:
                self._defer_unrouted(now_s, rcpt, route.status, route.text, dest=route.dest)

    def unroutable(self, now_s: float, rcpts: Sequence[Rcpt], refusal: Refusal) -> None:
        """Defer recipients about which the resolver cannot say anything now."""
        for rcpt in rcpts:
            if rcpt.state is State.ROUTING:
                self.aq.routing -= 1
                self._defer_unrouted(now_s, rcpt, refusal.status, refusal.text)

    def _defer_unrouted(
        self, now_s: float, rcpt: Rcpt, status: str, text: str, dest: str = ""
    ) -> None:
        rcpt.tries += 1
        self._closing.defer(
            rcpt, now_s, self._delay_s(rcpt), dest=dest, status=status or "4.4.3", text=text
        )

    def _wait(self, now_s: float, rcpt: Rcpt, route: Route) -> None:
        """Put a recipient into the queue of its destination."""
        rcpt.dest = route.dest
        targets = route.targets
        if self.suspensions:
            targets, found = self.suspensions.check(now_s, route.dest, rcpt.address, targets)
            if found is not None:
                self._suspend(now_s, rcpt, found)
                return
        dest = self.aq.destination(route.dest, targets, lmtp=route.lmtp)
        if self._flushes:
            self._unblock(dest, rcpt.address)
        if self.aq.crowded(dest):
            self._closing.postpone(
                rcpt,
                now_s + self._crowd_pause_s * (1 + self._draw()),
                dest=dest.key,
                status="4.3.2",
                text="Much mail waits for this destination",
            )
            return
        dest.add(rcpt)
        self.sched.enqueue(dest)

    def _suspend(self, now_s: float, rcpt: Rcpt, found: Suspension) -> None:
        """Let a recipient wait until a suspension ends, or is looked at again."""
        at = now_s + self._closing.retry.max_s
        self._closing.postpone(
            rcpt,
            min(found.until or at, at),
            dest=rcpt.dest,
            status="4.3.2",
            text=describe(found),
            via=found.name,
        )

    def suspend(self, now_s: float) -> int:
        """Let mail that waits in memory obey the suspensions in force; return how much did."""
        count = 0
        for dest in list(self.aq.destinations.values()):
            gone: dict[Rcpt, Suspension] = {}
            targets = dest.targets
            for group in (*dest.groups, *dest.retries):
                for rcpt in group.rcpts:
                    left, found = self.suspensions.check(
                        now_s, dest.key, rcpt.address, dest.targets
                    )
                    if found is not None:
                        gone[rcpt] = found
                    else:
                        targets = left
            dest.targets = targets
            dest.remove(set(gone))
            for rcpt, found in gone.items():
                self._suspend(now_s, rcpt, found)
            count += len(gone)
        return count

    # --- deliveries ------------------------------------------------------------------------

    def start(self, now_s: float) -> Round:
        """Start what may start; what may not be tried now is deferred at once."""
        done = self.sched.start(now_s)
        for dest in done.blocked:
            hosts = self._blocked(dest, now_s)
            until = min((host.blocked_until for host in hosts), default=now_s)
            text = hosts[0].error if hosts else "no address"
            for rcpt in dest.clear():
                self._closing.defer(
                    rcpt,
                    now_s,
                    max(until - now_s, 0.0),
                    dest=dest.key,
                    status="4.4.1",
                    text=f"Not tried again yet: {text}",
                )
            self.aq.forget(dest)
        return done

    def _blocked(self, dest: Destination, now_s: float) -> list[Host]:
        found = (self.occ.blocked(_key(target), now_s) for target in dest.targets)
        return [host for host in found if host is not None]

    def delivered(self, now_s: float, delivery: Delivery, message: Delivered) -> None:
        """Take the results of a delivery; one that is not under way is ignored."""
        session = delivery.session
        if session.delivery is not delivery:
            return
        if message.da_ta != delivery.id or message.da_sess != session.id:
            self._odd(delivery, f"it answers {message.da_sess}/{message.da_ta}")
            self.lost(now_s, delivery)
            return
        reached = self._learn(now_s, delivery, message)
        dest = session.dest
        results = {result.idx: result for result in message.results}
        again: list[Rcpt] = []
        for rcpt in delivery.rcpts:
            result = results.pop(rcpt.idx, None)
            if result is None:
                self._odd(delivery, f"no result for recipient {rcpt.idx}")
                self._defer(now_s, rcpt, dest, "4.3.0", "No result for this recipient", "")
            elif 200 <= result.code < 300:
                self._closing.deliver(rcpt, self._success(now_s, rcpt, dest, message, result))
            elif _permanent(result.code) and rcpt.wish not in KEEP:
                self._closing.fail(
                    rcpt,
                    status=result.status,
                    text=result.text,
                    remote=message.host,
                    attempt_at=now_s,
                )
            elif not reached and rcpt.losses < MAX_LOSSES and self._usable(dest, now_s):
                rcpt.losses += 1
                again.append(rcpt)
            else:
                self._defer(now_s, rcpt, dest, result.status, result.text, message.host)
        if results:
            self._odd(delivery, f"results for {len(results)} recipients that it did not have")
        self._back(now_s, dest, delivery.ta, again)
        self.sched.finished(session, now_s, is_open=message.open)

    def _success(
        self, now_s: float, rcpt: Rcpt, dest: Destination, message: Delivered, result: RcptResult
    ) -> News | None:
        """Return what to report of a delivery, None where nobody asked or the next hop does."""
        if not rcpt.recipient.notify or message.dsn:
            return None
        action = DELIVERED if dest.lmtp else RELAYED
        return News(action, result.status, result.text, message.host, now_s)

    def _usable(self, dest: Destination, now_s: float) -> bool:
        return len(self._blocked(dest, now_s)) < len(dest.targets)

    def _defer(
        self, now_s: float, rcpt: Rcpt, dest: Destination, status: str, text: str, remote: str
    ) -> None:
        """Defer a recipient after an attempt, not to before its destination may be tried."""
        rcpt.tries += 1
        wait_s = self._delay_s(rcpt)
        hosts = self._blocked(dest, now_s)
        if hosts and len(hosts) == len(dest.targets):
            wait_s = max(wait_s, min(host.blocked_until for host in hosts) - now_s)
        self._closing.defer(
            rcpt, now_s, wait_s, dest=dest.key, status=status, text=text, remote=remote
        )

    def _learn(self, now_s: float, delivery: Delivery, message: Delivered) -> bool:
        """Note what a delivery showed of the addresses; tell whether a server was reached."""
        session = delivery.session
        keys = {target.address: _key(target) for target in reversed(delivery.targets)}
        refused = set()
        for attempt in message.attempts:
            key = keys.get(attempt.address)
            if attempt.refused and key is not None:
                refused.add(attempt.address)
                self._host_failed(now_s, key, attempt.text)
        key = keys.get(message.address)
        codes = {result.code for result in message.results}
        good = any(200 <= code < 300 or _permanent(code) for code in codes)
        if key is None or message.address in refused:
            # Nothing judged the mail but smtpc itself (the content is gone, no address works).
            return not refused or good
        host = self.sched.moved(session, key, now_s)
        if not refused:
            self.occ.paced(host, now_s - delivery.started_at)
        if good:
            self.sched.worked(session)
        elif 421 in codes:
            self.occ.slowed(host)
        return True

    def _host_failed(self, now_s: float, key: HostKey, text: str) -> None:
        host = self.occ.host(key, now_s)
        was_blocked = self.occ.blocked(key, now_s) is not None
        if self.occ.failed(host, now_s, text, self._draw()):
            self.sched.wake_all([host])
            if not was_blocked:
                self._record(
                    events.HOST_BLOCKED,
                    address=key[0],
                    port=key[1],
                    seconds=host.blocked_until - now_s,
                    text=text,
                )

    def _odd(self, delivery: Delivery, problem: str) -> None:
        self._record(events.RESULT_ODD, da_ta=delivery.id, problem=problem)

    # --- losses ----------------------------------------------------------------------------

    def refused(self, now_s: float, delivery: Delivery, refusal: Refusal) -> None:
        """A smtpc process has no room or no use for a delivery: another one gets it."""
        session = delivery.session
        if session.delivery is not delivery:
            return
        self.sched.refused(session)
        if _permanent(refusal.code):
            for rcpt in delivery.rcpts:
                self._defer(now_s, rcpt, session.dest, refusal.status, refusal.text, "")
        else:
            self._again(now_s, delivery)

    def lost(self, now_s: float, delivery: Delivery) -> None:
        """The answer to a delivery will not come; its recipients go back to the queue."""
        session = delivery.session
        if session.delivery is delivery:
            # Most likely its channel is closing: what it loses must not go there again.
            self.sched.refused(session)
            self._lost(now_s, delivery)

    def carrier_closed(self, now_s: float, channel: int) -> None:
        """A smtpc process went away with everything that it was doing."""
        for delivery in self.sched.carrier_closed(channel):
            self._lost(now_s, delivery)

    def _lost(self, now_s: float, delivery: Delivery) -> None:
        self.losses += 1
        for rcpt in delivery.rcpts:
            rcpt.losses += 1
            if rcpt.losses > MAX_LOSSES:
                text = "The process that delivers it ended several times"
                self._defer(now_s, rcpt, delivery.session.dest, "4.3.0", text, "")
        self._again(now_s, delivery)

    def _again(self, now_s: float, delivery: Delivery) -> None:
        """Put what is left of a delivery in front of its destination's queue."""
        rcpts = [rcpt for rcpt in delivery.rcpts if rcpt.state is State.DELIVERING]
        if rcpts:
            ended = delivery.session.dest
            # Its last session may have taken the destination with it.
            dest = self.aq.destinations.setdefault(ended.key, ended)
            self._back(now_s, dest, delivery.ta, rcpts)
            self.sched.enqueue(dest)

    def _back(self, now_s: float, dest: Destination, ta: Transaction, rcpts: list[Rcpt]) -> None:
        """Put recipients in front of a queue again, or do with them what an operator wants."""
        for rcpt in rcpts:
            if rcpt.wish:
                obey(self._closing, rcpt, now_s)
        left = [rcpt for rcpt in rcpts if rcpt.state is State.DELIVERING]
        if left:
            dest.put_back(ta, left)

    # --- by hand and by time -----------------------------------------------------------------

    def flush(self, now_s: float, match: str) -> None:
        """Let addresses be tried again once: all, or those that mail for ``match`` needs."""
        if not match:
            self.occ.flush(now_s)
        elif len(self._flushes) < MAX_FLUSHES:
            self._flushes[match.lower()] = now_s

    def _unblock(self, dest: Destination, address: str) -> None:
        for name in (dest.key.lower(), address.rpartition("@")[2].lower()):
            flushed_at = self._flushes.get(name)
            if flushed_at is not None:
                for target in dest.targets:
                    self.occ.unblock(_key(target), flushed_at)

    def tick(self, now_s: float) -> list[DeliverySession]:
        """Let time pass; return idle sessions that must be closed."""
        self.occ.expire(now_s)
        if self._flushes:
            past = now_s - FLUSH_MEMORY_S
            self._flushes = {name: at for name, at in self._flushes.items() if at > past}
        return self.sched.expire(now_s)
