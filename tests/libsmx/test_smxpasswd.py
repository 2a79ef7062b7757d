"""smxpasswd as a program of its own."""

import os
import subprocess
import sys

import pytest

from libsmx.errors import EX_CANTCREAT, EX_DATAERR, EX_OK, EX_USAGE
from libsmx.saslkeys import DEFAULT_ITERATIONS, read_keys


def smxpasswd(*words, text=""):
    done = subprocess.run(
        [sys.executable, "-I", "-m", "libsmx.smxpasswd", *map(str, words)],
        input=text, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def test_users_come_and_go(tmp_path):
    path = tmp_path / "passwd"
    assert smxpasswd(path, "bob", text="secret\n") == (EX_OK, "", "")
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    assert smxpasswd("-m", path, "alice", text="pencil\n") == (EX_OK, "", "")
    assert path.stat().st_mode & 0o777 == 0o640, "others may never read it"
    assert "secret" not in path.read_text()
    assert smxpasswd("-l", path)[1] == (
        "alice SCRAM-SHA-1 SCRAM-SHA-256 CRAM-MD5\nbob SCRAM-SHA-1 SCRAM-SHA-256\n"
    )
    assert smxpasswd("-v", path, "alice", text="pencil\n")[0] == EX_OK
    assert smxpasswd("-v", path, "alice", text="secret\n")[0] == 1
    assert smxpasswd("-v", path, "carol", text="secret\n")[0] == 1
    secret = read_keys(path.read_text().splitlines()).secret
    assert smxpasswd("-r", 5000, path, "bob", text="other\n")[0] == EX_OK
    table = read_keys(path.read_text().splitlines())
    assert table.secret == secret, "made-up answers stay as they are"
    assert table.users["bob"].scram["SCRAM-SHA-256"].iterations == 5000
    assert table.users["alice"].scram["SCRAM-SHA-256"].iterations == DEFAULT_ITERATIONS
    assert smxpasswd("-v", path, "bob", text="other\n")[0] == EX_OK
    assert smxpasswd("-d", path, "bob")[0] == EX_OK
    code, _, said = smxpasswd("-d", path, "bob")
    assert (code, said) == (1, f"smxpasswd: {path} has no user bob\n")
    assert smxpasswd("-l", path)[1].startswith("alice ")


@pytest.mark.parametrize(
    ("words", "text", "code", "said"),
    [
        ((), "", EX_USAGE, "usage"),
        (("PATH",), "", EX_USAGE, "either -l or a USER"),
        (("-l", "PATH", "bob"), "", EX_USAGE, "either -l or a USER"),
        (("-l", "-d", "PATH"), "", EX_USAGE, "not allowed with"),
        (("-r", "1", "PATH", "bob"), "", EX_USAGE, "from 4096 to 300000"),
        (("-l", "PATH"), "", os.EX_NOINPUT, "No such file"),
        (("-v", "PATH", "bob"), "x\n", os.EX_NOINPUT, "No such file"),
        (("PATH", "a b"), "x\n", EX_DATAERR, "no blanks"),
        (("PATH", "bob"), "\n", EX_DATAERR, "empty"),
        (("/nowhere/at/all", "bob"), "x\n", os.EX_NOINPUT, "/nowhere/at/all"),
        (("-l", "/etc/passwd"), "", EX_DATAERR, "line 1: this is no file of smxpasswd"),
        (("DIR", "bob"), "x\n", EX_CANTCREAT, "Is a directory"),
    ],
)
def test_what_cannot_be_done_is_told(tmp_path, words, text, code, said):
    path = tmp_path / "passwd"
    places = {"PATH": path, "DIR": tmp_path}
    words = [places.get(word, word) for word in words]
    found = smxpasswd(*words, text=text)
    assert found[0] == code
    assert said in found[2]
    assert not path.exists()
