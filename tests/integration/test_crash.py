"""Invariants I1, I3 and I7: processes die at any moment and no acknowledged message is lost."""

import collections
import random
import signal
import time

import pytest

from tests.load import Load, numbers
from tests.sink import Sink
from tests.system import wait_for

SEED = 7


def check(load, sink, system, in_flight):
    """Every acknowledged recipient arrived; few twice; nothing that was never sent."""
    load.stop()
    wait_for("a greeting", system.greets)
    system.ctl("flush")
    wait_for(
        "every acknowledged message",
        lambda: load.acked <= {number for number, _ in numbers(list(sink.messages))},
        120,
    )
    flushed_empty(system)
    got = collections.Counter(numbers(sink.messages))
    wanted = {
        (number, f"r{index}@dest.example") for number in load.acked for index in range(load.rcpts)
    }
    allowed = {(n, f"r{index}@dest.example") for n in load.doubtful for index in range(load.rcpts)}
    assert wanted <= set(got)
    assert set(got) <= wanted | allowed
    extra = sum(count - 1 for count in got.values())
    assert extra <= in_flight, f"{extra} duplicates, at most {in_flight} deliveries were in flight"
    assert len(load.acked) > 20, "the load was too small to show anything"


def flushed_empty(system):
    """Wait until the queue is empty, trying deferred mail at once."""

    def empty():
        if not system.queue():
            return True
        system.ctl("flush")
        time.sleep(0.2)
        return False

    wait_for("an empty queue", empty, 120)


@pytest.mark.slow
@pytest.mark.covers("X010", "X013", "X018", "X156")
@pytest.mark.parametrize("victim", ["qmgr", "smtpc", "smtps", "smar"])
def test_a_killed_process_loses_nothing(smx, victim):
    rng = random.Random(f"{SEED}-{victim}")
    with Sink() as sink:
        system = smx(nexthop=sink.address, smtpc_processes=2).start()
        kills = 4
        with Load(system.port, rcpts=2) as load:
            for _ in range(kills):
                before = len(load.acked)
                wait_for("mail to flow", lambda: len(load.acked) > before + 30)  # noqa: B023
                time.sleep(rng.random() * 0.05)
                old = system.kill(victim)
                wait_for("the restart", lambda: old not in [p for _, p in system.pids(victim)])  # noqa: B023
            before = len(load.acked)
            wait_for("mail to flow again", lambda: len(load.acked) > before + 30)
            # A delivery in flight is a transaction of two recipients; at most one a session.
            check(load, sink, system, in_flight=2 * kills * sink.most_open)


@pytest.mark.slow
@pytest.mark.covers("X011", "X018")
def test_all_processes_killed_at_once_lose_nothing(smx):
    rng = random.Random(SEED)
    with Sink() as sink:
        system = smx(nexthop=sink.address).start()
        kills = 3
        with Load(system.port) as load:
            for _ in range(kills):
                before = len(load.acked)
                wait_for("mail to flow", lambda: len(load.acked) > before + 50)  # noqa: B023
                time.sleep(rng.random() * 0.05)
                system.kill_all()
                system.start()
            check(load, sink, system, in_flight=kills * sink.most_open)


@pytest.mark.slow
@pytest.mark.covers("X013")
def test_mail_accepted_without_smtpc_survives_a_kill_of_qmgr(smx):
    with Sink() as sink:
        system = smx(nexthop=sink.address).start()
        pid = system.kill("smtpc", signal.SIGSTOP)
        with Load(system.port) as load:
            wait_for("mail to be accepted", lambda: len(load.acked) > 100)
            system.kill("qmgr")
            wait_for("the restart", lambda: len(load.acked) > 150)
            load.stop()
            if pid in [p for _, p in system.pids("smtpc")]:
                system.kill("smtpc", signal.SIGCONT)
            # What the stopped process had been given is in flight: at most its first window.
            check(load, sink, system, in_flight=10)


@pytest.mark.slow
def test_a_stop_and_start_under_load_loses_and_doubles_nothing(smx):
    with Sink() as sink:
        system = smx(nexthop=sink.address).start()
        with Load(system.port) as load:
            for _ in range(2):
                before = len(load.acked)
                wait_for("mail to flow", lambda: len(load.acked) > before + 50)  # noqa: B023
                assert system.stop() == 0
                system.start()
            check(load, sink, system, in_flight=0)


@pytest.mark.slow
def test_deferred_mail_survives_a_stop_and_drains(smx):
    """Ten thousand recipients wait for a dead next hop, over a restart, and all arrive."""
    with Sink() as sink:
        address = sink.address
    options = {
        "qmgr": "smtpc { smtp_max_rcpts_per_transaction = 100; } retry_min_delay = 1h;"
        " IQDB { max_cache_entries = 20000; hash_table_entries = 40009; }"
    }
    system = smx(nexthop=address, options=options).start()
    with Load(system.port, rcpts=100) as load:
        wait_for("mail to be accepted", lambda: len(load.acked) >= 100, 120)
    count = 100 * len(load.acked)
    wait_for("the deferral", lambda: system.status()["defedb_rcpts"] == count, 120)
    assert system.stop() == 0
    system.start()
    assert system.status()["defedb_rcpts"] == count
    with Sink(port=int(address.rsplit(":", 1)[1])) as sink:
        system.ctl("flush")
        flushed_empty(system)
        got = collections.Counter(numbers(sink.messages))
    assert len(got) == count
    assert set(got.values()) == {1}
