"""The IBDB on disk: acknowledgement, recovery, segments, failing disks, kill -9."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio
import trio.testing

from libsmx.clock import FakeClock, SystemClock
from libsmx.envelope import Envelope, Recipient
from libsmx.errors import StartError, StoreError
from libsmx.log import NullLog
from qmgr import segments, syncer
from qmgr.ibdblog import MAX_HELD, Ibdb
from qmgr.records import Closed, Entry
from qmgr.segment import list_segments
from qmgr.storeevents import IBDB_FAILED, IBDB_NO_SEGMENT, IBDB_NOT_REMOVED


def ta_id(number):
    return f"S{number:016X}00"


def opening(number, rcpts=1):
    return Entry(
        new=[
            Envelope(
                ta_id=ta_id(number),
                cdb_id=ta_id(number),
                sender="a@example.org",
                rcpts=[Recipient(idx=i, address=f"r{i}@example.net") for i in range(rcpts)],
                size=1000,
                received_at=1.7e9,
            )
        ]
    )


def closing(number, *idxs):
    return Entry(closed=[Closed(ta_id(number), list(idxs) or [0], "delivered")])


class Bed:
    """An Ibdb in a directory, with what its callers were told."""

    def __init__(self, directory, size=1 << 20, max_open_tas=200, clock=None):
        self.log = NullLog()
        self.ibdb = Ibdb(
            str(directory),
            size=size,
            max_open_tas=max_open_tas,
            max_commit_delay_us=1000,
            log=self.log,
            clock=clock or SystemClock(),
        )
        self.told = {}
        self._left = 0
        self._event = trio.Event()

    def _done(self, key):
        self._left += 1

        def done(error):
            self.told[key] = error
            self._left -= 1
            if not self._left:
                self._event.set()
                self._event = trio.Event()

        return done

    def commit(self, key, entry):
        self.ibdb.commit(entry, self._done(key))

    def note(self, key, entry):
        self.ibdb.note(entry, self._done(key))

    async def settled(self):
        if self._left:
            await self._event.wait()

    def names(self):
        return [event for event, _ in self.log.records]


@contextlib.asynccontextmanager
async def opened(directory, **more):
    bed = Bed(directory, **more)
    bed.recovery = bed.ibdb.recover()
    await bed.ibdb.start()
    await bed.ibdb.forget_recovered()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bed.ibdb.run)
        try:
            yield bed
        finally:
            await bed.ibdb.close()


def recover(directory):
    """Return (open as [(number, idxs)], Recovery) of what lies in a directory."""
    bed = Bed(directory)
    recovery = bed.ibdb.recover()
    bed.ibdb._lock.release()
    return [(int(e.ta_id[1:17], 16), idxs) for e, idxs in recovery.open], recovery


@pytest.fixture(params=["inline", "thread"])
def where(request, monkeypatch):
    """Run a test with syncs in the loop and with syncs in the thread."""
    monkeypatch.setattr(syncer, "INLINE_BELOW_S", 1e9 if request.param == "inline" else 0.0)
    if request.param == "inline":
        monkeypatch.setattr(
            syncer.Syncer,
            "begin",
            lambda self, files, *, alone: self._on_done(syncer.sync_all(files)),
        )
    return request.param


@pytest.mark.covers("X013")
async def test_what_was_acknowledged_is_recovered(tmp_path, where):
    async with opened(tmp_path / "ibdb") as bed:
        for n in range(20):
            bed.commit(n, opening(n, rcpts=2))
        assert bed.told == {}
        await bed.settled()
        assert bed.told == dict.fromkeys(range(20))
        assert bed.ibdb.open_tas == 20
        for n in range(10):
            bed.note(("n", n), closing(n, 0, 1))
        bed.note("half", closing(15, 1))
        await bed.settled()
        assert bed.ibdb.open_tas == 10
        assert bed.ibdb.waiting == 0
    found, recovery = recover(tmp_path / "ibdb")
    assert found == [(n, [0] if n == 15 else [0, 1]) for n in range(10, 20)]
    assert recovery.problems == []


@pytest.mark.covers("X173")
async def test_commits_of_one_turn_share_one_sync(tmp_path, where):
    async with opened(tmp_path) as bed:
        for n in range(50):
            bed.commit(n, opening(n))
        await bed.settled()
        assert bed.ibdb.syncs == 1
        assert bed.ibdb.commits == 50


@pytest.mark.covers("X171")
async def test_a_lone_commit_waits_for_nobody(tmp_path):
    """No clock moves here: with a timer in the way this would hang."""
    async with opened(tmp_path) as bed:
        for n in range(3):
            bed.commit(n, opening(n))
            await bed.settled()
        assert bed.ibdb.syncs == 3


async def test_notes_are_written_at_once_and_synced_later(tmp_path):
    async with opened(tmp_path) as bed:
        bed.commit(1, opening(1))
        await bed.settled()
        bed.note("closed", closing(1))
        with trio.fail_after(5):
            while bed.ibdb._queue:
                await trio.lowlevel.checkpoint()
        assert list_segments(str(tmp_path))
        data = (tmp_path / "000000000001.ibdb").read_bytes()
        assert b"delivered" in data
        assert "closed" not in bed.told
        await bed.settled()
        assert bed.told["closed"] is None


async def test_many_unsynced_notes_force_a_sync(tmp_path, where):
    async with opened(tmp_path, max_open_tas=5) as bed:
        bed.ibdb._note_delay_s = 1e6
        for n in range(5):
            bed.note(n, opening(n))
        with trio.fail_after(5):
            await bed.settled()
        assert set(bed.told.values()) == {None}


@pytest.mark.covers("X172")
async def test_segments_are_rolled_and_removed_in_order(tmp_path, where):
    async with opened(tmp_path, size=2048) as bed:
        for n in range(40):
            bed.commit(n, opening(n))
            await bed.settled()
        assert bed.ibdb.segments > 3
        # Everything but the very first is closed: its segment holds all the others, because
        # they contain the records that close what an older one opens.
        for n in range(1, 40):
            bed.commit(("c", n), closing(n))
        await bed.settled()
        assert bed.ibdb.segments > 3
        bed.commit("last", closing(0))
        await bed.settled()
        assert bed.ibdb.segments == 1
        assert bed.ibdb.open_tas == 0
    names = [name for name in os.listdir(tmp_path) if name.endswith(".ibdb")]
    assert len(names) <= 2
    assert recover(tmp_path)[0] == []


async def test_an_entry_larger_than_a_segment_gets_its_own(tmp_path):
    async with opened(tmp_path, size=4096) as bed:
        bed.commit(1, opening(1))
        bed.commit(2, opening(2, rcpts=500))
        bed.commit(3, opening(3))
        await bed.settled()
        assert set(bed.told.values()) == {None}
    assert [n for n, _ in recover(tmp_path)[0]] == [1, 2, 3]


async def test_segment_numbers_never_repeat(tmp_path):
    for _ in range(3):
        async with opened(tmp_path) as bed:
            last = bed.ibdb._files.number
    assert last == 3


@pytest.mark.covers("X174")
async def test_the_directory_may_be_a_symbolic_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "ibdb").symlink_to(tmp_path / "disk")
    async with opened(tmp_path / "ibdb") as bed:
        bed.commit(1, opening(1))
        await bed.settled()
    assert [n for n, _ in recover(tmp_path / "ibdb")[0]] == [1]
    assert list_segments(str(tmp_path / "disk"))


async def test_a_second_queue_manager_is_refused(tmp_path):
    async with opened(tmp_path):
        with pytest.raises(StartError, match="another queue manager"):
            Bed(tmp_path).ibdb.recover()


def test_an_unusable_directory_is_reported(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match="IBDB directory"):
        Bed(tmp_path / "file").ibdb.recover()


async def test_recovered_segments_stay_until_they_are_forgotten(tmp_path):
    async with opened(tmp_path) as bed:
        bed.commit(1, opening(1))
        await bed.settled()
    for _ in range(2):  # a crash during recovery: the same is found again
        bed = Bed(tmp_path)
        assert [n for n, _ in ((e.ta_id, i) for e, i in bed.ibdb.recover().open)] == [ta_id(1)]
        await bed.ibdb.start()
        await bed.ibdb.close()
    bed = Bed(tmp_path)
    bed.ibdb.recover()
    await bed.ibdb.start()
    await bed.ibdb.forget_recovered()
    await bed.ibdb.forget_recovered()
    await bed.ibdb.close()
    assert recover(tmp_path)[0] == []


async def test_damaged_segments_are_kept_aside(tmp_path):
    async with opened(tmp_path) as bed:
        for n in range(5):
            bed.commit(n, opening(n))
            await bed.settled()
    path = tmp_path / "000000000001.ibdb"
    data = bytearray(path.read_bytes())
    data[data.index(ta_id(2).encode())] ^= 1
    path.write_bytes(data)
    async with opened(tmp_path) as bed:
        assert [int(e.ta_id[1:17], 16) for e, _ in bed.recovery.open] == [0, 1, 3, 4]
        assert len(bed.recovery.problems) == 1
        assert "000000000001.ibdb: " in bed.recovery.problems[0]
    assert (tmp_path / "000000000001.ibdb.damaged").exists()
    assert not path.exists()


class Disk:
    """Lets chosen calls of the operating system fail."""

    def __init__(self, monkeypatch):
        self.fail_sync = False
        self.fail_write = False
        self.short = False
        self.fail_make = False
        self.fail_unlink = False
        real = {name: getattr(os, name) for name in ("fdatasync", "pwrite", "unlink")}

        def fdatasync(fd):
            if self.fail_sync:
                raise OSError(errno.EIO, "Input/output error")
            real["fdatasync"](fd)

        def pwrite(fd, data, at):
            if self.fail_write and 0 < at and len(data) < 100_000:
                if not self.short:  # a part gets written, as on a full disk
                    self.short = True
                    return real["pwrite"](fd, data[:50], at)
                raise OSError(errno.ENOSPC, "No space left on device")
            return real["pwrite"](fd, data, at)

        def unlink(path, **more):
            if self.fail_unlink:
                raise OSError(errno.EACCES, "Permission denied")
            real["unlink"](path, **more)

        def create(directory, number, size, real=segments.Segment.create):
            if self.fail_make:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(directory, number, size)

        monkeypatch.setattr(os, "fdatasync", fdatasync)
        monkeypatch.setattr(os, "pwrite", pwrite)
        monkeypatch.setattr(os, "unlink", unlink)
        monkeypatch.setattr(segments.Segment, "create", create)


@pytest.mark.parametrize("call", ["fail_sync", "fail_write"])
async def test_a_failed_disk_call_refuses_commits_and_begins_anew(
    tmp_path, monkeypatch, where, call
):
    disk = Disk(monkeypatch)
    async with opened(tmp_path, size=200_000) as bed:
        bed.commit("before", opening(1))
        bed.commit("close me", opening(2))
        await bed.settled()
        setattr(disk, call, True)
        bed.commit("refused", opening(3))
        # facts cannot be refused: a bounce with the failure that causes it, and a delivery
        bed.commit("fact", Entry(new=opening(4).new, closed=closing(1).closed))
        bed.note("note", closing(2))
        with trio.fail_after(5):
            while "refused" not in bed.told:
                await trio.lowlevel.checkpoint()
        setattr(disk, call, False)
        await bed.settled()
        assert isinstance(bed.told.pop("refused"), StoreError)
        assert set(bed.told.values()) == {None}
        bed.commit("after", opening(5))
        await bed.settled()
        assert bed.told["after"] is None
        assert IBDB_FAILED in bed.names()
        assert bed.ibdb.open_tas == 2
    # Whether or not the refused record reached the disk, it is not delivered later.
    assert [n for n, _ in recover(tmp_path)[0]] == [4, 5]


async def test_without_a_new_segment_commits_are_refused_until_there_is_one(
    tmp_path, monkeypatch, autojump_clock
):
    disk = Disk(monkeypatch)
    async with opened(tmp_path, size=1024, clock=FakeClock()) as bed:
        disk.fail_make = True
        for n in range(20):
            bed.commit(n, opening(n))
        await trio.testing.wait_all_tasks_blocked()
        while len(bed.told) < 20:
            await trio.lowlevel.checkpoint()
        refused = {n for n, error in bed.told.items() if error is not None}
        assert refused
        assert IBDB_NO_SEGMENT in bed.names()
        bed.note("fact", closing(min(set(range(20)) - refused)))
        disk.fail_make = False
        await bed.settled()
        bed.commit("after", opening(99))
        await bed.settled()
        assert bed.told["fact"] is None
        assert bed.told["after"] is None
    kept = sorted(set(range(20)) - refused)[1:]
    assert [n for n, _ in recover(tmp_path)[0]] == [*kept, 99]


async def test_a_segment_that_cannot_be_removed_keeps_the_newer_ones(tmp_path, monkeypatch):
    disk = Disk(monkeypatch)
    async with opened(tmp_path, size=4096) as bed:
        for n in range(30):
            bed.commit(n, opening(n))
        await bed.settled()
        disk.fail_unlink = True
        for n in range(30):
            bed.commit(("c", n), closing(n))
        await bed.settled()
        with trio.fail_after(5):
            while IBDB_NOT_REMOVED not in bed.names():
                await trio.lowlevel.checkpoint()
        disk.fail_unlink = False
    numbers = [number for number, _ in list_segments(str(tmp_path))]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    assert recover(tmp_path)[0] == []


async def test_oldest_open_tells_what_holds_too_many_segments(tmp_path):
    async with opened(tmp_path, size=1024) as bed:
        bed.commit("old", opening(0, rcpts=2))
        bed.commit("half", closing(0, 1))
        assert bed.ibdb.oldest_open() == []
        n = 1
        while bed.ibdb.segments <= MAX_HELD:
            bed.commit(n, opening(n))
            bed.note(("c", n), closing(n))
            n += 1
            if n % 10 == 0:
                await bed.settled()
        await bed.settled()
        assert next((e.ta_id, idxs) for e, idxs in bed.ibdb.oldest_open()) == (ta_id(0), [0])
        for envelope, idxs in bed.ibdb.oldest_open():
            bed.commit(envelope.ta_id, Entry(closed=[Closed(envelope.ta_id, idxs, "deferred")]))
        await bed.settled()
        assert bed.ibdb.segments < MAX_HELD


async def test_close_answers_everybody_and_refuses_what_comes_later(tmp_path):
    async with opened(tmp_path) as bed:
        bed.commit(1, opening(1))
        bed.note(2, closing(1))
    assert bed.told == {1: None, 2: None}
    bed.commit(3, opening(3))
    assert isinstance(bed.told[3], StoreError)


async def test_a_cancelled_run_loses_nothing(tmp_path, where):
    bed = Bed(tmp_path)
    bed.ibdb.recover()
    await bed.ibdb.start()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bed.ibdb.run)
        bed.commit(1, opening(1))
        await bed.settled()
        bed.commit(2, opening(2))
        nursery.cancel_scope.cancel()
    await bed.ibdb.close()
    assert bed.told == {1: None, 2: None}
    assert [n for n, _ in recover(tmp_path)[0]] == [1, 2]


async def test_close_on_a_broken_disk_refuses_what_is_left(tmp_path, monkeypatch):
    disk = Disk(monkeypatch)
    async with opened(tmp_path) as bed:
        bed.commit(1, opening(1))
        await bed.settled()
        disk.fail_sync = True
        bed.note("fact", closing(1))
        bed.commit("new", opening(2))
    assert isinstance(bed.told["fact"], StoreError)
    assert isinstance(bed.told["new"], StoreError)


CHILD = r"""
import os, sys, trio
from libsmx.clock import SystemClock
from libsmx.envelope import Envelope, Recipient
from libsmx.log import NullLog
from qmgr.ibdblog import Ibdb
from qmgr.records import Closed, Entry

