"""A process's own numbers, and their way to the queue manager.

Kind: shell. Reads the clock and /proc/self.

The numbers travel on the channel that a daemon has with the queue manager anyway, every few
seconds whatever the load is; counting costs a message next to nothing.
"""

import os
import time
from collections.abc import Callable

import trio

from libsmx import wire
from libsmx.channel import Channel
from libsmx.tally import Tally

PERIOD_S = 5.0
OnStats = Callable[[Channel, wire.Stats], None]

_started_s = time.monotonic()
_PAGE_KB = os.sysconf("SC_PAGE_SIZE") // 1024


def process_figures() -> dict[str, int]:
    """Return what the kernel says of this process; what it does not say is missing."""
    found = {
        "uptime": int(time.monotonic() - _started_s),
        "cpu": int(time.process_time() * 1000),
    }
    try:
        with open("/proc/self/statm", "rb") as file:
            found["memory"] = int(file.read().split()[1]) * _PAGE_KB
        found["open_files"] = len(os.listdir("/proc/self/fd"))
    except (OSError, ValueError, IndexError):
        pass  # no /proc: the rest is as true without it
    return found


def snapshot(tally: Tally | None) -> wire.Stats:
    """Return all numbers of this process now."""
    values = (tally.counts() if tally else {}) | process_figures()
    return wire.Stats(values=[wire.StatValue(name=n, value=v) for n, v in values.items()])


async def report(channel: Channel, tally: Tally) -> None:
    """Tell the peer the numbers of this process until cancelled or until the channel ends."""
    while not channel.closed:
        channel.post(snapshot(tally))
        await trio.sleep(PERIOD_S)
