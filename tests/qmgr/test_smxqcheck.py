"""smxq-check: every kind of inconsistency is found, told, and repaired without losing mail."""

import contextlib
import fcntl
import io
import json
import os

import pytest
import trio

from libsmx.cdb import DIRECTORIES
from libsmx.clock import FakeClock, SystemClock
from libsmx.errors import EX_DATAERR, EX_IOERR, EX_OK, EX_TEMPFAIL, EX_USAGE
from libsmx.ids import content_path
from libsmx.log import NullLog
from libsmx.store import Store
from qmgr import defedb, inspect_spool
from qmgr.defedb import rcpt_key
from qmgr.deferred import Defedb
from qmgr.ibdblog import Ibdb
from qmgr.records import Entry
from qmgr.smxqcheck import main
from tests.qmgr.test_defedb import make_envelope, make_rcpt, putting, ta_id

NOBODY = lambda ta_id, idx: False  # noqa: E731


class Spool:
    """A queue directory with two deferred messages and one in the log, all whole."""

    def __init__(self, directory):
        self.dir = directory
        os.chdir(directory)
        for name in (*DIRECTORIES, "ibdb/ibdb", "defedb", "smtps"):
            (directory / name).mkdir(parents=True)
        (directory / "smx.conf").write_text("")
        for number in (1, 2, 3):
            (directory / content_path(ta_id(number))).write_text("mail\r\n")
        (directory / "smtps/lease.00").write_text("4096\n")
        trio.run(self.fill)

    async def fill(self):
        store = Defedb("defedb", NullLog(), FakeClock())
        await store.open()
        await store.apply(putting(make_rcpt(1), make_rcpt(1, 1), make_rcpt(2)))
        await store.close()
        log = Ibdb(
            "ibdb/ibdb", size=1 << 16, max_open_tas=1, max_commit_delay_us=1, log=NullLog(),
            clock=SystemClock(),
        )  # fmt: skip
        log.recover()
        await log.start()
        done = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log.run)
            log.commit(Entry(new=[make_envelope(3)]), lambda error: done.set())
            await done.wait()
            await log.close()

    def change(self, function):
        """Change the DEFEDB behind everybody's back."""

        async def run():
            store = Store("defedb", defedb.TABLES)
            await store.open()
            await store.write(function)
            await store.close()

        trio.run(run)

    def check(self, *words):
        """Run the tool; return (exit status, findings)."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            status = main(["-f", "smx.conf", "--json", *words])
        lines = [json.loads(line) for line in out.getvalue().splitlines() if line[0] == "{"]
        return status, {(found["kind"], found["id"]) for found in lines if not found["note"]}

    def due(self):
        """What can be tried now: transaction -> idxs."""

        async def run():
            store = Defedb("defedb", NullLog(), FakeClock())
            await store.open()
            page = await store.due(1e10, 100, NOBODY)
            await store.close()
            return {envelope.ta_id: sorted(r.idx for r in rcpts) for envelope, rcpts in page}

        return trio.run(run)

    def lost(self):
        """Names in lost+found, without reports."""
        place = self.dir / "lost+found"
        names = os.listdir(place) if place.exists() else []
        return sorted(name for name in names if not name.startswith("report-"))


@pytest.fixture
def spool(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Spool(tmp_path)


def raw(table, key, value):
    return lambda txn: txn._txn.put(key, value, db=txn._tables[table])


RCPT = rcpt_key(ta_id(1), 0)
DUE = defedb.due_key(make_rcpt(1))
NAME = defedb.name_prefix("example.net") + RCPT
WHOLE = {ta_id(1): [0, 1], ta_id(2): [0]}


def test_a_whole_queue_has_no_findings(spool):
    assert spool.check() == (EX_OK, set())
    assert spool.check("-r") == (EX_OK, set())
    assert spool.lost() == []


@pytest.mark.parametrize(
    ("change", "found", "left"),
    [
        (lambda t: t.delete("due", DUE), ("index", ta_id(1) + ".0"), WHOLE),
        (lambda t: t.delete("name", NAME), ("index", ta_id(1) + ".0"), WHOLE),
        (lambda t: t.put("due", b"\0" * 8 + RCPT, b""), ("stale", ta_id(1) + ".0"), WHOLE),
        (lambda t: t.put("name", b"\0" * 16 + RCPT, b""), ("stale", ta_id(1) + ".0"), WHOLE),
        (
            lambda t: t.delete("cdb", (ta_id(1) * 2).encode()),
            ("index", ta_id(1)),
            WHOLE,
        ),
        (
            lambda t: t.put("cdb", (ta_id(9) * 2).encode(), b""),
            ("stale", ta_id(9)),
            WHOLE,
        ),
        (
            lambda t: t.put("meta", b"counts", defedb.pack_counts(7, 7)),
            ("counts", "-"),
            WHOLE,
        ),
        (raw("rcpt", RCPT, b"rubbish"), ("damaged", ta_id(1) + ".0"), WHOLE | {ta_id(1): [1]}),
        (
            raw("ta", ta_id(1).encode(), b"rubbish"),
            ("damaged", ta_id(1)),
            {ta_id(2): [0]},
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_in_the_deferred_queue_is_found_and_put_right(spool, change, found, left):
    spool.change(change)
    status, findings = spool.check()
    assert status == EX_DATAERR
    assert found in findings
    assert spool.check("-r")[0] == EX_OK
    assert spool.check() == (EX_OK, set())
    assert spool.due() == left
    assert (spool.dir / content_path(ta_id(1))).exists(), "damaged mail keeps its content"


def test_an_envelope_without_content_goes_to_lost_and_found(spool):
    (spool.dir / content_path(ta_id(1))).unlink()
    assert spool.check() == (EX_DATAERR, {("no_content", ta_id(1))})
    assert spool.check("-r")[0] == EX_OK
    assert spool.lost() == [ta_id(1) + ".json"]
    kept = json.loads((spool.dir / "lost+found" / f"{ta_id(1)}.json").read_text())
    assert kept["envelope"]["sender"] == "a@example.org"
    assert len(kept["recipients"]) == 2
    assert spool.due() == {ta_id(2): [0]}
    assert (spool.dir / "lost+found").stat().st_mode & 0o777 == 0o700


def test_a_content_without_envelope_goes_to_lost_and_found(spool):
    (spool.dir / content_path(ta_id(5))).write_bytes(b"precious\r\n")
    assert spool.check() == (EX_DATAERR, {("orphan", ta_id(5))})
    assert spool.check("-r")[0] == EX_OK
    assert (spool.dir / "lost+found" / ta_id(5)).read_bytes() == b"precious\r\n"
    reports = list((spool.dir / "lost+found").glob("report-*"))
    assert ta_id(5) in reports[0].read_text()


def test_nothing_in_lost_and_found_is_overwritten(spool):
    for text in ("one", "two"):
        (spool.dir / content_path(ta_id(5))).write_text(text)
        assert spool.check("-r")[0] == EX_OK
    assert spool.lost() == [ta_id(5), ta_id(5) + ".1"]


@pytest.mark.parametrize("text", ["2\n", "rubbish"])
def test_a_lease_below_used_numbers_is_raised(spool, text):
    (spool.dir / "smtps/lease.00").write_text(text)
    status, findings = spool.check()
    assert status == EX_DATAERR
    assert [kind for kind, _ in findings] == ["lease"]
    assert spool.check("-r")[0] == EX_OK
    assert int((spool.dir / "smtps/lease.00").read_text()) > 3


def test_a_database_that_cannot_be_read_is_rebuilt(spool):
    path = spool.dir / "defedb/data.mdb"
    path.write_bytes(path.read_bytes()[: 4096 * 2 + 100])
    status, findings = spool.check()
    assert status == EX_DATAERR
    assert findings == {("damaged", "-")}
    spool.check("-r")
    assert list((spool.dir / "defedb").glob("damaged-*.mdb"))
    assert [kind for kind, _ in spool.check()[1] if kind == "damaged"] == []


def test_damage_in_the_log_is_told(spool):
    (path,) = (spool.dir / "ibdb/ibdb").glob("*1.ibdb")
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(data)
    status, findings = spool.check()
    assert status == EX_DATAERR
    assert ("log", path.name) in findings


def test_while_a_queue_manager_runs_nothing_is_repaired(spool, monkeypatch, capsys):
    monkeypatch.setattr(inspect_spool, "SETTLE_S", 0.0)
    (spool.dir / content_path(ta_id(5))).write_text("being accepted")
    (spool.dir / content_path(ta_id(1))).unlink()
    with open(spool.dir / "ibdb/ibdb/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert spool.check("-r") == (EX_TEMPFAIL, set())
        assert spool.check() == (EX_DATAERR, {("no_content", ta_id(1))})
    assert "stop it" in capsys.readouterr().err


def test_a_place_that_is_no_queue_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smx.conf").write_text("")
    assert main(["-f", "smx.conf"]) == EX_IOERR
    assert "no such directory" in capsys.readouterr().err
    assert main(["--what"]) == EX_USAGE
