"""The numbers of the running system, over the control socket."""

import json

import pytest

from tests.sink import Sink
from tests.system import wait_for


def numbers(system, *words):
    rows = [json.loads(line) for line in system.ctl("stats", "--json", *words).splitlines()]
    return {(row["daemon"], row["process"], row["name"]): row for row in rows}


@pytest.mark.slow
@pytest.mark.covers("X477")
def test_every_daemon_tells_its_numbers_and_a_restart_does_not_lower_them(smx):
    with Sink() as sink:
        system = smx(nexthop=sink.address, smtpc_processes=2).start()
        system.send(rcpts=("a@dest.example", "b@dest.example"))
        system.send()

        def value(daemon, name):
            row = numbers(system).get((daemon, "all", name))
            return row["value"] if row else -1

        wait_for("accepted mail", lambda: value("smtps", "messages_accepted") == 2)
        assert value("smtps", "recipients_accepted") == 3
        assert value("smtps", "bytes_accepted") > 0
        wait_for("deliveries", lambda: value("smtpc", "recipients_delivered") == 3)
        wait_for("the resolver", lambda: value("smar", "memory") > 0)
        found = numbers(system)
        assert found["qmgr", "all", "accepted"]["unit"] == "transactions"
        assert all(row["meaning"] for row in found.values() if row["daemon"] != "qmgr")
        each = numbers(system, "--each")
        assert {key[1] for key in each if key[0] == "smtpc"} >= {"0", "1"}
        old = system.kill("smtps")
        wait_for("the restart", lambda: old not in [p for _, p in system.pids("smtps")])
        wait_for("a greeting", system.greets)
        system.send()
        wait_for("the sum", lambda: value("smtps", "messages_accepted") == 3)
        assert value("smtps", "recipients_accepted") == 4


def test_top_shows_pictures_without_a_terminal(smx):
    with Sink() as sink:
        system = smx(nexthop=sink.address).start()
        system.send()
        sink.wait(1)
        text = system.ctl("top", "-n", "2", "-i", "0.2")
    assert text.count("smx: ") == 2
    assert text.count("qmgr/0") == 2
    assert "per second: accepted" in text
    assert "\x1b" not in text
