"""Copies of services and what they are doing.

Kind: core. Only mcp/supervise.py changes them.
"""

import enum

import attrs

from mcp.services import Service, Slot

BACKOFF_MIN_S = 1.0
BACKOFF_MAX_S = 60.0


class Phase(enum.Enum):
    """Life of a slot."""

    WAITING = "waiting"  # no process; to be started when due and when its leaders run
    STARTING = "starting"  # a Start is out
    RUNNING = "running"
    STOPPING = "stopping"  # told to end; started again unless the system stops
    IDLE = "idle"  # no process; to be started when connections wait, but not before due
    OFF = "off"  # no process and none wanted


@attrs.define
class Copy:
    """One copy of a service and its process, if it has one.

    Attributes:
        slot: which copy.
        service: of what.
        phase: see Phase.
        due_s: not to be started before.
        since_s: when its process was started.
        kill_at_s: when a process that was told to end is killed, None before and after.
        failures: in a row.
        has_sockets: its process has taken its sockets.
        leaders: slots that this one depends on and that have to run before it is started.
        pid: of its process, 0 without one.
        ends: how often it ended without being told to.
        last_end: how it ended the last time unasked, or why it could not be started.
        given_up: another start would be useless.
    """

    slot: Slot
    service: Service
    phase: Phase = Phase.WAITING
    due_s: float = 0.0
    since_s: float = 0.0
    kill_at_s: float | None = None
    failures: int = 0
    has_sockets: bool = False
    leaders: set[Slot] = attrs.Factory(set)
    pid: int = 0
    ends: int = 0
    last_end: str = ""
    given_up: bool = False

    @property
    def on_demand(self) -> bool:
        """Tell whether connections start it, and not its service."""
        return self.slot.index >= self.service.copies

    @property
    def resting_phase(self) -> Phase:
        """Return the phase in which it waits for its next start."""
        return Phase.IDLE if self.on_demand else Phase.WAITING

    def can_start(self, at_s: float) -> bool:
        """Tell whether a connection may start it."""
        return self.phase is Phase.IDLE and self.due_s <= at_s and not self.leaders


@attrs.define
class Door:
    """The sockets of a service that has copies on demand.

    Attributes:
        service: whose.
        copies: all of them, those on demand last.
        watching: somebody waits for connections to wait.
        look_at_s: not to be watched before.
        looks: in a row that found connections waiting.
    """

    service: Service
    copies: list[Copy]
    watching: bool = False
    look_at_s: float = 0.0
    looks: int = 0

    def resting(self, now_s: float) -> list[Copy]:
        """Return the copies on demand that pause."""
        return [c for c in self.copies if c.phase is Phase.IDLE and c.due_s > now_s]

    def is_short(self, at_s: float) -> bool:
        """Tell whether fewer than ``floor`` copies run, will run by themselves, or pause."""
        return len(self._active(at_s)) < self.service.floor

    def next_copies(self, at_s: float) -> list[Copy]:
        """Return the copies to start if connections wait, or when not short: keep waiting."""
        idle, active = [c for c in self.copies if c.can_start(at_s)], self._active(at_s)
        if len(active) < self.service.floor:
            return idle[: self.service.floor - len(active)]
        return idle[:1] if all(c.phase is Phase.RUNNING for c in active) else []

    def _active(self, at_s: float) -> list[Copy]:
        return [c for c in self.copies if c.phase is not Phase.OFF and not c.can_start(at_s)]


def backoff_s(failures: int) -> float:
    """Return the delay before the next start, after so many failures in a row (>= 0)."""
    return min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2.0 ** min(failures, 16))
