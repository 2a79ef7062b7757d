"""Turns: in which order destinations get sessions, and how the sessions are shared.

Kind: core.

Destinations with mail stand in a ring and take turns, one transaction each; one that had a large
transaction lets turns pass for it (deficit round robin with recipients as weight). There is a
ring for those whose next transaction is new and one for retries: new mail goes first, but a
quarter of all sessions is the retries' if they need it, and as much is never theirs, so neither
starves the other, however slowly it is delivered. Likewise hosts that take long for a transaction
get no more sessions when only a quarter is free, unless they have less than a quarter.
Source: architecture.md; I5.
"""

from collections import OrderedDict

from qmgr.occ import Occ
from qmgr.places import Delivery, Destination

TURN_RCPTS = 16
"""So many recipients more make a transaction cost one turn more."""
SHARE = 4
"""One part of so many is the least share of the sessions of each kind of mail."""

Ring = OrderedDict[Destination, None]
"""Destinations in the order of their turns."""


def extra_turns(rcpts: int) -> int:
    """Return what a transaction costs beyond one turn."""
    return (rcpts - 1) // TURN_RCPTS


class Turns:
    """See the module.

    Args:
        occ: knows which hosts are slow.

    Attributes:
        capacity: sessions that there can be.
        busy: sessions that have a transaction.
        retrying: those of them that do a retry.
        lingering: those of them at a slow host.
    """

    def __init__(self, occ: Occ) -> None:
        self.capacity = 0
        self.busy = 0
        self.retrying = 0
        self.lingering = 0
        self._occ = occ
        self._fresh: Ring = OrderedDict()
        self._retries: Ring = OrderedDict()
        self._slow: Ring = OrderedDict()
        self._retried = False

    @property
    def free(self) -> int:
        """Sessions that could be busy and are not."""
        return self.capacity - self.busy

    def begun(self, delivery: Delivery) -> None:
        """Count a delivery."""
        self.busy += 1
        self.retrying += delivery.retry
        self.lingering += delivery.slow

    def ended(self, delivery: Delivery) -> None:
        """Count a delivery less."""
        self.busy -= 1
        self.retrying -= delivery.retry
        self.lingering -= delivery.slow

    def enqueue(self, dest: Destination) -> None:
        """Let a destination take its turn; one that waits somewhere stays there."""
        if dest.queued:
            if dest.retry_next or dest not in self._retries:
                return
            del self._retries[dest]  # new mail came
        dest.queued = True
        (self._retries if dest.retry_next else self._fresh)[dest] = None

    def next(self) -> Destination | None:
        """Return the destination whose turn it is, None where none may have a session now."""
        while self.free > 0:
            dest = self._first()
            if dest is None:
                break
            dest.queued = False
            if not dest.waiting:
                dest.debt = 0
            elif self._is_slow(dest) and not self._may_linger():
                dest.queued = True
                self._slow[dest] = None
                continue
            elif dest.debt > 0 and (self._fresh or self._retries):
                dest.debt -= 1
                self.enqueue(dest)
                continue
            return dest
        return None

    def _first(self) -> Destination | None:
        """Take the first destination of the ring that comes next."""
        fresh, retries = self._fresh, self._retries
        if self._slow and self._may_linger():
            dest = self._slow.popitem(last=False)[0]
            if not dest.retry_next or self._may_retry():
                return dest
            retries[dest] = None
        if retries and self._may_retry():
            share = self.capacity // SHARE
            # Where a quarter is less than one session, they take turns.
            due = self.retrying < share or not (share or self.retrying or self._retried)
            if due or not fresh:
                self._retried = True
                return retries.popitem(last=False)[0]
        self._retried = False
        return fresh.popitem(last=False)[0] if fresh else None

    def must_wait(self, dest: Destination) -> bool:
        """Tell whether the share of what a destination has next is used up."""
        return (dest.retry_next and not self._may_retry()) or (
            self._is_slow(dest) and not self._may_linger()
        )

    def _may_retry(self) -> bool:
        return self.retrying < max(self.capacity - self.capacity // SHARE, 1)

    def _may_linger(self) -> bool:
        share = max(self.capacity // SHARE, 1)
        return self.lingering < share or self.free > share

    def _is_slow(self, dest: Destination) -> bool:
        """Tell whether the next session of a destination goes to a slow host."""
        if dest.idle:
            return dest.idle[-1].host.slow
        target = dest.targets[0] if dest.targets else None
        host = self._occ.peek((target.address, target.port)) if target is not None else None
        return host is not None and host.slow
