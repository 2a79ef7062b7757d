"""A queue manager core with everything around it faked: stores, resolver, smtpc, remote hosts.

Effects wait in lists until a test lets them happen, so every order of events can be tried and
a crash can fall between any two. ``settle`` lets everything happen in the natural order.
"""

import random
from collections import Counter, deque

import attrs

from libsmx.envelope import Envelope, Recipient
from libsmx.errors import StoreError
from libsmx.ids import format_ta_id
from libsmx.wire import (
    Attempt,
    Delivered,
    RcptResult,
    Refusal,
    Route,
    RouteAnswer,
    SessionEnd,
    SessionOpen,
    TaCommit,
    TaCommitted,
    TaOpen,
    Target,
)
from qmgr import effects as fx
from qmgr.core import QueueManager
from qmgr.limits import Limits
from qmgr.records import DeferredRcpt

T0 = 1_700_000_000.0
SMTPS, SMTPC = 1, 100
OK = (250, "2.0.0", "250 ok")
TEMP = (451, "4.3.0", "451 later")
PERM = (550, "5.1.1", "550 no such user")
DEAD = "dead"


def envelope(number, rcpts, sender="s@example.org", received_at=T0):
    ta_id = format_ta_id(number, 0)
    return Envelope(
        ta_id=ta_id,
        cdb_id=ta_id,
        sender=sender,
        rcpts=[Recipient(idx=i, address=a) for i, a in enumerate(rcpts)],
        size=1000,
        received_at=received_at,
    )


