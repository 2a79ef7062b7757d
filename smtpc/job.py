"""Orders of the queue manager while they are carried out.

Kind: shell.

Limits: MAX_ADDRESSES addresses, LONGEST_S seconds for one transaction.
Source: RFC 5321 5.1; SPEC row X017.
"""

from collections.abc import Callable

import attrs
import trio

from libsmx.clock import Clock
from libsmx.log import Log
from libsmx.wire import Attempt, Deliver, Delivered, RcptResult, Target
from smtpc.content import Content
from smtpc.effects import Transaction
from smtpc.result import Outcome
from smtpc.rules import Rules, Wishes
from smtpc.tlskit import TlsKit

MAX_ADDRESSES = 10
"""Addresses tried for one transaction; the next retry begins with a fresh order from DNS."""
LONGEST_S = 7200.0
"""Longest time for one transaction whatever the single waits allow, seconds: a server that
answers each command at the last moment shall not hold mail and a session for days."""


@attrs.define
class Surroundings:
    """What every delivery session of a process shares.

    Attributes:
        rules: the configuration, replaced when files were changed.
        lmtp_socket: path of the local LMTP server's socket.
        tls: contexts and sessions; None: TLS is not spoken.
        log, clock: of the process.
        nonce: gives a fresh random text for an authentication.
    """

    rules: Rules
    lmtp_socket: str
    tls: TlsKit | None
    log: Log
    clock: Clock
    nonce: Callable[[], str]


@attrs.define
class Job:
    """One order of the queue manager while it is carried out.

    Attributes:
        deliver: the order.
        content: closed by the session that carries the order out.
        answer: takes the result, exactly once.
        targets: addresses in the order in which they are tried.
        attempts: addresses that failed so far.
        at: position of the target to try next.
        reopened: a dead kept session was replaced already.
        clear: why the target to try next is tried in clear text, empty if it is not.
        deferral: results of the last temporary failure of a host.
        begun_s: loop time.
    """

    deliver: Deliver
    content: Content
    answer: Callable[[Delivered], None]
    targets: list[Target]
    attempts: list[Attempt] = attrs.field(factory=list)
    at: int = 0
    reopened: bool = False
    clear: str = ""
    deferral: list[RcptResult] | None = None
    begun_s: float = attrs.field(factory=trio.current_time)

    def transaction(self, wishes: Wishes) -> Transaction:
        """Return what the machine has to know."""
        envelope = self.deliver.envelope
        return Transaction(
            sender=envelope.sender,
            rcpts=envelope.rcpts,
            size=self.content.size,
            body8=self.content.body8,
            ret=envelope.ret,
            envid=envelope.envid,
            utf8=envelope.smtputf8,
            utf8_header=self.content.utf8_header,
            policies=wishes.policies,
            login=wishes.login,
        )

    def more(self, longest_s: float) -> bool:
        """Tell whether another address may be tried, so many seconds after the first at most."""
        count = min(len(self.targets), MAX_ADDRESSES)
        return self.at < count and trio.current_time() - self.begun_s < longest_s

    @property
    def ends_s(self) -> float:
        """Loop time at which it is given up."""
        return self.begun_s + LONGEST_S

    def verdict(self, outcome: Outcome) -> list[RcptResult]:
        """Return the outcome as the result of every recipient."""
        return [outcome.for_rcpt(rcpt.idx) for rcpt in self.deliver.envelope.rcpts]
