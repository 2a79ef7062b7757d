"""Figures of the deferred queue, and what keeps a lost index entry from costing mail."""

import attrs
import pytest

from libsmx.log import NullLog
from qmgr import deferred
from qmgr.defedb import DefedbBatch
from qmgr.records import DeferredRcpt
from qmgr.storeevents import DEFEDB_MENDED
from tests.qmgr.test_defedb import make_envelope, make_rcpt, opened, putting, ta_id


async def all_names(store, limit):
    """Every destination, page by page, and how many pages there were."""
    found, after, pages = [], "", 0
    while True:
        page, after = await store.names(after, limit)
        assert len(page) <= limit
        found += page
        pages += 1
        if not after:
            return found, pages


async def test_each_destination_is_listed_once_however_much_waits_for_it(tmp_path):
    store = await opened(tmp_path)
    assert await all_names(store, 5) == ([], 1)
    rcpts = [make_rcpt(n, dest=f"mx{n % 7}", domain=f"d{n % 11}.net") for n in range(300)]
    await store.apply(putting(*rcpts))
    found, pages = await all_names(store, 4)
    assert sorted(found) == [f"mx{n}" for n in range(7)]
    assert pages == 5, "18 names, four at a time"
    await store.close()


async def test_mail_that_had_no_route_yet_is_listed_by_its_domain(tmp_path):
    store = await opened(tmp_path)
    await store.apply(putting(make_rcpt(1, dest="", domain="no.route"), make_rcpt(2)))
    assert sorted((await all_names(store, 9))[0]) == ["mx.example.net", "no.route"]
    await store.close()


@pytest.mark.parametrize("after", ["x", "\x00", "ff" * 41, "zz", "é", "f" * 80])
async def test_an_odd_position_does_no_harm(tmp_path, after):
    store = await opened(tmp_path)
    await store.apply(putting(make_rcpt(1)))
    found, _ = await store.names(after, 5)
    assert found in ([], ["mx.example.net"])
    await store.close()


class Lines(NullLog):
    def __init__(self):
        self.events = []

    def emit(self, event, **fields):
        self.events.append((event, fields))


async def lose_index(store):
    """Let the index of contents lose all it has."""
    await store._write(lambda txn: [txn.delete("cdb", key) for key in list(txn.keys("cdb"))])


def report(number, about):
    """An envelope of our own about somebody else's content."""
    return attrs.evolve(
        make_envelope(about), ta_id=ta_id(number).replace("S", "Q"), rcpts=make_envelope(1).rcpts
    )


async def test_a_content_that_the_index_lost_is_known_and_found_at_once_again(tmp_path):
    log = Lines()
    store = await opened(tmp_path, log)
    await store.apply(putting(make_rcpt(1), make_rcpt(2)))
    own = report(9, about=3)
    first = DeferredRcpt(own.ta_id, 0, "a@b", "", 0, 1.0)
    await store.apply(DefedbBatch(put=[(own, [first])]))
    await lose_index(store)
    asked = [ta_id(n) for n in range(1, 6)]
    log.events.clear()
    assert await store.has_content(asked) == {ta_id(1), ta_id(2), ta_id(3)}
    assert [(event.name, fields) for event, fields in log.events] == [
        (DEFEDB_MENDED.name, {"count": 3})
    ]
    log.events.clear()
    assert await store.has_content(asked) == {ta_id(1), ta_id(2), ta_id(3)}
    assert log.events == [], "nothing is left to mend"
    result = await store.apply(DefedbBatch(remove=[(own.ta_id, [0])]))
    assert result.unreferenced == [ta_id(3)]
    await store.close()


@pytest.mark.parametrize("chunk", [1, 3, 2000])
async def test_reports_are_looked_at_piece_by_piece(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(deferred, "_CHUNK", chunk)
    store = await opened(tmp_path)
    for number in range(1, 10):
        own = report(100 + number, about=number)
        first = DeferredRcpt(own.ta_id, 0, "a@b", "", 0, 1.0)
        await store.apply(DefedbBatch(put=[(own, [first])]))
    await lose_index(store)
    asked = {1, 5, 9, 30, 31}
    known = await store.has_content([ta_id(n) for n in asked])
    assert known == {ta_id(n) for n in (1, 5, 9)}
    await store.close()
