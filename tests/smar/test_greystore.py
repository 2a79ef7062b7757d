"""The greylist in memory and on disk."""

import os

import pytest
import trio

from libsmx.clock import FakeClock
from libsmx.errors import StartError, StoreError
from libsmx.log import NullLog
from libsmx.opt_smar_grey import GreylistConf
from smar import greystore as module
from smar.grey import show_key
from smar.greystore import Greylist

WAIT_S, EXPIRE_S, WHITE_S, TIMEOUT_S = 300, 3600, 10_000, 20_000


class Bench:
    """A greylist below a directory; start and stop it as a process would."""

    def __init__(self, place, **options):
        values = {
            "grey_wait": WAIT_S,
            "grey_expire": EXPIRE_S,
            "white_expire": WHITE_S,
            "white_timeout": TIMEOUT_S,
            "main_db_name": str(place / "main.db"),
            "secondary_db_name": str(place / "index.db"),
        }
        self.conf = GreylistConf(**{**values, **options})
        self.clock = FakeClock()

    async def use(self, function, *, close=True):
        async with trio.open_nursery() as nursery:
            grey = Greylist(self.conf, self.clock, NullLog(), nursery)
            await grey.open()
            result = await function(grey)
            if close:
                await grey.close()
            else:
                await grey._main.close()
                await grey._index.close()
            return result

    async def check(self, grey, client):
        answers = []
        grey.check(client, answers.append)
        while not answers:
            await trio.sleep(0.001)
        return answers[0]


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


@pytest.mark.covers("X255", "X256", "X272")
async def test_states_outlive_the_process(bench):
    async def first(grey):
        assert not await bench.check(grey, "192.0.2.1")
        bench.clock.advance(WAIT_S - 1)
        assert not await bench.check(grey, "192.0.2.1")

    async def second(grey):
        assert await bench.check(grey, "192.0.2.1")
        assert not await bench.check(grey, "192.0.2.2")

    async def third(grey):
        assert await bench.check(grey, "192.0.2.1")
        assert not await bench.check(grey, "192.0.2.2")

    await bench.use(first)
    bench.clock.advance(1)
    await bench.use(second)
    await bench.use(third)


@pytest.mark.covers("X261", "X262")
async def test_databases_have_the_configured_names(bench, tmp_path):
    await bench.use(lambda grey: bench.check(grey, "192.0.2.1"))
    assert sorted(os.listdir(tmp_path)) == ["index.db", "main.db"]


async def test_what_was_not_written_at_a_crash_is_asked_once_more(bench):
    await bench.use(lambda grey: bench.check(grey, "192.0.2.1"), close=False)
    bench.clock.advance(WAIT_S)
    assert not await bench.use(lambda grey: bench.check(grey, "192.0.2.1"))


async def test_requests_of_one_client_at_the_same_time_have_one_answer(bench):
    async def use(grey):
        answers = []
        for _ in range(20):
            grey.check("192.0.2.1", answers.append)
        while len(answers) < 20:
            await trio.sleep(0.001)
        return answers

    assert await bench.use(use) == [False] * 20
    bench.clock.advance(WAIT_S)
    assert await bench.use(use) == [True] * 20


async def fill(bench, grey, count, net="10.0"):
    for n in range(count):
        await bench.check(grey, f"{net}.{n // 250}.{n % 250}")
    await grey.flush()
    return (await grey.page(b"", 1)).total


@pytest.mark.covers("X263", "X264")
async def test_entries_are_removed_only_above_the_limit_and_only_expired_ones(tmp_path):
    bench = Bench(tmp_path, expire_limit=50)

    async def use(grey):
        assert await fill(bench, grey, 60) == 60  # none has expired
        bench.clock.advance(EXPIRE_S + 1)
        assert await fill(bench, grey, 5, "10.1") == 50
        bench.clock.advance(EXPIRE_S + 1)
        assert await fill(bench, grey, 60, "10.2") == 60
        page = await grey.page(b"", 1000)
        assert {show_key(key)[:5] for key, _ in page.entries} == {"10.2."}

    await bench.use(use)


