"""Small cores: contents, bounces, disk space, destinations, limits."""

import attrs
import hypothesis.strategies as st
import pytest
from hypothesis import given

from libsmx.envelope import Recipient
from libsmx.errors import Bug
from libsmx.opttab import QmgrConf
from qmgr.aq import CROWD_MIN, Aq
from qmgr.bounce import News, addressee, make_reports
from qmgr.disk import DiskGuard
from qmgr.limits import Limits, from_conf
from qmgr.places import Destination
from qmgr.ta import Contents, Home, Rcpt, Tas
from tests.qmgr.world import T0, envelope


def reports(env, count, limits=None, action="failed"):
    limits = limits or Limits(hostname="gw")
    ids = iter(f"Q{n:016X}00" for n in range(1000))
    told = [
        News(action, "5.1.1", "no").about(Recipient(idx=n, address=f"u{n}@x")) for n in range(count)
    ]
    return make_reports(
        env, told, env.sender, limits=limits, now_s=T0 + 9, next_id=lambda: next(ids)
    )


def test_a_report_goes_to_the_sender_with_the_original_content():
    env = attrs.evolve(envelope(7, ["u0@x"], sender="me@y"), envid="E 1")
    [made] = reports(env, 1)
    assert (made.sender, made.rcpts[0].address, made.cdb_id) == ("", "me@y", env.cdb_id)
    assert made.rcpts[0].notify == "NEVER"
    assert made.ta_id != env.ta_id
    assert made.received_at == T0 + 9
    assert (made.dsn.ta_id, made.dsn.sender, made.dsn.received_at) == (env.ta_id, "me@y", T0)
    assert (made.dsn.envid, made.dsn.reporter, made.dsn.mime) == ("E 1", "gw", True)


@pytest.mark.covers("X169", "X170")
def test_many_failures_are_told_in_several_reports():
    made = reports(envelope(7, ["a@x"]), 7, Limits(max_errors_per_dsn=3))
    assert [len(b.dsn.rcpts) for b in made] == [3, 3, 1]
    assert len({b.ta_id for b in made}) == 3


@pytest.mark.covers("X166", "X167")
@pytest.mark.parametrize(
    ("ret", "returned", "header_only", "action", "headers"),
    [
        ("", False, False, "failed", [False, True]),
        ("", True, False, "failed", [True, True]),
        ("FULL", True, False, "failed", [False, False]),
        ("HDRS", False, False, "failed", [True, True]),
        ("", False, True, "failed", [True, True]),
        ("FULL", False, True, "failed", [True, True]),
        ("FULL", False, False, "delayed", [True, True]),
        ("", False, False, "relayed", [True, True]),
    ],
)
def test_the_first_report_of_a_failure_brings_the_whole_message(
    ret, returned, header_only, action, headers
):
    env = attrs.evolve(envelope(7, ["a@x"]), ret=ret, returned=returned)
    limits = Limits(max_errors_per_dsn=1, dsn_header_only=header_only)
    assert [b.dsn.headers_only for b in reports(env, 2, limits, action)] == headers


@pytest.mark.parametrize(
    ("sender", "notify", "action", "who"),
    [
        ("s@y", "", "failed", "s@y"),
        ("s@y", "", "delayed", "s@y"),
        ("s@y", "", "relayed", ""),
        ("s@y", "NEVER", "failed", ""),
        ("s@y", "SUCCESS", "failed", ""),
        ("s@y", "SUCCESS,FAILURE", "failed", "s@y"),
        ("s@y", "SUCCESS,FAILURE", "delayed", ""),
        ("s@y", "DELAY", "delayed", "s@y"),
        ("s@y", "SUCCESS", "delivered", "s@y"),
        ("", "", "failed", "dbl@y"),
        ("", "NEVER", "failed", "dbl@y"),
        ("", "", "delayed", ""),
        ("", "SUCCESS", "relayed", ""),
    ],
)
def test_senders_hear_what_they_want_to_and_the_null_sender_hears_nothing(
    sender, notify, action, who
):
    env = envelope(7, ["a@x"], sender=sender)
    rcpt = Recipient(idx=0, address="a@x", notify=notify)
    assert addressee(env, rcpt, action, "dbl@y") == who
    assert addressee(env, rcpt, action, "A@X") in (who, "") or not sender
    if not sender:
        assert addressee(env, rcpt, action, "A@X") == "", "a failing double bounce ends there"
        assert addressee(env, rcpt, action, "") == ""


