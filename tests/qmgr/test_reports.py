"""What senders are told, when, and that it is told with what it tells of, or not at all."""

import pytest

from libsmx.wire import Route, Target
from qmgr.bounce import News
from qmgr.failures import Ended, Failures
from qmgr.limits import Limits
from qmgr.records import FAILED
from qmgr.ta import State, Tas
from tests.qmgr.world import DEAD, PERM, T0, TEMP, World, envelope

SHORT = Limits(retry_min_s=60, retry_max_s=60, return_timeout_s=3600, delay_timeout_s=100)


def told(world):
    """What the reports say: (action, addresses, headers only)."""
    return [
        (b.dsn.rcpts[0].action, [r.address for r in b.dsn.rcpts], b.dsn.headers_only)
        for b in world.bounces
    ]


def one_has_failed(world):
    """Two recipients: a@x.org has failed, b@y.org is still under delivery."""
    world.behaviour = {"x.org": PERM, "y.org": PERM}
    env = world.submit(["a@x.org", "b@y.org"])
    while len(world.deliveries) < 2:
        world.step()
    first, second = world.deliveries
    world.do_deliver(first)
    assert not world.bounces
    return env, second


@pytest.mark.covers("X165")
def test_failures_within_the_window_are_told_together():
    world = World()
    _, second = one_has_failed(world)
    world.advance(9)
    assert not world.bounces
    world.do_deliver(second)
    world.settle()
    assert told(world) == [("failed", ["a@x.org", "b@y.org"], False)]
    assert not world.contents


@pytest.mark.covers("X165", "X167")
def test_beyond_the_window_there_are_two_reports_and_the_second_has_no_body():
    world = World()
    _, second = one_has_failed(world)
    world.advance(10)
    world.do_note()
    assert told(world) == [("failed", ["a@x.org"], False)]
    world.do_deliver(second)
    world.settle()
    assert told(world)[1] == ("failed", ["b@y.org"], True)
    assert not world.contents


def test_a_failure_does_not_wait_when_nobody_else_is_under_way():
    world = World()
    world.behaviour = {"x.org": PERM, "y.org": TEMP}
    world.submit(["a@x.org", "b@y.org"])
    world.settle()
    assert told(world) == [("failed", ["a@x.org"], False)]


@pytest.mark.covers("X167")
@pytest.mark.parametrize("crash", [False, True])
def test_that_the_message_went_back_is_known_in_the_deferred_queue(crash):
    """One recipient fails at once, the other after hours, from the DEFEDB."""
    world = World()
    world.behaviour = {"x.org": PERM, "y.org": TEMP}
    env = world.submit(["a@x.org", "b@y.org"])
    world.settle()
    assert world.envelopes[env.ta_id].returned
    if crash:
        world.crash()
    world.behaviour = {"y.org": PERM}
    world.advance(20_000)
    world.settle()
    assert told(world) == [("failed", ["a@x.org"], False), ("failed", ["b@y.org"], True)]


def test_a_crash_while_a_failure_waits_tries_it_again_and_tells_it_once():
    world = World()
    env, _ = one_has_failed(world)
    world.crash()
    assert {key for key in world.defedb if key[0] == env.ta_id} == {(env.ta_id, 0), (env.ta_id, 1)}
    world.settle()
    assert told(world) == [("failed", ["a@x.org", "b@y.org"], False)]


def test_a_stop_does_not_wait_for_the_window():
    world = World()
    one_has_failed(world)
    world.core.stop()
    world.pump()
    assert world.notes
    assert told(world) == []
    world.do_note()
    assert told(world) == [("failed", ["a@x.org"], False)]


def test_too_many_failures_do_not_wait():
    tas, failures = Tas(), Failures(10.0, most=3)
    for number in (1, 2):
        ta = tas.accept(envelope(number, ["a@x", "b@x", "c@x"]))
        for idx in (0, 1):
            ta.rcpts[idx].state = State.CLOSING
            failures.add(Ended(ta.rcpts[idx], News("failed", "5.1.1", "no"), FAILED))
    [(ta, ended)] = failures.ripe(T0)
    assert (ta.envelope.ta_id, len(ended), len(failures)) == (envelope(1, []).ta_id, 2, 2)
    assert not failures.ripe(T0 + 9.9)
    assert len(failures.ripe(T0 + 10)) == 1


@pytest.mark.parametrize("home", ["ibdb", "defedb"])
@pytest.mark.parametrize("notify", ["NEVER", "SUCCESS", "DELAY"])
def test_who_does_not_want_to_hear_of_failures_does_not(notify, home):
    world = World()
    world.behaviour = {"x.org": PERM if home == "ibdb" else TEMP}
    world.submit(["a@x.org"], notify=notify)
    world.settle()
    world.behaviour = {"x.org": PERM}
    world.advance(20_000)
    world.settle()
    assert told(world) == []
    assert [name for name, _ in world.records].count("rcpt_unreported") == 1
    assert not world.contents


