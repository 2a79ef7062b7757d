"""What the queue manager decides, one decision at a time."""

from collections import Counter

import attrs
import pytest

from libsmx.wire import Delivered, Refusal, Route, SessionEnd, Target, Throttle
from qmgr.limits import Limits
from tests.qmgr.world import DEAD, OK, PERM, SMTPC, SMTPS, TEMP, World, envelope


def names(world):
    return Counter(name for name, _ in world.records)


def targets(*hosts):
    return [Target(host=h, address=f"ip-{h}", port=25) for h in hosts]


@pytest.mark.covers("X016")
def test_recipients_of_one_destination_travel_in_one_transaction():
    world = World()
    world.submit(["a@x.org", "b@x.org", "c@y.org"])
    world.do_commit()
    world.do_ask()
    world.do_ask()
    sizes = sorted(len(e.delivery.rcpts) for e in world.deliveries.values())
    assert sizes == [1, 2]


@pytest.mark.covers("X189", "X190")
@pytest.mark.parametrize(("lmtp", "sizes"), [(False, [100, 100, 50]), (True, [30] * 8 + [10])])
def test_large_transactions_are_cut_by_protocol(lmtp, sizes):
    world = World(Limits(lmtp_max_rcpts=30, out_initial_connections=20))
    world.routes["x.org"] = Route(dest="x", lmtp=lmtp, targets=targets("x.org"))
    world.submit([f"u{n}@x.org" for n in range(250)])
    world.do_commit()
    world.do_ask()
    assert [len(e.delivery.rcpts) for e in world.deliveries.values()] == sizes


def test_an_open_session_is_used_again_and_closed_when_it_was_idle_for_long():
    world = World()
    for _ in range(3):
        world.submit(["a@x.org"])
        world.settle()
    sched = world.core.dispatch.sched
    assert (sched.idle, world.core.dispatch.occ.peek(("ip-x.org", 25)).open) == (1, 1)
    world.advance(5)
    assert sched.idle == 0
    assert isinstance(world.answers[0], SessionEnd)


def test_a_session_is_closed_after_its_share_of_transactions():
    world = World(Limits(max_tas_per_session=2))
    for _ in range(5):
        world.submit(["a@x.org"])
        world.settle()
    assert isinstance(world.answers[0], SessionEnd)
    world.check()


def test_a_report_that_comes_twice_or_for_another_delivery_changes_nothing():
    world = World()
    world.submit(["a@x.org"])
    world.do_commit()
    world.do_ask()
    [effect] = world.deliveries.values()
    delivery = effect.delivery
    wrong = Delivered(
        da_sess=delivery.session.id,
        da_ta=delivery.id + 1,
        open=True,
        host="",
        address="",
        results=[],
        attempts=[],
    )
    world.core.delivered(world.now, delivery, wrong)
    world.deliveries.clear()
    world.pump()
    world.core.delivered(world.now, delivery, wrong)  # late: not under way any more
    world.settle()
    assert not world.delivered, "a process that talks nonsense gets a moment's rest"
    world.advance(1.0)
    world.settle()
    assert world.delivered.total() == 1
    assert names(world)["result_odd"] == 1


def test_a_recipient_without_result_is_tried_again_later():
    world = World()
    world.submit(["a@x.org"])
    world.do_commit()
    world.do_ask()
    [effect] = world.deliveries.values()
    delivery = effect.delivery
    empty = Delivered(
        da_sess=delivery.session.id,
        da_ta=delivery.id,
        open=True,
        host="",
        address="",
        results=[],
        attempts=[],
    )
    world.deliveries.clear()
    world.core.delivered(world.now, delivery, empty)
    world.pump()
    world.settle()
    assert len(world.defedb) == 1
    world.check()


