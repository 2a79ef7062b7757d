"""The deferred queue: batches, what is due, flush, listing, damage."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libsmx.clock import FakeClock
from libsmx.envelope import Envelope, Recipient
from libsmx.errors import StartError
from libsmx.log import NullLog
from libsmx.sealed import DamagedValue
from qmgr import defedb
from qmgr.defedb import DefedbBatch, parse_rcpt_key, rcpt_key
from qmgr.deferred import Defedb
from qmgr.records import DeferredRcpt
from qmgr.storeevents import DEFEDB_DAMAGED, DEFEDB_PROBED, DEFEDB_REBUILT

NOBODY = lambda ta_id, idx: False  # noqa: E731


def ta_id(number):
    return f"S{number:016X}00"


def make_envelope(number, rcpts=1, cdb=None):
    return Envelope(
        ta_id=ta_id(number),
        cdb_id=ta_id(number if cdb is None else cdb),
        sender="a@example.org",
        rcpts=[Recipient(idx=i, address=f"r{i}@example.net") for i in range(rcpts)],
        size=1000,
        received_at=1.7e9,
    )


def make_rcpt(number, idx=0, at=1.0, dest="mx.example.net", domain="example.net", **more):
    return DeferredRcpt(ta_id(number), idx, f"r{idx}@{domain}", dest, 1, at, "451 later", **more)


def putting(*rcpts, cdb=None):
    """Return a batch with these recipients, one transaction each number."""
    put = {}
    for rcpt in rcpts:
        number = int(rcpt.ta_id[1:17], 16)
        put.setdefault(number, (make_envelope(number, 5, cdb), []))[1].append(rcpt)
    return DefedbBatch(put=list(put.values()))


def removing(*pairs):
    return DefedbBatch(remove=[(ta_id(number), list(idxs)) for number, *idxs in pairs])


async def opened(path, log=None):
    store = Defedb(str(path), log or NullLog(), FakeClock())
    await store.open()
    return store


def names(page):
    return [(int(e.ta_id[1:17], 16), [r.idx for r in rcpts]) for e, rcpts in page]


@given(st.integers(0, (1 << 64) - 1).map(ta_id), st.integers(0, 49_999))
def test_rcpt_keys_round_trip_and_sort_by_transaction(ta, idx):
    assert parse_rcpt_key(rcpt_key(ta, idx)) == (ta, idx)
    assert parse_rcpt_key(b"whatever" + rcpt_key(ta, idx)) == (ta, idx)
    assert rcpt_key(ta, idx) < rcpt_key(ta, idx + 1)


@given(st.floats(0, 1e12), st.floats(0, 1e12))
def test_times_sort_in_keys(one, two):
    assert (defedb.pack_time(one) <= defedb.pack_time(two)) or one > two
    assert abs(defedb.unpack_time(defedb.pack_time(one)) - one) < 0.001


@pytest.mark.parametrize("value", [float("nan"), -5.0, 1e300, float("inf")])
def test_absurd_times_are_clipped(value):
    assert len(defedb.pack_time(value)) == 8


@pytest.mark.covers("X015")
async def test_deferred_recipients_come_back_after_a_restart(tmp_path):
    store = await opened(tmp_path)
    rcpts = [make_rcpt(1, 0), make_rcpt(1, 1), make_rcpt(2, 0)]
    result = await store.apply(putting(*rcpts))
    assert (result.tas, result.rcpts, result.unreferenced) == (2, 3, [])
    await store.close()
    store = await opened(tmp_path)
    assert (store.tas, store.rcpts) == (2, 3)
    assert await store.get(ta_id(1)) == (make_envelope(1, 5), rcpts[:2])
    assert await store.get(ta_id(3)) is None
    assert await store.get("no id \xff") is None
    await store.close()


async def test_what_is_due_comes_in_order_of_its_time(tmp_path):
    store = await opened(tmp_path)
    await store.apply(
        putting(make_rcpt(1, 0, 30.0), make_rcpt(1, 1, 10.0), make_rcpt(2, 0, 20.0), make_rcpt(3))
    )
    assert names(await store.due(9.0, 10, NOBODY)) == [(3, [0])]
    assert names(await store.due(30.0, 10, NOBODY)) == [(3, [0]), (1, [1, 0]), (2, [0])]
    assert names(await store.due(30.0, 2, NOBODY)) == [(3, [0]), (1, [1])]
    assert names(await store.due(30.0, 10, lambda ta, idx: ta == ta_id(3))) == [
        (1, [1, 0]),
        (2, [0]),
    ]
    assert await store.next_due() == 1.0
    assert await store.next_due(1.0) == 10.0
    assert await store.next_due(30.0) is None
    await store.close()


async def test_those_under_delivery_do_not_hide_the_others(tmp_path):
    store = await opened(tmp_path)
    await store.apply(putting(*(make_rcpt(n, at=float(n)) for n in range(500))))
    busy = {ta_id(n) for n in range(450)}
    page = await store.due(1e6, 20, lambda ta, idx: ta in busy)
    assert [n for n, _ in names(page)] == list(range(450, 470))
    assert await store.due(1e6, 20, lambda ta, idx: True) == []
    await store.close()


async def test_a_new_failure_replaces_the_old_one(tmp_path):
    store = await opened(tmp_path)
    await store.apply(putting(make_rcpt(1, at=10.0, dest="old")))
    again = make_rcpt(1, at=99.0, dest="new", status="4.4.1")
    await store.apply(putting(again))
    assert (store.tas, store.rcpts) == (1, 1)
    assert await store.due(50.0, 10, NOBODY) == []
    assert await store.due(99.0, 10, NOBODY) == [(make_envelope(1, 5), [again])]
    assert await store.make_due(5.0, "old") == 0
    assert await store.make_due(5.0, "NEW") == 1
    await store.close()


async def test_contents_are_reported_when_nobody_needs_them(tmp_path):
    store = await opened(tmp_path)
    await store.apply(putting(make_rcpt(1, 0), make_rcpt(1, 1)))
    await store.apply(putting(make_rcpt(2, 0), cdb=1))  # a bounce shares the content
    assert await store.has_content([ta_id(1), ta_id(2)]) == {ta_id(1)}
    assert (await store.apply(removing((1, 0)))).unreferenced == []
    assert (await store.apply(removing((1, 1, 0, 7)))).unreferenced == []
    assert (await store.apply(removing((2, 0), (2, 0), (9, 0)))).unreferenced == [ta_id(1)]
    assert (store.tas, store.rcpts) == (0, 0)
    assert await store.has_content([ta_id(1)]) == set()
    await store.close()


async def test_a_bounce_put_with_the_removal_keeps_the_content(tmp_path):
    store = await opened(tmp_path)
    await store.apply(putting(make_rcpt(1, 0)))
    bounce = putting(make_rcpt(2, 0), cdb=1)
    result = await store.apply(DefedbBatch(put=bounce.put, remove=[(ta_id(1), [0])]))
    assert result.unreferenced == []
    assert await store.has_content([ta_id(1)]) == {ta_id(1)}
    await store.close()


async def test_flush_makes_due_all_or_one_destination_or_domain(tmp_path):
    store = await opened(tmp_path)
    await store.apply(
        putting(
            make_rcpt(1, at=100.0, dest="MX.one.example", domain="one.example"),
            make_rcpt(2, at=100.0, dest="mx.two.example", domain="Two.example"),
            make_rcpt(3, at=100.0, dest="", domain="one.example"),
            make_rcpt(4, at=1.0, dest="mx.one.example", domain="one.example"),
        )
    )
    assert await store.make_due(5.0, "mx.one.example") == 1
    assert names(await store.due(5.0, 9, NOBODY)) == [(4, [0]), (1, [0])]
    assert await store.make_due(5.0, "two.EXAMPLE") == 1
    assert await store.make_due(5.0, "nobody") == 0
    assert await store.make_due(6.0) == 1
    assert await store.make_due(6.0) == 0
    assert [n for n, _ in names(await store.due(6.0, 9, NOBODY))] == [4, 1, 2, 3]
    assert (await store.get(ta_id(3)))[1][0].tries == 1
    await store.close()


async def test_the_listing_is_complete_in_pages_of_bounded_size(tmp_path):
    store = await opened(tmp_path)
    rcpts = [make_rcpt(n, idx) for n in range(7) for idx in range(3)]
    await store.apply(putting(*rcpts))
    found, position, pages = [], "", 0
    while True:
        page, position = await store.scan(position, 5)
        found += [rcpt for _, some in page for rcpt in some]
        assert len(position) <= 64
        pages += 1
        if not position:
            break
    assert found == rcpts
    assert pages == 5
    assert names((await store.scan("rubbish", 1))[0]) == [(0, [0])]
    await store.close()


async def test_known_tells_which_recipients_are_here(tmp_path):
    store = await opened(tmp_path)
    await store.apply(putting(make_rcpt(1, 0), make_rcpt(1, 3)))
    asked = [(ta_id(1), 0), (ta_id(1), 1), (ta_id(1), 3), (ta_id(2), 0)]
    assert await store.known(asked) == {(ta_id(1), 0), (ta_id(1), 3)}
    await store.close()


async def test_an_empty_put_stores_nothing(tmp_path):
    store = await opened(tmp_path)
    await store.apply(DefedbBatch(put=[(make_envelope(1), [])]))
    assert (store.tas, store.rcpts) == (0, 0)
    assert await store.has_content([ta_id(1)]) == set()
    await store.close()


async def test_another_schema_stops_the_start(tmp_path):
    store = await opened(tmp_path)
    await store._store.write(lambda txn: txn.put("meta", b"schema", b"77"))
    await store.close()
    with pytest.raises(StartError, match="schema 77"):
        await opened(tmp_path)


def harm(path, what):
    """Flip a bit of every copy of some bytes in the closed store."""
    data = bytearray(path.read_bytes())
    at = data.find(what)
    assert at >= 0
    while at >= 0:
        data[at] ^= 1
        at = data.find(what)
    path.write_bytes(data)


async def make_harmed(path, what):
    store = await opened(path)
    marked = make_rcpt(2, 0, dest="marked-dest")
    await store.apply(putting(make_rcpt(1), marked, make_rcpt(2, 1), make_rcpt(3)))
    await store.close()
    harm(path / "data.mdb", what)
    log = NullLog()
    return await opened(path, log), log


async def test_a_damaged_recipient_is_set_aside_and_the_rest_goes_on(tmp_path):
    store, log = await make_harmed(tmp_path, b"marked-dest")
    assert names(await store.due(9.0, 9, NOBODY)) == [(1, [0]), (2, [1]), (3, [0])]
    assert [event for event, _ in log.records].count(DEFEDB_DAMAGED) == 1
    assert names(await store.due(9.0, 9, NOBODY)) == [(1, [0]), (2, [1]), (3, [0])]
    assert [event for event, _ in log.records].count(DEFEDB_DAMAGED) == 1
    assert store.rcpts == 3
    aside = await store._store.read(lambda txn: txn.raw("aside", rcpt_key(ta_id(2), 0)))
    assert b"arked-dest" in aside
    await store.close()


async def test_a_damaged_value_does_not_stop_a_batch(tmp_path):
    store, _ = await make_harmed(tmp_path, b"marked-dest")
    await store.apply(DefedbBatch(putting(make_rcpt(2, 0, at=7.0)).put, [(ta_id(3), [0])]))
    assert names(await store.due(9.0, 9, NOBODY)) == [(1, [0]), (2, [1, 0])]
    assert (store.tas, store.rcpts) == (2, 3)
    await store.close()


async def test_a_damaged_envelope_takes_its_recipients_aside_and_keeps_the_content(tmp_path):
    store = await opened(tmp_path)
    await store.apply(putting(make_rcpt(1), make_rcpt(2, 0), make_rcpt(2, 1)))

    def spoil(txn):
        txn.put("ta", ta_id(2).encode(), b"no envelope")

    await store._store.write(spoil)
    assert names(await store.due(9.0, 9, NOBODY)) == [(1, [0])]
    assert (store.tas, store.rcpts) == (1, 1)
    assert await store.has_content([ta_id(2)]) == {ta_id(2)}
    assert await store.get(ta_id(2)) is None
    await store.close()


async def test_a_damaged_count_is_an_error_not_a_loop(tmp_path):
    store = await opened(tmp_path)
    await store.apply(putting(make_rcpt(1)))

    def fail(txn):
        raise DamagedValue("meta", b"counts")

    with pytest.raises(DamagedValue):
        await store._change(fail)
    await store.close()


async def test_damage_found_while_running_is_repaired_by_the_next_batch(tmp_path):
    log = NullLog()
    store = await opened(tmp_path, log)
    await store.apply(putting(make_rcpt(1), make_rcpt(2)))

    def spoil(txn):
        txn._txn.put(b"counts", b"rubbish", db=txn._tables["meta"])

    await store._store.write(spoil)
    with pytest.raises(DamagedValue):
        await store.apply(putting(make_rcpt(3)))
    await store.apply(putting(make_rcpt(3)))
    assert (store.tas, store.rcpts) == (3, 3)
    assert [event for event, _ in log.records].count(DEFEDB_REBUILT) == 1
    assert len(await store.due(10.0, 10, NOBODY)) == 3
    await store.close()


async def test_times_beyond_every_plan_are_clipped_but_no_others(tmp_path):
    store = await opened(tmp_path)
    await store.apply(putting(make_rcpt(1, at=50.0), make_rcpt(2, at=100.0), make_rcpt(3, at=9e9)))
    assert await store.clip(100.0) == 1
    assert await store.clip(100.0) == 0
    page = await store.due(1e9, 10, NOBODY)
    assert [rcpts[0].next_try_at for _, rcpts in page] == [50.0, 100.0, 100.0]
    await store.tidy()
    await store.close()


@pytest.mark.parametrize("how", ["bit", "truncate"])
async def test_after_an_unclean_stop_a_damaged_file_is_rebuilt(tmp_path, how):
    store = await opened(tmp_path)
    await store.apply(putting(*(make_rcpt(n, at=float(n)) for n in range(2999))))
    await store.apply(putting(make_rcpt(2999, dest="marked-dest")))
    store._store._env.close()
    path = tmp_path / "data.mdb"
    if how == "bit":
        harm(path, b"marked-dest")
    else:
        os.truncate(path, path.stat().st_size * 3 // 4)
    log = NullLog()
    store = await opened(tmp_path, log)
    events = [event for event, _ in log.records]
    assert DEFEDB_REBUILT in events
    assert DEFEDB_PROBED in events
    assert [name for name in os.listdir(tmp_path) if name.startswith("damaged-2023")]
    due = await store.due(1e9, 5000, NOBODY)
    assert len(due) == store.rcpts == store.tas
    if how == "bit":
        assert len(due) == 2999
    found = []
    position = ""
    while True:
        page, position = await store.scan(position, 2000)
        found += page
        if not position:
            break
    assert sorted(names(found)) == sorted(names(due))
    later = [ta for ta, rcpts in due if rcpts[0].next_try_at > 0.5]
    assert await store.make_due(0.5, "mx.example.net") == len(later)
    contents = {ta.cdb_id for ta in later}
    assert await store.has_content(contents) == contents
    await store.close()


async def test_a_rebuild_that_was_interrupted_is_finished(tmp_path):
    store = await opened(tmp_path)
    await store.apply(putting(make_rcpt(1), make_rcpt(2)))

    def forget(txn):
        for table in ("due", "name", "cdb", "meta"):
            for key in list(txn.keys(table)):
                txn.delete(table, key)
        txn.delete("ta", ta_id(2).encode())

    await store._store.write(forget)
    await store.close()
    store = await opened(tmp_path)
    assert names(await store.due(9.0, 9, NOBODY)) == [(1, [0])]
    assert (store.tas, store.rcpts) == (1, 1)
    await store.close()
