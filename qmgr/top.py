"""``qmgrctl top``: the state of the system on the terminal, again and again.

Kind: shell.

Without a terminal the pictures follow each other with an empty line between them. The numbers
of other daemons than the queue manager are a few seconds old (libsmx/stats.py).
"""

import os
import sys
from collections.abc import Awaitable, Callable

import trio

from libsmx import wire_control
from libsmx.errors import EX_OK
from qmgr.toptext import Look, picture

Ask = Callable[[object], Awaitable[object]]

_HOME_AND_CLEAR = "\x1b[H\x1b[J"
_MAX_DESTS = 50


class Unanswered(Exception):
    """The queue manager refused; carries its answer."""

    def __init__(self, answer: object) -> None:
        super().__init__(type(answer).__name__)
        self.answer = answer


async def _look(ask: Ask) -> Look:
    status = await ask(wire_control.StatusAsk())
    if not isinstance(status, wire_control.StatusAnswer):
        raise Unanswered(status)
    stats = await ask(wire_control.StatsAsk())
    if not isinstance(stats, wire_control.StatsAnswer):
        raise Unanswered(stats)
    dests = await ask(wire_control.DestinationsAsk(limit=_MAX_DESTS))
    found = dests.dests if isinstance(dests, wire_control.DestinationsAnswer) else []
    return Look(trio.current_time(), status, stats.rows, found)


async def show_top(ask: Ask, interval_s: float, count: int) -> int:
    """Show pictures until interrupted, or so many.

    Args:
        ask: asks the queue manager.
        interval_s: between two pictures.
        count: how many; 0 for no end.

    Raises:
        Unanswered: a request was refused.
    """
    is_terminal = sys.stdout.isatty()
    before: Look | None = None
    shown = 0
    while True:
        now = await _look(ask)
        width, height = os.get_terminal_size() if is_terminal else (0, 0)
        lines = picture(now, before, width, max(height - 1, 0))
        sys.stdout.write((_HOME_AND_CLEAR if is_terminal else "") + "\n".join(lines) + "\n")
        sys.stdout.flush()
        before = now
        shown += 1
        if shown == count:
            return EX_OK
        if not is_terminal:
            sys.stdout.write("\n")
        await trio.sleep(interval_s)
