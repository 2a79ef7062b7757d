"""Time as a daemon sees it: a wall clock for what is stored, a monotonic one for timers.

Kind: shell. Cores get numbers; only shells hold a Clock.
"""

import time
from typing import Protocol


class Clock(Protocol):
    """The two clocks, both in seconds."""

    def wall(self) -> float:
        """Return seconds since the epoch; it may jump."""

    def mono(self) -> float:
        """Return seconds since some fixed moment; it never goes back."""


class SystemClock:
    """The clocks of the operating system."""

    def wall(self) -> float:
        """Return seconds since the epoch."""
        return time.time()

    def mono(self) -> float:
        """Return the monotonic clock."""
        return time.monotonic()


class FakeClock:
    """Clocks that stand still until they are moved, for tests."""

    def __init__(self, wall: float = 1_700_000_000.0, mono: float = 1000.0) -> None:
        self._wall = wall
        self._mono = mono

    def wall(self) -> float:
        """Return the wall clock as set."""
        return self._wall

    def mono(self) -> float:
        """Return the monotonic clock as set."""
        return self._mono

    def advance(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        self._wall += seconds
        self._mono += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an administrator does."""
        self._wall += seconds
