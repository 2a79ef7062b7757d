"""The scripts of the administrator: sm.setup.sh, sm.check.sh, mcp.sh, install.sh."""

import grp
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from libsmx.config import load_services
from libsmx.errors import EX_CONFIG, EX_NOPERM, EX_TEMPFAIL, EX_USAGE
from mcp.services import make_services
from smar.mailertable import read_mailertable
from tests.system import reachable_dir

ROOT = os.geteuid() == 0
MISC = Path(__file__).parents[2] / "misc"

needs_root = [
    pytest.mark.root,
    pytest.mark.skipif(not ROOT, reason="needs root"),
]

ACCOUNTS = ("smxs", "smxq", "smxc", "smxm", "smx")
MEMBERS = (("smxs", "smxc"), ("smxs", "smxm"), ("smxq", "smxm"))
PLACES = {"SMXQDIR": "q", "SMXCONFDIR": "etc", "SMXLOGDIR": "log"}


def script(name, *argv, **env):
    clean = {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
    return subprocess.run(
        ["/bin/sh", str(MISC / name), *argv],
        env=clean | env,
        check=False,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def accounts():
    """The accounts of the README, made once on the machine of the tests."""
    for name in ACCOUNTS:
        try:
            pwd.getpwnam(name)
        except KeyError:
            subprocess.run(
                ["useradd", "--system", "--user-group", "-d", "/nonexistent", "-s",
                 "/usr/sbin/nologin", name], check=True,
            )  # fmt: skip
    for user, group in MEMBERS:
        if user not in grp.getgrnam(group).gr_mem:
            subprocess.run(["usermod", "-a", "-G", group, user], check=True)


@pytest.fixture
def places(tmp_path):
    return {name: str(tmp_path / part) for name, part in PLACES.items()}


@pytest.fixture
def installed(accounts, places):
    done = script("sm.setup.sh", **places)
    assert done.returncode == 0, done.stderr
    return places


def owner(path):
    found = os.stat(path)
    user, group = pwd.getpwuid(found.st_uid).pw_name, grp.getgrgid(found.st_gid).gr_name
    return f"{user}:{group} {stat.S_IMODE(found.st_mode):o}"


class TestAsRoot:
    pytestmark = needs_root

    @pytest.mark.covers("X034", "X035", "X036", "X037", "X039")
    def test_accounts_are_found(self, accounts):
        assert script("sm.check.sh", "-p").returncode == 0

    @pytest.mark.covers("X039", "X043")
    def test_missing_account_is_named_and_nothing_is_made(self, accounts, places):
        places["SMXSUSER"] = "no-such-user"
        done = script("sm.check.sh", "-p", **places)
        assert done.returncode == 1
        assert "no-such-user" in done.stdout
        done = script("sm.setup.sh", **places)
        assert done.returncode == EX_CONFIG
        assert "no-such-user" in done.stderr
        assert not Path(places["SMXQDIR"]).exists()

    def test_missing_membership_is_named(self, accounts):
        done = script("sm.check.sh", "-p", SMXSUSER="nobody")
        assert "user nobody is not a member of group smxc" in done.stdout

    @pytest.mark.covers(
        "X041",
        "X042",
        "X048",
        "X049",
        "X053",
        "X054",
        "X055",
        "X057",
        "X058",
        "X059",
        "X060",
        "X061",
        "X062",
        "X045",
        "X046",
    )
    @pytest.mark.parametrize(
        ("place", "path", "wanted"),
        [
            *(("SMXQDIR", digit, "smxs:smxq 771") for digit in "0123456789ABCDEF"),
            ("SMXQDIR", "defedb", "smxq:smxq 700"),
            ("SMXQDIR", "ibdb", "smxq:smxq 700"),
            ("SMXQDIR", "ibdb/ibdb", "smxq:smxq 700"),
            ("SMXQDIR", "qmsmar", "smxq:smxm 2770"),
            ("SMXQDIR", "qmsmtpc", "smxq:smxc 2770"),
            ("SMXQDIR", "qmsmtps", "smxq:smxs 2770"),
            ("SMXQDIR", "smtps", "smxs:smxs 750"),
            ("SMXQDIR", "qmgrctl", "smxq:smx 2750"),
            ("SMXCONFDIR", "smx.conf", "smx:smx 644"),
            ("SMXCONFDIR", "mt", "smxm:smxm 644"),
        ],
    )
    def test_owner_group_and_mode(self, installed, place, path, wanted):
        assert owner(f"{installed[place]}/{path}") == wanted

    @pytest.mark.covers("X062")
    @pytest.mark.parametrize("name", ["qmgr", "smar", "smtpc", "smtps"])
    def test_log_belongs_to_its_component(self, installed, name):
        user = {"qmgr": "smxq", "smar": "smxm", "smtpc": "smxc", "smtps": "smxs"}[name]
        found = owner(f"{installed['SMXLOGDIR']}/{name}.log")
        assert found.startswith(user + ":")
        assert found.endswith(" 640")

    @pytest.mark.covers("X048")
    def test_mailertable_is_there_and_routes_nothing(self, installed):
        path = Path(installed["SMXCONFDIR"]) / "mt"
        assert len(read_mailertable(path.read_text(), "mt")) == 0

    @pytest.mark.covers("X047")
    def test_configuration_is_valid_with_the_places_filled_in(self, installed):
        path = installed["SMXCONFDIR"] + "/smx.conf"
        text = Path(path).read_text()
        whole, sections = load_services(path)
        assert not {"@LIBEXEC@", "@SYSCONFDIR@", "@SPOOL@", "@LOGDIR@"} & set(text.split('"'))
        assert "@" not in whole.cdb_base_directory
        assert whole.cdb_base_directory == installed["SMXQDIR"] + "/"
        services = make_services((s.keyword, s.name, s.conf) for s in sections)
        assert {s.user for s in services} == {"smxs", "smxq", "smxc", "smxm"}

    def test_other_accounts_reach_the_configuration(self, accounts, places):
        script("sm.setup.sh", **places, SMXQUSER="smxm", SMXQGROUP="smxm")
        _globals, sections = load_services(places["SMXCONFDIR"] + "/smx.conf")
        assert {s.keyword: s.conf.user for s in sections}["qmgr"] == "smxm"

    @pytest.mark.covers("X038")
    def test_configuration_is_roots_where_there_is_no_account_for_it(self, accounts, places):
        done = script("sm.setup.sh", **places, SMXUSER="no-such-user", SMXGROUP="no-such-group")
        assert done.returncode == 0, done.stderr
        assert owner(places["SMXCONFDIR"] + "/smx.conf") == "root:root 644"

    @pytest.mark.covers("X044")
    def test_what_exists_is_left_as_it_is(self, installed):
        conf = Path(installed["SMXCONFDIR"]) / "smx.conf"
        conf.write_text("# mine\n")
        os.chmod(installed["SMXQDIR"] + "/3", 0o700)
        assert script("sm.setup.sh", **installed).returncode == 0
        assert conf.read_text() == "# mine\n"
        assert owner(installed["SMXQDIR"] + "/3").endswith(" 700")

    @pytest.mark.covers("X040")
    def test_check_finds_nothing_in_a_fresh_installation(self, installed):
        done = script("sm.check.sh", "-P", **installed)
        assert (done.returncode, done.stdout) == (0, "")

    @pytest.mark.covers("X040", "X056")
    def test_check_names_whatever_is_wrong(self, installed):
        queue, conf = Path(installed["SMXQDIR"]), Path(installed["SMXCONFDIR"])
        (queue / "3").chmod(0o777)
        os.chown(queue / "4", 0, 0)
        (queue / "defedb").rmdir()
        (queue / "smtps").rmdir()
        (queue / "smtps").write_text("")
        (conf / "smx.conf").chmod(0o666)
        (conf / "qmgr_conf.db").write_text("")
        done = script("sm.check.sh", "-P", **installed)
        assert done.returncode == 1
        for text in (
            f"{queue}/3 has mode 777 instead of 771",
            f"{queue}/4 belongs to user root",
            f"{queue}/4 belongs to group root",
            f"{queue}/defedb is missing",
            f"{queue}/smtps is a regular",
            f"{conf}/smx.conf has mode 666",
            f"{conf}/qmgr_conf.db belongs to user root instead of smxq",
        ):
            assert text in done.stdout

    @pytest.mark.covers("X109")
    def test_content_directory_may_be_a_link(self, installed, tmp_path):
        queue = Path(installed["SMXQDIR"])
        shutil.move(queue / "3", tmp_path / "disk")
        (queue / "3").symlink_to(tmp_path / "disk")
        assert script("sm.check.sh", "-P", **installed).returncode == 0

    @pytest.mark.covers("X041")
    def test_destdir_comes_before_every_place(self, accounts, tmp_path):
        done = script("sm.setup.sh", DESTDIR=str(tmp_path / "pkg"), SMXQDIR="/var/spool/smx")
        assert done.returncode == 0, done.stderr
        pkg = tmp_path / "pkg"
        assert owner(pkg / "var/spool/smx/ibdb") == "smxq:smxq 700"
        assert "/var/spool/smx/" in (pkg / "etc/smx/smx.conf").read_text()
        assert str(pkg) not in (pkg / "etc/smx/smx.conf").read_text()
        assert stat.S_IMODE((pkg / "var").stat().st_mode) & 0o055 == 0o055


def test_setup_refuses_names_that_the_shell_would_read():
    assert script("sm.setup.sh", SMXQDIR="/tmp/a b").returncode == EX_USAGE
    assert script("sm.setup.sh", SMXQDIR="relative").returncode == EX_USAGE


@pytest.mark.parametrize("name", ["sm.check.sh", "mcp.sh"])
def test_wrong_usage(name):
    assert script(name, "what").returncode == EX_USAGE


def test_install_refuses_a_prefix_that_is_no_path():
    assert script("install.sh", PREFIX="usr").returncode == EX_USAGE


def test_ordinary_user_may_not_install():
    user = "nobody" if ROOT else None
    place = reachable_dir()  # the source tree may be closed to other users
    try:
        shutil.copytree(MISC.parent / "misc", place / "misc")
        shutil.copytree(MISC.parent / "conf", place / "conf")
        for name in ("install.sh", "sm.setup.sh", "sm.check.sh"):
            done = subprocess.run(
                ["/bin/sh", place / "misc" / name, *(["-P"] * ("check" in name))],
                check=False, capture_output=True, user=user, cwd="/",
            )  # fmt: skip
            assert done.returncode == EX_NOPERM
    finally:
        shutil.rmtree(place)


@pytest.fixture
def instance():
    """An installation of mcp alone, with one small service."""
    directory = Path(tempfile.mkdtemp(prefix="smx-sh-", dir="/tmp"))
    directory.chmod(0o755)
    program = directory / "mcp"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -m mcp "$@"\n')
    program.chmod(0o755)
    user = "user = nobody;" if ROOT else ""
    conf = directory / "smx.conf"
    conf.write_text(
        f'nap {{ start_action = wait; {user} path = /bin/sleep; arguments = "sleep 9999"; }}'
    )
    yield {
        "SMXMCP": str(program),
        "SMXQDIR": str(directory),
        "SMXCONF": str(conf),
        "SMXLOG": str(directory / "mcp.log"),
    }
    script("mcp.sh", "stop", SMXQDIR=str(directory))
    shutil.rmtree(directory)


@pytest.mark.covers("X153", "X154")
def test_start_status_restart_stop(instance):
    assert script("mcp.sh", "status", **instance).returncode == 3
    done = script("mcp.sh", "start", **instance)
    assert done.returncode == 0, done.stderr
    status = script("mcp.sh", "status", **instance)
    assert status.returncode == 0
    assert "sleep 9999" in status.stdout
    again = script("mcp.sh", "start", **instance)
    assert again.returncode == EX_TEMPFAIL
    assert "runs already" in again.stderr
    assert script("mcp.sh", "restart", **instance).returncode == 0
    assert script("mcp.sh", "status", **instance).stdout != status.stdout
    assert script("mcp.sh", "reload", **instance).returncode == 0
    assert script("mcp.sh", "stop", **instance).returncode == 0
    assert script("mcp.sh", "status", **instance).returncode == 3
    assert script("mcp.sh", "stop", **instance).returncode == 0


def test_start_that_fails_says_why(instance):
    Path(instance["SMXCONF"]).write_text("nap { start_acton = wait; }")
    done = script("mcp.sh", "start", **instance)
    assert done.returncode == EX_CONFIG
    assert "start_acton" in done.stderr


def test_number_of_a_dead_mcp_is_not_taken_for_another_process(instance):
    (Path(instance["SMXQDIR"]) / "mcp.pid").write_text(f"{os.getpid()}\n")
    assert script("mcp.sh", "status", **instance).returncode == 3
    assert script("mcp.sh", "stop", **instance).returncode == 0


@pytest.mark.covers("X033")
def test_help_of_make_names_its_switches():
    done = subprocess.run(
        ["make", "-C", str(MISC.parent), "help"], capture_output=True, text=True, check=True
    )
    for word in ("PREFIX=", "DESTDIR=", "SENDMAIL=", "SMTP_PORT=", "NEXTHOP=", "uninstall"):
        assert word in done.stdout