@pytest.mark.covers("X181")
def test_a_message_that_is_too_old_goes_back_with_its_last_error():
    world = World(Limits(retry_min_s=60, retry_max_s=600, return_timeout_s=3600))
    world.behaviour["x.org"] = TEMP
    env = world.submit(["a@x.org"], sender="s@y.org")
    tried = 0
    for _ in range(200):
        world.settle()
        world.check()
        if not world.defedb:
            break
        [rcpt] = world.defedb.values()
        assert 0 < rcpt.next_try_at - world.now <= 600
        tried = rcpt.tries
        world.advance(rcpt.next_try_at - world.now)
    assert world.now - env.received_at == pytest.approx(3600), "the last try is at the end"
    assert tried > 5
    [bounce] = world.bounces
    assert bounce.dsn.rcpts[0].status == "4.4.7"
    assert "451 later" in bounce.dsn.rcpts[0].text
    assert not world.contents, "the bounce was delivered"


@pytest.mark.parametrize("home", ["ibdb", "defedb"])
def test_all_failures_of_one_turn_make_one_bounce(home):
    world = World()
    world.behaviour = {"x.org": TEMP if home == "defedb" else PERM, "y.org": PERM}
    world.submit(["a@x.org", "b@x.org"], sender="s@z.org")
    world.settle()
    if home == "defedb":
        world.behaviour["x.org"] = PERM
        world.advance(2000)
        world.settle()
    [bounce] = world.bounces
    assert len(bounce.dsn.rcpts) == 2
    world.settle()
    assert not world.contents


@pytest.mark.covers("X015")
def test_mail_that_is_delivered_at_once_never_touches_the_defedb():
    world = World()
    for _ in range(20):
        world.submit(["a@x.org", "b@y.org"])
    while world.step():
        assert world.batch is None
        assert not world.core.closing.batch_waits
    assert world.delivered.total() == 40


def test_a_route_that_fails_concerns_its_recipient_only():
    world = World()
    world.routes["no.org"] = Route(dest="", targets=[], code=550, status="5.1.2", text="no host")
    world.routes["later.org"] = Route(dest="", targets=[], code=451, status="4.4.3", text="dns")
    world.submit(["a@x.org", "b@no.org", "c@later.org"], sender="s@y.org")
    world.settle()
    assert world.delivered.total() == 2, "one recipient and one bounce"
    [rcpt] = world.defedb.values()
    assert (rcpt.address, rcpt.status) == ("c@later.org", "4.4.3")
    assert world.bounces[0].dsn.rcpts[0].status == "5.1.2"


def test_mail_waits_in_the_active_queue_while_the_resolver_is_away():
    world = World()
    world.core.smar_closed()
    world.submit(["a@x.org"])
    world.settle()
    assert (world.core.aq.entries, world.delivered.total()) == (1, 0)
    world.core.smar_opened()
    world.pump()
    world.do_ask(fail=True)
    assert not world.asks, "not asked again at once"
    world.advance(1.0)
    world.settle()
    assert world.delivered.total() == 1


def test_mail_waits_while_no_smtpc_is_there():
    world = World(carriers=0)
    world.submit(["a@x.org"])
    world.settle()
    assert world.core.aq.entries == 1
    world.core.smtpc_opened(SMTPC, 5)
    world.pump()
    world.settle()
    assert world.delivered.total() == 1


def test_a_smtpc_that_refuses_is_asked_again_a_moment_later():
    world = World(capacity=2)
    world.submit(["a@x.org"])
    world.do_commit()
    world.do_ask()
    [effect] = world.deliveries.values()
    world.deliveries.clear()
    refusal = Refusal(code=451, status="4.3.2", text="full")
    world.core.delivery_refused(world.now, effect.delivery, refusal)
    world.pump()
    assert not world.deliveries
    world.advance(1.0)
    world.settle()
    assert world.delivered.total() == 1
    world.check()


def test_what_a_closing_channel_loses_is_not_handed_to_it_again():
    world = World(carriers=2)
    world.submit(["a@x.org"])
    world.do_commit()
    world.do_ask()
    [first] = world.deliveries.values()
    world.deliveries.clear()
    world.core.delivery_lost(world.now, first.delivery)
    world.core.delivery_lost(world.now, first.delivery)
    world.pump()
    [second] = world.deliveries.values()
    assert second.channel != first.channel
    world.settle()
    assert world.delivered.total() == 1
    world.check()


