"""The tool smxconf, and one broken file for each message."""

import pathlib
import subprocess
import sys

import pytest

from libsmx.errors import EX_CONFIG, EX_OK, EX_USAGE
from libsmx.man import man_page
from libsmx.smxconf import main

ROOT = pathlib.Path(__file__).parents[2]
BROKEN = sorted((ROOT / "tests" / "badconf").glob("*.conf"))

GOOD = """
hostname = mx.example.org;
smtps MTA {
  start_action = pass; path = /x/smtps; arguments = "smtps -N MTA -f f";
  pass_fd_socket = fd; listen_socket { port = 25; }
  max_hops = 9; max_hops = 30;
}
other { start_action = wait; path = /bin/sleep; arguments = "sleep 1"; }
"""


@pytest.mark.covers("X102")
@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_a_broken_file_is_refused_for_its_reason(path, capsys, monkeypatch):
    monkeypatch.chdir(path.parent)
    assert main(["check", "-f", path.name]) == EX_CONFIG
    out, err = capsys.readouterr()
    assert out == ""
    assert err == path.with_suffix(".expected").read_text()


def test_there_are_broken_files():
    assert len(BROKEN) > 30


def test_a_good_file_is_ok_with_warnings(tmp_path, capsys):
    path = tmp_path / "smx.conf"
    path.write_text(GOOD)
    assert main(["check", "-f", str(path)]) == EX_OK
    out, err = capsys.readouterr()
    assert out == f"{path}: ok (smtps[MTA], other)\n"
    assert err == (
        f"warning: {path}:6:17: smtps[MTA].max_hops: given before at {path}:6:3; this one holds\n"
    )


def test_show_prints_every_value_or_those_that_differ(tmp_path, capsys):
    path = tmp_path / "smx.conf"
    path.write_text(GOOD + "smar { start_action = wait; path = /x; arguments = smar; }")
    assert main(["show", "-f", str(path)]) == EX_OK
    everything = capsys.readouterr().out.splitlines()
    assert "smtps[MTA].IO_timeout = 300 s  # default 5m" in everything
    assert f"smar.mailertable.file = {tmp_path}/mt  # default mt" in everything
    assert main(["show", "-n", "-f", str(path)]) == EX_OK
    assert capsys.readouterr().out.splitlines() == [
        'hostname = mx.example.org  # default ""',
        "smtps[MTA].max_hops = 30  # default 25, fields",
        'smtps[MTA].start_action = pass  # default ""',
        "smtps[MTA].listen_socket.1.port = 25  # default 0",
        'smtps[MTA].pass_fd_socket = fd  # default ""',
        'smtps[MTA].path = /x/smtps  # default ""',
        'smtps[MTA].arguments = "smtps -N MTA -f f"  # default ""',
        'other.start_action = wait  # default ""',
        'other.path = /bin/sleep  # default ""',
        'other.arguments = "sleep 1"  # default ""',
        'smar.start_action = wait  # default ""',
        'smar.path = /x  # default ""',
        'smar.arguments = smar  # default ""',
    ]


def test_a_wrong_call_is_a_usage_error(capsys):
    assert main([]) == EX_USAGE
    assert main(["chekc"]) == EX_USAGE
    assert main(["-h"]) == EX_OK
    assert main(["-V"]) == EX_OK
    assert "smX." in capsys.readouterr().out


def test_the_program_prints_the_manual():
    done = subprocess.run(
        [sys.executable, "-m", "libsmx.smxconf", "man"], capture_output=True, check=True, cwd=ROOT
    )
    assert done.stdout.decode() == man_page()


def test_checking_a_configuration_loads_no_library_that_mcp_must_not_load():
    code = (
        "import sys, libsmx.config, libsmx.smxconf;"
        "print(sorted({'lmdb', 'OpenSSL', 'dns', 'msgspec', 'trio'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=ROOT)
    assert done.stdout == b"[]\n"
