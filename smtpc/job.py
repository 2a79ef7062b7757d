"""Orders of the queue manager while they are carried out.

Kind: shell.

Limits: MAX_ADDRESSES addresses, GIVE_UP_S and LONGEST_S seconds for one transaction.
Source: RFC 5321 5.1; SPEC row X017.
"""

from collections.abc import Callable

import attrs
import trio

from libsmx.clock import Clock
from libsmx.log import Log
from libsmx.wire import Attempt, Deliver, Delivered, RcptResult
from smtpc.content import Content
from smtpc.effects import Transaction
from smtpc.result import Outcome

MAX_ADDRESSES = 10
"""Addresses tried for one transaction; the next retry begins with a fresh order from DNS."""
GIVE_UP_S = 600.0
"""After this long no further address is tried, seconds."""
LONGEST_S = 7200.0
"""Longest time for one transaction whatever the single waits allow, seconds: a server that
answers each command at the last moment shall not hold mail and a session for days."""


@attrs.frozen
class Surroundings:
    """What every delivery session of a process shares."""

    helo: str
    lmtp_socket: str
    connect_timeout_s: float
    io_timeout_s: float
    log: Log
    clock: Clock


@attrs.define
class Job:
    """One order of the queue manager while it is carried out.

    Attributes:
        deliver: the order.
        content: closed by the session that carries the order out.
        answer: takes the result, exactly once.
        attempts: addresses that failed so far.
        at: position of the target to try next.
        reopened: a dead kept session was replaced already.
        deferral: results of the last temporary failure of a host.
        begun_s: loop time.
    """

    deliver: Deliver
    content: Content
    answer: Callable[[Delivered], None]
    attempts: list[Attempt] = attrs.field(factory=list)
    at: int = 0
    reopened: bool = False
    deferral: list[RcptResult] | None = None
    begun_s: float = attrs.field(factory=trio.current_time)

    def transaction(self) -> Transaction:
        """Return what the machine has to know."""
        envelope = self.deliver.envelope
        return Transaction(
            sender=envelope.sender,
            rcpts=envelope.rcpts,
            size=self.content.size,
            body8=self.content.body8,
            ret=envelope.ret,
            envid=envelope.envid,
        )

    @property
    def more(self) -> bool:
        """True while another address may be tried."""
        count = min(len(self.deliver.targets), MAX_ADDRESSES)
        return self.at < count and trio.current_time() - self.begun_s < GIVE_UP_S

    @property
    def ends_s(self) -> float:
        """Loop time at which it is given up."""
        return self.begun_s + LONGEST_S

    def verdict(self, outcome: Outcome) -> list[RcptResult]:
        """Return the outcome as the result of every recipient."""
        return [outcome.for_rcpt(rcpt.idx) for rcpt in self.deliver.envelope.rcpts]
