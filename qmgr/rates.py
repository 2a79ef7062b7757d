"""Rates: how much happened in the last minute.

Kind: core.
Limits: one sample a second for a minute.
Source: SPEC row X477.
"""

from collections import deque

SPAN_S = 60.0


class Rates:
    """Differences of counters over the last minute, or since the start."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, tuple[int, ...]]] = deque()

    def tick(self, now_s: float, counters: tuple[int, ...]) -> None:
        """Take a sample; call about once a second, with the same counters each time."""
        samples = self._samples
        if not samples:
            samples.append((now_s, (0,) * len(counters)))  # what came before counts too
        samples.append((now_s, counters))
        while len(samples) > 2 and (samples[1][0] <= now_s - SPAN_S or len(samples) > SPAN_S + 1):
            samples.popleft()

    def last_minute(self, counters: tuple[int, ...]) -> tuple[int, ...]:
        """Return how much each counter rose in the last minute."""
        if not self._samples:
            return counters
        return tuple(
            max(new - old, 0) for new, old in zip(counters, self._samples[0][1], strict=True)
        )