def say(word, n):
    os.write(1, f"{word} {n}\n".encode())

async def main():
    ibdb = Ibdb(sys.argv[1], size=65536, max_open_tas=200, max_commit_delay_us=1000,
                log=NullLog(), clock=SystemClock())
    ibdb.recover()
    await ibdb.start()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ibdb.run)
        for n in range(1_000_000):
            ta = f"S{n:016X}00"
            rcpt = Recipient(idx=0, address="r@example.net")
            envelope = Envelope(ta_id=ta, cdb_id=ta, sender="", rcpts=[rcpt], size=1,
                                received_at=1.0)
            def done(error, n=n, ta=ta):
                say("acked", n)
                if n % 3 == 0:
                    say("closing", n)
                    ibdb.note(Entry(closed=[Closed(ta, [0], "delivered")]),
                              lambda error: say("closed", n))
            say("sent", n)
            ibdb.commit(Entry(new=[envelope]), done)
            if n % 7 == 0:
                await trio.sleep(0)
                while ibdb.waiting > 20:
                    await trio.lowlevel.checkpoint()

trio.run(main)
"""


@pytest.mark.covers("X013")
@pytest.mark.parametrize("acks", [1, 40, 700])
def test_kill_minus_nine_loses_no_acknowledged_entry(tmp_path, acks):
    """The child is killed after so many acknowledgements, wherever it is by then."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, cwd=os.getcwd()
    )
    said = []
    with child:
        for line in child.stdout:
            said.append(line)
            if line.startswith(b"acked") and (acks := acks - 1) == 0:
                child.send_signal(signal.SIGKILL)
                break
        said += child.stdout.read().splitlines(keepends=True)
    words = {"sent": set(), "acked": set(), "closing": set(), "closed": set()}
    for line in said:
        if line.endswith(b"\n"):
            word, number = line.split()
            words[word.decode()].add(int(number))
    found, recovery = recover(tmp_path)
    numbers = {n for n, _ in found}
    assert words["acked"] - words["closing"] <= numbers
    assert not numbers & words["closed"]
    assert numbers <= words["sent"] - words["closed"]
    assert not [p for p in recovery.problems if "damaged" in p]