class World:
    def __init__(self, limits=None, seed=1, capacity=20, carriers=1):
        self.limits = limits or Limits()
        self.now = T0
        self.rng = random.Random(seed)
        self.capacity, self.carriers = capacity, carriers
        self.number = 0
        self.behaviour = {}  # domain -> OK, TEMP, PERM, DEAD or function(address, now)
        self.routes = {}  # domain -> Route
        self.ibdb = {}  # ta_id -> (envelope, open idxs)
        self.defedb = {}  # (ta_id, idx) -> DeferredRcpt
        self.envelopes = {}  # of the DEFEDB
        self.contents = set()
        self.peers_report = False  # remote hosts know DSN
        self.delivered = Counter()  # (ta_id, idx) at the remote host
        self.bounces = []  # envelopes of bounces seen
        self.acknowledged = {}  # ta_id -> envelope
        self.records = []
        self.answers = {}
        self.asked = {}
        self.boots = 0
        self.open_at = {}  # da_sess -> domain, at the fake smtpc
        self.boot()

    # --- life --------------------------------------------------------------------------

    def boot(self):
        self.boots += 1
        self.core = QueueManager(self.limits, first_id=self.boots << 32, draw=self.rng.random)
        self.commits, self.notes, self.asks = deque(), deque(), deque()
        self.deliveries = {}
        self.batch = None
        self.sessions_open = {}
        self.core.smtps_opened(SMTPS)
        self.core.smar_opened()
        for n in range(self.carriers):
            self.core.smtpc_opened(SMTPC + n, self.capacity)
        self.rid = 0
        self.core.session_open(self.now, SMTPS, 0, SessionOpen(session="s", client="192.0.2.1"))
        self.pump()

    def crash(self, keep=lambda _: True):
        """Die and recover; ``keep`` says which unsynced records reached the disk."""
        for commit in self.commits:
            if keep(commit):
                self._write(commit.entry)
        for note in self.notes:
            if keep(note):
                self._write(note.entry)
        if self.batch is not None and keep(self.batch):
            self._apply(self.batch)
        for ta_id, (env, idxs) in self.ibdb.items():
            for idx in idxs:
                if (ta_id, idx) not in self.defedb:
                    self.put(env, idx)
        self.ibdb = {}
        # What the daemon does in the background after a grace period.
        self.contents &= {env.cdb_id for env in self.envelopes.values()}
        self.asked = {}
        self.boot()

    def put(self, env, idx, at=None, tries=0):
        address = next(r.address for r in env.rcpts if r.idx == idx)
        self.envelopes[env.ta_id] = env
        self.defedb[env.ta_id, idx] = DeferredRcpt(
            ta_id=env.ta_id,
            idx=idx,
            address=address,
            dest="",
            tries=tries,
            next_try_at=self.now if at is None else at,
            held=bool(env.hold),
        )

    # --- the disk ----------------------------------------------------------------------

    def _write(self, entry):
        for env in entry.new:
            self.ibdb[env.ta_id] = (env, {r.idx for r in env.rcpts})
            self._made(env)
        for closed in entry.closed:
            if closed.ta_id in self.ibdb:
                idxs = self.ibdb[closed.ta_id][1]
                idxs -= set(closed.idxs)
                if not idxs:
                    del self.ibdb[closed.ta_id]

    def _made(self, env):
        if env.dsn is not None and env.ta_id not in {b.ta_id for b in self.bounces}:
            self.bounces.append(env)

    def _apply(self, batch):
        touched = set()
        for env, rcpts in batch.put:
            self.envelopes.setdefault(env.ta_id, env)
            self._made(env)
            for rcpt in rcpts:
                self.defedb[rcpt.ta_id, rcpt.idx] = rcpt
        for ta_id in batch.returned:
            if ta_id in self.envelopes:
                self.envelopes[ta_id] = attrs.evolve(self.envelopes[ta_id], returned=True)
        for ta_id, idxs in batch.remove:
            for idx in idxs:
                del self.defedb[ta_id, idx]
            if not any(key[0] == ta_id for key in self.defedb):
                touched.add(self.envelopes.pop(ta_id).cdb_id)
        still = {env.cdb_id for env in self.envelopes.values()}
        return sorted(touched - still)

    # --- effects -----------------------------------------------------------------------

    def pump(self):
        """End the turn and sort its effects into the lists."""
        self.core.turn(self.now)
        for effect in self.core.take():
            match effect:
                case fx.Answer():
                    self._answered(effect)
                case fx.Commit():
                    self.commits.append(effect)
                case fx.Note():
                    self.notes.append(effect)
                case fx.AskRoute():
                    self.asks.append(effect)
                case fx.Deliver():
                    self.deliveries[effect.delivery.id] = effect
                case fx.RemoveContents():
                    self.contents -= set(effect.cdb_ids)
                case fx.Record():
                    assert set(effect.fields) == set(effect.event.fields), effect
                    self.records.append((effect.event.name, effect.fields))

    def _answered(self, effect):
        self.answers[effect.rid] = effect.message
        if isinstance(effect.message, SessionEnd):
            self.open_at.pop(effect.message.da_sess, None)
        if effect.rid in self.asked:
            env = self.asked.pop(effect.rid)
            if isinstance(effect.message, TaCommitted):
                self.acknowledged[env.ta_id] = env
            else:
                self.contents.discard(env.cdb_id)

    def submit(self, rcpts, sender="s@example.org", received_at=None, notify="", **more):
        """Offer a message; return its envelope, or the Refusal of the reservation."""
        self.number += 1
        env = envelope(self.number, rcpts, sender, self.now if received_at is None else received_at)
        wishes = [attrs.evolve(rcpt, notify=notify) for rcpt in env.rcpts]
        env = attrs.evolve(env, rcpts=wishes, **more)
        self.rid += 1
        self.core.ta_open(SMTPS, self.rid, TaOpen(ta_id=env.ta_id, session="s"))
        self.pump()
        if isinstance(self.answers[self.rid], Refusal):
            return self.answers[self.rid]
        self.contents.add(env.cdb_id)
        self.rid += 1
        self.asked[self.rid] = env
        self.core.ta_commit(self.now, SMTPS, self.rid, TaCommit(envelope=env))
        self.pump()
        return env

    def do_commit(self, fail=False):
        commit = self.commits.popleft()
        if not fail:
            self._write(commit.entry)
        self.core.committed(self.now, commit, StoreError("disk") if fail else None)
        self.pump()

    def do_note(self, fail=False):
        note = self.notes.popleft()
        if not fail:
            self._write(note.entry)
        self.core.noted(self.now, note, StoreError("disk") if fail else None)
        self.pump()

    def begin_batch(self):
        if self.batch is None:
            self.batch = self.core.closing.take_batch()

    def end_batch(self, fail=False):
        batch, self.batch = self.batch, None
        if fail:
            self.core.apply_failed(batch, StoreError("disk"))
        else:
            self.core.applied(batch, self._apply(batch))
        self.pump()

    def load(self):
        """Load due recipients as the daemon does; not while a batch is written."""
        room = self.core.aq.room_to_load()
        if self.batch is not None or room <= 0:
            return 0
        due = sorted(
            (
                r
                for r in self.defedb.values()
                if r.next_try_at <= self.now
                and not r.held
                and not self.core.tas.holds(r.ta_id, r.idx)
            ),
            key=lambda r: r.next_try_at,
        )[:room]
        self.core.loaded([(self.envelopes[r.ta_id], [r]) for r in due])
        self.pump()
        return len(due)

    def route(self, address):
        domain = address.rpartition("@")[2]
        known = self.routes.get(domain)
        return known or Route(
            dest=domain, targets=[Target(host=domain, address=f"ip-{domain}", port=25)]
        )

    def do_ask(self, fail=False):
        ask = self.asks.popleft()
        if fail:
            self.core.route_failed(self.now, ask)
        else:
            answer = RouteAnswer(routes=[self.route(r.address) for r in ask.rcpts])
            self.core.routed(self.now, ask, answer)
        self.pump()

    def do_deliver(self, da_ta=None):
        """Let a delivery happen at the remote host and report it."""
        da_ta = da_ta or next(iter(self.deliveries))
        effect = self.deliveries.pop(da_ta)
        delivery = effect.delivery
        results, attempts, address = [], [], ""
        for target in delivery.targets:
            domain = target.address.removeprefix("ip-")
            verdicts = {r: self.verdict(domain, r.address) for r in delivery.rcpts}
            if DEAD in verdicts.values():
                attempts.append(Attempt(address=target.address, text="refused", refused=True))
                continue
            address = target.address
            for rcpt, (code, status, text) in verdicts.items():
                results.append(RcptResult(idx=rcpt.idx, code=code, status=status, text=text))
                if code < 300:
                    self.delivered[rcpt.ta.envelope.ta_id, rcpt.idx] += 1
                    env = rcpt.ta.envelope
                    if env.dsn is None:
                        assert env.cdb_id in self.contents, f"content of {env.ta_id} is gone"
            break
        else:
            results = [
                RcptResult(idx=r.idx, code=451, status="4.4.1", text="no host took it")
                for r in delivery.rcpts
            ]
        message = Delivered(
            da_sess=delivery.session.id,
            da_ta=delivery.id,
            open=bool(address),
            host=address,
            address=address,
            results=results,
            attempts=attempts,
            dsn=self.peers_report,
        )
        self.core.delivered(self.now, delivery, message)
        self.pump()

    def verdict(self, domain, address):
        what = self.behaviour.get(domain, OK)
        return what(address, self.now) if callable(what) else what

    def step(self):
        """Let one thing happen; False where nothing waits."""
        if self.commits:
            self.do_commit()
        elif self.notes:
            self.do_note()
        elif self.asks:
            self.do_ask()
        elif self.deliveries:
            self.do_deliver()
        elif self.batch is not None:
            self.end_batch()
        elif self.core.closing.batch_waits:
            self.begin_batch()
        else:
            return self.load() > 0
        return True

    def settle(self, most=1_000_000):
        while most and self.step():
            most -= 1
        assert most, "the world does not come to rest"

    def advance(self, seconds):
        self.now += seconds
        self.core.tick(self.now)
        self.pump()

    # --- what must hold always ---------------------------------------------------------

    def on_disk(self):
        """Where each open recipient is on disk."""
        places = Counter((ta_id, idx) for ta_id, (_, idxs) in self.ibdb.items() for idx in idxs)
        both = Counter(dict.fromkeys(self.defedb, 1))
        return places, both

    def check(self):
        core = self.core
        in_memory = [
            r
            for t in (*core.tas.ibdb.values(), *core.tas.defedb.values())
            for r in t.rcpts.values()
        ]
        active = [r for r in in_memory if r.active]
        assert len(active) == core.aq.entries <= core.aq.limit
        assert core.aq.routing == sum(r.state.value == "routing" for r in in_memory)
        waiting = sum(d.waiting for d in core.aq.destinations.values())
        assert waiting == sum(r.state.value == "waiting" for r in in_memory)
        sched = core.dispatch.sched
        assert 0 <= sched.busy <= sched.capacity
        assert sched.busy == len(
            {
                id(s)
                for c in sched.carriers.values()
                for s in c.sessions.values()
                if s.delivery is not None
            }
        )
        assert sched.turns.retrying == sum(
            s.delivery is not None and s.delivery.retry
            for c in sched.carriers.values()
            for s in c.sessions.values()
        )
        for carrier in sched.carriers.values():
            assert len(carrier.sessions) <= carrier.capacity
        opened = Counter(s.host.key for c in sched.carriers.values() for s in c.sessions.values())
        for key, count in opened.items():
            host = core.dispatch.occ.peek(key)
            assert host is not None
            assert host.open == count
            assert 0 <= host.good <= host.open
            assert count <= self.limits.out_max_connections
        for env in (*(e for e, _ in self.ibdb.values()), *self.envelopes.values()):
            assert env.cdb_id in self.contents, f"{env.ta_id} lost its content"
