"""The whole queue manager core against random events, failures and crashes."""

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from libsmx.dsnparam import wants
from libsmx.wire import Refusal
from qmgr.limits import Limits
from tests.qmgr.world import DEAD, OK, PERM, SMTPC, TEMP, World

CASES = {"failed": "FAILURE", "delayed": "DELAY", "relayed": "SUCCESS"}
DOMAINS = ["a.org", "b.org", "c.org", "d.org"]
LIMITS = Limits(
    aq_max_entries=12,
    iqdb_max_entries=16,
    occ_max_entries=3,
    out_initial_connections=1,
    out_max_connections=3,
    smtp_max_rcpts=2,
    max_tas_per_session=3,
    retry_min_s=60,
    retry_max_s=600,
    return_timeout_s=3600,
    delay_timeout_s=1200,
    max_errors_per_dsn=2,
)


class QueueModel(RuleBasedStateMachine):
    """Accepted mail is somewhere, once, until its fate is known; whatever happens when."""

    def __init__(self):
        super().__init__()
        self.world = World(LIMITS, capacity=3, carriers=2)
        self.clean = True  # no crash and no lost smtpc yet: not even one duplicate is allowed

    @rule(
        rcpts=st.lists(st.sampled_from(DOMAINS), min_size=1, max_size=5),
        sender=st.sampled_from(["s@a.org", "s@back.org", ""]),
        notify=st.sampled_from(["", "", "NEVER", "SUCCESS", "SUCCESS,FAILURE,DELAY"]),
    )
    def submit(self, rcpts, sender, notify):
        addresses = [f"u{i}@{d}" for i, d in enumerate(rcpts)]
        answer = self.world.submit(addresses, sender, notify=notify)
        if isinstance(answer, Refusal):
            assert 400 <= answer.code < 500

    @rule(domain=st.sampled_from(DOMAINS), what=st.sampled_from([OK, OK, TEMP, PERM, DEAD]))
    def remote_host_changes(self, domain, what):
        self.world.behaviour[domain] = what

    @rule(count=st.integers(1, 8))
    def things_happen(self, count):
        for _ in range(count):
            self.world.step()

    @precondition(lambda self: self.world.commits)
    @rule(fail=st.booleans())
    def commit(self, fail):
        self.world.do_commit(fail)

    @precondition(lambda self: self.world.notes)
    @rule(fail=st.booleans())
    def note(self, fail):
        self.world.do_note(fail)

    @precondition(lambda self: self.world.asks)
    @rule(fail=st.booleans())
    def route(self, fail):
        self.world.do_ask(fail)

    @precondition(lambda self: self.world.deliveries)
    @rule(data=st.data())
    def deliver_in_any_order(self, data):
        self.world.do_deliver(data.draw(st.sampled_from(sorted(self.world.deliveries))))

    @rule()
    def batch_begins(self):
        self.world.begin_batch()

    @precondition(lambda self: self.world.batch is not None)
    @rule(fail=st.booleans())
    def batch_ends(self, fail):
        self.world.end_batch(fail)

    @rule(seconds=st.sampled_from([0.0, 1.0, 30.0, 700.0]))
    def time_passes(self, seconds):
        self.world.advance(seconds)
        self.world.load()

    @rule(match=st.sampled_from(["", "a.org"]))
    def flush(self, match):
        for key, rcpt in self.world.defedb.items():
            self.world.put(self.world.envelopes[key[0]], key[1], tries=rcpt.tries)
        self.world.core.flush(self.world.now, match)
        self.world.load()

    @rule()
    def old_segment_is_held(self):
        held = [(env, sorted(idxs)) for env, idxs in self.world.ibdb.values()]
        self.world.core.segment_held(self.world.now, held)
        self.world.pump()

    @rule(number=st.integers(0, 1), delivered=st.booleans())
    def smtpc_dies(self, number, delivered):
        self.clean = False
        world = self.world
        mine = [k for k, e in world.deliveries.items() if e.channel == SMTPC + number]
        for da_ta in mine:
            if delivered:  # the remote host has it, the report is lost
                for rcpt in world.deliveries[da_ta].delivery.rcpts:
                    if world.verdict(rcpt.address.rpartition("@")[2], rcpt.address) == OK:
                        world.delivered[rcpt.ta.envelope.ta_id, rcpt.idx] += 1
            del world.deliveries[da_ta]
        world.core.smtpc_closed(world.now, SMTPC + number)
        world.pump()
        world.core.smtpc_opened(SMTPC + number, world.capacity)
        world.pump()

    @rule(keep=st.lists(st.booleans(), min_size=1, max_size=8))
    def crash(self, keep):
        self.clean = False
        bits = iter(keep * 100)
        self.world.crash(lambda _: next(bits))

    @invariant()
    def books_are_right(self):
        self.world.check()

    @invariant()
    def nothing_is_delivered_twice_without_a_loss(self):
        if self.clean:
            assert not [key for key, count in self.world.delivered.items() if count > 1]

    @invariant()
    def no_acknowledged_recipient_is_lost(self):
        """I1: on disk, delivered, or reported (a null sender's failure is only logged)."""
        world = self.world
        reported = [(b.dsn.ta_id, f) for b in world.bounces for f in b.dsn.rcpts]
        told = {(f.address, ta_id) for ta_id, f in reported if f.action == "failed"}
        for ta_id, env in world.acknowledged.items():
            on_log = world.ibdb.get(ta_id, (None, ()))[1]
            for rcpt in env.rcpts:
                if rcpt.idx in on_log or (ta_id, rcpt.idx) in world.defedb:
                    continue
                if world.delivered[ta_id, rcpt.idx] or not env.sender:
                    continue
                if not wants(rcpt.notify, "FAILURE"):
                    continue
                assert (rcpt.address, ta_id) in told, f"{ta_id} {rcpt} is lost"

    @invariant()
    def reports_tell_what_happened(self):
        """Nobody hears what he did not ask for, or of a delivery that was not."""
        world = self.world
        for report in world.bounces:
            env = world.acknowledged.get(report.dsn.ta_id)
            if env is None:
                continue  # its commit was on disk at a crash, before anybody could be told
            assert env.sender
            for told in report.dsn.rcpts:
                [rcpt] = [r for r in env.rcpts if r.address == told.address]
                delivered = world.delivered[env.ta_id, rcpt.idx]
                assert wants(rcpt.notify, CASES[told.action])
                if told.action == "relayed":
                    assert delivered
                elif told.action == "failed" and self.clean:
                    assert not delivered

    def teardown(self):
        """Once every host works and the disk too, the queue runs empty."""
        world = self.world
        world.behaviour = {}
        if world.batch is not None:
            world.end_batch()
        for _ in range(40):
            world.settle(20_000)
            if not (world.ibdb or world.defedb):
                break
            world.advance(601)
        world.check()
        assert not world.ibdb
        assert not world.defedb
        assert not world.core.tas.ibdb
        assert not world.core.tas.defedb
        assert not len(world.core.tas.contents)
        known = {env.cdb_id for env in world.acknowledged.values()}
        assert not world.contents & known
        assert world.core.aq.entries == 0
        assert world.core.iqdb.entries == 1, "the session of the test"


QueueModel.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestQueueModel = pytest.mark.covers("X012", "X013", "X014", "X015", "X018")(QueueModel.TestCase)
