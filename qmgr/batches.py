"""Batches: changes of the deferred queue that wait to be written together.

Kind: core.

One batch is on its way at a time; one that could not be written comes again, whole, before the
next, so that the order of changes holds.
Source: architecture.md; SPEC row X015; I2.
"""

from collections.abc import Iterable

from libsmx.envelope import Envelope
from libsmx.errors import Bug
from qmgr.effects import Batch
from qmgr.records import DeferredRcpt
from qmgr.ta import Rcpt


class Batches:
    """See the module."""

    def __init__(self) -> None:
        self._put: dict[str, tuple[Envelope, list[DeferredRcpt]]] = {}
        self._remove: dict[str, list[int]] = {}
        self._rcpts: list[Rcpt] = []
        self._returned: list[str] = []
        self._again: Batch | None = None

    @property
    def wait(self) -> bool:
        """Something must be written."""
        return bool(self._rcpts or self._returned or self._again is not None)

    @property
    def size(self) -> int:
        """Recipients that wait for the next batch."""
        return len(self._rcpts)

    def put(self, rcpt: Rcpt, stored: DeferredRcpt) -> None:
        """Store a recipient, or store it anew."""
        envelope = rcpt.ta.envelope
        self._put.setdefault(envelope.ta_id, (envelope, []))[1].append(stored)
        self._rcpts.append(rcpt)

    def puts(self, ta_id: str) -> bool:
        """Tell whether the next batch stores something of a transaction."""
        return ta_id in self._put

    def put_new(self, made: Iterable[Envelope], now_s: float) -> None:
        """Store transactions that nobody has heard of yet, due at once."""
        for envelope in made:
            ta_id = envelope.ta_id
            self._put[ta_id] = (
                envelope,
                [
                    DeferredRcpt(
                        ta_id=ta_id,
                        idx=rcpt.idx,
                        address=rcpt.address,
                        dest="",
                        tries=0,
                        next_try_at=now_s,
                    )
                    for rcpt in envelope.rcpts
                ],
            )

    def remove(self, rcpt: Rcpt) -> None:
        """Remove a recipient, which is done."""
        self._remove.setdefault(rcpt.ta.envelope.ta_id, []).append(rcpt.idx)
        self._rcpts.append(rcpt)

    def note_returned(self, ta_id: str) -> None:
        """Mark the envelope of a transaction: its sender has the whole message back."""
        self._returned.append(ta_id)

    def take(self) -> Batch | None:
        """Return what must be written; a batch that failed comes first."""
        if self._again is not None:
            batch, self._again = self._again, None
            return batch
        if not self._rcpts and not self._returned:
            return None
        batch = Batch(
            list(self._put.values()), list(self._remove.items()), self._rcpts, self._returned
        )
        self._put, self._remove, self._rcpts, self._returned = {}, {}, [], []
        return batch

    @property
    def failed(self) -> bool:
        """A batch that could not be written waits."""
        return self._again is not None

    def put_back(self, batch: Batch) -> None:
        """Keep a batch that could not be written."""
        if self._again is not None:
            raise Bug("two DEFEDB batches at a time")
        self._again = batch
