"""Inspection of a queue: looks into all stores and tells what does not fit together.

Kind: shell.

Reads only. While a queue manager runs, mail moves between the stores during the walk: what
is found once and not again a moment later was on its way.
Source: architecture.md; SPEC rows X013, X015, X052.
"""

import fcntl
import glob
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import attrs

from libsmx.cdb import list_contents
from libsmx.envelope import Envelope
from libsmx.errors import StoreError
from libsmx.ids import content_path
from libsmx.log import NullLog
from libsmx.store_probe import Snapshot
from qmgr.check import DefedbCheck, DefedbDefects, Finding, check_lease, highest_numbers
from qmgr.ibdbrecover import read_log

GRACE_S = 3600.0
"""Younger contents may belong to mail that is being accepted."""
SETTLE_S = 3.0
_DATA = "data.mdb"


@attrs.frozen
class Places:
    """Where everything is.

    Attributes:
        base: of the content database, see libsmx/cdb.py.
        ibdb, defedb: directories of these stores.
        leases: directory of the lease files of message numbers.
    """

    base: str
    ibdb: str
    defedb: str
    leases: str


@attrs.define
class Report:
    """What was found, and what a repair needs to know.

    Attributes:
        orphans: contents that no envelope names.
        leases: lease file -> greatest number in use, where the lease is too low.
        unreadable: the DEFEDB's file is so damaged that it must be rebuilt; it was not walked.
    """

    findings: list[Finding] = attrs.field(factory=list)
    defedb: DefedbDefects = attrs.field(factory=DefedbDefects)
    orphans: list[str] = attrs.field(factory=list)
    leases: dict[str, int] = attrs.field(factory=dict)
    unreadable: bool = False

    @property
    def bad(self) -> list[Finding]:
        """Findings that are no mere notes."""
        return [finding for finding in self.findings if not finding.note]


def is_running(ibdb: str) -> bool:
    """Tell whether a queue manager uses this queue."""
    try:
        fd = os.open(os.path.join(ibdb, "lock"), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def inspect(places: Places, *, live: bool) -> Report:
    """Look into everything; twice while a queue manager runs.

    Args:
        places: of the queue.
        live: a queue manager runs.

    Raises:
        StoreError: this is no queue directory.
        OSError: something cannot be read.
        StartError: the IBDB is of another version.
    """
    report = _look(places, live=live)
    if live and report.findings:
        time.sleep(SETTLE_S)
        again = _look(places, live=live)
        again.findings = [finding for finding in again.findings if finding in report.findings]
        return again
    return report


def _look(places: Places, *, live: bool) -> Report:
    report = Report()
    opened = _look_at_ibdb(places, report)
    named = {envelope.cdb_id for envelope in opened.values()}
    old_s = time.time() - (GRACE_S if live else 0.0)
    if not live:
        report.unreadable = _is_unreadable(places.defedb, report)
    if report.unreadable:
        pass  # who needs which content is not known
    elif os.path.exists(os.path.join(places.defedb, _DATA)):
        with Snapshot(places.defedb, live=live) as snapshot:
            walk = DefedbCheck(snapshot, places.defedb, lambda cdb_id: _exists(places, cdb_id))
            report.defedb = walk.run()
            report.findings += report.defedb.findings
            # Named by an envelope, although the index does not know.
            named |= {key[:19].decode() for table, key in report.defedb.missing if table == "cdb"}
            report.findings += _doubles(opened, snapshot, places)
            report.orphans = list(_orphans(places, named, snapshot, old_s))
    else:
        report.orphans = list(_orphans(places, named, None, old_s))
    for cdb_id in report.orphans:
        path = places.base + content_path(cdb_id)
        report.findings.append(Finding("orphan", cdb_id, path, "no envelope names this content"))
    _look_at_leases(places, report)
    return report


def _is_unreadable(directory: str, report: Report) -> bool:
    """Have the DEFEDB's file read by a child, which may die of it."""
    if not os.path.exists(os.path.join(directory, _DATA)):
        return False
    done = subprocess.run(
        [sys.executable, "-I", "-m", "libsmx.store_probe", "check", directory],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
    )  # fmt: skip
    text = done.stdout.strip()
    if done.returncode == 0 or "do not verify" in text:
        return False  # single values: the walk finds them
    how = f"reading it died of signal {-done.returncode}" if done.returncode < 0 else text
    report.findings.append(Finding("damaged", "-", os.path.join(directory, _DATA), how))
    return True


def _exists(places: Places, cdb_id: str) -> bool:
    return os.path.exists(places.base + content_path(cdb_id))


def _look_at_ibdb(places: Places, report: Report) -> dict[str, Envelope]:
    """Return the open transactions of the log by id."""
    if not os.path.isdir(places.ibdb):
        raise StoreError(f"{places.ibdb}: no such directory; is this the queue directory?")
    log = read_log(places.ibdb, NullLog())
    for problem in log.problems:
        name = problem.partition(":")[0]
        path = os.path.join(places.ibdb, name)
        # What a crash cut off was never acknowledged.
        note = path not in log.damaged
        report.findings.append(Finding("log", name, path, problem, note))
    for name in sorted(glob.glob("*.damaged", root_dir=places.ibdb)):
        path = os.path.join(places.ibdb, name)
        report.findings.append(Finding("log", name, path, "was kept by an earlier start", True))
    for envelope, _ in log.open:
        if envelope.dsn is None and not _exists(places, envelope.cdb_id):
            text = f"content {envelope.cdb_id} is missing; the next start defers the envelope"
            report.findings.append(Finding("no_content", envelope.ta_id, places.ibdb, text))
    return {envelope.ta_id: envelope for envelope, _ in log.open}


def _doubles(opened: dict[str, Envelope], snapshot: Snapshot, places: Places) -> Iterator[Finding]:
    for ta_id in opened:
        if snapshot.has("ta", ta_id.encode()):
            text = "stands in the IBDB too; for recipients in both the DEFEDB counts"
            yield Finding("double", ta_id, places.defedb, text, note=True)


def _orphans(
    places: Places, named: set[str], snapshot: Snapshot | None, old_s: float
) -> Iterator[str]:
    for cdb_id, changed_at in list_contents(places.base):
        if changed_at >= old_s or cdb_id in named:
            continue
        if snapshot is None or not snapshot.starts("cdb", cdb_id.encode()):
            yield cdb_id


def _look_at_leases(places: Places, report: Report) -> None:
    highest = highest_numbers(cdb_id for cdb_id, _ in list_contents(places.base))
    for path in sorted(glob.glob(os.path.join(glob.escape(places.leases), "lease.*"))):
        server = path[-2:]
        if server not in highest:
            continue
        with open(path, encoding="ascii", errors="replace") as file:
            text = file.read(64).strip()
        until = int(text) if text.isascii() and text.isdigit() else None
        finding = check_lease(path, until, highest[server])
        if finding is not None:
            report.findings.append(finding)
            report.leases[path] = highest[server]
