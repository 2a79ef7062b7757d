"""Who a service runs as."""

import grp
import os
import pwd
import subprocess
import sys

import pytest

from mcp.identity import find_identities, find_identity
from mcp.services import Service
from tests.system import ROOT


def service(user="", group=""):
    return Service(label="foo", path="/bin/true", argv=("true",), user=user, group=group)


def test_supplementary_groups_come_from_the_user_database(monkeypatch):
    monkeypatch.setattr(os, "getgrouplist", lambda _name, gid: [gid, 0, 262, 263])
    found = find_identity(service("nobody"))
    assert found.uid == pwd.getpwnam("nobody").pw_uid
    assert found.groups == (262, 263, found.gid)  # never root's group


@pytest.mark.covers("X141")
def test_group_option_replaces_the_users_own():
    group = grp.getgrnam("daemon")
    assert find_identity(service("nobody", "daemon")).gid == group.gr_gid
    assert find_identity(service("nobody", str(group.gr_gid))).gid == group.gr_gid


@pytest.mark.parametrize(
    ("user", "group", "text"),
    [
        ("", "", "user is required"),
        ("root", "", "is root"),
        ("0", "", "is root"),
        ("nobody", "root", "is root"),
        ("no-such-user", "", "no user no-such-user"),
        ("4000000000", "", "no user with number"),
        ("nobody", "no-such-group", "no group no-such-group"),
    ],
)
def test_unusable_identity_is_named(user, group, text):
    with pytest.raises(ValueError, match=text):
        find_identity(service(user, group))


def test_ordinary_user_runs_everything_as_himself(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert find_identities([service("no-such-user")]) == ({"foo": None}, [])


def test_all_mistakes_are_collected(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    found, problems = find_identities([service("root"), service("nobody")])
    assert len(problems) == 1
    assert found["foo"] is not None


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.covers("X152")
@pytest.mark.parametrize(
    ("before", "confined"),
    [
        ("os.setgroups([]); os.setresgid(G, G, G); os.setresuid(U, U, U)", True),
        ("os.setgroups([]); os.setresgid(G, G, G); os.setresuid(U, U, 0)", False),
        ("os.setgroups([0]); os.setresgid(G, G, G); os.setresuid(U, U, U)", False),
        ("os.setgroups([]); os.setresgid(G, G, 0); os.setresuid(U, U, U)", False),
        ("os.setgroups([]); os.setresuid(U, U, U)", False),
        ("pass", False),
    ],
)
def test_a_child_that_could_be_root_again_is_recognised(before, confined):
    code = (
        "import os; from mcp.spawn import is_confined; from mcp.identity import Identity;"
        f"U = G = 65534; {before}; print(is_confined(Identity(U, G, ())))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == str(confined)
