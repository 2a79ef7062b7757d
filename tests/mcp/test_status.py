"""The table of mcp.sh status: from values, and as mcp keeps it while services come and go."""

import json
import os
import signal
from pathlib import Path

import pytest

from libsmx.opttab import ServiceConf
from mcp.copies import Copy, Phase
from mcp.services import make_services
from mcp.status import status_text
from tests.mcp.test_master import facts
from tests.system import wait_for

CONF = ServiceConf(start_action="wait", path="/bin/sleep", arguments=("sleep", "9"))
[SERVICE] = make_services([("foo", None, CONF)])
USELESS = "a restart is useless: read the log, mend it, then mcp.sh restart"
[SLOT] = SERVICE.slots()


def line(**changes):
    return status_text([Copy(SLOT, SERVICE, **changes)], 1000.0, 2000.0).splitlines()[1].split()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"phase": Phase.RUNNING, "pid": 7, "since_s": 940.0},
         "foo running 7 1970-01-01T00:32:20Z 0 -"),
        ({"phase": Phase.RUNNING, "pid": 7, "since_s": 940.0, "ends": 2, "last_end": "exit 70"},
         "foo running 7 1970-01-01T00:32:20Z 2 last end: exit 70"),
        ({"phase": Phase.WAITING, "due_s": 1010.0, "ends": 3, "last_end": "signal SIGKILL"},
         "foo restarting - - 3 signal SIGKILL; next start at 1970-01-01T00:33:30Z"),
        ({"phase": Phase.WAITING, "leaders": {SLOT}}, "foo waiting - - 0 waits for foo"),
        ({"phase": Phase.OFF}, "foo stopped - - 0 -"),
        ({"phase": Phase.OFF, "given_up": True, "last_end": "exit 78"},
         f"foo given-up - - 0 exit 78; {USELESS}"),
        ({"phase": Phase.OFF, "given_up": True, "last_end": "no\nline\x1b"},
         f"foo given-up - - 0 no?line?; {USELESS}"),
    ],
)  # fmt: skip
def test_a_line_says_what_a_copy_does(changes, words):
    assert line(**changes) == words.split()


def table(bench):
    path = Path(bench.directory) / "mcp.pid.status"
    rows = [row.split(None, 5) for row in path.read_text().splitlines()[1:]]
    return {row[0]: row[1:] for row in rows}


@pytest.mark.covers("X156", "X157")
def test_a_service_that_dies_again_and_again_is_shown_with_growing_pauses(bench):
    run = bench.start(bench.section("foo", "leave 1"), bench.section("bar", "stay"))
    pauses = [float(run.expect("child_died", service="foo")["restart_in_s"]) for _ in range(3)]
    assert pauses == [1.0, 2.0, 4.0]

    def resting():
        row = table(bench)["foo"]
        return row if row[0] == "restarting" else None

    _state, pid, _since, ends, remark = wait_for("a pause", resting)
    assert pid == "-"
    assert int(ends) >= 3
    assert remark.startswith("exit 1; next start at ")
    assert table(bench)["bar"][0] == "running"
    assert run.stop() == 0
    assert not (Path(bench.directory) / "mcp.pid.status").exists()


@pytest.mark.covers("X157")
def test_a_service_that_is_given_up_later_is_shown_and_the_others_go_on(bench):
    run = bench.start(bench.section("foo", "stay 78"), bench.section("bar", "stay"))
    pid = facts(run, "foo")["pid"]
    if not any(": ready " in line for line in run.seen):
        run.expect("ready")
    os.kill(pid, signal.SIGINT)
    run.expect("child_given_up", service="foo", status="exit 78")
    wait_for("the table", lambda: table(bench)["foo"][0] == "given-up")
    assert table(bench)["bar"][0] == "running"
    assert run.stop() == 0


@pytest.mark.covers("X479")
def test_limits_of_smx_conf_are_those_of_the_process(bench):
    options = "resource_limits { open_files = 77; memory = 512MB; core_size = 1KB; }"
    run = bench.start(bench.section("foo", "stay", options=options), bench.section("bar", "stay"))
    found = {}
    for _ in range(2):  # whoever comes first
        said = run.expect("child_output")
        name, pid = said["service"], json.loads(said["text"].removeprefix("up "))["pid"]
        text = Path(f"/proc/{pid}/limits").read_text()
        found[name] = {row[:26].strip(): row[26:].split()[:2] for row in text.splitlines()}
    assert found["foo"]["Max open files"] == ["77", "77"]
    assert found["foo"]["Max data size"] == [str(512 << 20)] * 2
    assert found["foo"]["Max core file size"] == ["1024", "1024"]
    assert found["bar"]["Max core file size"] == ["0", "0"]
    assert run.stop() == 0


@pytest.mark.covers("X479")
def test_a_limit_that_mcp_may_not_give_is_cut_and_said(bench):
    options = "resource_limits { open_files = 4000; }"
    setpriv = () if os.geteuid() else ("setpriv", "--bounding-set=-sys_resource")
    prefix = (*setpriv, "sh", "-c", 'ulimit -n 500; exec "$@"', "sh")
    run = bench.start(bench.section("foo", "stay", options=options), prefix=prefix)
    assert run.expect("limits_cut", service="foo")["limits"] == "open_files 4000 to 500"
    text = Path(f"/proc/{facts(run, 'foo')['pid']}/limits").read_text()
    assert any(row.split()[:4] == ["Max", "open", "files", "500"] for row in text.splitlines())
    assert run.stop() == 0
