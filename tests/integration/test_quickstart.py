"""make run, as a newcomer uses it: one command, a message, a stop, and a go on."""

import os
import shutil
import signal
import smtplib
import subprocess

import pytest

from tests.sink import Sink
from tests.system import free_port, reachable_dir, wait_for


@pytest.fixture
def run(programs):
    """run(**environment) -> (process, instance directory); all are stopped at the end."""
    started = []
    place = reachable_dir("smx-run-")

    def begin(**env):
        env = {"RUN_DIR": str(place / "deep/run"), "SMTP_PORT": str(free_port())} | env
        process = subprocess.Popen(
            [programs / "smxrun"], env={"PATH": os.environ["PATH"]} | env, cwd=place,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        process.port = int(env["SMTP_PORT"])
        started.append(process)
        return process, place / "deep/run"

    yield begin
    for process in started:
        process.terminate()
        process.communicate()
    shutil.rmtree(place)


def send(process, rcpt="you@example.org"):
    """Send a message as soon as the server is there."""

    def connected():
        assert process.poll() is None, process.communicate()[0]
        try:
            return smtplib.SMTP("127.0.0.1", process.port, timeout=30)
        except OSError:
            return None

    with wait_for("the server", connected) as client:
        client.sendmail("me@example.org", [rcpt], "Subject: hello\r\n\r\nhello\r\n")


@pytest.mark.slow
def test_a_newcomer_can_open_the_delivered_message(run):
    process, place = run()
    send(process)
    new = place / "maildir/new"
    (mail,) = wait_for("the message", lambda: list(new.iterdir()))
    text = mail.read_text()
    assert "Subject: hello" in text
    assert "you@example.org" in text
    assert int((place / "mcp.pid").read_text()) > 0
    assert (place / "log/qmgr.log").exists()
    os.kill(int((place / "mcp.pid").read_text()), signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    for word in ("swaks --server", "maildir/new", "qmgrctl", "Ctrl-C"):
        assert word in out


@pytest.mark.slow
def test_the_next_run_goes_on_with_the_queue(run):
    with Sink() as sink:
        address = sink.address
    process, place = run(NEXTHOP=address)
    send(process)
    process.send_signal(signal.SIGINT)  # Ctrl-C
    assert process.wait(60) == 0
    with Sink(port=int(address.rsplit(":", 1)[1])) as sink:
        process, place = run(NEXTHOP=address)
        send(process, "second@example.org")
        ctl = [process.args[0].parent / "qmgrctl", "-f", place / "smx.conf", "flush"]
        wait_for("the queue manager", lambda: not subprocess.run(ctl, check=False).returncode)
        messages = sink.wait(2)
    assert sorted(message.rcpts[0] for message in messages) == [
        "second@example.org",
        "you@example.org",
    ]


@pytest.mark.slow
def test_what_is_wrong_is_said_in_one_line(run):
    with Sink() as sink:
        process, _ = run(SMTP_PORT=str(sink.port))
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 69
    (line,) = out.splitlines()
    assert f"127.0.0.1:{sink.port}" in line
    assert "in use" in line
    process, _ = run(RUN_DIR="/proc/smx")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 73
    (line,) = out.splitlines()
    assert "/proc/smx" in line
