"""How many content files become durable together, and when syncfs is trusted."""

import errno
import os

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from libsmx import cdbsync
from libsmx.cdbsync import Choice, Syncer


def known(file_s=0.001, counts=(2, 4, 10, 50)):
    choice = Choice(possible=True)
    for count in counts:
        choice.took(count, count * file_s, whole=False)
    return choice


@pytest.mark.parametrize(
    ("choice", "count", "whole"),
    [
        (Choice(possible=True), 50, False),
        (Choice(possible=False), 50, False),
        (known(), 1, False),
        (known(), 2, True),
        (known(counts=[10]), 2, False),
        (known(counts=[10]), 15, True),
        (known(), 50, True),
    ],
)
def test_syncfs_is_for_batches_of_a_size_that_was_timed_the_other_way(choice, count, whole):
    assert choice.whole(count) is whole


@pytest.mark.parametrize(("seconds", "again"), [(0.009, True), (0.0115, True), (0.013, False)])
def test_syncfs_may_take_a_little_longer_because_it_costs_less(seconds, again):
    choice = known()
    choice.took(10, seconds, whole=True)
    assert choice.whole(10) is again


def test_a_slow_syncfs_is_left_alone_for_longer_each_time_until_it_is_fast():
    choice, pauses = known(), []
    for _ in range(12):
        assert choice.whole(10)
        choice.took(10, 1.0, whole=True)
        pauses.append(0)
        while choice.wait:
            assert not choice.whole(10)
            pauses[-1] += 1
    assert pauses == [16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 4096, 4096, 4096]
    assert choice.whole(10)
    choice.took(10, 0.001, whole=True)
    assert choice.wait == 0
    choice.took(10, 1.0, whole=True)
    assert choice.wait == 16


@given(st.lists(st.tuples(st.integers(1, 100), st.floats(0, 100), st.booleans())))
def test_whatever_the_times_the_pause_is_bounded(steps):
    choice = Choice(possible=True)
    for count, seconds, whole in steps:
        choice.took(count, seconds, whole=whole)
        assert 0 <= choice.wait <= 4096


class Disk:
    """A syncer whose syncfs is ours, and the descriptors that were synced one by one."""

    def __init__(self, tmp_path, monkeypatch, results):
        self.results = results
        self.whole = 0
        self.single = []
        self.paths = [tmp_path / str(n) for n in range(8)]
        monkeypatch.setattr(cdbsync, "_find_syncfs", lambda _: self.syncfs)
        monkeypatch.setattr(cdbsync, "_sync_file", self.sync_file)
        self.syncer = Syncer([str(tmp_path)], trio.current_time)
        self.syncer._choice = known(1000.0)
        self.directory = str(tmp_path)

    def syncfs(self, fd):
        self.whole += 1
        return self.results.pop(0)

    def sync_file(self, fd):
        self.single.append(fd)
        return OSError(errno.EIO, "Input/output error") if fd == 3 else None

    def run(self, fds):
        """Sync a batch and return who was told what."""
        told = {}
        batch = [(fd, self.directory, lambda error, fd=fd: told.update({fd: error})) for fd in fds]
        self.syncer._token = Now
        self.syncer._sync_batch(batch)
        return told


class Now:
    """Calls at once."""

    @staticmethod
    def run_sync_soon(function):
        function()


async def test_a_large_batch_is_one_syncfs(tmp_path, monkeypatch):
    disk = Disk(tmp_path, monkeypatch, [0])
    assert disk.run(range(3, 10)) == dict.fromkeys(range(3, 10))
    assert (disk.whole, disk.single) == (1, [])
    disk.syncer.stop()


async def test_a_failed_syncfs_blames_the_right_file_and_is_never_used_again(tmp_path, monkeypatch):
    disk = Disk(tmp_path, monkeypatch, [-1])
    for _ in range(2):
        told = disk.run(range(3, 10))
        assert [fd for fd, error in told.items() if error is not None] == [3]
    assert disk.whole == 1
    assert sorted(disk.single) == sorted([*range(3, 10)] * 2)
    disk.syncer.stop()


def test_an_old_kernel_or_several_file_systems_rule_syncfs_out(tmp_path, monkeypatch):
    class Uname:
        sysname = "Linux"
        release = "5.4.0-150-generic"

    assert cdbsync._find_syncfs([str(tmp_path)]) is not None
    assert cdbsync._find_syncfs([str(tmp_path), "/proc"]) is None
    monkeypatch.setattr(os, "uname", lambda: Uname)
    assert cdbsync._find_syncfs([str(tmp_path)]) is None


@pytest.mark.parametrize("beside", [False, True])
async def test_a_directory_that_fails_blames_its_files_and_no_others(tmp_path, monkeypatch, beside):
    disk = Disk(tmp_path, monkeypatch, [])
    disk.syncer._choice = Choice(possible=False)
    disk.syncer._beside = beside
    disk.syncer._token = Now
    synced, told = [], {}

    def sync_directory(path):
        synced.append(path)
        if path == "bad":
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(cdbsync, "sync_directory", sync_directory)
    names = {4: "good", 5: "bad", 6: "good", 7: "bad", 8: "other", 3: "other"}
    disk.syncer._sync_batch(
        [(fd, name, lambda error, fd=fd: told.update({fd: error})) for fd, name in names.items()]
    )
    assert sorted(synced) == ["bad", "good", "other"]
    assert sorted(disk.single) == [3, 4, 5, 6, 7, 8]
    assert sorted(fd for fd, error in told.items() if error is not None) == [3, 5, 7]
    disk.syncer.stop()


@pytest.mark.parametrize(("file_s", "beside"), [(0.0002, False), (0.1, True)])
async def test_directories_are_synced_beside_the_files_once_the_disk_is_slow(
    tmp_path, monkeypatch, file_s, beside
):
    disk = Disk(tmp_path, monkeypatch, [])
    disk.syncer._choice = Choice(possible=False)
    now = 0.0

    def sync_file(fd):
        nonlocal now
        now += file_s

    monkeypatch.setattr(cdbsync, "_sync_file", sync_file)
    disk.syncer._mono = lambda: now
    assert disk.run(range(4, 10)) == dict.fromkeys(range(4, 10))
    assert disk.syncer._beside is beside
    disk.syncer.stop()
