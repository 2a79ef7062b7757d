"""Recovery: what the last run left open goes to the deferred queue, due now.

Kind: shell.

The IBDB of the last run and the DEFEDB are merged by recipient: one that is in both is the
DEFEDB's, because "deferred" is written there first. The old log goes only when all of it is
in the DEFEDB, and nothing of it is tried before, so that recovery may be cut short anywhere
and begun again. New mail is accepted and delivered meanwhile.
Source: architecture.md; SPEC rows X013, X018; I1, I2.
"""

import os
from collections.abc import Iterator, Sequence

import trio

from libsmx.envelope import Envelope
from libsmx.ids import content_path
from libsmx.log import Log
from qmgr import events
from qmgr.defedb import DefedbBatch
from qmgr.deferred import Defedb
from qmgr.ibdblog import Ibdb
from qmgr.ibdbrecover import Recovery
from qmgr.records import DeferredRcpt

BATCH_RCPTS = 1000
_NO_CONTENT = "The content file of this message is missing"

Open = tuple[Envelope, list[int]]


def _batches(opened: Sequence[Open]) -> Iterator[list[Open]]:
    """Cut into parts of about BATCH_RCPTS recipients."""
    part: list[Open] = []
    count = 0
    for envelope, idxs in opened:
        part.append((envelope, idxs))
        count += len(idxs)
        if count >= BATCH_RCPTS:
            yield part
            part, count = [], 0
    if part:
        yield part


def _without_content(base: str, part: Sequence[Open]) -> set[str]:
    """Return the transactions of a part whose content is not there; runs in a thread."""
    return {
        envelope.ta_id
        for envelope, _ in part
        if envelope.dsn is None and not os.path.exists(base + content_path(envelope.cdb_id))
    }


async def merge(
    recovery: Recovery,
    ibdb: Ibdb,
    defedb: Defedb,
    *,
    base: str,
    now_s: float,
    missing_s: float,
    log: Log,
) -> None:
    """Move what the last run left open to the DEFEDB, then forget the old log.

    Args:
        recovery: what Ibdb.recover returned.
        ibdb: began a new segment already.
        defedb: open.
        base: of the content database.
        now_s: wall time; when recovered mail is due.
        missing_s: mail without content is looked at again after so long.
        log: for what was found.

    Raises:
        StoreError: a store failed; call it again, nothing is lost.
    """
    known_rcpts = rcpts = 0
    for problem in recovery.problems:
        log.emit(events.RECOVERY_PROBLEM, problem=problem)
    for part in _batches(recovery.open):
        ids = [(envelope.ta_id, idx) for envelope, idxs in part for idx in idxs]
        known = await defedb.known(ids)
        missing = await trio.to_thread.run_sync(_without_content, base, part)
        put = []
        for envelope, idxs in part:
            lost = envelope.ta_id in missing
            if lost:
                log.emit(events.CONTENT_MISSING, ta=envelope.ta_id, cdb=envelope.cdb_id)
            addresses = {rcpt.idx: rcpt.address for rcpt in envelope.rcpts}
            fresh = [
                DeferredRcpt(
                    ta_id=envelope.ta_id,
                    idx=idx,
                    address=addresses[idx],
                    dest="",
                    tries=0,
                    next_try_at=now_s + missing_s if lost else now_s,
                    error=_NO_CONTENT if lost else "",
                    status="4.3.0" if lost else "",
                    held=bool(envelope.hold),
                )
                for idx in idxs
                if (envelope.ta_id, idx) not in known and idx in addresses
            ]
            if fresh:
                put.append((envelope, fresh))
                rcpts += len(fresh)
        known_rcpts += len(known)
        if put:
            await defedb.apply(DefedbBatch(put=put))
    await ibdb.forget_recovered()
    if recovery.segments:
        log.emit(events.RECOVERED, rcpts=rcpts, known=known_rcpts, segments=recovery.segments)
