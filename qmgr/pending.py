"""Entries on their way into the IBDB.

Kind: shell.
Source: architecture.md.
"""

from collections.abc import Callable, Iterable

import attrs

from libsmx.errors import StoreError
from qmgr.ibdb import encode_entry
from qmgr.records import DISCARDED, Closed, Entry
from qmgr.segment import Segment

OnDone = Callable[[StoreError | None], None]


@attrs.define(eq=False)
class Pending:
    """An entry that is not certain yet, and who waits for it."""

    entry: Entry
    on_done: OnDone | None
    urgent: bool
    payload: bytes = attrs.field(init=False)
    segment: Segment | None = None
    """Where it was written last."""

    def __attrs_post_init__(self) -> None:
        self.payload = encode_entry(self.entry)

    @property
    def refusable(self) -> bool:
        """Nothing has happened yet that the entry tells of."""
        return self.urgent and not self.entry.closed

    def tell(self, error: StoreError | None) -> None:
        """Answer who waits."""
        if self.on_done is not None:
            self.on_done(error)


def segments_of(records: list[Pending]) -> list[Segment]:
    """Return the segments that hold these records, in the order of writing."""
    first, last = records[0].segment, records[-1].segment
    if first is last and first is not None:
        return [first]
    return list(dict.fromkeys(p.segment for p in records if p.segment is not None))


def discard(refused: Iterable[Pending]) -> Pending | None:
    """Return a note that closes the transactions of refused commits, None if there are none.

    Their records may be on disk although nobody was told so.
    """
    closed = [
        Closed(envelope.ta_id, [rcpt.idx for rcpt in envelope.rcpts], DISCARDED)
        for pending in refused
        for envelope in pending.entry.new
    ]
    return Pending(Entry(closed=closed), None, urgent=False) if closed else None
