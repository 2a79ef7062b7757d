"""Questions to several sibling processes at once, and one wait for all answers.

Kind: shell.
"""

from collections.abc import Sequence
from typing import Any

import outcome
import trio

from libsmx.channel import Channel

Question = tuple[Channel | None, object]
"""Whom to ask, None if not connected, and what."""


async def ask_all(questions: Sequence[Question], timeout_s: float) -> list[Any]:
    """Ask everything in one turn of the loop and wait until nothing is open any more.

    Args:
        questions: those to one channel leave in one write, in this order.
        timeout_s: longest wait of each.

    Returns:
        The answers in the order of the questions; None where none came.
    """
    answers: list[Any] = [None] * len(questions)
    left = 0
    task: trio.lowlevel.Task | None = None

    def take(index: int, answer: object) -> None:
        nonlocal left, task
        answers[index] = answer
        left -= 1
        if left == 0 and task is not None:
            waiting, task = task, None
            trio.lowlevel.reschedule(waiting, outcome.Value(None))

    for index, (channel, message) in enumerate(questions):
        if channel is not None:
            left += 1
            channel.request(message, lambda answer, at=index: take(at, answer), timeout_s)  # type: ignore[misc]
    if left:

        def abort(_: object) -> trio.lowlevel.Abort:
            nonlocal task
            task = None  # answers may still come; nobody waits for them
            return trio.lowlevel.Abort.SUCCEEDED

        task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)
    return answers
