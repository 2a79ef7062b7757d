"""Services that inherit their sockets, kept running or started by connections."""

import contextlib
import json
import os
import signal
import socket
import stat
from pathlib import Path

import pytest

from mcp.services import MAX_LISTENERS
from tests.mcp.conftest import ROOT, USER


def facts(run, service="foo"):
    return json.loads(run.text(service, "up ")[3:])


def listen(path, **options):
    more = " ".join(f"{key} = {value};" for key, value in options.items())
    return f"listen_socket {{ type = unix; path = {path}; {more} }}"


def ask(bench, path="door"):
    """Connect and return the process id of who answers."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(str(bench.directory / path))
        return int(client.recv(100))


@contextlib.contextmanager
def knock(bench, path="door"):
    """Connect and ask nothing."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(bench.directory / path))
        yield


@pytest.mark.covers("X128", "X134", "X135")
def test_accept_starts_the_process_at_once_and_it_accepts_itself(bench):
    run = bench.start(
        bench.section("foo", "accepts 100", start_action="accept", options=listen("door"))
    )
    seen = facts(run)
    assert {"LISTEN_FDS", "LISTEN_PID"} <= set(seen["env"])
    assert set(seen["env"]) <= {"HOME", "LANG", "LC_CTYPE", "PATH", "TZ"} | {
        "LISTEN_FDS", "LISTEN_PID",
    }  # fmt: skip
    assert seen["names"] == ["door"]
    assert seen["blocking"]
    # 0, 1, 2, the socket, the leash, and the directory that is being listed
    assert seen["fds"] == 6
    run.expect("ready")
    assert ask(bench) == ask(bench) == seen["pid"]
    assert run.stop() == 0
    assert not (bench.directory / "door").exists()


@pytest.mark.covers("X128", "X156")
def test_nobody_is_refused_while_the_process_is_restarted(bench):
    run = bench.start(
        bench.section("foo", "accepts 100", start_action="accept", options=listen("door"))
    )
    first = facts(run)["pid"]
    os.kill(first, signal.SIGKILL)
    run.expect("child_died", service="foo")
    assert ask(bench) == facts(run)["pid"] != first
    assert run.stop() == 0


@pytest.mark.covers("X128")
def test_every_socket_keeps_its_place(bench):
    names = [f"s{number}" for number in range(MAX_LISTENERS)]
    sockets = "\n".join(listen(name) for name in names)
    run = bench.start(bench.section("foo", "accepts 100", start_action="accept", options=sockets))
    seen = facts(run)
    assert seen["names"] == names
    assert ask(bench, names[-1]) == seen["pid"]
    assert run.stop() == 0


@pytest.mark.covers("X129")
def test_nostartaccept_has_no_process_until_somebody_connects(bench):
    run = bench.start(
        bench.section("foo", "accepts 1", start_action="nostartaccept", options=listen("door"))
    )
    run.expect("ready", services="0")
    assert not any("child_started" in line for line in run.seen)
    first = ask(bench)
    assert run.expect("child_started", service="foo")["pid"] == str(first)
    run.expect("child_done", service="foo")
    second = ask(bench)
    assert run.expect("child_started", service="foo")["pid"] == str(second) != str(first)
    run.expect("child_done", service="foo")
    assert run.stop() == 0
    assert sum("child_started" in line for line in run.seen) == 2


@pytest.mark.covers("X129")
def test_program_that_fails_on_demand_is_started_again_after_a_pause_only(bench):
    run = bench.start(
        bench.section("foo", "leave 1", start_action="nostartaccept", options=listen("door"))
    )
    run.expect("ready")
    with knock(bench):
        pauses = [run.expect("child_died", service="foo")["restart_in_s"] for _ in range(2)]
    assert pauses == ["1.000", "2.000"]
    assert run.stop() == 0


@pytest.mark.covers("X147")
def test_min_processes_share_the_sockets_and_are_kept(bench):
    counts = "min_processes = 2; max_processes = 2;"
    run = bench.start(
        bench.section(
            "foo", "accepts 100", start_action="accept", options=f"{listen('door')} {counts}"
        )
    )
    first = facts(run, "foo/0")["pid"]
    os.kill(first, signal.SIGKILL)
    run.expect("child_died", service="foo/0")
    # The other copy answers, or the new one.
    assert ask(bench) != first
    run.expect("child_started", service="foo/0")
    assert run.stop() == 0
    assert sum("child_started" in line for line in run.seen) == 3


@pytest.mark.covers("X148")
def test_connections_that_keep_waiting_start_copies_up_to_max_processes(bench):
    counts = "min_processes = 1; max_processes = 3;"
    run = bench.start(
        bench.section("foo", "busy", start_action="accept", options=f"{listen('door')} {counts}")
    )
    run.expect("child_started", service="foo/0")
    with knock(bench):
        for number in (1, 2):
            run.expect("child_started", service=f"foo/{number}")
    assert run.stop() == 0
    assert sum("child_started" in line for line in run.seen) == 3


@pytest.mark.root
@pytest.mark.skipif(not ROOT, reason="needs root")
@pytest.mark.covers("X136", "X137", "X138", "X140", "X152")
def test_root_mcp_gives_the_socket_its_owner_and_the_process_no_privileges(bench):
    door = listen("door", umask="0117", user=USER, group="daemon")
    run = bench.start(bench.section("foo", "accepts 100", start_action="accept", options=door))
    pid = facts(run)["pid"]
    found = (bench.directory / "door").stat()
    assert stat.S_IMODE(found.st_mode) == 0o660
    assert 0 not in (found.st_uid, found.st_gid)
    status = Path(f"/proc/{pid}/status").read_text()
    assert "NoNewPrivs:\t1" in status
    assert f"Uid:\t{found.st_uid}\t{found.st_uid}\t{found.st_uid}\t{found.st_uid}" in status
    assert run.stop() == 0
