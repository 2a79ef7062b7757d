"""Content files: names, modes, durability, bounds."""

import errno
import os
import re
import threading

import pytest
import trio

from libsmx import cdb, cdbsync
from libsmx.cdb import DIRECTORIES, CdbWriter, list_contents, open_content, remove_contents
from libsmx.clock import FakeClock
from libsmx.errors import StartError, StoreError
from libsmx.ids import LEASE, content_path, is_ta_id, parse_counter


@pytest.fixture
def base(tmp_path):
    for name in DIRECTORIES:
        (tmp_path / name).mkdir()
    return f"{tmp_path}/"


@pytest.fixture
def writers():
    made = []
    yield made
    for writer in made:
        writer.stop()


async def started(base, writers, server_id=7, lease="lease"):
    writer = CdbWriter(base, server_id, os.getgid(), base + lease, FakeClock())
    writers.append(writer)
    await writer.start()
    return writer


@pytest.mark.covers("X050", "X052")
async def test_a_content_file_has_the_right_name_mode_and_bytes(base, writers):
    writer = await started(base, writers)
    ta_id = await writer.next_id()
    file = writer.create(ta_id)
    file.write(b"one\r\n")
    file.write(b"two\r\n" * 100_000)
    await file.sync()
    file.close()
    path = base + content_path(ta_id)
    assert re.fullmatch(r"S[0-9A-F]{16}07", ta_id)
    assert path == f"{base}{ta_id[16]}/{ta_id}" == file.path
    assert os.stat(path).st_mode & 0o7777 == 0o640
    assert file.size == os.stat(path).st_size == 5 + 500_000
    fd = open_content(base, ta_id)
    assert os.read(fd, 8) == b"one\r\ntwo"
    os.close(fd)
    assert [found for found, _ in list_contents(base)] == [ta_id]
    assert remove_contents(base, [ta_id, ta_id]) == []
    assert not os.path.exists(path)
    with pytest.raises(FileNotFoundError):
        open_content(base, ta_id)


async def test_ids_never_repeat_over_restarts(base, writers):
    seen = set()
    for _ in range(3):
        writer = await started(base, writers)
        ids = [await writer.next_id() for _ in range(LEASE + 5)]
        assert all(is_ta_id(ta_id) for ta_id in ids)
        assert not seen & set(ids)
        seen |= set(ids)


async def test_a_lost_or_damaged_lease_goes_on_ahead_of_the_old_one(base, writers):
    writer = await started(base, writers)
    last = await writer.next_id()
    for damage in (os.unlink, lambda p: open(p, "w").close()):
        damage(base + "lease")
        clock = FakeClock()
        clock.advance(10)
        fresh = CdbWriter(base, 7, None, base + "lease", clock)
        writers.append(fresh)
        await fresh.start()
        assert parse_counter(await fresh.next_id()) > parse_counter(last)


async def test_many_files_are_synced_side_by_side(base, writers):
    writer = await started(base, writers)

    async def one():
        file = writer.create(await writer.next_id())
        file.write(b"x" * 1000)
        await file.sync()
        file.close()

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(one)
    assert len(list(list_contents(base))) == 50


async def test_a_failed_sync_reaches_its_own_file_only(base, writers, monkeypatch):
    writer = await started(base, writers)
    bad, good = [writer.create(await writer.next_id()) for _ in range(2)]
    bad_fd = bad._fd
    real = os.fdatasync

    def failing(fd):
        if fd == bad_fd:
            raise OSError(errno.EIO, "Input/output error")
        real(fd)

    monkeypatch.setattr(cdb.os, "fdatasync", failing)
    bad.write(b"x")
    good.write(b"y")
    with pytest.raises(StoreError, match="syncing failed"):
        await bad.sync()
    await good.sync()
    bad.discard()
    good.close()
    assert not os.path.exists(bad.path)
    assert os.path.exists(good.path)


async def test_a_full_disk_is_a_store_error(base, writers, monkeypatch):
    writer = await started(base, writers)
    file = writer.create(await writer.next_id())

    def full(fd, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(cdb.os, "write", full)
        with pytest.raises(StoreError, match="No space left"):
            file.write(b"x" * 1_000_000)
    file.discard()


async def test_an_existing_file_is_never_overwritten(base, writers):
    writer = await started(base, writers)
    ta_id = await writer.next_id()
    writer.create(ta_id).close()
    with pytest.raises(StoreError, match="cannot be created"):
        writer.create(ta_id)


async def test_a_missing_directory_stops_the_start(tmp_path):
    with pytest.raises(StartError, match=r"sm\.setup\.sh"):
        await CdbWriter(f"{tmp_path}/", 0, None, f"{tmp_path}/l", FakeClock()).start()


def test_links_and_pipes_are_not_content(base):
    cdb_id = "S000000000000000000"
    with open(base + "secret", "w") as file:
        file.write("x")
    path = base + content_path(cdb_id)
    os.symlink(base + "secret", path)
    with pytest.raises(StoreError):
        open_content(base, cdb_id)
    os.unlink(path)
    os.link(base + "secret", path)
    with pytest.raises(StoreError, match="one name"):
        open_content(base, cdb_id)
    os.unlink(path)
    os.mkfifo(path)
    with pytest.raises(StoreError, match="plain file"):
        open_content(base, cdb_id)


async def test_a_lone_file_is_synced_in_the_loop_and_several_in_the_thread(
    base, writers, monkeypatch
):
    writer = await started(base, writers)
    where = []
    real = os.fdatasync

    def watched(fd):
        where.append(threading.current_thread() is threading.main_thread())
        real(fd)

    monkeypatch.setattr(cdbsync.os, "fdatasync", watched)
    one = writer.create(await writer.next_id())
    await one.sync()
    two = writer.create(await writer.next_id())
    await two.sync()
    one.close()
    await two.sync()
    two.discard()
    assert where == [True, False, True]


async def test_after_a_slow_sync_the_loop_is_not_stopped_again(base, writers, monkeypatch):
    writer = await started(base, writers)
    clock = writer._clock
    where = []

    def slow(fd):
        where.append(threading.current_thread() is threading.main_thread())
        clock.advance(0.05)

    monkeypatch.setattr(cdbsync.os, "fdatasync", slow)
    file = writer.create(await writer.next_id())
    await file.sync()
    await file.sync()
    file.close()
    assert where == [True, False]
