"""mcp as a whole, with small children."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from libsmx.errors import EX_CONFIG, EX_STOP, EX_TEMPFAIL, EX_UNAVAILABLE, EX_USAGE
from tests.mcp.conftest import ROOT, USER


def facts(run, service):
    return json.loads(run.text(service, "up ")[3:])


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@pytest.mark.covers("X046", "X126", "X149")
def test_service_runs_in_the_queue_directory_with_nothing_of_the_callers_environment(bench):
    run = bench.start(bench.section("foo", "stay"))
    seen = facts(run, "foo")
    assert seen["cwd"] == str(bench.directory)
    assert set(seen["env"]) <= {"HOME", "LANG", "LC_CTYPE", "PATH", "TZ"}
    assert seen["umask"] == 0o007
    assert len(seen["fds"]) <= 5  # 0, 1, 2, the leash, and the directory that is being listed
    assert run.stop() == 0


@pytest.mark.root
@pytest.mark.skipif(not ROOT, reason="needs root")
@pytest.mark.covers("X140", "X141", "X142", "X152")
def test_service_of_a_root_mcp_has_lost_root_for_good(bench):
    run = bench.start(bench.section("foo", "stay", options="group = daemon;"))
    seen = facts(run, "foo")
    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{seen['pid']}/status").read_text().splitlines()
        if ":\t" in line
    )
    nobody = seen["uid"][0]
    assert status["Uid"].split() == [str(nobody)] * 4
    assert len(set(status["Gid"].split())) == 1
    assert "0" not in [*status["Uid"].split(), *status["Gid"].split(), *status["Groups"].split()]
    assert status["NoNewPrivs"].strip() == "1"
    assert run.stop() == 0


def test_ordinary_user_is_told_that_everything_runs_as_him(bench):
    run = bench.start(bench.section("foo", "stay"))
    run.expect("child_started")
    assert any("unprivileged user=" in line for line in run.seen) != ROOT


@pytest.mark.skipif(not ROOT, reason="needs root")
@pytest.mark.root
@pytest.mark.parametrize(
    ("line", "text"),
    [("", "user is required"), ("user = root;", "is root"), ("user = nosuch0;", "no user")],
)
def test_root_mcp_runs_no_service_as_root_or_nobody_knows_whom(bench, line, text):
    section = f'foo {{ start_action = wait; path = /bin/sleep; arguments = "sleep 9"; {line} }}'
    run = bench.start(section)
    assert run.end() == EX_CONFIG
    assert text in run.seen[-1]


@pytest.mark.covers("X010", "X156")
def test_killed_child_comes_back(bench):
    run = bench.start(bench.section("foo", "stay"))
    first = facts(run, "foo")["pid"]
    os.kill(first, signal.SIGKILL)
    died = run.expect("child_died", service="foo")
    assert (died["status"], died["restart_in_s"]) == ("signal SIGKILL", "1.000")
    assert facts(run, "foo")["pid"] != first


@pytest.mark.covers("X143", "X158")
def test_dependency_is_stopped_and_started_too(bench):
    run = bench.start(
        bench.section("boss", "stay", options="restart_dependencies = {other};"),
        bench.section("other", "stay"),
        bench.section("third", "stay"),
    )
    for _ in range(3):
        run.expect("child_output")
    [pid] = [line.rsplit("pid=")[1] for line in run.seen if "child_started service=boss" in line]
    os.kill(int(pid), signal.SIGKILL)
    run.expect("child_stop", service="other", signal="SIGTERM")
    run.expect("child_stopped", service="other")
    run.expect("child_started", service="boss")
    run.expect("child_started", service="other")
    assert run.stop() == 0
    assert sum("child_started service=third" in line for line in run.seen) == 1


@pytest.mark.covers("X157")
@pytest.mark.parametrize("code", [EX_USAGE, EX_CONFIG])
def test_service_that_cannot_be_configured_ends_the_start(bench, code):
    run = bench.start(bench.section("foo", f"leave {code}"), bench.section("bar", "stay"))
    assert run.end() == code
    assert any("child_given_up" in line for line in run.seen)


def test_service_may_ask_to_stop_everything(bench):
    run = bench.start(bench.section("foo", f"stay {EX_STOP}"), bench.section("bar", "stay"))
    os.kill(facts(run, "foo")["pid"], signal.SIGINT)
    run.expect("child_asks_stop", service="foo")
    assert run.end() == 0


@pytest.mark.covers("X154", "X155")
def test_term_ends_every_child_and_leaves_nothing_behind(bench):
    run = bench.start(*[bench.section(name, "stay") for name in ("qmgr1", "b", "c")])
    pids = [facts(run, "qmgr1")["pid"]]
    run.expect("ready")
    assert run.stop() == 0
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert not (bench.directory / "mcp.pid").exists()
    ended = [line.split("service=")[1].split()[0] for line in run.seen if "child_stopped" in line]
    assert ended == ["b", "c", "qmgr1"]


def test_second_interrupt_hurries(bench):
    run = bench.start(bench.section("a", "stay"), bench.section("b", "deaf"))
    run.text("b", "deaf")
    run.signal(signal.SIGINT)
    run.expect("child_stop", service="b", signal="SIGTERM")
    run.signal(signal.SIGINT)
    assert run.end() == 0
    assert any("too slow" in line for line in run.seen)


def test_hangup_reaches_the_children(bench):
    run = bench.start(bench.section("a", "stay"))
    facts(run, "a")
    run.signal(signal.SIGHUP)
    assert run.text("a", "hup")


@pytest.mark.covers("X078", "X146", "X147")
def test_copies_get_distinct_ids_as_first_argument(bench):
    user = f"user = {USER};" if USER else ""
    run = bench.start(
        f"many {{ start_action = wait; {user} min_processes = 3; max_processes = 3; pass_id = -c;"
        """ path = /bin/sh; arguments = "sh 'x'"; }"""
    )
    # sh -c 0 x: the id is the script, an unknown command: exit 127, which is what we look at
    for _ in range(3):
        run.expect("child_died")
    texts = "".join(run.seen)
    assert all(f"many/{n}" in texts for n in range(3))
    assert all(f"{n}: not found" in texts or f"{n}: command not found" in texts for n in range(3))


def test_flood_of_output_is_bounded(bench):
    run = bench.start(bench.section("foo", "talk 2000"))
    run.expect("output_dropped", service="foo")
    assert run.stop() == 0
    assert sum("child_output" in line for line in run.seen) <= 220


@pytest.mark.covers("X127", "X139", "X131", "X132", "X133")
def test_bound_sockets_are_passed_and_passed_again_after_a_restart(bench):
    ports = [free_port(), free_port()]
    listen = " ".join(
        f"listen_socket {{ type = inet; port = {port}; address = 127.0.0.1; }}" for port in ports
    )
    run = bench.start(
        bench.section(
            "foo", "serve fdsock", start_action="pass", options=f"{listen} pass_fd_socket = fdsock;"
        )
    )
    assert run.expect("sockets_passed", service="foo")["count"] == "2"
    assert run.text("foo", "took") == f"took 2 2 {os.geteuid()}"
    answers = []
    for port in ports:
        with socket.create_connection(("127.0.0.1", port)) as client:
            answers.append(int(client.recv(100)))
    assert answers[0] == answers[1] == facts(run, "foo")["pid"]
    os.kill(answers[0], signal.SIGKILL)
    run.expect("child_died", service="foo")
    # The kernel keeps the queue of the socket: nobody is refused while the service is away.
    with socket.create_connection(("127.0.0.1", ports[0])) as client:
        assert int(client.recv(100)) != answers[0]
    socket.create_connection(("127.0.0.1", ports[1])).close()
    assert run.stop() == 0


@pytest.mark.covers("X134", "X135", "X136")
def test_unix_listen_socket_has_its_umask_and_goes_at_the_stop(bench):
    run = bench.start(
        bench.section(
            "foo",
            "serve fdsock",
            start_action="pass",
            options="listen_socket { type = unix; path = lsock; umask = 0117; }"
            " pass_fd_socket = fdsock;",
        )
    )
    run.text("foo", "took")
    mode = (bench.directory / "lsock").stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o660
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(bench.directory / "lsock"))
        assert client.recv(100)
    assert run.stop() == 0
    assert not (bench.directory / "lsock").exists()


def test_port_in_use_is_one_clear_line(bench):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        run = bench.start(
            bench.section(
                "foo",
                "stay",
                start_action="pass",
                options=f"listen_socket {{ port = {port}; address = 127.0.0.1; }}"
                " pass_fd_socket = s;",
            )
        )
        assert run.end() == EX_UNAVAILABLE
    assert f"127.0.0.1:{port}" in run.seen[-1]
    assert not any("child_started" in line for line in run.seen)
    assert not (bench.directory / "mcp.pid").exists()


@pytest.mark.covers("X102", "X125")
def test_whole_configuration_is_checked_before_anything_is_started(bench):
    run = bench.start(
        bench.section("foo", "stay"),
        "bar { start_action = wait; path = /nonexistent/x; arguments = x; user = nobody; }",
    )
    assert run.end() == EX_CONFIG
    assert "/nonexistent/x" in run.seen[-1]
    run = bench.start(bench.section("foo", "stay", options="start_acton = wait;"))
    assert run.end() == EX_CONFIG
    assert "start_acton" in run.seen[-1]
    assert not any("child_started" in line for line in run.seen)


@pytest.mark.covers("X153")
def test_second_mcp_on_the_same_directory_refuses(bench):
    run = bench.start(bench.section("foo", "stay"))
    run.expect("child_started")
    second = bench.start(bench.section("foo", "stay"))
    assert second.end() == EX_TEMPFAIL
    assert f"process id {run.process.pid}" in second.seen[-1]
    assert run.stop() == 0


def test_children_end_when_mcp_is_killed_and_the_next_mcp_waits_for_them(bench):
    run = bench.start(bench.section("foo", "stay"))
    pid = facts(run, "foo")["pid"]
    os.kill(pid, signal.SIGSTOP)  # so that it cannot end yet
    run.signal(signal.SIGKILL)
    run.process.wait()
    second = bench.start(bench.section("foo", "stay"))
    try:
        second.expect("wait_leftovers")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert facts(second, "foo")["pid"] != pid
    status = Path(f"/proc/{pid}/status")  # in a container nobody may reap it
    assert not status.exists() or "State:\tZ" in status.read_text()
    assert second.stop() == 0


@pytest.mark.covers("X153")
def test_background_start_returns_when_all_is_ready(bench):
    log = bench.directory / "mcp.log"
    command = [sys.executable, "-I", "-m", "mcp", "-b", "-l", str(log), "-d", str(bench.directory)]
    config = bench.config(bench.section("foo", "stay"))
    subprocess.run([*command, "-f", config], check=True)
    assert "ready services=1" in log.read_text()
    pid = int((bench.directory / "mcp.pid").read_text())
    os.kill(pid, signal.SIGTERM)
    # The leash is free when mcp and all children have ended.
    subprocess.run(["flock", str(bench.directory / "mcp.pid.lock"), "true"], check=True)
    assert "mcp_stopped" in log.read_text()


def test_background_start_that_fails_gives_the_code_and_the_reason(bench):
    command = [sys.executable, "-I", "-m", "mcp", "-b", "-l", str(bench.directory / "mcp.log")]
    config = bench.config(bench.section("foo", f"leave {EX_USAGE}"))
    done = subprocess.run(
        [*command, "-d", str(bench.directory), "-f", config],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == EX_USAGE
    assert "child_given_up service=foo" in done.stderr
