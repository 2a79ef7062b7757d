"""The stores against models that keep everything in dictionaries, with reopening and dying."""

import shutil
import tempfile

import attrs
import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from libsmx.clock import FakeClock
from libsmx.envelope import Envelope, Recipient
from libsmx.log import NullLog
from qmgr.defedb import DefedbBatch
from qmgr.deferred import Defedb
from qmgr.ibdblog import Ibdb
from qmgr.records import Closed, DeferredRcpt, Entry


def ta_id(number):
    return f"S{number:016X}00"


def make_envelope(number, cdb=0, rcpts=3):
    return Envelope(
        ta_id=ta_id(number),
        cdb_id=ta_id(cdb),
        sender="",
        rcpts=[Recipient(idx=i, address=f"r{i}@example.net") for i in range(rcpts)],
        size=1,
        received_at=1.0,
    )


numbers = st.integers(0, 5)
idxs = st.integers(0, 2)
times = st.integers(0, 20).map(float)
hosts = st.sampled_from(["a.example", "b.example", ""])


class DefedbModel(RuleBasedStateMachine):
    """The deferred queue is a dictionary of recipients that survives its process."""

    def __init__(self):
        super().__init__()
        self.path = tempfile.mkdtemp()
        self.rcpts = {}
        self.store = None
        self.pending = []

    def teardown(self):
        if self.store is not None:
            self.run(lambda store: store.close())
        shutil.rmtree(self.path)

    def run(self, function):
        """Run a coroutine function on the store; one loop for each step is enough here."""

        async def main():
            if self.store is None:
                self.store = Defedb(self.path, NullLog(), FakeClock())
                await self.store.open()
            return await function(self.store)

        return trio.run(main)

    @staticmethod
    def cdb_of(number):
        return number % 3

    @rule(
        put=st.lists(st.tuples(numbers, idxs, times, hosts, hosts), max_size=4),
        gone=st.lists(st.tuples(numbers, idxs), max_size=3),
    )
    def apply(self, put, gone):
        before = {self.cdb_of(number) for number, _ in self.rcpts}
        batch = DefedbBatch()
        for number, idx, at, dest, domain in put:
            rcpt = DeferredRcpt(ta_id(number), idx, f"x@{domain}", dest, 1, at)
            batch.put.append((make_envelope(number, self.cdb_of(number)), [rcpt]))
            before.add(self.cdb_of(number))
            self.rcpts[number, idx] = rcpt
        for number, idx in gone:
            batch.remove.append((ta_id(number), [idx]))
            self.rcpts.pop((number, idx), None)
        result = self.run(lambda store: store.apply(batch))
        after = {self.cdb_of(number) for number, _ in self.rcpts}
        assert set(result.unreferenced) == {ta_id(cdb) for cdb in before - after}

    @rule(now=times, match=hosts)
    def flush(self, now, match):
        wanted = {
            key
            for key, rcpt in self.rcpts.items()
            if rcpt.next_try_at > now
            and (not match or match in {rcpt.dest, rcpt.address.partition("@")[2]})
        }
        assert self.run(lambda store: store.make_due(now, match)) == len(wanted)
        for key in wanted:
            self.rcpts[key] = attrs.evolve(self.rcpts[key], next_try_at=now)

    @rule(now=times, limit=st.integers(1, 6), busy=st.sets(numbers))
    def due(self, now, limit, busy):
        page = self.run(
            lambda store: store.due(now, limit, lambda ta, idx: int(ta[1:17], 16) in busy)
        )
        got = [rcpt for _, rcpts in page for rcpt in rcpts]
        free = {key: rcpt for key, rcpt in self.rcpts.items() if key[0] not in busy}
        can = sorted(rcpt.next_try_at for rcpt in free.values() if rcpt.next_try_at <= now)
        assert sorted(rcpt.next_try_at for rcpt in got) == can[:limit]
        for rcpt in got:
            assert free[int(rcpt.ta_id[1:17], 16), rcpt.idx] == rcpt

    @rule()
    def reopen(self):
        self.run(lambda store: store.close())
        self.store = None

    @invariant()
    def everything_is_there(self):
        async def check(store):
            page, position = await store.scan("", 100)
            ids = {(ta_id(number), idx) for number in range(6) for idx in range(3)}
            return page, position, await store.known(ids), await store.next_due()

        page, position, known, first = self.run(check)
        wanted = [self.rcpts[key] for key in sorted(self.rcpts)]
        assert [rcpt for _, rcpts in page for rcpt in rcpts] == wanted
        assert position == ""
        assert known == {(ta_id(number), idx) for number, idx in self.rcpts}
        assert first == min((rcpt.next_try_at for rcpt in wanted), default=None)
        assert self.store.rcpts == len(self.rcpts)
        assert self.store.tas == len({number for number, _ in self.rcpts})