@pytest.mark.covers("X258")
async def test_white_clients_that_keep_sending_are_never_removed(tmp_path):
    bench = Bench(tmp_path, expire_limit=0)

    async def use(grey):
        assert not await bench.check(grey, "192.0.2.1")
        await bench.check(grey, "192.0.2.2")
        bench.clock.advance(WAIT_S)
        assert await bench.check(grey, "192.0.2.1")
        for _ in range(20):
            bench.clock.advance(WHITE_S - 1)
            assert await bench.check(grey, "192.0.2.1")
            await grey.flush()
        page = await grey.page(b"", 10)
        assert [show_key(key) for key, _ in page.entries] == ["192.0.2.1"]

    await bench.use(use)


async def test_operator_sees_pages_and_removes(bench):
    async def use(grey):
        await fill(bench, grey, 30)
        seen, start = [], b""
        while True:
            page = await grey.page(start, 7)
            assert page.total == 30
            seen += [show_key(key) for key, _ in page.entries]
            if not page.more:
                break
            start = page.entries[-1][0] + b"\0"
        assert seen == [f"10.0.0.{n}" for n in range(30)]
        assert await grey.remove("10.0.0.7")
        assert not await grey.remove("10.0.0.7")
        assert await grey.show("10.0.0.7") is None
        assert not await grey.remove("no address")
        bench.clock.advance(WAIT_S)
        assert not await bench.check(grey, "10.0.0.7")
        assert await bench.check(grey, "10.0.0.8")
        bench.clock.advance(EXPIRE_S)
        assert await grey.expire() == 29
        assert (await grey.page(b"", 10)).total == 1

    await bench.use(use)


async def test_index_that_is_lost_or_of_other_times_is_made_anew(bench, tmp_path):
    await bench.use(lambda grey: fill(bench, grey, 600))
    for name in os.listdir(tmp_path / "index.db"):
        os.unlink(tmp_path / "index.db" / name)
    bench.clock.advance(EXPIRE_S)
    longer = Bench(tmp_path, grey_expire=2 * EXPIRE_S)
    longer.clock = bench.clock
    assert await longer.use(lambda grey: grey.expire()) == 0
    bench.clock.advance(EXPIRE_S)
    assert await longer.use(lambda grey: grey.expire()) == 600


async def test_times_that_were_made_longer_hold_for_old_entries(bench, tmp_path):
    await bench.use(lambda grey: fill(bench, grey, 10))
    bench.clock.advance(EXPIRE_S)
    longer = Bench(tmp_path, grey_expire=2 * EXPIRE_S)
    longer.clock = bench.clock
    assert await longer.use(lambda grey: grey.expire()) == 0
    bench.clock.advance(EXPIRE_S)
    assert await longer.use(lambda grey: grey.expire()) == 10


async def test_damaged_database_is_put_aside_and_mail_goes_on(bench, tmp_path):
    await bench.use(lambda grey: fill(bench, grey, 100))
    os.unlink(tmp_path / "main.db/clean")
    with open(tmp_path / "main.db/data.mdb", "r+b") as file:
        file.truncate(8192)
        file.write(b"\xff" * 8192)
    assert not await bench.use(lambda grey: bench.check(grey, "10.0.0.1"))
    assert any(name.startswith("main.db.damaged-") for name in os.listdir(tmp_path))


async def test_clients_are_let_in_while_the_disk_fails(bench, monkeypatch):
    async def broken(_):
        raise StoreError("the disk is broken")

    async def use(grey):
        assert not await bench.check(grey, "192.0.2.1")
        monkeypatch.setattr(grey._main, "read", broken)
        monkeypatch.setattr(grey._main, "write", broken)
        assert await bench.check(grey, "192.0.2.2")
        await grey.flush()
        monkeypatch.undo()
        bench.clock.advance(WAIT_S)
        assert await bench.check(grey, "192.0.2.1")  # nothing of it was lost

    await bench.use(use)


async def test_memory_is_bounded(bench, monkeypatch):
    monkeypatch.setattr(module, "MAX_KNOWN", 10)
    monkeypatch.setattr(module, "MAX_DIRTY", 20)

    async def use(grey):
        answers = [await bench.check(grey, f"10.0.0.{n}") for n in range(40)]
        assert answers == [False] * 20 + [True] * 20
        assert len(grey._known) == 10
        await grey.flush()
        assert not await bench.check(grey, "10.0.1.1")

    await bench.use(use)


async def test_directory_that_cannot_be_made_stops_the_start(tmp_path):
    (tmp_path / "main.db").write_text("in the way")
    with pytest.raises(BaseExceptionGroup) as caught:
        await Bench(tmp_path).use(None)
    assert caught.group_contains(StartError, match="greylisting: .*main.db")
