"""An operator's changes: what they mean to recipients in every place, on a faked world."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libsmx.wire import Refusal, Route, Target
from libsmx.wire_control import ACTIONS, Select, Suspension
from qmgr.admin import Change, apply, choose_deferred, choose_new
from qmgr.defedb import index_keys, name_prefix
from qmgr.details import destinations, show
from qmgr.rates import Rates
from qmgr.selection import chooses_rcpt, chooses_ta, fits
from qmgr.suspend import MAX_SUSPENSIONS, Suspensions
from tests.qmgr.world import DEAD, OK, PERM, SMTPC, TEMP, World, envelope


def page(world):
    """The DEFEDB as the scan gives it."""
    ids = sorted(world.defedb)
    return [(world.envelopes[ta_id], [world.defedb[ta_id, idx]]) for ta_id, idx in ids]


def change(world, action, select=None, address=""):
    """Make a change as the desk does; return how many recipients it meant."""
    select, wanted = select or Select(), Change(action, address)
    new, after = choose_new(world.core, select, wanted, world.now, "", 10**6)
    assert after == ""
    count = len(new)
    apply(world.core, wanted, new, world.now)
    old = choose_deferred(world.core, select, wanted, world.now, page(world))
    count += len(old)
    apply(world.core, wanted, old, world.now)
    world.pump()
    return count


def deferred(rcpts=("a@x.org", "b@y.org"), sender="s@example.org"):
    """A world in which these recipients are in the DEFEDB."""
    world = World()
    for rcpt in rcpts:
        world.behaviour[rcpt.rpartition("@")[2]] = TEMP
        world.submit([rcpt], sender=sender)
    world.settle()
    assert len(world.defedb) == len(rcpts)
    return world


def later(world):
    """Let every pause pass and every host work."""
    world.behaviour = dict.fromkeys(world.behaviour, OK)
    world.advance(world.limits.retry_max_s * 2)
    world.settle()


def test_held_mail_stays_until_it_is_released():
    world = deferred()
    assert change(world, "hold", Select(domain="x.org")) == 1
    world.settle()
    held = [rcpt for rcpt in world.defedb.values() if rcpt.held]
    assert [rcpt.address for rcpt in held] == ["a@x.org"]
    assert held[0].history[0].text
    assert held[0].tries == 1
    assert change(world, "hold", Select(domain="x.org")) == 0
    assert change(world, "requeue", Select(domain="x.org")) == 0
    assert change(world, "release") == 1
    later(world)
    assert not world.defedb
    assert len(world.delivered) == 2
    world.check()


@pytest.mark.parametrize(("action", "bounces"), [("remove", 0), ("bounce", 1)])
def test_what_is_removed_or_returned_is_gone_for_good(action, bounces):
    world = deferred(["a@x.org"])
    world.behaviour["example.org"] = OK
    assert change(world, action) == 1
    world.settle()
    assert not world.defedb
    assert not world.contents
    assert len(world.bounces) == bounces
    assert len(world.delivered) == bounces
    world.check()


def test_a_redirected_recipient_goes_to_its_new_address():
    world = deferred(["a@x.org"])
    assert change(world, "redirect", Select(to="a@x.org"), "c@good.org") == 1
    world.settle()
    assert not world.defedb
    assert len(world.delivered) == 1
    assert not world.contents


def test_a_recipient_under_delivery_keeps_the_wish_and_a_delivery_is_never_undone():
    world = World()
    world.submit(["a@x.org", "b@y.org", "c@z.org"])
    while world.commits or world.asks:
        for do, work in ((world.do_commit, world.commits), (world.do_ask, world.asks)):
            if work:
                do()
    assert len(world.deliveries) == 3
    assert change(world, "remove") == 3
    assert change(world, "remove") == 0, "it is wished already"
    world.behaviour = {"x.org": OK, "y.org": TEMP, "z.org": PERM}
    world.settle()
    assert len(world.delivered) == 1
    assert not world.defedb
    assert not world.bounces
    assert not world.contents
    world.check()


def test_a_wish_to_hold_is_taken_back_by_a_release():
    world = World()
    world.submit(["a@x.org"])
    world.do_commit()
    world.do_ask()
    assert change(world, "hold") == 1
    assert change(world, "release") == 1
    world.behaviour["x.org"] = TEMP
    world.settle()
    assert [rcpt.held for rcpt in world.defedb.values()] == [False]


@pytest.mark.parametrize("action", ACTIONS)
def test_mail_that_waits_leaves_its_queue(action):
    world = World(carriers=0)
    for n in range(5):
        world.submit([f"u{n}@x.org", f"v{n}@y.org"])
    while world.commits:
        world.do_commit()
    world.do_ask()  # some wait for a session, some for a route
    before = len(world.core.aq.destinations)
    assert before
    count = change(world, action, address="w@z.org")
    assert count == (0 if action in ("release", "requeue") else 10)
    world.check()
    world.core.smtpc_opened(100, 20)
    world.pump()
    world.settle()
    world.check()
    gone = action in ("hold", "remove", "bounce")
    mine = [key for key in world.delivered if key[0].startswith("S")]
    assert len(mine) == (0 if gone else 10)


@given(
    st.lists(st.sampled_from([*ACTIONS, "step", "later", "crash", "mail"]), max_size=12), st.data()
)
def test_whatever_is_done_in_whatever_order_no_recipient_is_lost_or_doubled(steps, data):
    world = World()
    world.behaviour = {"x.org": TEMP, "y.org": OK, "z.org": DEAD, "w.org": OK, "example.org": OK}
    removed = False
    for step in steps:
        match step:
            case "mail":
                world.submit([f"u@{name}" for name in ("x.org", "y.org", "z.org")])
            case "step":
                for do, work in (
                    (world.do_commit, world.commits),
                    (world.do_ask, world.asks),
                    (world.do_deliver, world.deliveries),
                    (world.do_note, world.notes),
                ):
                    if work and data.draw(st.booleans()):
                        do()
            case "later":
                world.settle()
                world.advance(1000)
                world.settle()
            case "crash":
                world.crash()
            case _:
                if world.batch is None:
                    removed |= step == "remove"
                    change(world, step, address="n@w.org")
        world.check()
    world.settle()
    change(world, "release")
    later(world)
    later(world)
    world.check()
    assert not world.defedb
    assert not world.contents
    if not removed:
        for env in world.acknowledged.values():
            returned = [b for b in world.bounces if b.dsn and b.dsn.ta_id == env.ta_id]
            ended = sum((env.ta_id, r.idx) in world.delivered for r in env.rcpts)
            ended += sum(len(b.dsn.rcpts) for b in returned)
            assert ended >= len(env.rcpts)


# --- selection -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "text", "yes"),
    [
        ("a@x.org", "A@X.org", True),
        ("a@x.org", "aa@x.org", False),
        ("*@x.org", "a@x.org", True),
        ("*@x.org", "a@x.org.uk", False),
        ("a*", "a", True),
        ("a*a", "a", False),
        ("*b*d*", "abcde", True),
        ("*d*b*", "abcde", False),
        ("*", "", True),
        ("[a]", "a", False),
    ],
)
def test_patterns(pattern, text, yes):
    assert fits(pattern, text) is yes


def test_a_pattern_of_many_stars_takes_no_time():
    assert not fits("*a" * 500, "a" * 499 + "b")


def test_everything_given_must_hold():
    env = envelope(1, ["a@x.org"], sender="", received_at=1000.0)
    assert chooses_ta(Select(), env, 1000.0)
    assert chooses_ta(Select(sender="<>", older_s=60), env, 1060.0)
    assert not chooses_ta(Select(sender="<>", older_s=61), env, 1060.0)
    assert not chooses_ta(Select(sender="a@*"), env, 1060.0)
    assert not chooses_ta(Select(ta_id="S" + "0" * 18), env, 1060.0)
    assert chooses_rcpt(Select(domain="X.org", state="held"), "a@x.ORG", "", "held")
    assert chooses_rcpt(Select(domain="relay"), "a@x.org", "Relay", "deferred")
    assert not chooses_rcpt(Select(domain="org"), "a@x.org", "", "held")
    assert not chooses_rcpt(Select(state="held"), "a@x.org", "", "deferred")


# --- wishes ------------------------------------------------------------------------------


def under_delivery(action, address=""):
    """A world in which a recipient under delivery has a wish."""
    world = World()
    world.submit(["a@x.org"])
    world.do_commit()
    world.do_ask()
    assert change(world, action, address=address) == 1
    assert world.deliveries
    return world


WISHES = [
    ("remove", "", (0, 0, 0)),
    ("bounce", "", (0, 1, 0)),
    ("hold", "", (0, 0, 1)),
    ("redirect", "b@y.org", (1, 0, 0)),
]


@pytest.mark.parametrize(("action", "address", "ends"), WISHES)
@pytest.mark.parametrize("end", ["process", "answer", "refusal", TEMP, PERM, DEAD])
def test_a_wish_survives_whatever_ends_the_attempt(action, address, ends, end):
    """Delivered, bounced, held: as the operator wanted, also where the attempt had no result."""
    world = under_delivery(action, address)
    core = world.core
    if end == "process":
        world.deliveries.clear()
        core.smtpc_closed(world.now, SMTPC)
        core.smtpc_opened(SMTPC, world.capacity)
        world.pump()
    elif isinstance(end, str) and end != DEAD:
        [effect] = world.deliveries.values()
        world.deliveries.clear()
        if end == "answer":
            core.delivery_lost(world.now, effect.delivery)
        else:
            core.delivery_refused(
                world.now, effect.delivery, Refusal(code=451, status="4.3.2", text="full")
            )
        world.pump()
    else:
        world.behaviour["x.org"] = end
        world.do_deliver()
    world.behaviour = {}
    world.settle()
    later(world)
    later(world)
    mail = [key for key in world.delivered if key[0].startswith("S")]
    held = sum(stored.held for stored in world.defedb.values())
    assert (len(mail), len(world.bounces), held) == ends
    world.check()


# --- suspensions ---------------------------------------------------------------------------


def target(name):
    return Target(host=name, address=f"ip-{name}", port=25)


def test_a_suspension_of_a_host_leaves_the_others():
    suspensions = Suspensions()
    both = [target("mx1"), target("mx2")]
    assert suspensions.check(0, "x.org", "a@x.org", both) == (both, None)
    suspensions.add(Suspension(name="mx1", since=0.0))
    assert suspensions.check(0, "x.org", "a@x.org", both) == ([both[1]], None)
    assert suspensions.check(0, "x.org", "a@x.org", both[:1])[0] == []
    suspensions.remove("MX1")
    assert not suspensions


def test_what_waits_for_a_suspended_host_is_stored_under_its_name():
    world = World()
    world.core.dispatch.suspensions.add(Suspension(name="x.org", since=world.now))
    world.routes["other.org"] = Route(dest="dest", targets=[target("x.org")])
    world.submit(["a@other.org"])
    world.settle()
    [stored] = world.defedb.values()
    assert (stored.dest, stored.via) == ("dest", "x.org")
    prefixes = {key[:16] for table, key in index_keys(stored) if table == "name"}
    assert prefixes == {name_prefix(name) for name in ("dest", "other.org", "X.ORG")}
    world.core.dispatch.suspensions.remove("x.org")
    world.behaviour = {"x.org": TEMP}
    world.advance(world.limits.retry_max_s)
    world.settle()
    assert [stored.via for stored in world.defedb.values()] == [""]


def test_a_suspension_ends_with_its_time_and_there_are_not_too_many():
    suspensions = Suspensions()
    suspensions.add(Suspension(name="x.org", since=0.0, until=10.0))
    assert suspensions.find(9.0, "X.org")
    assert not suspensions.find(10.0, "x.org")
    assert suspensions.expired(10.0) == ["x.org"]
    for n in range(MAX_SUSPENSIONS):
        suspensions.add(Suspension(name=f"d{n}", since=0.0))
    assert len(suspensions.names) == MAX_SUSPENSIONS
    assert not suspensions.add(Suspension(name="one-more", since=0.0))
    assert suspensions.add(Suspension(name="d1", since=5.0)), "one that is there is replaced"


def test_mail_that_waits_obeys_a_suspension_at_once():
    world = World(carriers=0)
    for n in range(4):
        world.submit([f"u{n}@x.org", f"v{n}@y.org"])
    while world.commits:
        world.do_commit()
    while world.asks:
        world.do_ask()
    suspensions = world.core.dispatch.suspensions
    suspensions.add(Suspension(name="x.org", since=world.now, reason="why"))
    assert world.core.dispatch.suspend(world.now) == 4
    world.core.smtpc_opened(100, 20)
    world.pump()
    world.settle()
    assert len(world.delivered) == 4
    assert {rcpt.error for rcpt in world.defedb.values()} == {"x.org is suspended: why"}
    suspensions.remove("x.org")
    later(world)
    assert len(world.delivered) == 8
    world.check()


# --- what is shown -------------------------------------------------------------------------


def test_show_finds_recipients_wherever_they_are():
    world = World()
    env = world.submit(["a@x.org", "b@y.org"])
    world.behaviour = {"x.org": TEMP}
    world.do_commit()
    shown = show(world.core, env.ta_id, None, world.now, defedb=True)
    assert [rcpt.place for rcpt in shown.rcpts] == ["routing", "routing"]
    world.settle()
    found = (env, list(world.defedb.values()))
    shown = show(world.core, env.ta_id, found, world.now, defedb=True)
    assert [(rcpt.place, rcpt.tries, len(rcpt.history)) for rcpt in shown.rcpts] == [
        ("deferred", 1, 1)
    ]
    assert show(world.core, "S" + "0" * 18, None, world.now, defedb=True) is None


def test_destinations_come_page_by_page_and_dead_hosts_show():
    world = World(carriers=0)
    for n in range(5):
        world.submit([f"u@d{n}.org"])
    while world.commits:
        world.do_commit()
    while world.asks:
        world.do_ask()
    names, after = [], ""
    while True:
        rows, after = destinations(world.core, world.now, after, "", 2)
        names += [row.dest for row in rows]
        if not after:
            break
    assert names == [f"d{n}.org" for n in range(5)]
    [row] = destinations(world.core, world.now, "", "ip-d3.org", 10)[0]
    assert (row.dest, row.waiting) == ("d3.org", 1)
    world.behaviour = {f"d{n}.org": DEAD for n in range(5)}
    world.core.smtpc_opened(100, 20)
    world.pump()
    world.settle()
    rows, _ = destinations(world.core, world.now, "", "", 10)
    assert rows[-1].dest == "", "their mail is deferred"
    hosts = rows[-1].hosts
    assert sorted(host.address for host in hosts) == [f"ip-d{n}.org" for n in range(5)]
    assert all(host.blocked_until > world.now for host in hosts)
    assert all(host.error for host in hosts)


def test_rates_are_those_of_the_last_minute():
    rates = Rates()
    assert rates.last_minute((3,)) == (3,)
    for second in range(200):
        rates.tick(1000.0 + second, (second * 2,))
    assert rates.last_minute((398,)) == (120,)
