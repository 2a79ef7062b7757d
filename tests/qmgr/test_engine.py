"""The engine: in which order a turn's work leaves the process, and when a sync stops the loop."""

import contextlib
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio
import trio.testing

from libsmx.clock import SystemClock
from libsmx.log import NullLog
from qmgr import effects as fx
from qmgr import syncer
from qmgr.engine import Engine
from qmgr.ibdblog import Ibdb
from qmgr.records import Closed, Entry
from qmgr.segment import list_segments


class Core:
    """Wants at the end of a turn what it was told to want."""

    def __init__(self):
        self.wanted = []
        self.noted_count = 0
        self.iqdb = SimpleNamespace(sessions=0)
        self.closing = SimpleNamespace(batch_waits=False)
        self._effects = []

    def take(self):
        effects, self._effects = self._effects, []
        return effects

    def turn(self, now_s):
        self._effects += self.wanted
        self.wanted = []

    def noted(self, now_s, effect, error):
        assert error is None
        self.noted_count += 1


class Client:
    """A channel to smtpc that looks into the log whenever an order leaves."""

    def __init__(self, directory):
        self.directory = directory
        self.seen = []

    def request(self, message, on_answer, timeout_s):
        written = b"".join(Path(path).read_bytes() for _, path in list_segments(self.directory))
        self.seen.append((message, written.count(b"delivered")))


def note(number):
    return fx.Note(Entry(closed=[Closed(f"S{number:016X}00", [0], "delivered")]), [], [])


@contextlib.asynccontextmanager
async def running(tmp_path, monkeypatch, size=1 << 20):
    """An engine with a real log; orders are the channel's numbers, not real ones."""
    directory = str(tmp_path / "ibdb")
    ibdb = Ibdb(directory, size=size, max_open_tas=200, max_commit_delay_us=0, log=NullLog(),
                clock=SystemClock())  # fmt: skip
    core = Core()
    engine = Engine(core, ibdb, None, None, NullLog(), SystemClock())
    client = Client(directory)
    engine._channels[1] = client
    monkeypatch.setattr(
        engine, "_deliver", lambda effect: client.request(effect.delivery, None, 1.0)
    )
    ibdb.recover()
    await ibdb.start()
    await ibdb.forget_recovered()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ibdb.run)
        nursery.start_soon(engine.run_turns)
        await trio.testing.wait_all_tasks_blocked()
        try:
            yield engine, core, client
        finally:
            with trio.CancelScope(shield=True):
                await ibdb.close()
            nursery.cancel_scope.cancel()


async def until(condition):
    with trio.fail_after(60):
        while not condition():
            await trio.sleep(0.001)


@pytest.mark.covers("X013")
async def test_results_are_written_before_the_deliveries_of_the_same_turn_leave(
    tmp_path, monkeypatch
):
    async with running(tmp_path, monkeypatch) as (engine, core, client):
        core.wanted = [fx.Deliver(1, "first"), note(1), note(2), fx.Deliver(1, "second")]
        engine.perform()
        assert client.seen == []
        await trio.lowlevel.checkpoint()
        assert client.seen == [("first", 2), ("second", 2)]


async def test_that_holds_where_the_results_need_a_new_segment(tmp_path, monkeypatch):
    async with running(tmp_path, monkeypatch, size=8192) as (engine, core, client):
        core.wanted = [*(note(number) for number in range(400)), fx.Deliver(1, "first")]
        engine.perform()
        await trio.lowlevel.checkpoint()
        assert client.seen == []
        core.wanted = [note(400), fx.Deliver(1, "second")]  # comes while the segment is made
        engine.perform()
        await until(lambda: len(client.seen) == 2)
        assert [name for name, _ in client.seen] == ["first", "second"]
        assert client.seen[0][1] >= 400
        assert client.seen[1][1] == 401
        await until(lambda: core.noted_count == 401)


@pytest.mark.parametrize("sessions", [0, 1, 2, 50])
async def test_the_loop_syncs_itself_only_for_a_lone_client(tmp_path, monkeypatch, sessions):
    asked = []

    def begin(self, files, *, alone):
        asked.append(alone)
        self._on_done(syncer.sync_all(files))

    monkeypatch.setattr(syncer.Syncer, "begin", begin)
    async with running(tmp_path, monkeypatch) as (engine, core, _):
        core.iqdb.sessions = sessions
        done = []
        engine.ibdb.commit(Entry(closed=[Closed(f"S{1:016X}00", [0], "delivered")]), done.append)
        await until(lambda: done == [None])
        assert asked[0] is (sessions <= 1)


@pytest.mark.parametrize(
    ("alone", "expected_s", "inline"),
    [
        (True, 0.002, True),
        (True, 0.004, False),
        (False, 0.0004, True),
        (False, 0.002, False),
    ],
)
async def test_how_long_the_loop_may_stand_still(alone, expected_s, inline):
    class File:
        def sync(self):
            pass

    done = []
    syncs = syncer.Syncer(done.append, SystemClock())
    syncs._expected_s = expected_s
    syncs.begin([File()], alone=alone)
    assert bool(done) is inline
    await until(lambda: done == [None])
    syncs.stop()
