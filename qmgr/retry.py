"""Retry arithmetic: when to try again, and when to give up.

Kind: core.

Exponential between the two delays with jitter, so that mail deferred together does not come
back together; the last try is not later than the age at which the message is returned.
Source: RFC 5321 4.5.4.1; SPEC rows X181, X185, X186; D16.
"""

import math

import attrs

JITTER = 0.25
"""Largest part by which a delay is stretched; the longest delay is shortened instead."""
_MAX_EXPONENT = 40


@attrs.frozen
class Retry:
    """Delays between ``min_s`` and ``max_s``, an end at ``return_s``; all in seconds."""

    min_s: float
    max_s: float
    return_s: float

    def delay_s(self, tries: int, draw: float) -> float:
        """Return the time to wait after a failed attempt, min_s <= delay <= max_s.

        Args:
            tries: attempts made so far, this one included, >= 1.
            draw: random, 0 <= draw < 1.
        """
        base = self.min_s * 2.0 ** min(max(tries - 1, 0), _MAX_EXPONENT)
        if base < self.max_s:
            return min(self.max_s, base * (1 + JITTER * draw))
        return max(self.min_s, self.max_s * (1 - JITTER * draw))

    def next_try_at(self, received_at: float, now_s: float, wait_s: float) -> float:
        """Return the wall time of the next attempt, cut so that one falls on the end.

        Args:
            received_at: wall time of acceptance.
            now_s: wall time.
            wait_s: what delay_s returned, or the time until the destination may be tried.
        """
        at = now_s + wait_s
        end = received_at + self.return_s
        return end if now_s < end < at else at

    def expired(self, received_at: float, now_s: float) -> bool:
        """Tell whether a message that failed now has been here long enough to be returned."""
        return now_s - received_at >= self.return_s


class SteadyWall:
    """The wall clock without its jumps.

    It runs on the monotonic clock and follows the wall clock at one tenth of real time at most,
    so it never goes back, and a clock set forward by a day neither returns every message at
    once nor makes all of them due in one moment. A restart adopts the wall clock as it is.
    """

    SLEW = 0.1
    """Seconds of difference that are made good in one second."""

    def __init__(self, wall_s: float, mono_s: float) -> None:
        self._offset = wall_s - mono_s
        self._last = mono_s

    def now_s(self, wall_s: float, mono_s: float) -> float:
        """Return wall time in seconds for the two clocks' present values."""
        drift = wall_s - mono_s - self._offset
        most = (mono_s - self._last) * self.SLEW
        self._last = mono_s
        self._offset += drift if abs(drift) <= most else math.copysign(most, drift)
        return mono_s + self._offset