def test_a_message_that_kills_its_smtpc_is_put_aside_for_a_while():
    world = World()
    world.submit(["a@x.org"])
    world.do_commit()
    world.do_ask()
    for _ in range(10):
        if not world.deliveries:
            break
        world.deliveries.clear()
        world.core.smtpc_closed(world.now, SMTPC)
        world.pump()
        world.core.smtpc_opened(SMTPC, 5)
        world.pump()
    world.settle()
    assert len(world.defedb) == 1
    assert names(world)["deliveries_lost"] == 4


def test_the_next_address_is_used_while_the_first_is_blocked():
    world = World()
    world.routes["x.org"] = Route(dest="x", targets=targets("a.org", "b.org"))
    world.behaviour["a.org"] = DEAD
    world.submit(["u@x.org"])
    world.settle()
    world.advance(10)
    world.submit(["u@x.org"])
    world.do_commit()
    world.do_ask()
    [effect] = world.deliveries.values()
    assert [t.host for t in effect.delivery.targets] == ["b.org"]
    occ = world.core.dispatch.occ
    assert (occ.peek(("ip-a.org", 25)).open, occ.peek(("ip-b.org", 25)).open) == (0, 1)
    world.settle()
    assert world.delivered.total() == 2


@pytest.mark.covers("X188")
def test_the_window_is_never_exceeded_while_it_grows():
    world = World(Limits(out_initial_connections=2, out_max_connections=7), capacity=50)
    for n in range(200):
        world.submit([f"u{n}@x.org"])
    while world.commits:
        world.do_commit()
    while world.asks:
        world.do_ask()
    host = world.core.dispatch.occ.peek(("ip-x.org", 25))
    most = 0
    while world.deliveries:
        assert len(world.deliveries) <= host.open <= host.window <= 7
        most = max(most, host.open)
        world.do_deliver()
    assert most == 7
    assert world.delivered.total() == 200


@pytest.mark.covers("X014", "X160")
def test_more_mail_than_the_active_queue_holds_is_delivered_all_the_same():
    world = World(Limits(aq_max_entries=20, iqdb_max_entries=200))
    for n in range(30):
        world.submit([f"u{n}@x.org", f"v{n}@y.org"])
        while world.commits:
            world.do_commit()
        world.check()
    assert world.core.aq.entries == 20
    while world.step():
        world.check()
    assert world.delivered.total() == 60
    assert not world.contents


@pytest.mark.covers("X018", "X175")
def test_accepted_mail_beyond_the_queues_in_memory_spills_into_the_defedb():
    world = World(Limits(aq_max_entries=10, iqdb_max_entries=40), carriers=0)
    accepted = 0
    for n in range(100):
        if not isinstance(world.submit([f"u{n}@x.org"]), Refusal):
            accepted += 1
        world.settle()
        assert world.core.iqdb.entries <= 40
    assert accepted == 100, "none was refused: disk has room"
    assert len(world.defedb) == 100 - 10 - 20
    world.core.smtpc_opened(SMTPC, 5)
    world.pump()
    world.settle()
    assert world.delivered.total() == 100
    assert max(world.delivered.values()) == 1


def test_without_a_working_disk_clients_are_told_to_come_back():
    world = World(Limits(aq_max_entries=10, iqdb_max_entries=20), carriers=0)
    answers = [world.submit([f"u{n}@x.org"]) for n in range(30)]
    assert sum(isinstance(a, Refusal) for a in answers) == 30 - 19
    env = answers[0]
    world.do_commit(fail=True)
    assert env.ta_id not in world.acknowledged
    assert env.cdb_id not in world.contents


@pytest.mark.covers("X178", "X179")
def test_low_disk_space_is_told_to_every_smtps_and_ends():
    world = World()
    world.core.disk("the IBDB has 1 KB free")
    world.pump()
    assert world.answers[0] == Throttle(stop=True, reason="the IBDB has 1 KB free")
    assert world.submit(["a@x.org"]).status == "4.3.1"
    world.core.smtps_opened(7)
    world.pump()
    assert world.answers[0].stop
    world.core.disk("")
    world.pump()
    assert world.answers[0] == Throttle(stop=False)
    assert not isinstance(world.submit(["a@x.org"]), Refusal)


