"""Invariants I5 and I6: one destination costs only its own mail, and limits hold exactly."""

import smtplib
import socket
import threading

import pytest

from tests.load import Load
from tests.sink import Sink
from tests.system import free_port, wait_for


def connect(system):
    """Connect and return (socket, first line)."""
    sock = socket.create_connection(("127.0.0.1", system.port), 60)
    return sock, sock.makefile("rb").readline()


@pytest.mark.covers("X192", "X197")
def test_open_sessions_are_limited_over_all_servers(smx):
    options = {"qmgr": "smtps { max_connections = 3; max_connection_rate = 1000; }"}
    system = smx(mt="", options=options, smtps_processes=2).start()
    wait_for("the probe's session to end", lambda: system.status()["sessions"] == 0)
    held = [connect(system) for _ in range(3)]
    assert all(line.startswith(b"220") for _, line in held)
    for _ in range(3):
        refused, line = connect(system)
        assert line[:3] in {b"421", b"450"}
        refused.close()
    held.pop()[0].close()
    wait_for("room", lambda: system.status()["sessions"] == 2)
    held.append(connect(system))
    assert held[-1][1].startswith(b"220")
    for sock, _ in held:
        sock.close()


@pytest.mark.covers("X191")
def test_the_connection_rate_is_limited(smx):
    options = {"qmgr": "smtps { max_connection_rate = 8; }"}
    system = smx(mt="", options=options).start()
    used = system.status()["sessions_granted"]
    lines = []
    for _ in range(12):
        sock, line = connect(system)
        sock.close()
        lines.append(line[:3])
    assert lines == [b"220"] * (8 - used) + [lines[-1]] * (4 + used)
    assert lines[-1] in {b"421", b"450"}


@pytest.mark.slow
def test_a_dead_destination_does_not_delay_another(smx):
    dead = socket.socket()
    dead.bind(("127.0.0.1", 0))
    dead.listen(0)  # takes a connection or two and never answers
    with Sink() as sink:
        mt = (
            f"dead.example {dead.getsockname()[1]}^esmtp:[127.0.0.1]\n"
            f"gone.example {free_port()}^esmtp:[127.0.0.1]\n"
            f". {sink.port}^esmtp:[127.0.0.1]\n"
        )
        system = smx(mt=mt).start()
        for domain in ("dead", "gone"):
            for _ in range(3):
                system.send(rcpts=[f"r{n}@{domain}.example" for n in range(100)])
        for number in range(50):
            system.send(rcpts=[f"good{number}@fine.example"])
        sink.wait(50)
    dead.close()


@pytest.mark.covers("X188")
def test_concurrency_to_a_host_is_limited(smx):
    gate = threading.Event()

    def dot(_):
        gate.wait(30)

    with Sink(replies={"DOT": dot}) as sink:
        options = {"qmgr": "smtpc { initial_connections = 2; max_connections = 4; }"}
        system = smx(nexthop=sink.address, options=options).start()
        for _ in range(30):
            system.send()
        wait_for("two deliveries", lambda: sink.open == 2)
        assert sink.most_open == 2
        gate.set()
        sink.wait(30)
        assert sink.most_open <= 4
        system.wait_empty()


@pytest.mark.covers("X190")
def test_recipients_are_spread_over_transactions(smx):
    with Sink() as sink:
        options = {"qmgr": "smtpc { smtp_max_rcpts_per_transaction = 40; }"}
        system = smx(nexthop=sink.address, options=options).start()
        system.send(rcpts=[f"r{n}@dest.example" for n in range(100)])
        messages = sink.wait(3)
        assert sorted(len(message.rcpts) for message in messages) == [20, 40, 40]
        system.wait_empty()


@pytest.mark.slow
@pytest.mark.covers("X014", "X175")
def test_a_full_queue_refuses_for_now_and_recovers(smx):
    """The active queue holds 60 recipients; more wait on disk, and everything arrives."""
    gate = threading.Event()

    def dot(_):
        gate.wait(60)

    options = {
        "qmgr": "AQ_max_entries = 60; IQDB { max_cache_entries = 100; hash_table_entries = 211; }",
        "smtps": "max_recipients_per_transaction = 50;",
    }
    with Sink(replies={"DOT": dot}) as sink:
        system = smx(nexthop=sink.address, options=options).start()
        with Load(system.port, clients=4, rcpts=5) as load:
            wait_for("more mail than memory holds", lambda: len(load.acked) > 60)
            status = system.status()
        assert status["aq_rcpts"] <= 60
        assert status["iqdb_entries"] <= 100
        gate.set()

        def drained():
            system.ctl("flush")
            return not system.queue()

        wait_for("everything to be delivered", drained, 120)
        got = sum(len(message.rcpts) for message in sink.messages)
        assert got == 5 * len(load.acked)


def test_too_many_recipients_get_452(smx):
    with Sink() as sink:
        options = {"smtps": "max_recipients_per_transaction = 3;"}
        system = smx(nexthop=sink.address, options=options).start()
        with smtplib.SMTP("127.0.0.1", system.port) as client:
            client.ehlo()
            client.mail("a@client.example")
            codes = [client.rcpt(f"r{n}@dest.example")[0] for n in range(5)]
            assert codes == [250, 250, 250, 452, 452]
            assert client.data(b"Subject: x\r\n\r\nhi")[0] == 250
        (message,) = sink.wait(1)
        assert message.rcpts == ["r0@dest.example", "r1@dest.example", "r2@dest.example"]