class IbdbModel(RuleBasedStateMachine):
    """The log is a dictionary of open recipients; dying loses only what was not acknowledged."""

    def __init__(self):
        super().__init__()
        self.path = tempfile.mkdtemp()
        self.open = {}
        self.last = 0

    def teardown(self):
        shutil.rmtree(self.path)

    @rule(
        steps=st.lists(
            st.one_of(
                st.tuples(st.just("open"), st.integers(1, 3)),
                st.tuples(st.just("close"), st.integers(0, 30), st.sets(idxs, min_size=1)),
                st.tuples(st.just("bounce"), st.integers(0, 30)),
                st.tuples(st.just("settle")),
            ),
            max_size=12,
        ),
        die=st.booleans(),
    )
    def live(self, steps, die):
        """One life of the queue manager: recover, work, end or die."""
        trio.run(self.work, steps, die)

    async def work(self, steps, die):
        ibdb = Ibdb(
            self.path, size=1024, max_open_tas=3, max_commit_delay_us=0, log=NullLog(),
            clock=FakeClock(),
        )  # fmt: skip
        recovery = ibdb.recover()
        assert recovery.problems == []
        assert {e.ta_id: set(some) for e, some in recovery.open} == self.open
        await ibdb.start()
        # Everything recovered goes into the new segments, as if it were accepted anew.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ibdb.run)
            waiting = []
            for envelope, some in recovery.open:
                shut = [rcpt.idx for rcpt in envelope.rcpts if rcpt.idx not in some]
                self.give(
                    ibdb.commit, Entry([envelope], [Closed(envelope.ta_id, shut, "x")]), waiting
                )
            await self.settle(waiting)
            await ibdb.forget_recovered()
            for step in steps:
                await self.step(ibdb, step, waiting)
            await self.settle(waiting)
            if die:
                nursery.cancel_scope.cancel()
            else:
                await ibdb.close()
        ibdb._lock.release()

    async def step(self, ibdb, step, waiting):
        match step:
            case ("open", count):
                self.last += 1
                self.open[ta_id(self.last)] = set(range(count))
                envelope = make_envelope(self.last, rcpts=count)
                self.give(ibdb.commit, Entry([envelope]), waiting)
            case ("close", number, some):
                left = self.open.get(ta_id(number), set())
                left -= some
                if not left:
                    self.open.pop(ta_id(number), None)
                self.give(ibdb.note, Entry([], [Closed(ta_id(number), list(some), "x")]), waiting)
            case ("bounce", number):
                self.last += 1
                self.open[ta_id(self.last)] = {0}
                self.open.pop(ta_id(number), None)
                closed = Closed(ta_id(number), [0, 1, 2], "failed")
                entry = Entry([make_envelope(self.last, rcpts=1)], [closed])
                self.give(ibdb.commit, entry, waiting)
            case ("settle",):
                await self.settle(waiting)

    @staticmethod
    def give(how, entry, waiting):
        event = trio.Event()
        waiting.append(event)

        def done(error):
            assert error is None
            event.set()

        how(entry, done)

    @staticmethod
    async def settle(waiting):
        while waiting:
            await waiting.pop().wait()


TestDefedb = DefedbModel.TestCase
TestDefedb.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)
TestIbdb = IbdbModel.TestCase
TestIbdb.settings = settings(max_examples=20, stateful_step_count=5, deadline=None)
pytestmark = pytest.mark.covers("X013", "X015")
