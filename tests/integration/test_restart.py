"""Restarts under load: nobody is refused a connection, nothing is lost; storms are survived."""

import socket
import threading

import pytest

from tests.load import Load
from tests.sink import Sink
from tests.system import DEADLINE_S, wait_for


class Connecting:
    """Connects again and again and counts who is refused; a reset later is no refusal."""

    def __init__(self, port):
        self.port = port
        self.refused = self.connected = 0
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while not self.stopping.is_set():
            try:
                with socket.create_connection(("127.0.0.1", self.port), DEADLINE_S):
                    self.connected += 1
            except ConnectionRefusedError:
                self.refused += 1
            except OSError:
                pass  # taken, then dropped with the process that had it
            self.stopping.wait(0.02)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.stopping.set()
        self.thread.join()


@pytest.mark.slow
@pytest.mark.covers("X127", "X156")
def test_a_restart_of_smtps_refuses_no_connection(smx):
    with Sink() as sink:
        system = smx(nexthop=sink.address).start()
        with Connecting(system.port) as clients, Load(system.port, clients=3) as load:
            for _ in range(2):
                before = len(load.acked)
                wait_for("mail to flow", lambda: len(load.acked) > before + 5)  # noqa: B023
                old = system.kill("smtps")
                seen = clients.connected
                wait_for("connections without a server", lambda: clients.connected > seen + 20)  # noqa: B023
                wait_for("the restart", lambda: old not in [p for _, p in system.pids("smtps")])  # noqa: B023
            before = len(load.acked)
            wait_for("mail to flow again", lambda: len(load.acked) > before + 5)
        assert clients.refused == 0
        wait_for("all of it", lambda: len(sink.messages) >= len(load.acked))


def flushed(system):
    """Try deferred mail now; right after a crash the deferred queue may not be open yet."""
    system.ctl("flush", check=False)
    return True


@pytest.mark.slow
@pytest.mark.covers("X010", "X018", "X156")
def test_a_storm_of_deaths_ends_with_a_system_that_works(smx):
    """Every daemon dies twice in turn, as soon as it is back; then mail goes through."""
    with Sink() as sink:
        system = smx(nexthop=sink.address).start()
        with Load(system.port, clients=2) as load:
            for name in ("smtps", "smtpc", "smar", "qmgr"):
                for _ in range(2):
                    old = system.kill(name)
                    wait_for(
                        "its next start",
                        lambda: any(pid != old for _, pid in system.pids(name)),  # noqa: B023
                        120,
                    )
            before = len(load.acked)
            wait_for("mail to flow again", lambda: len(load.acked) > before + 5, 120)
        lines = [line for line in system.mcp_lines() if " child_died service=smtpc" in line]
        pauses = [float(line.rsplit("restart_in_s=")[1]) for line in lines]
        assert pauses[:2] == [1.0, 2.0]
        wait_for("a greeting", system.greets)
        wait_for(
            "every acknowledged message",
            lambda: flushed(system) and len(sink.messages) >= len(load.acked),
            120,
        )
