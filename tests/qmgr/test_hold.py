"""Mail that is held from its acceptance on: a filter put it into quarantine."""

import pytest

from libsmx.wire_control import RELEASE, Select
from qmgr.admin import Change, apply, choose_deferred
from qmgr.details import show
from tests.qmgr.world import World


def held():
    world = World()
    env = world.submit(["a@x.org", "b@y.org"], hold="looks like a virus")
    return world, env


def release(world, env):
    page = [(world.envelopes[env.ta_id], list(world.defedb.values()))]
    change = Change(RELEASE)
    chosen = choose_deferred(world.core, Select(), change, world.now, page)
    apply(world.core, change, chosen, world.now)
    world.pump()


def test_it_is_accepted_and_waits_until_it_is_released():
    world, env = held()
    world.settle()
    assert world.acknowledged
    world.advance(1_000_000)
    world.settle()
    assert not world.delivered
    assert [(r.held, r.error) for r in world.defedb.values()] == [(True, "looks like a virus")] * 2
    assert world.core.iqdb.entries == 1  # the session
    release(world, env)
    world.settle()
    assert set(world.delivered.values()) == {1}
    assert len(world.delivered) == 2
    assert not world.contents


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_it_is_held_also_after_a_crash(steps):
    world, _ = held()
    for _ in range(steps):
        world.step()
    world.crash(keep=lambda _: True)
    world.advance(1_000_000)
    world.settle()
    assert not world.delivered
    assert all(r.held for r in world.defedb.values())
    assert len(world.defedb) == 2
    world.check()


def test_who_asks_is_told_why():
    world, env = held()
    world.settle()
    stored = list(world.defedb.values())
    answer = show(world.core, env.ta_id, (env, stored), world.now, defedb=True)
    assert answer.rcpts[0].place == "held"
    assert answer.rcpts[0].why[0] == "it is held since its acceptance: looks like a virus"
    assert "released" in answer.rcpts[0].next