async def test_a_note_is_in_the_file_before_the_turn_ends(tmp_path):
    """Work that follows from a result leaves at the end of the turn; the result stands by then."""

    def written():
        return any(b"delivered" in Path(path).read_bytes() for _, path in list_segments(directory))

    directory = str(tmp_path / "ibdb")
    async with opened(directory) as bed:
        await trio.testing.wait_all_tasks_blocked()
        bed.note(1, closing(1))
        assert not written()
        await bed.ibdb.write_now()
        assert written()


async def test_a_note_that_needs_a_new_segment_is_waited_for(tmp_path):
    async with opened(tmp_path / "ibdb", size=8192) as bed:
        await trio.testing.wait_all_tasks_blocked()
        for number in range(1, 500):
            bed.note(number, closing(number))
        await bed.ibdb.write_now()
        written = b"".join(Path(path).read_bytes() for _, path in list_segments(tmp_path / "ibdb"))
        assert written.count(b"delivered") == 499
        assert bed.ibdb.segments > 1


async def test_where_no_segment_can_be_made_nobody_waits_for_one(tmp_path, monkeypatch):
    disk = Disk(monkeypatch)
    async with opened(tmp_path / "ibdb", size=8192) as bed:
        disk.fail_make = True
        for number in range(1, 500):
            bed.note(number, closing(number))
        with trio.fail_after(10):
            await bed.ibdb.write_now()
        assert IBDB_NO_SEGMENT in bed.names()
        assert bed.ibdb.waiting
        disk.fail_make = False
