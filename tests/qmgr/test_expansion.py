"""Lists and aliases: members take the place of a recipient, all of them or none."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libsmx.envelope import Recipient
from libsmx.wire import Route
from qmgr.expansion import MAX_DEPTH, make_members, without_success
from qmgr.limits import Limits
from tests.qmgr.world import OK, PERM, T0, TEMP, World, envelope

MEMBERS = ["ann@a.org", "bob@b.org", "cyd@b.org"]


def stands_for(world, name, members, owner=""):
    """Let an address stand for others, and every other address of its domain for itself."""
    expanding = Route(dest="", targets=[], expand=members, owner=owner)
    straight = world.route
    world.route = lambda a: expanding if a == name else straight(a)


def delivered_to(world):
    """Addresses that the remote hosts took, with the sender, once for each time."""
    return sorted(
        (world.seen[ta_id].sender, world.seen[ta_id].rcpts[idx].address)
        for (ta_id, idx), count in world.delivered.items()
        for _ in range(count)
    )


class Seeing(World):
    """Remembers every envelope that was written to disk."""

    def boot(self):
        self.seen = getattr(self, "seen", {})
        super().boot()

    def _write(self, entry):
        self.seen.update({env.ta_id: env for env in entry.new})
        super()._write(entry)

    def _apply(self, batch):
        self.seen.update({env.ta_id: env for env, _ in batch.put})
        return super()._apply(batch)


def seeing(members=MEMBERS, owner="", **limits):
    world = Seeing(Limits(**limits))
    stands_for(world, "list@here.org", members, owner)
    return world


def test_members_get_the_message_and_the_name_does_not():
    world = seeing()
    world.submit(["list@here.org", "dan@b.org"])
    world.settle()
    assert delivered_to(world) == [("s@example.org", a) for a in sorted([*MEMBERS, "dan@b.org"])]
    assert not world.contents
    assert not world.ibdb
    assert not world.bounces
    assert world.core.iqdb.entries == 1  # the session
    world.check()


def test_an_expansion_is_on_disk_before_any_member_is_tried():
    world = seeing()
    world.submit(["list@here.org"])
    world.do_commit()
    world.do_ask()
    assert not world.asks
    [note] = world.notes
    assert [r.address for env in note.entry.new for r in env.rcpts] == MEMBERS
    assert [closed.outcome for closed in note.entry.closed] == ["expanded"]
    world.do_note()
    assert world.asks


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("deferred", [False, True])
def test_a_crash_around_the_expansion_neither_loses_nor_doubles_a_member(written, deferred):
    world = seeing()
    if deferred:  # it comes back from the DEFEDB and is expanded there
        ready, world.route = world.route, lambda _: Route(dest="", targets=[], code=451)
    world.submit(["list@here.org"])
    world.settle() if deferred else world.do_commit()
    if deferred:
        world.route = ready
        world.advance(100_000)
        world.load()
        world.do_ask()
        world.begin_batch()
    else:
        world.do_ask()
    world.crash(keep=lambda _: written)
    world.advance(1)
    world.settle()
    assert delivered_to(world) == [("s@example.org", a) for a in MEMBERS]
    assert not world.contents
    world.check()


@pytest.mark.covers("X324")
def test_members_of_a_list_get_it_from_its_owner_who_hears_of_failures():
    world = seeing(owner="owner-list@here.org")
    world.behaviour = {"a.org": PERM}
    world.submit(["list@here.org"], notify="SUCCESS,FAILURE", envid="e1", ret="FULL")
    world.settle()
    assert {sender for sender, _ in delivered_to(world) if sender} == {"owner-list@here.org"}
    assert sorted((b.dsn.sender, b.dsn.rcpts[0].action) for b in world.bounces) == [
        ("owner-list@here.org", "failed"),
        ("s@example.org", "delivered"),
    ]


@pytest.mark.covers("X325")
def test_a_report_to_the_owner_of_a_list_is_expanded_like_other_mail():
    world = seeing(owner="owner-list@here.org")
    stands_for(world, "owner-list@here.org", ["boss@c.org"])
    world.behaviour = {"a.org": PERM}
    world.submit(["list@here.org"])
    world.settle()
    [report, again] = world.bounces
    assert (report.ta_id, again.dsn) != (again.ta_id, None)
    assert ("", "boss@c.org") in delivered_to(world)


def test_the_null_sender_stays_the_null_sender():
    world = seeing(owner="owner-list@here.org")
    world.submit(["list@here.org"], sender="")
    world.settle()
    assert {sender for sender, _ in delivered_to(world)} == {""}


@pytest.mark.parametrize(
    ("members", "notify", "told", "passed"),
    [
        (1, "SUCCESS,FAILURE", [], "SUCCESS,FAILURE"),
        (2, "SUCCESS,FAILURE", ["expanded"], "FAILURE"),
        (2, "SUCCESS", ["expanded"], "NEVER"),
        (2, "FAILURE", [], "FAILURE"),
        (2, "NEVER", [], "NEVER"),
        (2, "", [], ""),
    ],
)
def test_wishes_about_reports_go_on_to_the_members_of_an_alias(members, notify, told, passed):
    world = seeing(MEMBERS[:members])
    world.peers_report = True
    env = world.submit(["list@here.org"], notify=notify, envid="e1", ret="HDRS")
    world.settle()
    assert [b.dsn.rcpts[0].action for b in world.bounces] == told
    [made] = [e for e in world.seen.values() if e.expanded and e.dsn is None]
    assert {r.notify for r in made.rcpts} == {passed}
    assert {r.orcpt for r in made.rcpts} == {"rfc822;list@here.org"}
    assert (made.envid, made.ret, made.cdb_id) == ("e1", "HDRS", env.cdb_id)


def test_what_stands_for_itself_ends():
    world = seeing(["list@here.org"])
    world.submit(["list@here.org"])
    world.settle()
    [report] = world.bounces
    assert report.dsn.rcpts[0].status == "5.4.6"
    assert max(env.expanded for env in world.seen.values()) == MAX_DEPTH
    assert not world.contents


def test_a_large_list_spills_into_the_deferred_queue_and_arrives_whole():
    members = [f"u{n}@d{n % 7}.org" for n in range(3500)]
    world = seeing(members, iqdb_max_entries=2000, aq_max_entries=500)
    world.submit(["list@here.org"])
    world.do_commit()
    world.do_ask()
    assert len(world.notes) == 1
    assert world.core.iqdb.entries > 3500  # new mail waits until they have a place
    for _ in range(3):  # some come back when the queue of their destination is shorter
        while world.step():
            assert world.core.aq.entries <= 500
        world.advance(1000)
    assert [a for _, a in delivered_to(world)] == sorted(members)
    assert world.core.iqdb.entries == 1
    assert not world.contents
    world.check()


def test_two_large_lists_one_after_the_other():
    members = [f"u{n}@a.org" for n in range(1500)]
    world = seeing(members, iqdb_max_entries=2000)
    world.submit(["list@here.org"])
    world.submit(["list@here.org"])
    world.do_commit()
    world.do_commit()
    world.do_ask()
    assert sum(len(e.new) for e in (n.entry for n in world.notes)) == 2
    world.settle()
    world.advance(1000)
    world.settle()
    assert len(delivered_to(world)) == 3000
    world.check()


def test_an_operator_can_hold_a_member():
    world = seeing()
    world.behaviour = {"a.org": TEMP}
    world.submit(["list@here.org"])
    world.settle()
    [(ta_id, _)] = world.defedb
    assert world.envelopes[ta_id].expanded == 1
    world.behaviour = {"a.org": OK}
    world.advance(100_000)
    world.settle()
    assert len(delivered_to(world)) == 3


@given(st.lists(st.text("ab@.", min_size=1, max_size=5), min_size=1, max_size=30, unique=True))
def test_members_are_numbered_and_none_is_left_out(members):
    ids = iter(range(100))
    parent = attrs.evolve(envelope(1, ["l@x.org"]), hold="held once", returned=True)
    made = make_members(parent, Recipient(idx=0, address="l@x.org"), members, "", lambda: next(ids))
    assert [r.address for env in made for r in env.rcpts] == members
    assert [r.idx for r in made[0].rcpts] == list(range(len(members)))
    assert (made[0].hold, made[0].returned, made[0].received_at) == ("", False, T0)


def test_many_members_are_cut_into_transactions():
    ids = iter(range(100))
    rcpt = Recipient(idx=0, address="l@x.org")
    members = [f"u{n}@x.org" for n in range(2500)]
    made = make_members(envelope(1, ["l@x.org"]), rcpt, members, "", lambda: next(ids))
    assert [len(env.rcpts) for env in made] == [1000, 1000, 500]
    assert len({env.ta_id for env in made}) == 3
    assert made[0].rcpts[0].orcpt == ""


@pytest.mark.parametrize(
    ("notify", "left"),
    [("", ""), ("NEVER", "NEVER"), ("SUCCESS,DELAY", "DELAY"), ("SUCCESS", "NEVER")],
)
def test_success_is_taken_out_of_notify(notify, left):
    assert without_success(notify) == left
