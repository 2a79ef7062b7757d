"""How long a client may take: between two signs of life, for a transaction, for its content.

Kind: core.
Limits: a deadline moves only when it is a tenth off, since moving it costs more than a reply.
Source: RFC 5321 4.5.3.2; SPEC row X368.
"""

from smtps.content import Content
from smtps.transaction import Transaction

_SLACK = 0.1
GRACE_S = 60.0
"""Time in which content may come as slowly as it likes."""


class Pace:
    """Watches one client.

    Args:
        silence_s: longest time between two signs of life.
        transaction_s: longest time from MAIL to the end of data.
        min_rate: least bytes of content a second, on average; 0: any.

    Attributes:
        limited: the deadline is that of the transaction.
    """

    def __init__(self, silence_s: float, transaction_s: float, min_rate: int) -> None:
        self.silence_s = silence_s
        self.limited = False
        self._transaction_s = transaction_s
        self._min_rate = min_rate
        self._ta: Transaction | None = None
        self._ta_end = 0.0
        self._content: Content | None = None
        self._content_since = 0.0

    @property
    def lazy_s(self) -> float:
        """The deadline lies at least so far ahead whenever the client has been heard."""
        return self.silence_s * (1 - _SLACK)

    def deadline(self, now: float, current: float, ta: Transaction | None) -> float:
        """Return until when the client is waited for.

        Args:
            now: seconds on the clock that deadlines are on.
            current: the deadline so far.
            ta: the open transaction.
        """
        if ta is not self._ta:
            self._ta = ta
            self._ta_end = now + self._transaction_s
        if not self.lazy_s < current - now <= self.silence_s:
            current = now + self.silence_s
        self.limited = ta is not None and self._ta_end < current
        return self._ta_end if self.limited else current

    def is_slow(self, now: float) -> bool:
        """Tell whether content comes in more slowly than is allowed."""
        content = self._ta.content if self._ta is not None else None
        if content is not self._content:
            self._content, self._content_since = content, now
        passed_s = now - self._content_since
        if content is None or passed_s <= GRACE_S:
            return False
        return content.size < self._min_rate * passed_s
