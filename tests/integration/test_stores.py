"""The stores under real processes: segments come and go, also while a destination hangs."""

import os
import shutil
import subprocess
import threading

import pytest

from tests.sink import Sink
from tests.system import free_port, wait_for

LONG = "x" * 50 + "." + "y" * 60 + "." + "z" * 60


def numbers(system):
    """Numbers of the IBDB segments that exist."""
    return sorted(int(p.name[:12]) for p in (system.spool / "ibdb/ibdb").glob("*.ibdb"))


@pytest.mark.covers("X172")
def test_a_hanging_destination_keeps_no_segments_of_the_log(smx):
    gate = threading.Event()
    options = {"qmgr": "IBDB { size = 64KB; }"}
    with Sink() as sink, Sink(replies={"DOT": lambda _: gate.wait(60) and None}) as hanging:
        mt = f"hang.example {hanging.port}^esmtp:[127.0.0.1]\n. {sink.port}^esmtp:[127.0.0.1]\n"
        system = smx(mt=mt, options=options).start()
        system.send(rcpts=["a@hang.example"])
        wait_for("the delivery to hang", lambda: hanging.open == 1)
        most = first = numbers(system)[0]
        for number in range(80):
            rcpts = [f"r{n}@m{number}.{LONG}.example" for n in range(100)]
            system.send(rcpts=rcpts)
            most = max(most, len(numbers(system)))
        wait_for("the oldest segment to go", lambda: numbers(system)[0] > first)
        assert any("rolled_forward" in line for line in system.log("qmgr"))
        assert most > 3
        system.kill("qmgr")  # the record that was written again is what recovery reads
        wait_for("a greeting", system.greets)
        gate.set()

        def delivered():
            system.ctl("flush")
            return not system.queue()

        wait_for("all mail to go", delivered, 120)
        assert any(m.rcpts == ["a@hang.example"] for m in hanging.messages)
        wait_for("the log to shrink", lambda: len(numbers(system)) <= 3)


def smxq_check(system, *words):
    """Run smxq-check; return (exit status, what it printed)."""
    done = subprocess.run(
        [system.programs / "smxq-check", "-f", system.conf, "-d", system.spool, *words],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.mark.covers("X163")
def test_the_deferred_queue_lies_where_base_directory_says(smx):
    system = smx(nexthop=f"127.0.0.1:{free_port()}")
    elsewhere = system.dir / "elsewhere"
    shutil.move(system.spool / "defedb", elsewhere)
    system.options["qmgr"] = f'DEFEDB {{ base_directory = "{elsewhere}"; }}'
    system.write_conf()
    system.start()
    system.send()
    wait_for("the deferral", lambda: system.status()["defedb_rcpts"] == 1)
    assert (elsewhere / "data.mdb").exists()
    assert not (system.spool / "defedb").exists()
    assert system.stop() == 0
    assert smxq_check(system)[0] == 0


def test_smxq_check_tells_and_repairs_what_does_not_fit(smx):
    address = f"127.0.0.1:{free_port()}"
    system = smx(nexthop=address).start()
    system.send(rcpts=["a@one.example"])
    system.send(rcpts=["b@two.example"])
    wait_for("the deferral", lambda: system.status()["defedb_rcpts"] == 2)
    assert smxq_check(system)[0] == 0
    assert "0 inconsistencies" in system.ctl("verify")
    assert smxq_check(system, "-r")[0] == os.EX_TEMPFAIL
    gone, stays = system.contents()
    gone.unlink()
    status, text = smxq_check(system)
    assert (status, gone.name in text, stays.name in text) == (os.EX_DATAERR, True, False)
    assert system.stop() == 0
    status, text = smxq_check(system, "-r")
    assert status == 0, text
    assert (system.spool / "lost+found" / f"{gone.name}.json").exists()
    with Sink(port=int(address.rsplit(":", 1)[1])) as sink:
        system.start()
        system.ctl("flush")
        sink.wait(1)
        system.wait_empty()
        assert system.status()["defedb_rcpts"] == 0
