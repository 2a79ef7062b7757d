"""The skeleton: exit codes, signals, what goes to the log."""

import itertools
import os
import signal
import subprocess

import pytest

from tests.system import reachable_dir, unprivileged_user, wait_for

DAEMON = """
import sys, trio
from libsmx.logtab import event
from libsmx.process import Daemon, run

async def serve(ctx, task_status=trio.TASK_STATUS_IGNORED):
    what = sys.argv.pop()
    if what == "start-error":
        from libsmx.errors import StartError
        raise StartError("the door is locked", 69)
    if what == "wait":
        open("waiting", "w").close()
        await ctx.stop.wait()
    task_status.started()
    if what == "bug":
        raise ZeroDivisionError("oops")
    if what == "reload":
        ctx.reload.append(ctx.stop.set)
    if what == "leave":
        return
    if what == "stop-code":
        ctx.exit_code = 79
        return
    await ctx.stop.wait()

run(Daemon(name="smar", purpose="Tests the skeleton.", serve=serve,
           flags={"-t": ("smar", "DNS_timeout")}), sys.argv[1:-1])
"""


@pytest.fixture
def place():
    path = reachable_dir()
    if unprivileged_user():
        os.chmod(path, 0o777)
    yield path
    subprocess.run(["rm", "-rf", path], check=True)


@pytest.fixture
def start(programs, place):
    """start(what, *argv) -> a process that runs the tiny daemon."""
    conf = place / "smx.conf"
    conf.write_text(f'smar {{ log {{ file = "{place}/x.log"; }} }}')
    running = []

    def begin(what, *argv):
        user = {"user": unprivileged_user(), "group": "nogroup"} if unprivileged_user() else {}
        argv = argv or ("-f", conf)
        process = subprocess.Popen(
            [programs / "python", "-c", DAEMON, *argv, what],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=place, **user,
        )  # fmt: skip
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def ready(place):
    path = place / "x.log"
    wait_for("the start", lambda: path.exists() and " started " in path.read_text())


def log(place):
    return (place / "x.log").read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_orderly_stop_exits_with_zero(start, place, number):
    process = start("serve")
    ready(place)
    process.send_signal(number)
    assert process.wait(30) == 0
    assert "stopping reason=SIG" in log(place)
    assert log(place).splitlines()[-1].endswith("stopped status=0")


def test_a_stop_before_it_is_ready_works_too(start, place):
    process = start("wait")
    wait_for("the daemon", (place / "waiting").exists)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


@pytest.mark.parametrize(
    ("what", "code", "text"),
    [
        ("bug", 70, "ZeroDivisionError"),
        ("start-error", 69, "the door is locked"),
        ("leave", 70, "without being told"),
        ("stop-code", 79, ""),
    ],
)
def test_exit_codes(start, place, what, code, text):
    process = start(what)
    _, error = process.communicate(timeout=30)
    assert process.returncode == code
    assert text in error
    assert text in log(place)


def test_sighup_calls_the_reload_functions(start, place):
    process = start("reload")
    ready(place)
    (place / "x.log").rename(place / "x.log.1")
    process.send_signal(signal.SIGHUP)
    assert process.wait(30) == 0
    assert "stopped" in log(place)


@pytest.mark.parametrize(
    ("argv", "code", "text"),
    [
        (("-Q",), 64, "unknown option"),
        (("-f", "/nonexistent/smx.conf"), 78, "cannot be read"),
        (("-t", "never"), 64, "-t"),
        (("-N", "MSA"), 64, "MSA"),
    ],
)
def test_a_bad_command_line_or_file_is_said_at_once(start, argv, code, text):
    process = start("serve", *argv)
    _, error = process.communicate(timeout=30)
    assert process.returncode == code
    assert text in error
    assert error.startswith("smar: ")


@pytest.mark.covers("X102")
def test_every_mistake_of_the_file_is_reported(start, place):
    conf = place / "bad.conf"
    conf.write_text("smar { DNS_timout = 5; log_level = many; }")
    process = start("serve", "-f", conf)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 78
    assert "bad.conf:1:" in error
    assert "DNS_timeout" in error
    assert "log_level" in error


@pytest.mark.covers("X071", "X072", "X073", "X074", "X075", "X076")
def test_help_and_version(programs, place):
    def output(*argv):
        done = subprocess.run(
            [programs / "smtps", *argv], capture_output=True, text=True, check=True, cwd=place
        )
        return done.stdout + done.stderr

    assert "IO_timeout" in output("-h")
    texts = [output("-" + "V" * level) for level in range(1, 7)]
    assert all(set(a.splitlines()) <= set(b.splitlines()) for a, b in itertools.pairwise(texts))
    assert texts[0].startswith("smtps smX.")
    assert "smtps.IO_timeout = 300" in texts[4]
    assert "8bitmime" in texts[5]


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0, reason="needs root to be refused as root")
@pytest.mark.covers("X023")
@pytest.mark.parametrize("name", ["qmgr", "smtps", "smtpc", "smar"])
def test_daemons_refuse_to_be_root(programs, name):
    done = subprocess.run([programs / name], capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 64
    assert "does not run as root" in done.stderr
