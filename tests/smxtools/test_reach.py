"""Programs below a closed directory run for an account that cannot enter it."""

import os
import pwd
import subprocess

import pytest
from smxtools import reach

NOBODY = pwd.getpwnam("nobody")


@pytest.fixture
def closed(tmp_path):
    """A directory below one that is closed, whether it is nobody's own or somebody else's."""
    outer = tmp_path / "closed"
    (outer / "inner").mkdir(parents=True)
    outer.chmod(0o600)
    yield outer / "inner"
    outer.chmod(0o700)


def test_the_first_closed_directory_on_the_way_is_found(closed):
    found = reach.closed_parent(str(closed / "file"), NOBODY)
    assert found
    assert str(closed).startswith(found)
    assert reach.closed_parent("/bin/sh", NOBODY) == ""


def test_where_nothing_is_in_the_way_the_command_stays(tmp_path):
    assert reach.wrap(["/bin/true"], ["/usr", "/etc"], NOBODY) == ["/bin/true"]


def test_without_the_means_there_is_no_command(closed, monkeypatch):
    monkeypatch.setattr(reach.shutil, "which", lambda _: None)
    assert reach.wrap(["/bin/true"], [str(closed)], NOBODY) is None


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0, reason="needs root to make a mount namespace")
def test_the_account_enters_what_is_needed_and_nothing_changes_outside(tmp_path):
    outer = tmp_path / "closed"
    for name in ("needed", "secret"):
        (outer / name).mkdir(parents=True)
        (outer / name / "file").write_text(name)
    outer.chmod(0o700)
    script = "\n".join(
        (
            "import os",
            f"os.setgid({NOBODY.pw_gid}); os.setuid({NOBODY.pw_uid})",
            f"print(open({str(outer / 'needed/file')!r}).read())",
            f"print(os.listdir({str(outer)!r}))",
        )
    )
    command = reach.wrap(["/usr/bin/python3", "-c", script], [str(outer / "needed")], NOBODY)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["needed", "['needed']"], done.stderr
    assert sorted(os.listdir(outer)) == ["needed", "secret"]
