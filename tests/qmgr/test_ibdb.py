"""The form of the IBDB: round trips, cut logs, flipped bytes, what stays open."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libsmx.envelope import Envelope, Recipient
from libsmx.errors import StartError
from qmgr import ibdb
from qmgr.ibdb import HEADER_SIZE, Damage, OpenTas, scan_segment, seal_header, seal_record
from qmgr.records import Closed, DeferredRcpt, Entry


def ta_id(number):
    return f"S{number:016X}00"


def make_envelope(number, rcpts=1, **more):
    return Envelope(
        ta_id=ta_id(number),
        cdb_id=ta_id(number),
        sender="a@example.org",
        rcpts=[Recipient(idx=i, address=f"r{i}@example.net") for i in range(rcpts)],
        size=1000,
        received_at=1.7e9,
        **more,
    )


def opening(number, rcpts=1):
    return Entry(new=[make_envelope(number, rcpts)])


def closing(number, *idxs):
    return Entry(closed=[Closed(ta_id(number), list(idxs), "delivered")])


def make_segment(entries, number=7, synced_each=True, tail=100):
    """Return a segment file and the (start, end) of each record."""
    data, places = seal_header(number), []
    mark = len(data)
    for entry in entries:
        record = seal_record(ibdb.encode_entry(entry), number, len(data), mark)
        places.append((len(data), len(data) + len(record)))
        data += record
        if synced_each:
            mark = len(data)
    return data + bytes(tail), places


def read(data, number=7):
    entries, damages = [], []
    for item in scan_segment(data, number):
        (damages if isinstance(item, Damage) else entries).append(item)
    return entries, damages


texts = st.text(max_size=30)
envelopes = st.builds(
    Envelope,
    ta_id=st.integers(0, 9).map(ta_id),
    cdb_id=st.integers(0, 9).map(ta_id),
    sender=texts,
    rcpts=st.lists(st.builds(Recipient, idx=st.integers(0, 49_999), address=texts), max_size=4),
    size=st.integers(0, 1 << 62),
    body8=st.booleans(),
    received_at=st.floats(0, 4e9),
    client=texts,
)
closeds = st.builds(
    Closed,
    st.integers(0, 9).map(ta_id),
    st.lists(st.integers(0, 49_999), max_size=4),
    st.sampled_from(["delivered", "failed"]),
)
entries = st.builds(Entry, st.lists(envelopes, max_size=2), st.lists(closeds, max_size=2))


@given(st.lists(entries, max_size=6))
@pytest.mark.covers("X013")
def test_what_is_written_is_read_again(given_entries):
    data, _ = make_segment(given_entries)
    assert read(data) == (given_entries, [])


@given(st.lists(entries, min_size=1, max_size=4), st.data())
@settings(deadline=None)
def test_a_log_cut_at_any_byte_gives_a_prefix(given_entries, data):
    whole, places = make_segment(given_entries, tail=0)
    cut = data.draw(st.integers(0, len(whole)))
    for damaged in (whole[:cut], whole[:cut] + bytes(len(whole) - cut)):
        found, damages = read(damaged)
        wanted = [e for e, (_, end) in zip(given_entries, places, strict=True) if end <= cut]
        # Trailing zero bytes of a record are the same as none.
        assert found == given_entries[: len(found)]
        assert len(found) >= len(wanted)
        assert all(not d.acknowledged for d in damages if d.start >= HEADER_SIZE)


@given(st.lists(entries, min_size=2, max_size=5), st.data())
@settings(deadline=None)
def test_a_flipped_byte_is_reported_and_costs_one_record(given_entries, data):
    whole, places = make_segment(given_entries)
    hit = data.draw(st.integers(0, len(given_entries) - 1))
    at = data.draw(st.integers(places[hit][0], places[hit][1] - 1))
    damaged = bytearray(whole)
    damaged[at] ^= data.draw(st.integers(1, 255))
    found, damages = read(bytes(damaged))
    assert found == given_entries[:hit] + given_entries[hit + 1 :]
    assert len(damages) == 1
    assert damages[0].start == places[hit][0]
    assert damages[0].acknowledged == (hit < len(given_entries) - 1)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_without_failing(junk):
    found, damages = read(junk)
    assert found == []
    assert bool(damages) == bool(junk.strip(b"\0"))
    found, _ = read(seal_header(7) + junk)
    assert found == []


def test_a_hole_of_the_last_unsynced_writes_is_no_damage():
    """Power loss may keep a later block of one sync and lose an earlier one."""
    data, places = make_segment([opening(n) for n in range(4)], synced_each=False)
    start, end = places[1]
    found, damages = read(data[:start] + bytes(end - start) + data[end:])
    assert [e.new[0].ta_id for e in found] == [ta_id(0), ta_id(2), ta_id(3)]
    assert [(d.start, d.end, d.acknowledged) for d in damages] == [(start, end, False)]


def test_zeroed_acknowledged_bytes_are_damage():
    data, places = make_segment([opening(n) for n in range(4)])
    start, end = places[1]
    found, damages = read(data[:start] + bytes(end - start) + data[end:])
    assert len(found) == 3
    assert [d.acknowledged for d in damages] == [True]
    assert "damaged at byte" in str(damages[0])


def test_records_of_another_segment_or_place_do_not_verify():
    data, _ = make_segment([opening(1)], number=7)
    assert read(seal_header(8) + data[HEADER_SIZE:], 8)[0] == []
    assert read(seal_header(7) + b"\1" + data[HEADER_SIZE:])[0] == []


def test_a_segment_never_begun_is_empty():
    assert read(b"") == ([], [])
    assert read(bytes(4096)) == ([], [])
    assert read(seal_header(7) + bytes(4096)) == ([], [])


def test_a_damaged_header_costs_no_record():
    data, _ = make_segment([opening(1), opening(2)])
    found, damages = read(b"XXXX" + data[4:])
    assert len(found) == 2
    assert [d.acknowledged for d in damages] == [True]


def test_another_schema_stops_the_start(monkeypatch):
    monkeypatch.setattr(ibdb, "SCHEMA", 9)
    data, _ = make_segment([opening(1)])
    monkeypatch.undo()
    with pytest.raises(StartError, match="schema 9"):
        read(data)


def test_an_intact_record_of_unknown_content_is_reported():
    body = seal_record(b"\x93\x01\x02\x03", 7, HEADER_SIZE, HEADER_SIZE)
    found, damages = read(seal_header(7) + body)
    assert found == []
    assert damages[0].unreadable
    assert damages[0].acknowledged
    assert "not understood" in str(damages[0])


def test_open_transactions_are_those_with_open_recipients():
    tas = OpenTas()
    tas.apply(1, opening(1, rcpts=3))
    tas.apply(1, opening(2))
    tas.apply(2, closing(1, 0, 2))
    assert [(e.ta_id, idxs) for e, idxs in tas.list_open()] == [(ta_id(1), [1]), (ta_id(2), [0])]
    assert (tas.held(1), tas.held(2), len(tas)) == (2, 0, 2)
    tas.apply(2, closing(1, 1))
    tas.apply(2, closing(2, 0))
    assert (tas.held(1), len(tas), tas.list_open()) == (0, 0, [])


def test_a_transaction_that_is_opened_again_is_held_by_the_newer_segment():
    tas = OpenTas()
    tas.apply(1, opening(1, rcpts=2))
    tas.apply(1, closing(1, 0))
    again = Entry(new=[make_envelope(1, rcpts=2)])
    tas.apply(4, again)
    assert (tas.held(1), tas.held(4)) == (0, 1)
    assert [idxs for _, idxs in tas.list_open()] == [[1]], "what is closed stays closed"
    assert [len(tas.list_open(until)) for until in (3, 4)] == [0, 1]
    tas.apply(5, closing(1, 1))
    assert (tas.held(4), len(tas)) == (0, 0)


def test_closing_what_is_not_open_changes_nothing():
    tas = OpenTas()
    tas.apply(1, closing(9, 0))
    tas.apply(1, Entry(new=[make_envelope(3, rcpts=0)]))
    assert len(tas) == 0


@given(st.lists(entries, max_size=8))
def test_applying_twice_in_a_row_is_applying_once(given_entries):
    once, twice = OpenTas(), OpenTas()
    for entry in given_entries:
        once.apply(1, entry)
        twice.apply(1, entry)
        if not entry.new or not entry.closed:
            twice.apply(1, entry)
    assert once.list_open() == twice.list_open()
    assert once.held(1) == twice.held(1) == len(once)


def test_long_remote_texts_are_cut_to_what_a_record_holds():
    rcpt = DeferredRcpt(ta_id(1), 0, "a@b", "b", 1, 1.7e9, "x" * 5000)
    assert len(rcpt.error) == 2048
