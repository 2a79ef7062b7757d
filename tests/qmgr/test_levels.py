"""How full the queue is, in one word."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from qmgr.control import state_of
from qmgr.levels import Fill, Levels
from qmgr.limits import Limits
from tests.qmgr.world import World


def fills(incoming, active):
    return [Fill("incoming queue", incoming, 100, True), Fill("active queue", active, 100, False)]


@pytest.mark.covers("X175")
def test_levels_have_a_hysteresis():
    levels, seen = Levels(), []
    for value in (74, 75, 60, 59, 99, 100, 90, 89, 60, 59):
        levels.look(fills(value, 0), "")
        seen.append(levels.level)
    assert seen == [
        "normal", "slow", "slow", "normal", "slow", "stop", "stop", "slow", "slow", "normal"
    ]  # fmt: skip


def test_a_full_active_queue_slows_and_a_full_disk_stops():
    levels = Levels()
    assert levels.look(fills(0, 100), "")
    assert (levels.level, levels.reason) == ("slow", "the active queue holds 100 of 100")
    assert levels.look(fills(0, 100), "no space")
    assert (levels.level, levels.reason) == ("stop", "no space")
    assert not levels.look(fills(100, 100), "no space")
    assert levels.look(fills(0, 0), "")
    assert (levels.level, levels.reason) == ("normal", "")


@given(st.lists(st.tuples(st.integers(0, 120), st.integers(0, 120), st.booleans())))
def test_a_level_has_a_reason_and_a_full_queue_a_level(steps):
    levels = Levels()
    for incoming, active, bad in steps:
        before = levels.level
        changed = levels.look(fills(incoming, active), "bad" if bad else "")
        assert changed == (levels.level != before)
        assert bool(levels.reason) == (levels.level != "normal")
        if bad or incoming >= 100:
            assert levels.level == "stop"
        elif max(incoming, active) >= 75:
            assert levels.level in {"slow", "stop"}
        elif max(incoming, active) < 60:
            assert levels.level == "normal"


def test_the_core_logs_a_change_of_its_level():
    world = World(Limits(aq_max_entries=16, iqdb_max_entries=40), capacity=1)
    world.advance(1)
    for _ in range(30):
        world.submit(["u@x.org"])
    while world.commits:
        world.do_commit()
    world.advance(1)
    assert world.core.levels.level == "slow"
    state, reasons = state_of(world.core, defedb=True)
    assert state == "slow"
    assert reasons == "the active queue holds 16 of 16"
    world.settle()
    world.advance(1)
    changes = [fields["level"] for name, fields in world.records if name == "queue_level"]
    assert changes == ["slow", "normal"]