def test_a_stop_starts_nothing_and_takes_what_was_promised():
    world = World()
    world.submit(["a@x.org"])
    world.core.stop()
    assert not world.core.idle()
    world.do_commit()
    assert (len(world.ibdb), world.asks) == (1, type(world.asks)())
    assert world.core.idle()
    assert isinstance(world.submit(["b@x.org"]), Refusal)


def test_a_clock_far_off_does_not_age_mail():
    world = World(Limits(return_timeout_s=3600))
    world.behaviour["x.org"] = TEMP
    world.submit(["a@x.org"], received_at=world.now - 10**8)
    world.settle()
    assert len(world.defedb) == 1
    assert not world.bounces


def test_flush_tries_a_blocked_host_once():
    world = World()
    world.behaviour["x.org"] = DEAD
    world.submit(["a@x.org"])
    world.settle()
    world.advance(5)
    for match, tried in (("z.org", False), ("X.org", True), ("", True)):
        [rcpt] = world.defedb.values()
        world.put(envelope(1, ["a@x.org"]), 0, tries=rcpt.tries)
        world.core.flush(world.now, match)
        before = names(world)["host_blocked"]
        world.settle()
        assert (names(world)["host_blocked"] > before) is tried, match
        world.advance(1)


@pytest.mark.covers("X008")
def test_a_dead_destination_with_much_mail_does_not_delay_another():
    """I5: the dead host costs one connection, its mail leaves the active queue at once."""
    world = World(Limits(out_initial_connections=5), capacity=10)
    world.behaviour["dead.org"] = DEAD
    for n in range(1000):
        world.submit([f"u{n}@dead.org"])
        world.do_commit()
    world.submit(["a@live.org"])
    world.do_commit()
    while world.asks:
        world.do_ask()
    steps = 0
    while not world.delivered:
        world.do_deliver()
        steps += 1
    assert steps <= 6, "the first few connections to the dead host, then the living one"
    world.settle()
    assert len(world.defedb) == 1000
    assert world.core.aq.entries == 0


def test_slow_destinations_leave_sessions_to_others():
    """I5: however many hosts hang, a destination without a session gets one."""
    world = World(Limits(out_initial_connections=100), capacity=30)
    for host in range(4):
        for n in range(50):
            world.submit([f"u{n}@slow{host}.org"])
            world.do_commit()
        while world.asks:
            world.do_ask()
    hanging = set(world.deliveries)
    for n in range(20):
        world.submit([f"u@quick{n}.org"])
        world.do_commit()
        world.do_ask()
        [mine] = set(world.deliveries) - hanging
        world.do_deliver(mine)
    assert world.delivered.total() == 20


def test_a_flood_for_one_slow_host_leaves_room_in_the_active_queue():
    world = World(Limits(aq_max_entries=1000, iqdb_max_entries=4000), capacity=10)
    for n in range(1500):
        world.submit([f"u{n}@slow.org"])
        world.do_commit()
        while world.asks:
            world.do_ask()
        if world.core.closing.batch_waits:
            world.begin_batch()
            world.end_batch()
            while world.notes:
                world.do_note()
    assert 700 < world.core.aq.entries < 900
    hanging = set(world.deliveries)
    world.submit(["u@quick.org"])
    world.do_commit()
    world.do_ask()
    [mine] = set(world.deliveries) - hanging
    world.do_deliver(mine)
    assert world.delivered.total() == 1
    world.check()


def test_destinations_take_turns():
    world = World(Limits(out_initial_connections=1, out_max_connections=1), capacity=1)
    for domain in ("a.org", "b.org", "c.org"):
        for n in range(30):
            world.submit([f"u{n}@{domain}"])
            world.do_commit()
    while world.asks:
        world.do_ask()
    order = []
    while world.deliveries:
        order.append(next(iter(world.deliveries.values())).delivery.session.dest.key)
        world.do_deliver()
    assert set(order[:40]) == {"a.org", "b.org", "c.org"}
    assert len(order) == 90


