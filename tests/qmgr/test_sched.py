"""Who delivers next: shares of new mail and retries, turns by weight, probes of dead hosts."""

from collections import Counter

import pytest

from libsmx.wire import Route, Target
from qmgr.limits import Limits
from qmgr.places import Host
from qmgr.sched import first_to
from tests.qmgr.world import DEAD, OK, World, envelope

QUIET = Limits(retry_min_s=900, retry_max_s=14_400)


def due(world, number, address):
    """Put a deferred message into the DEFEDB that is due now."""
    env = envelope(number, [address])
    world.contents.add(env.cdb_id)
    world.acknowledged[env.ta_id] = env
    world.put(env, 0, tries=1)


def route_all(world):
    """Let everything be written and routed, and nothing be delivered."""
    while world.commits or world.asks:
        world.do_commit() if world.commits else world.do_ask()


def retrying(world):
    """Sessions that do a retry, counted at the deliveries themselves."""
    count = sum(e.delivery.retry for e in world.deliveries.values())
    assert count == world.core.dispatch.sched.turns.retrying
    return count


def finish(world, *, retry):
    """Let the oldest delivery of a kind end."""
    world.do_deliver(next(k for k, e in world.deliveries.items() if e.delivery.retry == retry))


@pytest.mark.covers("X195")
def test_retries_leave_a_quarter_of_the_sessions_to_new_mail():
    world = World(capacity=8)
    for n in range(20):
        due(world, 1000 + n, f"u@r{n}.org")
    world.load()
    route_all(world)
    assert len(world.deliveries) == retrying(world) == 6
    for n in range(20):
        world.submit([f"u@n{n}.org"])
    route_all(world)
    assert len(world.deliveries) == 8
    for _ in range(10):
        finish(world, retry=False)
        assert retrying(world) == 6, "slow retries hold what they have"
        assert len(world.deliveries) == 8
    world.settle()
    assert len(world.delivered) == 40


@pytest.mark.covers("X195")
def test_new_mail_leaves_a_quarter_of_the_sessions_to_retries():
    world = World(capacity=8)
    for n in range(60):
        world.submit([f"u@n{n}.org"])
    route_all(world)
    assert (len(world.deliveries), retrying(world)) == (8, 0)
    for n in range(20):
        due(world, 1000 + n, f"u@r{n}.org")
    world.load()
    route_all(world)
    seen = []
    for _ in range(6):
        finish(world, retry=False)
        seen.append(retrying(world))
    assert seen == [1, 2, 2, 2, 2, 2], "new mail goes on meanwhile"
    for _ in range(10):
        finish(world, retry=True)
        assert retrying(world) == 2
    world.settle()
    assert len(world.delivered) == 80


@pytest.mark.parametrize("capacity", [1, 2, 3])
def test_few_sessions_serve_new_mail_and_retries_in_turn(capacity):
    world = World(capacity=capacity)
    for n in range(8):
        due(world, 1000 + n, f"u@r{n}.org")
        world.submit([f"u@n{n}.org"])
    world.load()
    route_all(world)
    kinds = Counter()
    for _ in range(8):
        da_ta, effect = next(iter(world.deliveries.items()))
        kinds[effect.delivery.retry] += 1
        world.do_deliver(da_ta)
    assert min(kinds[False], kinds[True]) >= 2
    world.settle()
    assert len(world.delivered) == 16


def test_one_destination_gets_its_new_mail_first_and_its_retries_too():
    world = World(Limits(out_initial_connections=1, out_max_connections=1), capacity=8)
    for n in range(10):
        due(world, 1000 + n, "u@x.org")
    world.load()
    for _ in range(20):
        world.submit(["u@x.org"])
    route_all(world)
    kinds = []
    while world.deliveries:
        da_ta, effect = next(iter(world.deliveries.items()))
        kinds.append(effect.delivery.retry)
        world.do_deliver(da_ta)
    assert 4 <= sum(kinds[:16]) <= 5
    assert sum(kinds) == 10


def test_new_mail_frees_a_destination_whose_retries_must_wait():
    world = World(capacity=4)
    for n in range(10):
        due(world, 1000 + n, f"u@r{n}.org")
    world.load()
    route_all(world)
    assert retrying(world) == 3
    world.submit(["new@r9.org"])
    route_all(world)
    [mine] = [e.delivery for e in world.deliveries.values() if not e.delivery.retry]
    assert mine.session.dest.key == "r9.org"


def test_turns_are_weighted_by_recipients():
    world = World(capacity=1)
    for _ in range(20):
        world.submit([f"u{n}@lists.org" for n in range(100)])
        for _ in range(30):
            world.submit(["u@small.org"])
    route_all(world)
    served = Counter()
    while world.core.aq.destinations["small.org"].waiting > 100:
        da_ta, effect = next(iter(world.deliveries.items()))
        served[effect.delivery.session.dest.key] += len(effect.delivery.rcpts)
        world.do_deliver(da_ta)
        while world.notes:
            world.do_note()
    assert served["lists.org"] < 3 * served["small.org"]
    assert served["lists.org"] > served["small.org"] / 3


