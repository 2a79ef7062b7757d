"""Entries on their way into the IBDB.

Kind: shell.
Source: architecture.md.
"""

from collections import deque
from collections.abc import Callable, Iterable

import attrs

from libsmx.errors import StoreError
from qmgr.ibdb import OVERHEAD, encode_entry, seal_record
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


def seal_queued(waiting: deque[Pending], segment: Segment) -> tuple[list[Pending], bytes]:
    """Take from a queue what still fits into a segment; return it and the bytes to append."""
    fitting: list[Pending] = []
    records: list[bytes] = []
    at = segment.end
    while waiting and at + len(waiting[0].payload) + OVERHEAD <= segment.size:
        pending = waiting.popleft()
        pending.segment = segment
        record = seal_record(pending.payload, segment.number, at, segment.synced)
        at += len(record)
        fitting.append(pending)
        records.append(record)
    segment.pending += len(fitting)
    return fitting, b"".join(records)


def segments_of(records: list[Pending]) -> list[Segment]:
    """Return the segments that hold these records, in the order of writing."""
    first, last = records[0].segment, records[-1].segment
    if first is last and first is not None:
        return [first]
    return list(dict.fromkeys(p.segment for p in records if p.segment is not None))


def part(unsure: Iterable[Pending]) -> tuple[list[Pending], list[Pending]]:
    """Return the records of a lost segment that are refused, and those to be written again.

    The latter end with a note that closes the transactions of the former: their records may be
    on disk although nobody was told so.
    """
    refused: list[Pending] = []
    carried: list[Pending] = []
    for pending in unsure:
        (refused if pending.refusable else carried).append(pending)
        if pending.segment is not None:
            pending.segment.pending -= 1
    closed = [
        Closed(envelope.ta_id, [rcpt.idx for rcpt in envelope.rcpts], DISCARDED)
        for pending in refused
        for envelope in pending.entry.new
    ]
    if closed:
        carried.append(Pending(Entry(closed=closed), None, urgent=False))
    return refused, carried