@pytest.mark.covers("X178", "X179")
def test_disk_space_has_a_hysteresis_over_all_file_systems():
    guard = DiskGuard(100, 200)
    assert guard.check({"cdb": 100, "ibdb": 500}) == ""
    assert "ibdb" in guard.check({"cdb": 100, "ibdb": 99})
    assert "cdb" in guard.check({"cdb": 199, "ibdb": 500}), "not yet well"
    assert guard.check({"cdb": 200, "ibdb": 500}) == ""
    assert guard.check({"cdb": 150, "ibdb": 500}) == "", "well until it is low again"
    assert guard.check({}) == ""


@given(st.lists(st.sampled_from(["hold", "release", "spill", "gone"]), max_size=60))
def test_a_content_goes_when_neither_memory_nor_the_defedb_needs_it(events):
    contents, held, stored, removed = Contents(), 0, False, False
    for event in events:
        if removed:
            break
        if event == "hold":
            contents.hold("c")
            held += 1
            if stored:
                contents.spilled("c")  # as loading does
        elif event == "spill" and held:
            contents.spilled("c")
            stored = True
        elif event == "release" and held:
            held -= 1
            removed = contents.release("c")
            assert removed == (not held and not stored)
        elif event == "gone" and stored:
            stored = False
            removed = contents.unreferenced("c")
            assert removed == (not held)


def test_a_content_nobody_holds_cannot_be_spilled():
    with pytest.raises(Bug):
        Contents().spilled("c")


def test_a_transaction_cannot_be_accepted_twice():
    tas = Tas()
    tas.accept(envelope(1, ["a@x"]))
    with pytest.raises(Bug):
        tas.accept(envelope(1, ["a@x"]))


def rcpts(tas, number, count):
    return list(tas.accept(envelope(number, [f"u{n}@x" for n in range(count)])).rcpts.values())


@given(st.lists(st.integers(1, 7), min_size=1, max_size=8), st.integers(1, 4))
def test_a_destination_is_first_in_first_out_and_groups_by_transaction(sizes, most):
    tas, dest = Tas(), Destination("d", lmtp=False, targets=[])
    added = [r for n, size in enumerate(sizes) for r in rcpts(tas, n, size)]
    for rcpt in added:
        dest.add(rcpt)
    taken = []
    while dest.waiting:
        group = dest.take(most)
        assert 1 <= len(group.rcpts) <= most
        assert {r.ta for r in group.rcpts} == {group.ta}
        taken += group.rcpts
    assert taken == added
    assert not dest.groups


def test_recipients_can_be_taken_out_of_the_middle():
    tas, dest = Tas(), Destination("d", lmtp=False, targets=[])
    first, second = rcpts(tas, 1, 3), rcpts(tas, 2, 2)
    for rcpt in first + second:
        dest.add(rcpt)
    dest.remove({first[1], *second})
    assert dest.clear() == [first[0], first[2]]


def fill(aq, dest, count, tas=None):
    tas = tas or Tas()
    for rcpt in rcpts(tas, len(aq.destinations) + 100, count):
        aq.admit(rcpt)
        aq.routing -= 1
        dest.add(rcpt)


def test_one_destination_may_have_most_of_the_active_queue_and_leaves_a_rest():
    aq = Aq(1000)
    dest = aq.destination("d", [], lmtp=False)
    while not aq.crowded(dest):
        fill(aq, dest, 1, Tas())
    assert 750 <= dest.waiting <= 850
    other = aq.destination("e", [], lmtp=False)
    assert not aq.crowded(other)


def test_a_small_active_queue_is_not_split():
    aq = Aq(CROWD_MIN)
    dest = aq.destination("d", [], lmtp=False)
    fill(aq, dest, CROWD_MIN - 1)
    assert not aq.crowded(dest)


def test_loaded_mail_may_fill_half_of_the_active_queue():
    aq, tas = Aq(10), Tas()
    assert aq.room_to_load() == 5
    ta = tas.load(envelope(1, ["a@x"] * 5))
    assert ta.home is Home.DEFEDB
    for recipient in ta.envelope.rcpts:
        aq.admit(Rcpt(ta, recipient))
    assert (aq.room_to_load(), aq.free) == (0, 5)


def test_limits_follow_the_options_and_a_first_window_is_cut_to_the_widest():
    limits = from_conf(QmgrConf(), "gw.example.org")
    assert limits == Limits(hostname="gw.example.org")
