"""Several SMTP client processes: the load is shared, and the work of a dead one is done again."""

import contextlib
import os
import re
import signal
import threading

import pytest

from tests.sink import Sink
from tests.system import wait_for

pytestmark = pytest.mark.slow


class Gate:
    """A next hop's reply to the end of data that waits until it is let through."""

    def __init__(self):
        self.open = threading.Event()
        self.waiting = 0

    def __call__(self, _):
        self.waiting += 1
        self.open.wait(120)
        self.waiting -= 1


@contextlib.contextmanager
def hops(count):
    """That many next hops and the mailertable that leads to them."""
    gates = [Gate() for _ in range(count)]
    with contextlib.ExitStack() as stack:
        sinks = [stack.enter_context(Sink(replies={"DOT": gate})) for gate in gates]
        stack.callback(lambda: [gate.open.set() for gate in gates])
        mt = "".join(
            f"d{index}.example {sink.port}^esmtp:[127.0.0.1]\n" for index, sink in enumerate(sinks)
        )
        yield sinks, gates, mt


def carriers(system):
    """Recipient -> pid of the process that delivered it."""
    found = {}
    for line in system.log("smtpc"):
        match = re.search(r"smtpc\[(\d+)\]: rcpt_delivered ta=\S+ rcpt=(\S+)", line)
        if match:
            found[match[2]] = int(match[1])
    return found


def opened_by(system):
    """Pid of the process that opened the first delivery session."""
    lines = [line for line in system.log("smtpc") if "da_session_opened" in line]
    return int(re.search(r"smtpc\[(\d+)\]", lines[0])[1]) if lines else None


@pytest.mark.covers("X436")
def test_four_processes_share_the_load(smx):
    with hops(4) as (sinks, gates, mt):
        system = smx(mt=mt, smtpc_processes=4).start()
        wait_for("all processes", lambda: system.status()["smtpc_processes"] == 4)
        rcpts = [f"a@d{index}.example" for index in range(4)]
        system.send(rcpts=rcpts)
        wait_for("four deliveries", lambda: sum(gate.waiting for gate in gates) == 4)
        for gate in gates:
            gate.open.set()
        system.wait_empty()
        pids = wait_for("four results", lambda: len(carriers(system)) == 4 and carriers(system))
        assert set(pids) == set(rcpts)
        assert len(set(pids.values())) == 4
        assert [len(sink.messages) for sink in sinks] == [1] * 4


@pytest.mark.covers("X436")
def test_the_work_of_a_dead_process_is_done_by_another_at_once(smx):
    with hops(1) as ((sink,), (gate,), mt):
        options = {"smtpc": "log_level = 10;"}
        system = smx(mt=mt, smtpc_processes=2, options=options).start()
        wait_for("both processes", lambda: system.status()["smtpc_processes"] == 2)
        system.send(rcpts=["a@d0.example"])
        wait_for("a delivery", lambda: gate.waiting == 1)
        owner = wait_for("a line about its session", lambda: opened_by(system))
        os.kill(owner, signal.SIGKILL)
        # the queue manager sees the end of the channel and hands the recipient out again
        wait_for("another try", lambda: gate.waiting == 2 or sink.sessions >= 2)
        gate.open.set()
        system.wait_empty()
        (pid,) = wait_for("the result", lambda: list(carriers(system).values()))
        assert pid != owner
