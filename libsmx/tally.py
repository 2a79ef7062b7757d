"""Counting what a daemon logs.

Kind: core.

``Tally.add`` is called for every event, also where its level keeps it out of the log: what a
daemon counts does not depend on how much it writes.
"""

from collections.abc import Mapping

from libsmx.logtab import Event
from libsmx.stattab import ALARMS, STATS

ALARM_LEVEL = 4
"""Events of this level and below are for an operator to act on."""


class Tally:
    """The counters of one process.

    Args:
        daemon: whose; one that the table does not know counts alarms only.
    """

    def __init__(self, daemon: str) -> None:
        stats = STATS.get(daemon, ())
        self._counts: dict[str, int] = {stat.name: 0 for stat in stats if stat.event}
        self._counts[ALARMS] = 0
        self._rows: dict[str, list[tuple[str, str]]] = {}
        for stat in stats:
            if stat.event:
                self._rows.setdefault(stat.event, []).append((stat.name, stat.field))

    def add(self, event: Event, fields: Mapping[str, object]) -> None:
        """Count one event."""
        for name, field in self._rows.get(event.name, ()):
            if not field:
                self._counts[name] += 1
            else:
                value = fields.get(field, 0)
                if isinstance(value, int) and value > 0:
                    self._counts[name] += value
        if event.level <= ALARM_LEVEL:
            self._counts[ALARMS] += 1

    def counts(self) -> dict[str, int]:
        """Return the counters by name."""
        return dict(self._counts)
