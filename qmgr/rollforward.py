"""Roll-forward: what holds old IBDB segments leaves them, so that the log stays short.

Kind: core.

Recipients that wait go to the DEFEDB. A transaction under delivery cannot: its opening record
is written again at the end of the log, with the recipients that are still open, and the old
segment is free. One hanging destination so never keeps the log of everybody's mail.
Source: architecture.md; SPEC row X172.
"""

from collections import deque
from collections.abc import Callable, Sequence
from itertools import chain

import attrs

from libsmx.envelope import Envelope
from qmgr import events
from qmgr.aq import Aq
from qmgr.closing import Closing
from qmgr.effects import Note
from qmgr.iqdb import Iqdb
from qmgr.records import Entry
from qmgr.ta import Rcpt, State, Tas, Transaction

Held = Sequence[tuple[Envelope, Sequence[int]]]
Recorder = Callable[..., None]


@attrs.define(eq=False)
class RollForward:
    """See the module.

    Args:
        tas, iqdb, aq, closing: the queue's parts.
        record: logs an event.
    """

    tas: Tas
    iqdb: Iqdb
    aq: Aq
    closing: Closing
    record: Recorder

    def free(self, next_try_at: float, held: Held) -> list[Note]:
        """Move what holds old segments; the notes must be written to the IBDB.

        Args:
            next_try_at: when recipients that go to the DEFEDB are tried, wall clock.
            held: transactions in the old segments and their open recipients.
        """
        tas = [ta for envelope, _ in held if (ta := self.tas.ibdb.get(envelope.ta_id))]
        moved = self._defer([rcpt for ta in tas for rcpt in ta.rcpts.values()], next_try_at)
        notes = [note for ta in tas if (note := _log_again(ta))]
        if moved or notes:
            again = sum(len(note.entry.new[0].rcpts) for note in notes)
            self.record(events.ROLLED_FORWARD, rcpts=moved, again=again)
        return notes

    def _defer(self, holders: list[Rcpt], next_try_at: float) -> int:
        """Move those that wait to the DEFEDB; return how many."""
        gone = [rcpt for rcpt in holders if rcpt.state in (State.ROUTING, State.WAITING)]
        held = set(holders)
        incoming = [rcpt for rcpt in self.iqdb.waiting if rcpt in held]
        if incoming:
            self.iqdb.waiting = deque(r for r in self.iqdb.waiting if r not in held)
            self.iqdb.spilling += len(incoming)
        if gone:
            left = set(gone)
            for dest in list(self.aq.destinations.values()):
                dest.remove(left)
        for rcpt in chain(gone, incoming):
            if rcpt.state is State.ROUTING:
                self.aq.routing -= 1
            self.closing.postpone(rcpt, next_try_at, text=rcpt.error)
        return len(gone) + len(incoming)


def _log_again(ta: Transaction) -> Note | None:
    """Return the record that opens a transaction under delivery anew.

    Not while one of its recipients is closing: a record that closes it may stand before this
    one in the log, and would then close nothing.
    """
    rcpts = list(ta.rcpts.values())
    if not rcpts or any(rcpt.state is not State.DELIVERING for rcpt in rcpts):
        return None
    envelope = attrs.evolve(ta.envelope, rcpts=[rcpt.recipient for rcpt in rcpts])
    return Note(Entry(new=[envelope]), [], [])
