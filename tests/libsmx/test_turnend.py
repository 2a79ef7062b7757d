"""The end of a turn, and the bell that wakes one task."""

import pytest
import trio
import trio.testing

from libsmx.bell import Bell
from libsmx.turnend import turn_end


class Sender:
    """Says when it is flushed."""

    def __init__(self, said, later=None):
        self.said = said
        self.later = later

    def flush(self):
        self.said.append("sent")
        return self.later


async def test_there_is_one_for_each_run_of_the_loop():
    assert turn_end() is turn_end()


async def test_hooks_run_until_nothing_is_left_and_then_everything_leaves():
    said, left = [], 3

    def hook():
        nonlocal left
        if not left:
            return False
        left -= 1
        said.append(left)
        return True

    turn_end().hook(hook)
    turn_end().add(Sender(said))
    await trio.lowlevel.checkpoint()
    assert said == [2, 1, 0, "sent"]
    turn_end().unhook(hook)
    left = 1
    await trio.lowlevel.checkpoint()
    assert left == 1


async def test_a_hook_may_send_what_waits_before_it_goes_on():
    said = []

    def hook():
        if "sent" in said:
            return False
        turn_end().flush()
        said.append("work")
        return True

    turn_end().add(Sender(said))
    turn_end().hook(hook)
    await trio.lowlevel.checkpoint()
    assert said == ["sent", "work"]


async def test_a_task_that_a_hook_wakes_runs_although_the_loop_was_about_to_sleep():
    """Without a kick the loop would sleep for ever: nothing else is due."""
    ready, done = False, trio.Event()

    def hook():
        if ready and not done.is_set():
            done.set()
            return True
        return False

    turn_end().hook(hook)
    with trio.fail_after(60):
        ready = True
        await done.wait()


async def test_what_a_flush_leaves_is_done_in_the_next_turn():
    done = trio.Event()
    turn_end().add(Sender([], done.set))
    with trio.fail_after(60):
        await done.wait()


async def test_hooks_that_never_come_to_an_end_do_not_stop_the_loop():
    calls = 0

    def hook():
        nonlocal calls
        calls += 1
        return True

    turn_end().hook(hook)
    for _ in range(3):
        await trio.lowlevel.checkpoint()
    turn_end().unhook(hook)
    assert 3 <= calls < 100


def test_a_hook_that_fails_ends_the_run():
    def hook():
        raise ZeroDivisionError("broken")

    async def main():
        turn_end().hook(hook)
        await trio.sleep_forever()

    with pytest.raises(trio.TrioInternalError) as caught:
        trio.run(main)
    assert "broken" in repr(caught.value.__cause__)


async def test_a_bell_wakes_the_one_who_sleeps():
    bell, rung = Bell(), []

    async def sleep():
        await bell.wait()
        rung.append(True)

    assert not bell.ring()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sleep)
        await trio.testing.wait_all_tasks_blocked()
        assert not rung
        assert bell.ring()
        assert not bell.ring()
    assert rung


async def test_a_sleeper_that_is_cancelled_is_forgotten():
    bell = Bell()
    with trio.move_on_after(0):
        await bell.wait()
    assert not bell.ring()