def test_old_log_segments_are_freed_of_what_waits():
    world = World(carriers=0)
    world.submit(["a@x.org", "b@y.org"])
    world.settle()
    world.core.segment_held(world.now, [(e, sorted(i)) for e, i in world.ibdb.values()])
    world.pump()
    world.settle()
    assert not world.ibdb
    assert len(world.defedb) == 2
    world.core.smtpc_opened(SMTPC, 5)
    world.advance(1000)
    world.settle()
    assert world.delivered.total() == 2
    assert not world.contents


@pytest.mark.covers("X172")
def test_old_log_segments_are_freed_of_what_is_under_delivery():
    world = World()
    world.submit(["a@x.org", "b@x.org"])
    while not world.deliveries:
        world.step()
    world.core.segment_held(world.now, [(e, sorted(i)) for e, i in world.ibdb.values()])
    world.pump()
    (note,) = world.notes
    assert [len(envelope.rcpts) for envelope in note.entry.new] == [2]
    assert not note.entry.closed
    world.settle()
    assert not world.ibdb
    assert not world.defedb
    assert world.delivered.total() == 2
    assert not world.contents


def test_what_could_not_be_logged_again_is_not_opened_after_its_end():
    world = World()
    world.submit(["a@x.org"])
    while not world.deliveries:
        world.step()
    world.core.segment_held(world.now, [(e, sorted(i)) for e, i in world.ibdb.values()])
    world.pump()
    world.do_note(fail=True)
    world.settle()
    world.advance(60)
    world.settle()
    assert not world.ibdb
    assert not world.contents
    assert world.delivered.total() == 1


def test_limits_of_smtps_channels_are_shared():
    world = World(Limits(in_max_connections=2))
    world.core.smtps_opened(2)
    world.submit(["a@x.org"])
    world.core.smtps_closed(SMTPS)
    assert world.core.iqdb.sessions == 0
    world.settle()
    assert world.delivered.total() == 1, "committed mail outlives its channel"


@pytest.mark.covers("X181", "X185", "X186")
def test_a_day_of_a_busy_gateway_with_failing_hosts():
    """Hosts go up and down for a day; the queue stays bounded and ends as it must."""
    limits = Limits(aq_max_entries=300, retry_min_s=900, retry_max_s=7200, return_timeout_s=43_200)
    world = World(limits, seed=7, capacity=15, carriers=2)
    domains = [f"d{n}.org" for n in range(12)]
    sent = 0
    for minute in range(24 * 60):
        if minute % 60 == 0:
            for domain in domains:
                world.behaviour[domain] = world.rng.choice([OK, OK, OK, TEMP, DEAD])
            world.behaviour["gone.org"] = DEAD
        for _ in range(2):
            world.submit([f"u@{world.rng.choice([*domains, 'gone.org'])}"], sender="s@d0.org")
            sent += 1
        world.settle()
        world.advance(60)
        if minute % 30 == 0:
            world.check()
    world.behaviour = {"gone.org": DEAD}
    for _ in range(24 * 4):
        world.advance(900)
        world.settle()
    world.check()
    assert not world.defedb
    assert not world.contents
    told = [rcpt for b in world.bounces for rcpt in b.dsn.rcpts]
    reported = sum(rcpt.action == "failed" for rcpt in told)
    assert 0 < sum(rcpt.action == "delayed" for rcpt in told) <= sent
    originals = sum(c for (ta, _), c in world.delivered.items() if ta.startswith("S"))
    assert originals + reported == sent
    assert all(count == 1 for count in world.delivered.values())
    tries = names(world)["rcpt_postponed"]
    assert tries < 60 * sent


def test_records_have_the_fields_that_their_events_declare():
    world = World()
    world.behaviour = {"x.org": PERM, "y.org": TEMP, "z.org": DEAD}
    world.submit(["a@x.org", "b@y.org", "c@z.org"], sender="")
    world.settle()
    assert names(world)["double_bounce"] == 1
    assert attrs.asdict(world.core.limits)
