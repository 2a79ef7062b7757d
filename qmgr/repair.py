"""Repair of a queue that no queue manager uses: puts right what an inspection found.

Kind: shell.

Never deletes mail: contents without envelope and envelopes without content are moved to the
directory ``lost+found`` of the queue, and a report beside them says what was moved and why.
Source: architecture.md; SPEC rows X013, X015, X052.
"""

import json
import os
import shutil
import time

import msgspec

from libsmx.clock import SystemClock
from libsmx.envelope import Envelope
from libsmx.ids import content_path
from libsmx.log import NullLog
from libsmx.store import Store, Txn
from qmgr import defedb
from qmgr.check import DefedbDefects, next_lease
from qmgr.deferred import Defedb
from qmgr.inspect_spool import Places, Report
from qmgr.segment import sync_directory

LOST = "lost+found"


class LostAndFound:
    """The directory for what cannot be placed; made when something is put there.

    Args:
        path: the directory.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.moved = 0
        self._report = os.path.join(path, time.strftime("report-%Y%m%dT%H%M%SZ", time.gmtime()))

    def put(self, source: str, why: str) -> None:
        """Move a file here."""
        target = self._place(os.path.basename(source))
        shutil.move(source, target)
        self._note(f"{source} -> {target}: {why}")

    def write(self, name: str, data: bytes, why: str) -> None:
        """Write a file here, on disk when this returns."""
        target = self._place(name)
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
        self._note(f"{target}: {why}")

    def _place(self, name: str) -> str:
        """Return a path that is not taken."""
        os.makedirs(self.path, mode=0o700, exist_ok=True)
        target, number = os.path.join(self.path, name), 0
        while os.path.lexists(target):
            number += 1
            target = os.path.join(self.path, f"{name}.{number}")
        return target

    def _note(self, line: str) -> None:
        with open(self._report, "a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
        sync_directory(self.path)
        self.moved += 1


async def repair(places: Places, report: Report, lost: LostAndFound) -> None:
    """Put right what was found; nobody else may use the queue meanwhile.

    Args:
        places: of the queue.
        report: of an inspection a moment ago.
        lost: takes what cannot be placed.

    Raises:
        StoreError, OSError: it could not be finished; nothing is lost, run it again.
    """
    for cdb_id in report.orphans:
        lost.put(places.base + content_path(cdb_id), "no envelope names this content")
    for path, highest in report.leases.items():
        _write_lease(path, next_lease(highest))
    if report.unreadable or report.defedb.findings:
        try:
            await _repair_defedb(places.defedb, report, lost)
        finally:
            _give_back(places.defedb)


def _give_back(directory: str) -> None:
    """Give files that root made in a directory to the directory's owner."""
    info = os.stat(directory)
    if os.geteuid() == 0:
        for entry in os.scandir(directory):
            os.chown(entry.path, info.st_uid, info.st_gid, follow_symlinks=False)


def _write_lease(path: str, until: int) -> None:
    """Replace a lease, owned as before."""
    info = os.stat(path)
    fresh = f"{path}.new"
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, b"%d\n" % until)
        os.fchown(fd, info.st_uid, info.st_gid)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.replace(fresh, path)
    sync_directory(os.path.dirname(path) or ".")


async def _repair_defedb(directory: str, report: Report, lost: LostAndFound) -> None:
    found = report.defedb
    # A file that LMDB dies of is replaced by what can be read of it, as at a start.
    whole = Defedb(directory, NullLog(), SystemClock())
    await whole.open(suspect=report.unreadable)
    await whole.close()
    store = Store(directory, defedb.TABLES)
    await store.open()
    try:
        for envelope in found.lost:
            kept = await store.read(lambda txn, e=envelope: _show(txn, e))  # type: ignore[misc]
            lost.write(f"{envelope.ta_id}.json", kept, "its content is missing")
        await store.write(lambda txn: _put_right(txn, found))
    finally:
        await store.close()


def _show(txn: Txn, envelope: Envelope) -> bytes:
    page, _ = defedb.load_ta(txn, envelope.ta_id)
    rcpts = [msgspec.to_builtins(rcpt) for _, found in page for rcpt in found]
    whole = {"envelope": msgspec.to_builtins(envelope), "recipients": rcpts}
    return json.dumps(whole, indent=1).encode() + b"\n"


def _put_right(txn: Txn, found: DefedbDefects) -> None:
    """Set aside, complete the indexes, count anew: all in one transaction."""
    for table, key in found.damaged:
        if txn.has(table, key):
            defedb.set_aside(txn, table, key)
    for envelope in found.lost:
        page, _ = defedb.load_ta(txn, envelope.ta_id)
        idxs = [rcpt.idx for _, rcpts in page for rcpt in rcpts]
        batch = defedb.DefedbBatch(remove=[(envelope.ta_id, idxs)])
        defedb.apply_batch(txn, batch)
    for table, key in found.stale:
        txn.delete(table, key)
    for table, key in found.missing:
        if txn.has("ta", key[-19:]) if table == "cdb" else txn.has("rcpt", key[-23:]):
            txn.put(table, key, b"")
    txn.put("meta", b"counts", defedb.pack_counts(txn.count("ta"), txn.count("rcpt")))
