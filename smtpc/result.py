"""Results: what a reply, or the lack of one, means for a recipient.

Kind: core.

Remote texts are hostile: they are cut, and every control character is replaced, before they
go anywhere. An enhanced status code counts only if its class agrees with the reply code.
Source: RFC 5321 4.2.1, RFC 3463, RFC 2034 section 4; SPEC row X017.
"""

from collections.abc import Sequence

import attrs

from libsmx.envelope import Recipient
from libsmx.reply import Reply
from libsmx.wire import RcptResult

MAX_REMOTE_TEXT = 1000
"""Longest remote text kept, in characters."""

# What a reply code says where the server gave no enhanced status code: the codes whose meaning
# RFC 5321 4.2.2 fixes independently of the command, everything else is X.0.0.
_STATUS = {
    421: "4.3.2",
    450: "4.2.0",
    451: "4.3.0",
    452: "4.3.1",
    500: "5.5.2",
    501: "5.5.4",
    502: "5.5.1",
    503: "5.5.1",
    504: "5.5.4",
    521: "5.3.2",
    552: "5.2.2",
    553: "5.1.3",
    555: "5.5.4",
    556: "5.1.10",
}


@attrs.frozen
class Outcome:
    """One verdict, for one recipient or for all that have none yet.

    Attributes:
        code: 2yz delivered, 4yz try again, 5yz failed for good.
        status: enhanced status code of the same class.
        text: for people; a remote reply begins with its code.
    """

    code: int
    status: str
    text: str

    def for_rcpt(self, idx: int) -> RcptResult:
        """Return this verdict as the result of recipient ``idx``."""
        return RcptResult(idx=idx, code=self.code, status=self.status, text=self.text)


def clean(text: str, limit: int = MAX_REMOTE_TEXT) -> str:
    """Return text on one line without control characters, at most ``limit`` characters."""
    if len(text) > limit:
        text = text[: limit - 3] + "..."
    if text.isascii() and text.isprintable():
        return text
    text = " ".join(text.split())
    return "".join(char if char.isprintable() else "?" for char in text)


def status_of(reply: Reply) -> str:
    """Return the enhanced status code of a reply, derived where the server gave none."""
    code = reply.code
    if reply.status and reply.status[0] == str(code)[0]:
        return reply.status
    return _STATUS.get(code, f"{code // 100}.0.0")


def from_reply(reply: Reply) -> Outcome:
    """Return what a reply of class 2, 4 or 5 says."""
    status = status_of(reply)
    given = f" {reply.status}" if reply.status else ""
    return Outcome(reply.code, status, clean(f"{reply.code}{given} {reply.text}"))


def temporary(status: str, text: str) -> Outcome:
    """Return a temporary failure that this side found, not the server."""
    return Outcome(451, status, clean(text))


def permanent(code: int, status: str, text: str) -> Outcome:
    """Return a permanent failure that this side found."""
    return Outcome(code, status, clean(text))


class Results:
    """The results of one transaction while they come in.

    Attributes:
        accepted: positions of the recipients that the server accepted, in order.
    """

    def __init__(self, rcpts: Sequence[Recipient]) -> None:
        self.accepted: list[int] = []
        self._rcpts = rcpts
        self._results: list[RcptResult | None] = [None] * len(rcpts)
        self._ours = 0

    @property
    def untouched(self) -> bool:
        """True while the server said nothing about any recipient."""
        return not self.accepted and sum(map(bool, self._results)) == self._ours

    @property
    def open(self) -> bool:
        """True while a recipient has no result."""
        return None in self._results

    def has(self, position: int) -> bool:
        """Tell whether a recipient has its result."""
        return self._results[position] is not None

    def refuse(self, position: int, outcome: Outcome) -> None:
        """Give one recipient a result that this side found, before the server was asked."""
        if not self.has(position):
            self._ours += 1
        self.set(position, outcome)

    def set(self, position: int, outcome: Outcome) -> None:
        """Give one recipient its result."""
        self._results[position] = outcome.for_rcpt(self._rcpts[position].idx)

    def settle(self, outcome: Outcome) -> None:
        """Give the outcome to every recipient that has no result yet."""
        for position, result in enumerate(self._results):
            if result is None:
                self.set(position, outcome)

    def take(self) -> list[RcptResult]:
        """Return what is known, in the order of the recipients."""
        return [result for result in self._results if result is not None]
