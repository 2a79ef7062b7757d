"""A gateway's day in virtual time: the real core of qmgr, everything else simulated.

Messages arrive with a daily rhythm for destinations of different popularity. Hosts are healthy,
slow (tens of seconds a message), dead for hours (a connection times out), stormy (4yz for
minutes, again and again), or half dead (the first of two addresses is dead). Stores, resolver
and network take the time that they take; no clock is read and no randomness is used but the
seed's, so a run is the same every time.
"""

import heapq
import itertools
import math
import random
from collections import Counter, defaultdict

import attrs

from libsmx import wire
from libsmx.envelope import Envelope, Recipient
from libsmx.ids import format_ta_id
from qmgr import effects as fx
from qmgr.core import QueueManager
from qmgr.limits import Limits

T0 = 1_700_000_000.0
SMTPS, SMTPC = 1, 100
DISK_S, BATCH_S, ROUTE_S = 0.002, 0.05, 0.003
CONNECT_S, TIMEOUT_S = 0.03, 30.0
LIMITS = Limits(dsn_merge_s=0.0)
KINDS = ("healthy", "slow", "dead", "storm", "half")


@attrs.frozen
class Plan:
    """What is simulated.

    Attributes:
        messages: how many, over ``hours``.
        destinations: a tenth is slow, a tenth dead, one stormy, one in a hundred half dead.
        bad: False: all of them are healthy instead; everything else is the same.
        capacity: delivery sessions.
    """

    messages: int
    destinations: int
    seed: int = 1
    hours: float = 24.0
    bad: bool = True
    capacity: int = 100
    limits: Limits = LIMITS

    def kind(self, number):
        """The kind of a destination, whether or not the plan lets it show."""
        if number == 2:
            return "storm"
        return {0: "slow", 1: "dead"}.get(number % 10, "half" if number % 100 == 3 else "healthy")


@attrs.define
class Seen:
    """What a run showed."""

    delays: dict = attrs.field(factory=lambda: defaultdict(list))
    """Kind -> seconds from acceptance to delivery."""
    attempts: dict = attrs.field(factory=lambda: defaultdict(list))
    """(ta, idx) -> times at which it was handed to a host that could be reached."""
    recoveries: list = attrs.field(factory=list)
    """Seconds from a dead host's return to the delivery of mail that waited for it."""
    connects: dict = attrs.field(factory=lambda: defaultdict(list))
    """Address -> times at which a connection to it failed."""
    delivered: Counter = attrs.field(factory=Counter)
    sent: int = 0
    most_open: Counter = attrs.field(factory=Counter)
    early: int = 0
    """Sessions opened beyond what slow start allows."""
    most_active: int = 0
    ended_at: float = 0.0