@pytest.mark.covers("X185", "X186", "X196")
def test_a_dead_host_is_probed_once_when_its_time_comes_whatever_mail_waits():
    world = World(QUIET, capacity=50)
    tried = []

    def dead(_address, now):
        tried.append(now)
        return DEAD

    world.behaviour["dead.org"] = dead
    for _ in range(500):
        world.submit(["u@dead.org"])
    world.settle()
    assert 1 <= len(tried) <= QUIET.out_initial_connections
    begin, first = world.now, len(tried)
    while world.now < begin + 24 * 3600:
        world.advance(60)
        world.settle()
    later = tried[first:]
    assert len(later) == len(set(later)), "one attempt at a time"
    gaps = [b - a for a, b in zip([tried[0], *later], later, strict=False)]
    assert all(QUIET.retry_min_s <= gap <= QUIET.retry_max_s + 120 for gap in gaps)
    assert 6 <= len(later) <= 12, "and the pauses grow"
    world.behaviour["dead.org"] = OK
    world.advance(QUIET.retry_max_s + 60)
    world.settle()
    assert sum(ta_id.startswith("S") for ta_id, _ in world.delivered) == 500


@pytest.mark.covers("X196")
def test_a_probe_that_succeeds_lets_the_others_follow_at_once():
    world = World(QUIET, capacity=50)
    world.behaviour["x.org"] = DEAD
    for _ in range(40):
        world.submit(["u@x.org"])
    world.settle()
    world.behaviour["x.org"] = OK
    world.advance(QUIET.retry_min_s * 2)
    world.load()
    route_all(world)
    assert len(world.deliveries) == 1
    world.do_deliver()
    assert len(world.deliveries) > 1
    world.settle()
    assert len(world.delivered) == 40


def learn_that_they_are_slow(world, domains):
    """Let one message to each domain take a minute."""
    for domain in domains:
        world.submit([f"u@{domain}"])
    route_all(world)
    world.now += 60
    world.settle()


def begun(world):
    """Deliveries under way, by the first letter of their destination."""
    return Counter(e.delivery.session.dest.key[0] for e in world.deliveries.values())


@pytest.mark.covers("X195")
def test_slow_hosts_leave_a_quarter_of_the_sessions_to_others():
    world = World(Limits(max_idle_s=0), capacity=8)
    slow = [f"slow{n}.org" for n in range(8)]
    learn_that_they_are_slow(world, slow)
    world.advance(1)
    for domain in slow:
        world.submit([f"u@{domain}"])
    route_all(world)
    assert begun(world) == {"s": 6}
    for n in range(9):
        world.submit([f"u@fast{n}.org"])
    route_all(world)
    assert begun(world) == {"s": 6, "f": 2}
    for _ in range(5):
        key = next(k for k, e in world.deliveries.items() if not e.delivery.slow)
        world.do_deliver(key)
        assert begun(world) == {"s": 6, "f": 2}
    world.settle()
    assert len(world.delivered) == 25


def test_slow_hosts_have_their_share_whatever_else_waits():
    world = World(Limits(max_idle_s=0), capacity=8)
    slow = [f"slow{n}.org" for n in range(8)]
    learn_that_they_are_slow(world, slow)
    world.advance(1)
    for n in range(40):
        world.submit([f"u@fast{n}.org"])
    for domain in slow:
        world.submit([f"u@{domain}"])
    route_all(world)
    for n in range(60):
        world.submit([f"u@fast{40 + n}.org"])
        route_all(world)
        world.do_deliver(next(k for k, e in world.deliveries.items() if not e.delivery.slow))
        assert world.core.dispatch.sched.turns.lingering <= 2
    assert begun(world)["s"] == 2
    world.settle()
    assert len(world.delivered) == 116


def test_a_host_that_became_fast_is_slow_no_more():
    world = World(Limits(max_idle_s=0), capacity=8)
    learn_that_they_are_slow(world, ["x.org"])
    host = world.core.dispatch.occ.peek(("ip-x.org", 25))
    assert host.slow
    for _ in range(8):
        world.submit(["u@x.org"])
        world.settle()
    assert not host.slow


def exchangers(*ranks):
    """A route to hosts of these ranks: mx0, mx1 ..."""
    return Route(
        dest="x",
        targets=[
            Target(host=f"mx{n}", address=f"ip-mx{n}", port=25, rank=rank)
            for n, rank in enumerate(ranks)
        ],
    )


def opened_at(world):
    """Sessions that each address has."""
    hosts = world.core.dispatch.occ.hosts()
    return {host.key[0].removeprefix("ip-"): host.open for host in hosts if host.open}


@pytest.mark.covers("X188", "X195")
@pytest.mark.parametrize(
    ("ranks", "expected"),
    [
        ((1, 1, 2), {"mx0": 2, "mx1": 2}),
        ((1, 2, 2), {"mx0": 2}),
        ((0, 0), {"mx0": 2}),
        ((3, 3, 3), {"mx0": 2, "mx1": 2, "mx2": 2}),
    ],
)
def test_mail_beyond_a_window_goes_to_exchangers_that_are_as_good(ranks, expected):
    world = World(Limits(out_initial_connections=2, out_max_connections=2))
    world.routes["x.org"] = exchangers(*ranks)
    for n in range(8):
        world.submit([f"u{n}@x.org"])
    route_all(world)
    assert opened_at(world) == expected
    for effect in world.deliveries.values():
        tried = [target.host for target in effect.delivery.targets]
        assert tried[0] == effect.delivery.session.host.key[0].removeprefix("ip-")
        assert sorted(tried) == [f"mx{n}" for n in range(len(ranks))], "the others come after it"
    world.settle()
    assert len(world.delivered) == 8
    world.check()


def test_a_worse_address_stays_behind_the_better_ones():
    targets = exchangers(1, 1, 2).targets
    assert first_to(Host(("ip-mx1", 25), 1, 0.0), targets)[0].host == "mx1"
    assert first_to(Host(("ip-mx2", 25), 1, 0.0), targets) == targets
    assert first_to(Host(("elsewhere", 25), 1, 0.0), targets) == targets
