"""Cache of DNS answers: bounded, timed, positive and negative alike.

Kind: core.

Owns: answers that may be used again. Limits: bytes, by an estimate of what an answer takes in
memory; the least recently used one goes first. Lifetimes lie between MIN_TTL_S and the maximum
of their kind. O(1) per call.

An answer whose lifetime ended is kept for a while: when its question fails, it is served once
more, because an old address is better than none (RFC 8767). It is never served without a new
attempt, which is repeated after STALE_TTL_S.
Source: RFC 2308 (negative answers), RFC 8767 (stale ones), RFC 9520 3.2 (failures, 1 s to 5 min).
"""

from smar.records import Answer, Outcome, Question

MIN_TTL_S = 1.0
"""A TTL of 0 is not taken literally: a busy gateway would ask once a message."""
MAX_TTL_S = 86_400.0
MAX_NEGATIVE_TTL_S = 3_600.0
FAILURE_TTL_S = 10.0
"""How long a failed lookup is not repeated."""
STALE_TTL_S = 30.0
"""How long an answer is good again after its renewal failed (RFC 8767 5)."""
ENTRY_BYTES = 700
"""What an entry takes besides its texts: measured with 100,000 entries, rounded up."""
TEXT_BYTES = 64
"""What a text takes besides its characters, with its place in a tuple."""


def lifetime_s(answer: Answer) -> float:
    """Return how long an answer may be used, seconds."""
    if answer.outcome is Outcome.FAILED:
        return FAILURE_TTL_S
    longest = MAX_TTL_S if answer.outcome is Outcome.FOUND else MAX_NEGATIVE_TTL_S
    return min(max(answer.ttl_s, MIN_TTL_S), longest)


def size_of(question: Question, answer: Answer) -> int:
    """Return about how many bytes of memory an entry takes."""
    size = ENTRY_BYTES + len(question.name) + len(answer.detail) + 4 * len(answer.text)
    for _, host in answer.mx:
        size += 2 * TEXT_BYTES + len(host)
    for text in (*answer.addresses, *answer.names):
        size += TEXT_BYTES + len(text)
    return size


class _Entry:
    """One answer; until expires_s it is good, until gone_s it may be served stale."""

    __slots__ = ("answer", "expires_s", "gone_s", "size")

    def __init__(self, answer: Answer, expires_s: float, gone_s: float, size: int) -> None:
        self.answer = answer
        self.expires_s = expires_s
        self.gone_s = gone_s
        self.size = size


class Cache:
    """Answers by question.

    Args:
        max_bytes: most memory that answers take; one answer always fits.
        stale_s: how long after its lifetime an answer stands in for a failed lookup; 0: never.
    """

    def __init__(self, max_bytes: int, stale_s: float = 0.0) -> None:
        self._max_bytes = max_bytes
        self._stale_s = stale_s
        self._entries: dict[Question, _Entry] = {}
        self.used_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, question: Question, now_s: float) -> Answer | None:
        """Return an answer that is still good, or None.

        Args:
            question: what is asked.
            now_s: monotonic clock, seconds.
        """
        entry = self._entries.pop(question, None)
        if entry is None:
            return None
        if entry.gone_s <= now_s:
            self.used_bytes -= entry.size
            return None
        # Back in at the end: the order of the dictionary is the order of last use.
        self._entries[question] = entry
        return entry.answer if entry.expires_s > now_s else None

    def put(self, question: Question, answer: Answer, now_s: float) -> Answer:
        """Keep an answer for its lifetime, and return the one to use.

        That is the answer itself, or an older one that stands in for a failed lookup.

        Args:
            question: what was asked.
            answer: what the DNS said.
            now_s: monotonic clock, seconds.
        """
        old = self._entries.pop(question, None)
        if old is not None:
            self.used_bytes -= old.size
        if (
            answer.outcome is Outcome.FAILED
            and old is not None
            and old.answer.outcome is not Outcome.FAILED
            and old.gone_s > now_s
        ):
            good = min(now_s + STALE_TTL_S, old.gone_s)
            old.expires_s = max(good, old.expires_s)
            entry = old
        else:
            expires = now_s + lifetime_s(answer)
            once = answer.outcome is Outcome.FAILED or question.kind == "MAP"
            stale = 0.0 if once else self._stale_s
            entry = _Entry(answer, expires, expires + stale, size_of(question, answer))
        self._entries[question] = entry
        self.used_bytes += entry.size
        while self.used_bytes > self._max_bytes and len(self._entries) > 1:
            self.used_bytes -= self._entries.pop(next(iter(self._entries))).size
        return entry.answer
