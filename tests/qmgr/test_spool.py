"""Content files that nobody needs, free space, and what recovery makes of the old log."""

import os
from types import SimpleNamespace

import pytest
import trio

from libsmx import wire_control
from libsmx.cdb import DIRECTORIES
from libsmx.clock import FakeClock
from libsmx.ids import content_path
from libsmx.log import NullLog
from qmgr.changes import Changes
from qmgr.control import PAGE_RCPTS, memory_page
from qmgr.defedb import DefedbBatch
from qmgr.deferred import Defedb
from qmgr.desk import Desk, may_change
from qmgr.disk import DiskGuard
from qmgr.ibdbrecover import Recovery
from qmgr.recovery import BATCH_RCPTS, merge
from qmgr.spool import ORPHAN_AGE_S, DiskWatch, Orphans, Remover
from qmgr.ta import State, Tas
from tests.qmgr.world import T0, World, envelope


@pytest.fixture
def base(tmp_path):
    for name in DIRECTORIES:
        (tmp_path / name).mkdir()
    return f"{tmp_path}/"


def content(base, env, changed_at=T0):
    path = base + content_path(env.cdb_id)
    with open(path, "wb") as file:
        file.write(b"x")
    os.utime(path, (changed_at, changed_at))
    return path


async def opened(tmp_path, clock=None):
    defedb = Defedb(str(tmp_path / "defedb"), NullLog(), clock or FakeClock())
    await defedb.open()
    return defedb


@pytest.mark.parametrize("keep", [False, True])
async def test_only_old_contents_without_any_envelope_are_orphans(tmp_path, base, keep):
    clock, log = FakeClock(wall=T0 + ORPHAN_AGE_S + 1), NullLog()
    defedb = await opened(tmp_path)
    orphan, known, stored, fresh = (envelope(n, ["a@x"]) for n in range(1, 5))
    world = World()
    world.put(stored, 0)
    await defedb.apply(DefedbBatch(put=[(stored, [world.defedb[stored.ta_id, 0]])]))
    paths = [content(base, env) for env in (orphan, known, stored)]
    paths.append(content(base, fresh, T0 + 60))
    remover = Remover(base, log)
    memory = {known.cdb_id}
    orphans = Orphans(base, memory.__contains__, defedb, remover, log, clock, keep=keep)
    assert await orphans.scan() == 1
    assert await remover.flush() == []
    assert [os.path.exists(path) for path in paths] == [keep, True, True, True]
    await defedb.close()


async def test_what_cannot_be_removed_is_told(base):
    remover = Remover(base, NullLog())
    env = envelope(1, ["a@x"])
    os.mkdir(base + content_path(env.cdb_id))
    remover.remove([env.cdb_id, envelope(2, ["a@x"]).cdb_id])
    assert await remover.flush() == [env.cdb_id]


async def test_the_free_space_of_every_store_is_reported(tmp_path):
    seen = []
    guard = DiskGuard(1 << 60, 1 << 61)
    watch = DiskWatch(guard, {"here": str(tmp_path), "gone": f"{tmp_path}/none"}, seen.append)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        while not seen:
            await trio.sleep(0.001)
        nursery.cancel_scope.cancel()
    assert seen[0].startswith("here has ")


class OldLog:
    """Counts how often the log of the last run was let go."""

    forgotten = 0

    async def forget_recovered(self):
        self.forgotten += 1


def recovery(opened, problems=()):
    return Recovery(
        open=opened,
        problems=list(problems),
        segments=1,
        last_number=1,
        paths=[],
        damaged=frozenset(),
    )


@pytest.mark.covers("X013", "X018")
async def test_recovery_takes_what_the_defedb_does_not_know_and_may_be_repeated(tmp_path, base):
    defedb, log, old = await opened(tmp_path), NullLog(), OldLog()
    first, second = envelope(1, ["a@x", "b@x", "c@x"]), envelope(2, ["d@y"])
    many = envelope(3, [f"u{n}@z" for n in range(BATCH_RCPTS + 10)])
    for env in (first, many):
        content(base, env)
    world = World()
    world.put(first, 1, at=T0 + 500, tries=3)
    await defedb.apply(DefedbBatch(put=[(first, [world.defedb[first.ta_id, 1]])]))
    found = recovery(
        [(first, [0, 1]), (second, [0]), (many, [r.idx for r in many.rcpts])], ["a torn tail"]
    )
    for _ in range(2):
        await merge(found, old, defedb, base=base, now_s=T0 + 100, missing_s=900, log=log)
    assert defedb.rcpts == 2 + 1 + BATCH_RCPTS + 10
    _, rcpts = await defedb.get(first.ta_id)
    assert [(r.idx, r.next_try_at, r.tries) for r in rcpts] == [
        (0, T0 + 100, 0),
        (1, T0 + 500, 3),
    ]
    _, [lost] = await defedb.get(second.ta_id)
    assert (lost.next_try_at, lost.status) == (T0 + 1000, "4.3.0")
    assert old.forgotten == 2
    names = [event.name for event, _ in log.records]
    assert names.count("content_missing") == 2
    assert "recovery_problem" in names
    await defedb.close()


def test_pages_of_new_mail_cover_everything_once_and_are_bounded():
    tas = Tas()
    for n in range(30):
        ta = tas.accept(envelope(n, [f"u{i}@x" for i in range(300)]))
    next(iter(ta.rcpts.values())).state = State.CLOSING
    seen, after, pages = [], "", 0
    while True:
        entries, after = memory_page(tas, after, 500)
        assert sum(len(e.rcpts) for e in entries) <= PAGE_RCPTS
        seen += entries
        pages += 1
        if not after:
            break
    assert [e.ta_id for e in seen] == sorted(tas.ibdb)
    assert sum(len(e.rcpts) for e in seen) == 30 * 300 - 1
    assert pages == 5


def test_only_root_and_our_own_user_may_change_the_queue():
    assert may_change(0)
    assert may_change(os.geteuid())
    assert not may_change(2**31 - 5), "no such user"


async def test_the_desk_refuses_strangers_and_floods(monkeypatch):
    monkeypatch.setattr("qmgr.desk.may_change", lambda uid: uid == 1)
    log, stopped, posted = NullLog(), [], []

    class Channel:
        closed, uid = False, 2

        def post(self, message, rid):
            posted.append((rid, message))

    engine = SimpleNamespace(defedb_open=False)
    changes = Changes(engine, log, "", lambda: stopped.append(True), lambda: None)
    desk = Desk(engine, log, changes)
    friend, stranger = Channel(), Channel()
    friend.uid = 1
    desk.handle(stranger, wire_control.StopAsk(), 1)
    desk.handle(stranger, wire_control.FlushAsk(), 2)
    desk.handle(friend, wire_control.FlushAsk(), 3)
    desk.handle(friend, wire_control.StopAsk(), 4)
    desk.handle(friend, wire_control.Done(), 5)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.run)
        while len(posted) < 5:
            await trio.sleep(0.001)
        nursery.cancel_scope.cancel()
    assert {rid: getattr(m, "status", "done") for rid, m in posted} == {
        1: "5.7.1",
        2: "5.7.1",
        3: "4.3.0",
        4: "done",
        5: "5.5.1",
    }
    assert stopped == [True]
    for n in range(100):
        desk.handle(friend, wire_control.StatusAsk(), n)
    assert posted[-1][1].code == 451
