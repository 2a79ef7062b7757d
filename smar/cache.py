"""Cache of DNS answers: bounded, timed, positive and negative alike.

Kind: core.

Owns: answers that may be used again. Limits: a number of entries, the least recently used one
goes first; lifetimes between MIN_TTL_S and the maximum of their kind. O(1) per call.
Source: RFC 2308 (negative answers), RFC 9520 3.2 (failures, 1 s to 5 min).
"""

from smar.records import Answer, Outcome, Question

MIN_TTL_S = 1.0
"""A TTL of 0 is not taken literally: a busy gateway would ask once a message."""
MAX_TTL_S = 86_400.0
MAX_NEGATIVE_TTL_S = 3_600.0
FAILURE_TTL_S = 10.0
"""How long a failed lookup is not repeated."""


def lifetime_s(answer: Answer) -> float:
    """Return how long an answer may be used, seconds."""
    if answer.outcome is Outcome.FAILED:
        return FAILURE_TTL_S
    longest = MAX_TTL_S if answer.outcome is Outcome.FOUND else MAX_NEGATIVE_TTL_S
    return min(max(answer.ttl_s, MIN_TTL_S), longest)


class Cache:
    """Answers by question.

    Args:
        limit: most answers kept, >= 1.
    """

    def __init__(self, limit: int) -> None:
        self._limit = max(limit, 1)
        self._entries: dict[Question, tuple[float, Answer]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, question: Question, now_s: float) -> Answer | None:
        """Return an answer that is still good, or None.

        Args:
            question: what is asked.
            now_s: monotonic clock, seconds.
        """
        entry = self._entries.pop(question, None)
        if entry is None or entry[0] <= now_s:
            return None
        # Back in at the end: the order of the dictionary is the order of last use.
        self._entries[question] = entry
        return entry[1]

    def put(self, question: Question, answer: Answer, now_s: float) -> None:
        """Keep an answer for its lifetime.

        Args:
            question: what was asked.
            answer: what the DNS said.
            now_s: monotonic clock, seconds.
        """
        self._entries.pop(question, None)
        if len(self._entries) >= self._limit:
            del self._entries[next(iter(self._entries))]
        self._entries[question] = (now_s + lifetime_s(answer), answer)