@pytest.mark.covers("X182", "X184")
@pytest.mark.parametrize("what", [TEMP, DEAD])
def test_a_delay_is_told_once_at_the_first_retry_after_its_time(what):
    world = World(SHORT)
    world.behaviour = {"x.org": what}
    world.submit(["a@x.org"])
    world.settle()
    world.advance(61)
    world.settle()
    world.advance(38)
    world.settle()
    assert told(world) == [], "age 99"
    for _ in range(20):
        world.advance(61)
        world.settle()
    assert told(world) == [("delayed", ["a@x.org"], True)]
    [rcpt] = world.bounces[0].dsn.rcpts
    assert rcpt.retry_until == T0 + 3600
    assert rcpt.status.startswith("4.")
    assert [r.address for r in world.defedb.values()] == ["a@x.org"], "it stays queued"
    world.advance(3600)
    world.settle()
    assert told(world)[1:] == [("failed", ["a@x.org"], False)]


@pytest.mark.covers("X183")
@pytest.mark.parametrize(
    ("timeout_s", "sender", "notify"),
    [(3601, "s@example.org", ""), (100, "", ""), (100, "s@example.org", "FAILURE")],
)
def test_delays_are_not_told_where_that_is_off_or_not_wanted(timeout_s, sender, notify):
    limits = Limits(
        retry_min_s=60, retry_max_s=600, return_timeout_s=3600, delay_timeout_s=timeout_s
    )
    world = World(limits)
    world.behaviour = {"x.org": TEMP}
    world.submit(["a@x.org"], sender, notify=notify)
    for _ in range(40):
        world.settle()
        world.advance(100)
    assert [action for action, *_ in told(world)] == (["failed"] if sender else [])


def test_a_crash_before_the_delay_is_on_disk_loses_neither_mark_nor_report():
    world = World(SHORT)
    world.behaviour = {"x.org": TEMP}
    world.submit(["a@x.org"])
    world.settle()
    world.advance(200)
    while world.load() or world.asks or world.deliveries:
        world.step()
    world.begin_batch()
    world.crash(lambda _: False)
    assert told(world) == []
    for _ in range(5):
        world.settle()
        world.advance(61)
    assert told(world) == [("delayed", ["a@x.org"], True)]


@pytest.mark.parametrize(
    ("notify", "peers_report", "lmtp", "action"),
    [
        ("SUCCESS", False, False, "relayed"),
        ("SUCCESS", False, True, "delivered"),
        ("SUCCESS", True, False, ""),
        ("FAILURE", False, False, ""),
        ("", False, True, ""),
    ],
)
@pytest.mark.parametrize("home", ["ibdb", "defedb"])
def test_success_is_told_where_it_was_asked_for_and_the_next_hop_does_not(
    notify, peers_report, lmtp, action, home
):
    world = World()
    world.peers_report = peers_report
    target = Target(host="x.org", address="ip-x.org", port=25)
    world.routes = {"x.org": Route(dest="x.org", targets=[target], lmtp=lmtp)}
    if home == "defedb":
        world.behaviour = {"x.org": TEMP}
    world.submit(["a@x.org", "b@x.org"], notify=notify)
    world.settle()
    world.behaviour = {}
    world.advance(20_000)
    world.settle()
    assert told(world) == ([(action, ["a@x.org", "b@x.org"], True)] if action else [])
    assert not world.contents
    assert not world.ibdb


def test_success_is_told_with_the_record_that_ends_the_delivery():
    world = World()
    env = world.submit(["a@x.org"], notify="SUCCESS")
    while not world.notes:
        world.step()
    [note] = world.notes
    assert [e.dsn.ta_id for e in note.entry.new] == [env.ta_id]
    assert [c.ta_id for c in note.entry.closed] == [env.ta_id]


def test_mail_without_a_sender_that_fails_goes_to_the_double_bounce_address_only_once():
    world = World(Limits(double_bounce="dbl@ops.org"))
    world.behaviour = {"x.org": PERM, "back.org": PERM}
    world.submit(["a@x.org"], "s@back.org")
    world.settle()
    assert told(world) == [
        ("failed", ["a@x.org"], False),
        ("failed", ["s@back.org"], False),
    ]
    assert [b.rcpts[0].address for b in world.bounces] == ["s@back.org", "dbl@ops.org"]
    world.behaviour["ops.org"] = PERM
    world.submit(["a@x.org"], "")
    world.settle()
    assert len(world.bounces) == 3, "what fails there is dropped"
    assert [name for name, _ in world.records].count("double_bounce") == 1
    assert not world.contents
