"""Suspensions: names that get no mail until somebody says so.

Kind: core.

A name is a recipient's domain, a destination, the name of a host or its address. Mail for a
suspended domain or destination, and mail all of whose hosts are suspended, waits in the DEFEDB;
a route with other hosts goes on without the suspended ones. What waits for a host is stored
under its name (qmgr/defedb.py), so that a resume makes it due at once, also after a restart.
Source: architecture.md (I5); SPEC row X477.
"""

from collections.abc import Iterable

from libsmx.wire import Target
from libsmx.wire_control import Suspension

MAX_SUSPENSIONS = 1000


def describe(suspension: Suspension) -> str:
    """Return the words for a recipient that waits for the end of a suspension."""
    reason = f": {suspension.reason}" if suspension.reason else ""
    return f"{suspension.name} is suspended{reason}"


class Suspensions:
    """All that are in force.

    Attributes:
        names: suspensions by name, lower case.
    """

    def __init__(self) -> None:
        self.names: dict[str, Suspension] = {}

    def __bool__(self) -> bool:
        return bool(self.names)

    def load(self, suspensions: Iterable[Suspension]) -> None:
        """Take these instead of all others."""
        self.names = {suspension.name.lower(): suspension for suspension in suspensions}

    def add(self, suspension: Suspension) -> bool:
        """Add or replace one; tell whether there was room."""
        name = suspension.name.lower()
        if name not in self.names and len(self.names) >= MAX_SUSPENSIONS:
            return False
        self.names[name] = suspension
        return True

    def remove(self, name: str) -> None:
        """End one."""
        self.names.pop(name.lower(), None)

    def expired(self, now_s: float) -> list[str]:
        """Return the names whose time is over."""
        return [name for name, one in self.names.items() if 0 < one.until <= now_s]

    def find(self, now_s: float, *names: str) -> Suspension | None:
        """Return the first suspension in force of these names."""
        for name in names:
            found = self.names.get(name.lower())
            if found is not None and (not found.until or found.until > now_s):
                return found
        return None

    def of_host(self, now_s: float, target: Target) -> Suspension | None:
        """Return what forbids one address of a route."""
        return self.find(now_s, target.host, target.address) if self.names else None

    def check(
        self, now_s: float, dest: str, address: str, targets: list[Target]
    ) -> tuple[list[Target], Suspension | None]:
        """Return the targets that may be used, and the suspension if there are none.

        Args:
            now_s: wall clock.
            dest: key of the destination.
            address: of the recipient.
            targets: addresses of the route.
        """
        found = self.find(now_s, address.rpartition("@")[2], dest)
        if found is not None:
            return [], found
        left: list[Target] = []
        for target in targets:
            one = self.of_host(now_s, target)
            if one is None:
                left.append(target)
            else:
                found = one
        if left or found is None:
            return left, None
        return [], found
