"""Active queue: recipients that may be delivered now, by destination.

Kind: core.

Every recipient that is routed, waits, is delivered or is being closed takes one place; places
are bounded, so memory does not depend on the backlog. Loaded mail (from the DEFEDB) may fill
half of them, the rest is for new mail. A destination may keep so many recipients waiting as
leave a fair part of the places to others (see ``crowded``).
Source: SPEC rows X014, X160; invariants I4, I5 in architecture.md.
"""

from collections import deque

from libsmx.wire import Target
from qmgr.places import Destination
from qmgr.ta import Home, Rcpt, State

CROWD_FACTOR = 4
"""A destination's waiting recipients may be this many times the places that are free: one
alone may take four fifths, several leave some to a newcomer."""
CROWD_MIN = 64
"""So many may always wait."""


class Aq:
    """The active queue.

    Args:
        limit: places.

    Attributes:
        entries: places taken.
        loaded: places taken by recipients whose home is the DEFEDB.
        unrouted: recipients whose route must be asked for, oldest first.
        destinations: by key; those without mail and sessions are forgotten.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.entries = 0
        self.loaded = 0
        self.routing = 0
        self.unrouted: deque[Rcpt] = deque()
        self.destinations: dict[str, Destination] = {}

    @property
    def free(self) -> int:
        """Places left."""
        return self.limit - self.entries

    def room_to_load(self) -> int:
        """Return how many recipients may be loaded from the DEFEDB now."""
        return max(min(self.limit // 2 - self.loaded, self.free), 0)

    def admit(self, rcpt: Rcpt) -> None:
        """Give a recipient a place; the caller saw that one is free."""
        rcpt.active = True
        rcpt.state = State.ROUTING
        self.entries += 1
        self.routing += 1
        if rcpt.ta.home is Home.DEFEDB:
            self.loaded += 1
        self.unrouted.append(rcpt)

    def take_unrouted(self, most: int) -> list[list[Rcpt]]:
        """Return the recipients to be routed, ``most`` at a time.

        Those of each domain stand apart: one slow lookup delays only its own.
        """
        domains: dict[str, list[Rcpt]] = {}
        for rcpt in self.unrouted:
            if rcpt.state is State.ROUTING:
                domains.setdefault(rcpt.address.rpartition("@")[2], []).append(rcpt)
        self.unrouted.clear()
        return [
            rcpts[at : at + most] for rcpts in domains.values() for at in range(0, len(rcpts), most)
        ]

    def leave(self, rcpt: Rcpt) -> None:
        """Give a recipient's place to others."""
        rcpt.active = False
        self.entries -= 1
        if rcpt.ta.home is Home.DEFEDB:
            self.loaded -= 1

    def destination(self, key: str, targets: list[Target], *, lmtp: bool) -> Destination:
        """Return the destination of a route, which is the newest we know of it."""
        dest = self.destinations.get(key)
        if dest is None:
            dest = self.destinations[key] = Destination(key, lmtp, targets)
        else:
            dest.targets = targets
        return dest

    def forget(self, dest: Destination) -> None:
        """Drop a destination that has neither mail nor sessions."""
        if not dest.waiting and not dest.sessions and not dest.queued:
            self.destinations.pop(dest.key, None)

    def crowded(self, dest: Destination) -> bool:
        """Tell whether one recipient more for this destination would starve the others.

        Recipients that are being routed are nobody's yet, their places count as free.
        """
        if dest.waiting < CROWD_MIN:
            return False
        return dest.waiting >= CROWD_FACTOR * (self.free + self.routing)
