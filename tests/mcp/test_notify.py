"""Words for systemd, and the unit file."""

import configparser
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from mcp import cmdline
from mcp.notify import Notifier, from_environment
from mcp.supervise import USELESS_TO_RESTART
from tests.mcp.conftest import PATIENCE_S, ROOT, USER

UNIT = Path(__file__).parents[2] / "conf" / "smx.service"

ENVIRONMENTS = [
    ({}, Notifier()),
    ({"NOTIFY_SOCKET": "relative"}, Notifier()),
    ({"NOTIFY_SOCKET": "/run/n"}, Notifier(b"/run/n")),
    ({"NOTIFY_SOCKET": "@n"}, Notifier(b"\0n")),
    ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "3000000"}, Notifier(b"/n", 3.0)),
    ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "7"}, Notifier(b"/n", 0.001)),
    ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "8"}, Notifier(b"/n")),
    ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "soon"}, Notifier(b"/n")),
    ({"WATCHDOG_USEC": "3000000"}, Notifier()),
]


@pytest.mark.parametrize(("environ", "wanted"), ENVIRONMENTS)
def test_environment_says_whether_and_how_often(environ, wanted):
    assert from_environment(environ, 7) == wanted


def test_nobody_at_the_socket_disturbs_nobody(tmp_path):
    Notifier(os.fsencode(tmp_path / "gone")).ready()


@pytest.fixture
def systemd(bench, monkeypatch):
    """The socket of a systemd that listens to this mcp."""
    path = bench.directory / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE_S)
        sock.bind(str(path))
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        yield sock


def words(sock, wanted):
    """Read on until a message begins with the word; return its lines."""
    while True:
        lines = sock.recv(1000).decode().split("\n")
        if lines[0] == wanted:
            return lines


def test_systemd_hears_of_start_reload_and_stop(bench, systemd):
    run = bench.start(bench.section("foo", "stay"))
    assert systemd.recv(1000).startswith(b"READY=1\n")
    assert "NOTIFY_SOCKET" not in run.text("foo", "up ")
    run.signal(signal.SIGHUP)
    assert words(systemd, "RELOADING=1")[1].startswith("MONOTONIC_USEC=")
    words(systemd, "READY=1")
    assert run.stop() == 0
    words(systemd, "STOPPING=1")


def test_watchdog_gets_signs_of_life(bench, systemd, monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    run = bench.start(bench.section("foo", "stay"))
    for _ in range(3):
        words(systemd, "WATCHDOG=1")
    assert run.stop() == 0


def unit():
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read(UNIT)
    return parser


def test_unit_starts_mcp_in_the_foreground_with_options_that_it_has():
    service = unit()["Service"]
    assert service["Type"] == "notify"
    program, *arguments = service["ExecStart"].split()
    assert program.endswith("/sbin/mcp")
    options = cmdline.parse(arguments)
    assert not options.background
    assert options.directory in service["ReadWritePaths"].split()
    assert os.path.dirname(options.log_file) in service["ReadWritePaths"].split()
    assert {int(code) for code in service["RestartPreventExitStatus"].split()} == USELESS_TO_RESTART


def test_unit_does_not_forbid_what_python_needs():
    assert "MemoryDenyWriteExecute" not in unit()["Service"]


@pytest.mark.skipif(
    not shutil.which("systemd-analyze"),
    reason="systemd-analyze is not installed (Debian package systemd)",
)
def test_systemd_understands_the_unit(tmp_path):
    program = unit()["Service"]["ExecStart"].split()[0]
    copy = tmp_path / "smx.service"
    copy.write_text(UNIT.read_text().replace(program, "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", copy], check=False, capture_output=True, text=True
    )
    assert not [line for line in done.stderr.splitlines() if "smx.service" in line]


@pytest.mark.root
@pytest.mark.skipif(not (ROOT and shutil.which("setpriv")), reason="needs root and setpriv")
def test_capabilities_of_the_unit_are_enough_for_mcp(bench):
    names = unit()["Service"]["CapabilityBoundingSet"].split()
    kept = ",".join("+" + name.removeprefix("CAP_").lower() for name in names)
    limits = ("setpriv", f"--bounding-set=-all,{kept}", "--no-new-privs")
    door = f"listen_socket {{ type = unix; path = door; user = {USER}; group = daemon; }}"
    door += " pass_fd_socket = fds;"
    run = bench.start(
        bench.section("foo", "serve fds", start_action="pass", options=door),
        bench.section("bar", "stay", options="group = daemon;"),
        prefix=limits,
    )
    run.expect("ready")
    assert any("sockets_passed service=foo" in line for line in run.seen)
    assert run.stop() == 0
