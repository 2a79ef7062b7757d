"""Failures that wait a moment, so that one report tells a sender of all of them.

Kind: core.

A recipient that failed stays open on disk while it waits here: after a crash it is simply
tried again. It waits until no other recipient of its transaction is under way in memory, for
``merge_s`` seconds at most.
Limits: ``most`` recipients; beyond it the oldest go at once.
Source: SPEC row X165.
"""

import attrs

from qmgr.bounce import News
from qmgr.ta import Rcpt, State, Transaction


@attrs.frozen
class Ended:
    """A recipient whose fate is known, and what there is to say of it."""

    rcpt: Rcpt
    news: News
    outcome: str
    """For the log of envelopes, see qmgr/records.py."""


@attrs.define(eq=False)
class _Held:
    due_at: float | None = None
    ended: list[Ended] = attrs.field(factory=list)


class Failures:
    """See the module; ``merge_s`` 0 or less: nothing waits beyond the turn of the loop."""

    def __init__(self, merge_s: float, most: int) -> None:
        self._merge_s = merge_s
        self._most = most
        self._held: dict[Transaction, _Held] = {}
        self._touched: dict[Transaction, None] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, ended: Ended) -> None:
        """Take a recipient; its state is CLOSING already."""
        ta = ended.rcpt.ta
        self._held.setdefault(ta, _Held()).ended.append(ended)
        self._touched[ta] = None
        self._count += 1

    def touch(self, ta: Transaction) -> None:
        """Note that a recipient of a transaction came to the end of its way in memory."""
        if ta in self._held:
            self._touched[ta] = None

    def ripe(self, now_s: float, *, last: bool = False) -> list[tuple[Transaction, list[Ended]]]:
        """Return what has waited enough, and forget it; ``last``: everything."""
        ready = []
        for ta in self._touched:
            held = self._held[ta]
            if self._merge_s <= 0 or all(r.state is State.CLOSING for r in ta.rcpts.values()):
                ready.append(self._pop(ta))
            elif held.due_at is None:
                held.due_at = now_s + self._merge_s
        self._touched.clear()
        while self._held:
            ta, held = next(iter(self._held.items()))  # the oldest: they wait equally long
            waits = held.due_at is not None and now_s < held.due_at
            if waits and self._count <= self._most and not last:
                break
            ready.append(self._pop(ta))
        return ready

    def _pop(self, ta: Transaction) -> tuple[Transaction, list[Ended]]:
        ended = self._held.pop(ta).ended
        self._count -= len(ended)
        return ta, ended
