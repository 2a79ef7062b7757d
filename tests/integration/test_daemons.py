"""Options that every daemon has: how much it logs, how long it waits for the others."""

import pytest

from tests.sink import Sink
from tests.system import wait_for

DETAIL = {
    "qmgr": " ta_queued ",
    "smtps": " session_opened ",
    "smtpc": " da_session_opened ",
    "smar": " channel_opened ",
}
"""An event of each daemon that stands above level 9."""


@pytest.mark.covers("X119", "X177", "X244", "X382", "X434")
@pytest.mark.parametrize("name", DETAIL)
def test_a_log_level_holds_for_its_own_daemon(smx, name):
    with Sink() as sink:
        system = smx(nexthop=sink.address, options={name: "log_level = 12;"}).start()
        system.send()
        sink.wait(1)

        def said(daemon):
            return any(DETAIL[daemon] in line for line in system.log(daemon))

        wait_for(f"detail in the log of {name}", lambda: said(name))
        system.wait_empty()
        assert system.stop() == 0  # all logs are written
        assert [daemon for daemon in DETAIL if said(daemon)] == [name]


@pytest.mark.covers("X193")
def test_qmgr_says_that_a_client_is_missing_and_keeps_the_mail(smx):
    with Sink() as sink:
        system = smx(
            nexthop=sink.address, smtpc_processes=0, options={"qmgr": "wait_for_client = 1;"}
        ).start()
        system.send()
        wait_for(
            "the log line",
            lambda: any("no_client role=smtpc" in line for line in system.log("qmgr")),
        )
        assert len(system.queue()) == 1
        system.stop()
        system.processes["smtpc"] = 1
        system.write_conf()
        system.start()
        sink.wait(1)


@pytest.mark.covers("X194")
def test_qmgr_ends_when_the_resolver_does_not_come(smx):
    system = smx(mt="", options={"qmgr": "wait_for_server = 1;"})
    system.processes["smar"] = 0
    system.write_conf()
    system.start(ready=False)
    wait_for(
        "qmgr's end",
        lambda: any("service=qmgr" in line and "exit 69" in line for line in system.mcp_lines()),
    )
    assert any("no connection to smar" in line for line in system.log("qmgr"))


@pytest.mark.covers("X435")
def test_smtpc_ends_when_the_queue_manager_does_not_come(smx):
    system = smx(mt="", options={"smtpc": "wait_for_server = 1;"}, smtps_processes=0)
    system.processes["qmgr"] = 0
    system.write_conf()
    system.start(ready=False)
    wait_for(
        "smtpc's end",
        lambda: any("service=smtpc" in line and "exit 69" in line for line in system.mcp_lines()),
    )
    assert any("no connection to qmgr" in line for line in system.log("smtpc"))
