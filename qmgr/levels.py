"""Levels: how full the queue is, in one word, with the reason.

Kind: core.

normal: everything has room. slow: a queue in memory is nearly full; what comes is accepted, and
waits or goes to the deferred queue. stop: new mail is refused for now. A level ends only when
its cause is well below the mark, so that it does not flicker.
Source: SPEC rows X175, X178, X179; D17.
"""

from collections.abc import Iterable

import attrs

NORMAL, SLOW, STOP = "normal", "slow", "stop"
SLOW_FROM, SLOW_UNTIL = 0.75, 0.6
"""Parts of a queue's limit at which slow begins and ends."""
STOP_FROM, STOP_UNTIL = 1.0, 0.9


@attrs.frozen
class Fill:
    """How full one queue is.

    Attributes:
        name: for the reason.
        value, limit: entries there are and may be.
        refuses: beyond its limit clients are told to come back; else others take its overflow.
    """

    name: str
    value: int
    limit: int
    refuses: bool


class Levels:
    """The present level.

    Attributes:
        level: normal, slow or stop.
        reason: a sentence; empty where the level is normal.
    """

    def __init__(self) -> None:
        self.level = NORMAL
        self.reason = ""
        self._stopped: set[str] = set()
        self._slowed: set[str] = set()

    def look(self, fills: Iterable[Fill], problem: str) -> bool:
        """Judge anew; tell whether the level is another one now.

        Args:
            fills: every queue, each time.
            problem: a reason to accept nothing; empty where there is none.
        """
        before = self.level
        self.level, self.reason = (STOP, problem) if problem else (NORMAL, "")
        for fill in fills:
            part = fill.value / fill.limit
            stopped = self._marked(self._stopped, fill.name, part, STOP_FROM, STOP_UNTIL)
            slowed = self._marked(self._slowed, fill.name, part, SLOW_FROM, SLOW_UNTIL)
            text = f"the {fill.name} holds {fill.value} of {fill.limit}"
            if stopped and fill.refuses and self.level != STOP:
                self.level, self.reason = STOP, text
            elif (slowed or stopped) and self.level == NORMAL:
                self.level, self.reason = SLOW, text
        return self.level != before

    @staticmethod
    def _marked(marked: set[str], name: str, part: float, begin: float, end: float) -> bool:
        if part >= begin:
            marked.add(name)
        elif part < end:
            marked.discard(name)
        return name in marked
