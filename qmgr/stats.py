"""The numbers of all processes, as they last told them.

Kind: core.

A process that ends takes its gauges with it; what it has counted stays, added up for its
daemon under the process name ``ended``, so that the sum over a daemon never goes down while
the queue manager lives.
Source: SPEC row X477.
"""

from collections.abc import Iterable, Mapping, Sequence

from libsmx.stattab import BY_NAME, COUNTER
from libsmx.wire import StatValue
from libsmx.wire_control import Figure, StatRow

ENDED = "ended"

Process = tuple[str, int]
"""Daemon and number of the process."""


class StatsBook:
    """What is known of the processes."""

    def __init__(self) -> None:
        self._now: dict[Process, dict[str, int]] = {}
        self._ended: dict[str, dict[str, int]] = {}

    def take(self, process: Process, values: Iterable[StatValue]) -> None:
        """Note what a process tells; names that the table does not know are dropped."""
        daemon, _number = process
        self._now[process] = {v.name: v.value for v in values if (daemon, v.name) in BY_NAME}

    def gone(self, process: Process) -> None:
        """Note that a process has ended."""
        daemon, _number = process
        total = self._ended.setdefault(daemon, {})
        for name, value in self._now.pop(process, {}).items():
            if BY_NAME[daemon, name].kind == COUNTER:
                total[name] = total.get(name, 0) + value

    def rows(self) -> list[StatRow]:
        """Return all numbers, daemons and processes in order."""
        found = []
        for daemon in sorted({d for d, _number in self._now} | set(self._ended)):
            for (owner, number), values in sorted(self._now.items()):
                if owner == daemon:
                    found += _rows(daemon, str(number), values)
            found += _rows(daemon, ENDED, self._ended.get(daemon, {}))
        return found


def _rows(daemon: str, process: str, values: Mapping[str, int]) -> list[StatRow]:
    return [StatRow(daemon=daemon, process=process, name=n, value=v) for n, v in values.items()]


def own_rows(figures: Sequence[Figure], values: Iterable[StatValue]) -> list[StatRow]:
    """Return the queue manager's own numbers."""
    mine = {figure.name: figure.value for figure in figures}
    mine |= {one.name: one.value for one in values}
    return _rows("qmgr", "0", mine)
