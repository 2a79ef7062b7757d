"""Wishes: what an operator wants done with one recipient.

Kind: core.

A recipient under delivery keeps the wish until its attempt has ended, whatever ends it: a
result, the death of the process that delivers it, a host that does not answer. A wish never
undoes a delivery. It is in memory only: the death of the queue manager ends it.
Source: SPEC row X477; architecture.md (I2).
"""

from typing import Protocol

import attrs

from libsmx.wire_control import BOUNCE, HOLD, REDIRECT, RELEASE, REMOVE
from qmgr.ta import Rcpt

KEEP = frozenset({HOLD, REDIRECT})
"""Wishes for a recipient that an attempt refuses for good: it is not returned."""


class Verdicts(Protocol):
    """What can become of a recipient; qmgr/closing.py does it."""

    def discard(self, rcpt: Rcpt) -> None:
        """Forget it."""

    def fail(self, rcpt: Rcpt, *, status: str, text: str) -> None:
        """Return it to the sender."""

    def postpone(self, rcpt: Rcpt, next_try_at: float, *, dest: str, text: str, held: bool) -> None:
        """Move it to the DEFEDB."""


def obey(verdicts: Verdicts, rcpt: Rcpt, now_s: float) -> None:
    """Do what an operator wants with a recipient that is not under delivery.

    Args:
        verdicts: carries it out.
        rcpt: its ``wish`` says what.
        now_s: wall clock.
    """
    wish, rcpt.wish = rcpt.wish, ""
    if wish == REMOVE:
        verdicts.discard(rcpt)
        return
    if wish == BOUNCE:
        last = f"; last error: {rcpt.error}" if rcpt.error else ""
        verdicts.fail(rcpt, status="5.7.0", text=f"Returned by the postmaster{last}")
        return
    if wish == REDIRECT:
        rcpt.recipient = attrs.evolve(rcpt.recipient, address=rcpt.redirect)
        rcpt.redirected = rcpt.ta.redirected = True
        rcpt.dest = ""
    if wish not in (HOLD, RELEASE):
        rcpt.tries = 0
    verdicts.postpone(rcpt, now_s, dest=rcpt.dest, text=rcpt.error, held=wish == HOLD)
