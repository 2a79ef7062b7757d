"""Limits of addresses and nets, from the map and from the command line, in the whole system."""

import signal
import socket
import subprocess
import threading

import pytest

from tests.load import Load
from tests.sink import Sink
from tests.system import wait_for


def greeting(system, source="127.0.0.1"):
    """Connect from an address and return (socket, code)."""
    sock = socket.create_connection(("127.0.0.1", system.port), 30, source_address=(source, 0))
    return sock, sock.makefile("rb").readline()[:3]


def codes(system, count, source="127.0.0.1"):
    """Connect that often, one after another, and return the codes of the greetings."""
    found = []
    for _ in range(count):
        sock, code = greeting(system, source)
        sock.close()
        found.append(code)
    return found


def make_map(system, text):
    """Make the map of limits beside smx.conf."""
    subprocess.run(
        [system.programs / "createmap", system.dir / "qmgr_conf.db"],
        input=text, text=True, check=True,
    )  # fmt: skip


def maps_read(system):
    """How often the map was read."""
    return sum("map_read" in line for line in system.log("qmgr"))


@pytest.mark.covers("X106", "X124", "X161", "X198", "X202", "X203", "X204", "X206", "X207")
def test_the_map_limits_single_clients_and_is_read_again_on_sighup(smx):
    system = smx(mt="")
    make_map(system, "icr:127.0.0 4\nicr:127.0.0.1 1000\nicm:127.0.1 1\n")
    system.start()
    assert codes(system, 6, "127.0.0.2") == [b"220"] * 4 + [b"421"] * 2
    assert codes(system, 6, "127.0.0.3") == [b"220"] * 4 + [b"421"] * 2, "each for itself"
    assert codes(system, 10) == [b"220"] * 10, "the most specific entry counts"
    held, code = greeting(system, "127.0.1.1")
    assert code == b"220"
    assert codes(system, 1, "127.0.1.1") == [b"421"]
    make_map(system, "icr:127.0.0 5\n")
    system.kill("qmgr", signal.SIGHUP)
    wait_for("the new map", lambda: maps_read(system) == 2)
    assert codes(system, 2, "127.0.0.2") == [b"220", b"421"]
    assert codes(system, 1, "127.0.1.1") == [b"220"]
    held.close()
    (system.dir / "qmgr_conf.db").write_bytes(b"no map")
    system.kill("qmgr", signal.SIGHUP)
    wait_for("a complaint", lambda: any("map_unread" in line for line in system.log("qmgr")))
    assert codes(system, 1, "127.0.0.2") == [b"421"], "limits stay"


class Gate:
    """Holds every message at a sink until it is opened."""

    def __init__(self):
        self.event = threading.Event()

    def __call__(self, _):
        self.event.wait(60)


@pytest.mark.covers("X187", "X188", "X195", "X199", "X200", "X205")
def test_the_map_sets_first_and_greatest_number_of_connections(smx):
    gate = Gate()
    with Sink(replies={"CONNECT": gate}) as sink:
        system = smx(nexthop=f"127.0.0.1:{sink.port}")
        make_map(system, "oci: 1\noci:127.0.0.1 3\nocm: 90\nocm:127 5\n")
        system.start()
        for number in range(30):
            system.send(rcpts=[f"u{number}@d.example"])
        wait_for("the first sessions", lambda: sink.open >= 3)
        assert system.status()["delivery_sessions_busy"] == 3
        gate.event.set()
        sink.wait(30)
        with Load(system.port, clients=4):
            sink.wait(150)
        assert 3 <= sink.most_open <= 5


@pytest.mark.covers("X079", "X080", "X081", "X082", "X191", "X192")
def test_limits_from_the_command_line(smx):
    gate = Gate()
    with Sink(replies={"CONNECT": gate}) as sink:
        system = smx(nexthop=f"127.0.0.1:{sink.port}", options={"qmgr": "# max_connection\n"})
        text = system.conf.read_text()
        name = f"qmgr -f {system.conf}"
        system.conf.write_text(text.replace(f'"{name}"', f'"{name} -C 2 -c 1 -O R=40 -O O=3"'))
        system.start()
        for number in range(10):
            system.send(rcpts=[f"u{number}@d.example"])
        wait_for("the first session", lambda: sink.open == 1)
        assert system.status()["delivery_sessions_busy"] == 1
        gate.event.set()
        sink.wait(10)
        assert sink.most_open <= 2
        wait_for("the end of all sessions", lambda: system.status()["sessions"] == 0)
        held = [greeting(system) for _ in range(4)]
        assert [code for _, code in held] == [b"220"] * 3 + [b"421"]
        for sock, _ in held:
            sock.close()
        wait_for("the end of all sessions", lambda: system.status()["sessions"] == 0)
        left = 40 - system.status()["sessions_granted"]
        assert codes(system, left + 2) == [b"220"] * left + [b"421"] * 2
