"""Sessions and reservations, as all SMTP servers share them."""

import attrs
import hypothesis.strategies as st
import pytest
from hypothesis import given

from libsmx.envelope import DsnReport
from libsmx.wire import Refusal
from qmgr.iqdb import Clients, Iqdb
from tests.qmgr.world import envelope

IP = "192.0.2.1"


def iqdb(entries=100, rate=100, most=100):
    queue = Iqdb(entries, Clients(rate, most, 1000))
    queue.open_channel(1)
    queue.open_channel(2)
    return queue


@pytest.mark.covers("X082", "X192", "X197")
def test_open_connections_of_one_client_are_limited_over_all_servers():
    queue = iqdb(most=3)
    for n, channel in enumerate((1, 2, 1)):
        assert queue.open_session(channel, f"s{n}", IP, 0) is None
    refusal = queue.open_session(2, "s9", IP, 0)
    assert (refusal.code, refusal.status) == (421, "4.7.0")
    assert queue.open_session(2, "other", "192.0.2.2", 0) is None
    queue.close_session(2, "s1")
    assert queue.open_session(2, "s9", IP, 0) is None


@pytest.mark.covers("X081", "X191", "X197")
def test_the_rate_is_counted_in_a_sliding_minute():
    queue = iqdb(rate=2)
    assert queue.open_session(1, "a", IP, 0.0) is None
    assert queue.open_session(1, "b", IP, 30.0) is None
    queue.close_session(1, "a")
    assert queue.open_session(2, "c", IP, 59.9).code == 421
    assert queue.open_session(2, "c", IP, 60.0) is None
    assert queue.open_session(2, "d", IP, 89.9).code == 421
    assert queue.open_session(2, "d", IP, 90.0) is None


@given(st.lists(st.floats(0, 30), max_size=80), st.integers(1, 10))
def test_no_minute_ever_has_more_connections_than_the_rate(pauses, rate):
    clients = Clients(rate, 10**6, 10)
    now, granted = 0.0, []
    for pause in pauses:
        now += pause
        if clients.open(IP, now) is None:
            granted.append(now)
    for start in granted:
        assert sum(start <= t < start + 60 for t in granted) <= rate


def test_clients_are_bounded_and_forgotten_after_a_minute():
    clients = Clients(10, 10, 3)
    for n in range(3):
        assert clients.open(f"192.0.2.{n}", 0.0) is None
        clients.close(f"192.0.2.{n}")
    assert clients.open("192.0.2.9", 59.0).code == 421
    assert clients.open("192.0.2.9", 60.0) is None
    assert len(clients) == 1


def test_ids_are_valid_only_on_the_channel_that_announced_them():
    queue = iqdb()
    queue.open_session(1, "s", IP, 0)
    env = envelope(1, ["a@x.org"])
    assert isinstance(queue.reserve(2, env.ta_id, "s"), Refusal)
    assert queue.reserve(1, env.ta_id, "s") is None
    assert isinstance(queue.reserve(1, env.ta_id, "s"), Refusal), "in use"
    queue.abort(2, env.ta_id)
    assert queue.reserved == 1
    assert isinstance(queue.commit(2, env), Refusal)
    assert queue.commit(1, env) is None
    assert isinstance(queue.commit(1, env), Refusal), "only once"


@pytest.mark.parametrize(
    "change",
    [
        {"cdb_id": "S00000000000000FF00"},
        {"rcpts": []},
        {"rcpts": envelope(1, ["a@x"]).rcpts * 2},
        {"dsn": DsnReport(ta_id="", sender="", received_at=0.0, reporter="", rcpts=[])},
    ],
)
def test_an_envelope_that_no_honest_server_makes_is_refused(change):
    queue = iqdb()
    queue.open_session(1, "s", IP, 0)
    env = attrs.evolve(envelope(1, ["a@x.org"]), **change)
    queue.reserve(1, env.ta_id, "s")
    assert isinstance(queue.commit(1, env), Refusal)
    assert queue.entries == 1, "nothing stays behind"


def test_a_channel_that_ends_takes_its_sessions_and_reservations_along():
    queue = iqdb(most=1)
    queue.open_session(1, "s", IP, 0)
    queue.reserve(1, "S000000000000000100", "s")
    queue.close_channel(1)
    assert (queue.entries, queue.sessions, queue.reserved) == (0, 0, 0)
    assert queue.open_session(2, "s", IP, 0) is None


@pytest.mark.covers("X175")
def test_beyond_the_bound_everything_is_refused_for_now():
    queue = iqdb(entries=3)
    queue.open_session(1, "s", IP, 0)
    assert queue.reserve(1, "S000000000000000100", "s") is None
    assert queue.reserve(1, "S000000000000000200", "s") is None
    refusal = queue.reserve(1, "S000000000000000300", "s")
    assert (refusal.code, refusal.status) == (452, "4.3.1")
    assert queue.open_session(1, "t", IP, 0).code == 421
    assert queue.commit(1, envelope(1, ["a@x", "b@x", "c@x"])).code == 452
    assert queue.entries == 2
