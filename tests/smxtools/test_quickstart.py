"""Making an instance directory."""

import os
import pwd
import socket

import pytest
from smxtools import instance, quickstart
from smxtools.instance import Settings

from libsmx.errors import EX_CANTCREAT, EX_NOPERM, EX_UNAVAILABLE, StartError, UsageError

ROOT = os.geteuid() == 0


def free_port():
    """A port that is free together with the one behind it, which is the sink's."""
    for _ in range(50):
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            try:
                two.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port
    raise RuntimeError("no two free ports")


@pytest.fixture
def prepare(tmp_path, monkeypatch):
    """Call prepare() with options; the programs and the access to them are given."""
    monkeypatch.setattr(quickstart, "check_programs", lambda _settings: None)
    monkeypatch.setattr(quickstart, "with_access", lambda _settings, command: command)

    def call(*argv, **env):
        env = {"RUN_DIR": str(tmp_path / "run"), "SMTP_PORT": str(free_port())} | env
        return quickstart.prepare(list(argv), env)

    return call


def test_instance_has_its_directories_and_files(prepare, tmp_path):
    settings, command = prepare()
    run = tmp_path / "run"
    assert settings.run_dir == str(run)
    for name in instance.SPOOL_DIRECTORIES:
        assert (run / "spool" / name).is_dir()
    assert instance.is_untouched((run / "smx.conf").read_text())
    assert instance.is_untouched((run / "mt").read_text())
    assert command[1:] == [
        "-f", f"{run}/smx.conf", "-d", f"{run}/spool",
        "-p", f"{run}/mcp.pid", "-l", f"{run}/log/mcp.log",
    ]  # fmt: skip


def test_other_settings_are_applied_to_generated_files(prepare, tmp_path):
    prepare()
    prepare(NEXTHOP="127.0.0.1:2700", SMTP_PORT="2701")
    assert "port = 2701" in (tmp_path / "run/smx.conf").read_text()
    assert "2700^esmtp:[127.0.0.1]" in (tmp_path / "run/mt").read_text()
    prepare()
    assert "sink" in (tmp_path / "run/smx.conf").read_text()


def test_edited_file_is_kept_and_said_to_be(prepare, tmp_path, capsys):
    prepare()
    conf = tmp_path / "run/smx.conf"
    conf.write_text(conf.read_text() + "# mine\n")
    edited = conf.read_text()
    prepare(SMTP_PORT="2701")
    assert conf.read_text() == edited
    assert "was edited" in capsys.readouterr().err


def test_option_goes_before_the_environment(prepare):
    settings, _command = prepare("-n", "[::1]:2702", NEXTHOP="127.0.0.1:1")
    assert settings.next_hop == ("::1", 2702)


@pytest.mark.parametrize("port", ["0", "x", "65536", "-1"])
def test_bad_port_is_a_usage_error(prepare, port):
    with pytest.raises(UsageError, match="SMTP_PORT"):
        prepare(SMTP_PORT=port)


def test_unknown_option_is_a_usage_error(prepare):
    with pytest.raises(UsageError, match="smxrun -h"):
        prepare("--what")


def test_directory_that_cannot_be_made(prepare, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match=r"cannot write .*RUN_DIR") as caught:
        prepare(RUN_DIR=str(tmp_path / "file" / "run"))
    assert caught.value.code == EX_CANTCREAT


def test_port_in_use(prepare):
    port = free_port()
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", port + 1))
        sock.listen()
        with pytest.raises(StartError, match=f"127.0.0.1:{port + 1}, for the sink") as caught:
            prepare(SMTP_PORT=str(port))
    assert caught.value.code == EX_UNAVAILABLE


def test_missing_program_is_named(tmp_path):
    settings = Settings(run_dir=str(tmp_path), bin_dir=str(tmp_path))
    with pytest.raises(StartError, match=r"has no mcp, qmgr, .*make run") as caught:
        quickstart.check_programs(settings)
    assert caught.value.code == EX_UNAVAILABLE


@pytest.mark.root
@pytest.mark.skipif(not ROOT, reason="needs root")
def test_root_gives_the_instance_to_an_account_without_rights(prepare, tmp_path):
    settings, _command = prepare()
    account = pwd.getpwnam(settings.user)
    assert account.pw_uid != 0
    assert (tmp_path / "run/spool/ibdb/ibdb").stat().st_uid == account.pw_uid
    assert (tmp_path / "run/smx.conf").stat().st_uid == 0
    assert settings.group == account.pw_gid


def test_root_without_any_account_is_told(monkeypatch):
    monkeypatch.setattr(quickstart, "ACCOUNTS", ("no-such-user",))
    with pytest.raises(StartError, match="ordinary user") as caught:
        quickstart.find_account()
    assert caught.value.code == EX_NOPERM


def test_introduction_tells_the_ways():
    text = quickstart.introduction(Settings(run_dir="/r", bin_dir="/b", port=2600))
    for word in ("127.0.0.1:2600", "swaks", "smtplib", "/r/maildir/new", "qmgrctl", "Ctrl-C"):
        assert word in text


def test_a_next_hop_that_the_machine_knows_by_name_needs_no_name_server():
    assert quickstart.known_address("localhost", 25) in {("127.0.0.1", 25), ("::1", 25)}
    assert quickstart.known_address("no-such-host.invalid", 25) == ("no-such-host.invalid", 25)
