"""A host that is down is remembered: the whole system probes it, whatever mail waits."""

import time

import pytest

from tests.sink import Sink
from tests.system import wait_for

INITIAL = 4
MESSAGES = 60
RETRY_S = 2


@pytest.mark.covers("X186", "X187", "X196")
def test_a_dead_host_gets_one_connection_at_a_time_not_one_a_message(smx):
    tried, dead = [], True

    def greet(_):
        tried.append(time.monotonic())
        return "421 4.3.2 closed" if dead else None

    with Sink(replies={"CONNECT": greet}) as sink:
        options = {
            "qmgr": f"retry_min_delay = {RETRY_S}s; retry_max_delay = 3s;"
            f"smtpc {{ initial_connections = {INITIAL}; }}"
        }
        system = smx(nexthop=f"127.0.0.1:{sink.port}", options=options).start()
        for number in range(MESSAGES):
            system.send(rcpts=[f"u{number}@dead.example"])
        wait_for("three retries", lambda: len(tried) >= INITIAL + 3)
        dead = False
        sink.wait(MESSAGES)
        begun = [at for at in tried if at - tried[0] < RETRY_S / 2]
        assert len(begun) <= INITIAL
        probes = tried[len(begun) : len(begun) + 2]
        assert probes[1] - probes[0] >= RETRY_S / 2
        system.wait_empty()