class Gateway:
    """One run."""

    def __init__(self, plan):
        self.plan = plan
        self.seen = Seen()
        self.now = T0
        self.mail = random.Random(plan.seed)
        self.chance = random.Random(plan.seed + 1)
        self.heap = []
        self.order = itertools.count()
        self.core = QueueManager(plan.limits, first_id=1, draw=self.chance.random)
        self.envelopes, self.deferred, self.due = {}, {}, []
        self.batch = False
        self.sessions, self.open, self.worked = {}, Counter(), Counter()
        self.number = 0
        self.weights = list(
            itertools.accumulate(1 / (n + 20) ** 0.7 for n in range(plan.destinations))
        )
        # Each dead host has its own hours.
        self.dead = {}
        for n in range(plan.destinations):
            begin = T0 + self.chance.uniform(0, 0.5) * plan.hours * 3600
            self.dead[n] = (begin, begin + self.chance.uniform(0.1, 0.4) * plan.hours * 3600)
        core = self.core
        core.smtps_opened(SMTPS)
        core.smar_opened()
        core.smtpc_opened(SMTPC, plan.capacity)
        core.session_open(self.now, SMTPS, 0, wire.SessionOpen(session="s", client="192.0.2.1"))

    # --- time ----------------------------------------------------------------------------

    def after(self, seconds, function, *args):
        """Do something later."""
        heapq.heappush(self.heap, (self.now + seconds, next(self.order), function, args))

    def run(self):
        """Run until all mail has gone, and return what was seen."""
        self.after(0, self.arrive)
        self.after(1, self.tick)
        latest = T0 + (self.plan.hours + 48) * 3600
        while self.seen.sent < self.plan.messages or self.core.tas.ibdb or self.deferred:
            self.now, _, function, args = heapq.heappop(self.heap)
            function(*args)
            self.core.turn(self.now)
            for effect in self.core.take():
                self.effect(effect)
            if not self.batch and self.core.closing.batch_waits:
                self.batch = True
                self.after(BATCH_S, self.write_batch)
            assert self.now < latest, "mail is left that nobody delivers"
        self.seen.ended_at = self.now - T0
        return self.seen

    def arrive(self):
        """A message comes, and the next one is planned."""
        plan = self.plan
        self.number += 1
        ta_id = format_ta_id(self.number, 0)
        count = 1 if self.mail.random() < 0.9 else self.mail.randint(2, 20)
        names = self.mail.choices(range(plan.destinations), cum_weights=self.weights, k=count)
        env = Envelope(
            ta_id=ta_id, cdb_id=ta_id, sender="", size=5000, received_at=self.now,
            rcpts=[Recipient(idx=i, address=f"u@{n}.test") for i, n in enumerate(names)],
        )  # fmt: skip
        core = self.core
        core.ta_open(SMTPS, 0, wire.TaOpen(ta_id=ta_id, session="s"))
        core.ta_commit(self.now, SMTPS, 0, wire.TaCommit(envelope=env))
        self.seen.sent += 1
        if self.seen.sent < plan.messages:
            mean = plan.hours * 3600 / plan.messages
            phase = (self.now - T0) / 3600 / 24 * 2 * math.pi
            self.after(self.mail.expovariate((1 + 0.7 * math.sin(phase)) / mean), self.arrive)

    def tick(self):
        """A second passed."""
        self.core.tick(self.now)
        self.load()
        self.seen.most_active = max(self.seen.most_active, self.core.aq.entries)
        self.after(1, self.tick)

    # --- effects -------------------------------------------------------------------------

    def effect(self, effect):
        """Begin what the core wants."""
        match effect:
            case fx.Commit():
                self.after(DISK_S, self.core_event, "committed", effect, None)
            case fx.Note():
                self.after(DISK_S, self.core_event, "noted", effect, None)
            case fx.AskRoute():
                routes = [self.route(rcpt.address) for rcpt in effect.rcpts]
                answer = wire.RouteAnswer(routes=routes)
                self.after(ROUTE_S, self.core_event, "routed", effect, answer)
            case fx.Deliver():
                self.deliver(effect.delivery)
            case fx.Answer(message=wire.SessionEnd(da_sess=number)):
                self.close(number)
            case fx.Answer(message=wire.Refusal()):
                raise AssertionError(f"refused: {effect.message}")

    def core_event(self, name, *args):
        """Tell the core."""
        getattr(self.core, name)(self.now, *args)

    def write_batch(self):
        """The DEFEDB has a batch."""
        self.batch = False
        batch = self.core.closing.take_batch()
        for env, rcpts in batch.put:
            self.envelopes[env.ta_id] = env
            for rcpt in rcpts:
                key = (rcpt.ta_id, rcpt.idx)
                self.deferred[key] = rcpt
                heapq.heappush(self.due, (rcpt.next_try_at, key))
        for ta_id, idxs in batch.remove:
            for idx in idxs:
                del self.deferred[ta_id, idx]
        self.core.applied(batch, [])

    def load(self):
        """Load what is due, as far as there is room."""
        room, loaded = self.core.aq.room_to_load(), []
        while self.due and self.due[0][0] <= self.now and len(loaded) < room:
            at, key = heapq.heappop(self.due)
            rcpt = self.deferred.get(key)
            if rcpt is not None and rcpt.next_try_at == at:
                if self.core.tas.holds(*key):
                    heapq.heappush(self.due, (at + 1, key))
                    self.deferred[key] = attrs.evolve(rcpt, next_try_at=at + 1)
                else:
                    loaded.append((self.envelopes[key[0]], [rcpt]))
        if loaded:
            self.core.loaded(loaded)

    def route(self, address):
        """Where a recipient goes."""
        name = address.rpartition("@")[2]
        both = self.plan.kind(int(name.partition(".")[0])) == "half"
        hosts = [f"a.{name}", f"b.{name}"] if both else [f"a.{name}"]
        return wire.Route(
            dest=name, targets=[wire.Target(host=h, address=h, port=25) for h in hosts]
        )

    # --- the network ---------------------------------------------------------------------

    def is_dead(self, address):
        """Whether a connection to an address times out now."""
        place, number, _ = address.split(".")
        if not self.plan.bad or place != "a" or self.plan.kind(int(number)) not in {"dead", "half"}:
            return False
        begin, end = self.dead[int(number)]
        return begin <= self.now < end

    def deliver(self, delivery):
        """A smtpc works on a transaction; its results come when they come."""
        session, attempts, seconds = delivery.session, [], 0.0
        address = self.sessions.get(session.id, "")
        if not address:
            seconds = CONNECT_S
            for target in delivery.targets:
                if self.is_dead(target.address):
                    seconds += TIMEOUT_S
                    attempts.append(
                        wire.Attempt(address=target.address, text="timed out", refused=True)
                    )
                    self.seen.connects[target.address].append(self.now)
                else:
                    address = target.address
                    break
            counted = delivery.targets[0].address
            if address == counted:
                self.open[address] += 1
                limits, most = self.plan.limits, self.open[address]
                self.seen.most_open[address] = max(self.seen.most_open[address], most)
                if most > limits.out_initial_connections + self.worked[address]:
                    self.seen.early += 1
            self.sessions[session.id] = address
        for rcpt in delivery.rcpts if address else ():
            self.seen.attempts[rcpt.ta.envelope.ta_id, rcpt.idx].append(self.now)
        number = int(session.dest.key.partition(".")[0])
        kind = self.plan.kind(number) if self.plan.bad else "healthy"
        if address:
            slow = kind == "slow"
            seconds += self.chance.uniform(20, 60) if slow else self.chance.uniform(0.05, 0.2)
        self.after(seconds, self.report, delivery, address, attempts, kind)

    def report(self, delivery, address, attempts, kind):
        """The results of a transaction."""
        # A storm of five minutes in each quarter of an hour.
        stormy = kind == "storm" and (self.now - T0) % 900 < 300
        code, status, text = (250, "2.0.0", "ok")
        if not address:
            code, status, text = (451, "4.4.1", "no host took it")
        elif stormy:
            code, status, text = (451, "4.7.1", "later")
        for rcpt in delivery.rcpts:
            if code == 250:
                env = rcpt.ta.envelope
                number = int(rcpt.address.partition("@")[2].partition(".")[0])
                self.seen.delays[self.plan.kind(number)].append(self.now - env.received_at)
                self.seen.delivered[env.ta_id, rcpt.idx] += 1
                back_at = self.dead[number][1]
                if kind == "dead" and env.received_at < back_at < self.now:
                    self.seen.recoveries.append(self.now - back_at)
        session = delivery.session
        if code == 250:
            self.worked[address] += 1
        if not address:
            self.close(session.id)
        answer = wire.Delivered(
            da_sess=session.id, da_ta=delivery.id, open=bool(address), host=address,
            address=address, attempts=attempts,
            results=[
                wire.RcptResult(idx=rcpt.idx, code=code, status=status, text=text)
                for rcpt in delivery.rcpts
            ],
        )  # fmt: skip
        self.core.delivered(self.now, delivery, answer)

    def close(self, number):
        """A session is over."""
        address = self.sessions.pop(number, "")
        if address:
            self.open[address] -= 1
