"""The system as an administrator installs it: root, the real users, owners and modes."""

import os
import pwd
import shutil
import signal
import subprocess

import pytest

from tests.conftest import need
from tests.sink import Sink
from tests.system import ROOT, System, free_port, reachable_dir

ACCOUNTS = ("smxs", "smxq", "smxc", "smxm", "smx")
MEMBERS = (("smxs", "smxc"), ("smxs", "smxm"), ("smxq", "smxm"))

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.getuid() != 0, reason="needs root to install with the real users"),
]


@pytest.fixture(scope="module")
def accounts():
    """The users and groups; those that are missing are made."""
    for name in ACCOUNTS:
        subprocess.run(["groupadd", "-f", name], check=True)
        try:
            pwd.getpwnam(name)
        except KeyError:
            subprocess.run(
                ["useradd", "-g", name, "-d", "/nonexistent", "-s", "/usr/sbin/nologin", name],
                check=True,
            )
    for user, group in MEMBERS:
        subprocess.run(["usermod", "-a", "-G", group, user], check=True)


@pytest.fixture(scope="module")
def place(accounts):
    """A whole installation below one directory; yields (directory, environment)."""
    top = reachable_dir("smx-install-")
    env = os.environ | {
        "PREFIX": f"{top}/usr",
        "SMXQDIR": f"{top}/spool",
        "SMXCONFDIR": f"{top}/etc",
        "SMXLOGDIR": f"{top}/log",
    }
    done = subprocess.run(
        ["make", "-C", ROOT, "install"], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    yield top, env
    shutil.rmtree(top)


def script(place, name, *argv):
    top, env = place
    path = top / "usr/sbin" / name if name == "mcp.sh" else ROOT / "misc" / name
    return subprocess.run([path, *argv], env=env, capture_output=True, text=True, check=False)


@pytest.fixture
def gateway(place):
    """The installed system, started on a port of its own with a sink behind it."""
    top, _ = place
    conf = top / "etc/smx.conf"
    original = conf.read_text()
    port = free_port()
    text = original.replace("port = 25;", f"port = {port};")
    assert text != original
    conf.write_text(text)
    with Sink() as sink:
        (top / "etc/mt").write_text(f". {sink.port}^esmtp:[127.0.0.1]\n")
        done = script(place, "mcp.sh", "start")
        try:
            assert done.returncode == 0, done.stdout + done.stderr
            yield port, sink, top
        finally:
            script(place, "mcp.sh", "stop")
            conf.write_text(original)


def status_of(pid):
    """Fields of /proc/PID/status."""
    with open(f"/proc/{pid}/status") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def children(pid):
    """(pid, program name) of the children of a process."""
    out = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True, check=True
    )
    rows = [line.split(None, 2) for line in out.stdout.splitlines()]
    return [(int(row[0]), row[1]) for row in rows]


@pytest.mark.slow
@pytest.mark.covers(
    "X034", "X035", "X036", "X037", "X047", "X050", "X051", "X127", "X140", "X141", "X142",
    "X152", "X153", "X154", "X159", "X039", "X040",
)  # fmt: skip
def test_each_process_runs_as_its_own_user_and_mail_goes_through(gateway, place):
    port, sink, top = gateway
    assert script(place, "sm.check.sh", "-p").returncode == 0
    checked = script(place, "sm.check.sh", "-P")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    master = int((top / "spool/mcp.pid").read_text())
    users = {"qmgr": "smxq", "smtps": "smxs", "smtpc": "smxc", "smar": "smxm"}
    found = dict.fromkeys(users, 0)
    for pid, name in children(master):
        account = pwd.getpwnam(users[name])
        fields = status_of(pid)
        assert fields["Uid"].split() == [str(account.pw_uid)] * 4
        assert fields["Gid"].split() == [str(account.pw_gid)] * 4
        assert int(fields["CapEff"], 16) == 0
        groups = set(map(int, fields["Groups"].split()))
        assert groups <= set(os.getgrouplist(account.pw_name, account.pw_gid))
        found[name] += 1
    assert all(found.values()), found
    System.send(_At(port))
    (message,) = sink.wait(1)
    assert message.rcpts == ["b@dest.example"]


class _At:
    """What System.send needs."""

    def __init__(self, port):
        self.listen = ("127.0.0.1",)
        self.port = port


@pytest.mark.slow
@pytest.mark.covers("X051", "X053", "X054", "X058", "X059", "X060", "X061")
def test_a_process_cannot_reach_what_is_not_its_own(gateway):
    port, sink, top = gateway
    master = int((top / "spool/mcp.pid").read_text())
    stopped = [pid for pid, name in children(master) if name == "smtpc"]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        System.send(_At(port))
        (content,) = [
            path for digit in "0123456789ABCDEF" for path in (top / "spool" / digit).iterdir()
        ]
        found = content.stat()
        assert found.st_mode & 0o7777 == 0o640
        assert found.st_uid == pwd.getpwnam("smxs").pw_uid
        assert found.st_gid == pwd.getpwnam("smxc").pw_gid
        may = {
            # smxs is in smxc, as the README has it, so that it can give content to that group;
            # who speaks as smtpc is checked by the queue manager (next test).
            "smxs": (content, "smtps", "qmsmtps", "qmsmtpc", "qmsmar"),
            "smxq": ("ibdb", "defedb", "qmsmtps", "qmsmtpc", "qmsmar", "qmgrctl"),
            "smxc": (content, "qmsmtpc"),
            "smxm": ("qmsmar",),
            "nobody": (),
        }
        everything = {content, *(name for names in may.values() for name in names)} - {"qmgrctl"}
        for user, names in may.items():
            for name in everything:
                path = content if name is content else top / "spool" / name
                test = "-r" if name is content else "-x"
                done = subprocess.run(
                    ["setpriv", f"--reuid={user}", f"--regid={pwd.getpwnam(user).pw_gid}",
                     "--init-groups", "test", test, path], check=False,
                )  # fmt: skip
                assert (done.returncode == 0) == (name in names), f"{user} {test} {path}"
        # Anybody may know the name of a content, nobody but its readers what is in it (X051).
        listing = subprocess.run(
            ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "ls", content],
            capture_output=True, check=False,
        )  # fmt: skip
        assert listing.returncode == 0
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    sink.wait(1)


CALLER = """
import sys
import trio
from libsmx.errors import StartError
from libsmx.link import Link
from libsmx.log import NullLog

path, role, server = sys.argv[1:]
link = Link(path, role, server, log=NullLog(), id=99, wait_s=0)

async def main():
    async with trio.open_nursery() as nursery:
        await nursery.start(link.run)
        print("welcome")
        nursery.cancel_scope.cancel()

try:
    trio.run(main)
except* StartError as group:
    print(group.exceptions[0])
"""


@pytest.mark.slow
@pytest.mark.covers("X037", "X059", "X060")
@pytest.mark.parametrize(
    ("user", "socket", "role", "server", "outcome"),
    [
        ("smxs", "qmsmtps/smtpssock", "smtps", "qmgr", "welcome"),
        ("smxs", "qmsmar/smarsock", "smtps", "smar", "welcome"),
        ("smxs", "qmsmar/smarsock", "qmgr", "smar", "may not act as qmgr"),
        ("smxs", "qmsmtpc/smtpcsock", "smtpc", "qmgr", "may not act as smtpc"),
        ("smxc", "qmsmtps/smtpssock", "smtps", "qmgr", "Permission denied"),
        ("smxc", "qmsmar/smarsock", "smtps", "smar", "Permission denied"),
        ("smxm", "qmsmtpc/smtpcsock", "smtpc", "qmgr", "Permission denied"),
        ("nobody", "qmgrctl/control", "qmgrctl", "qmgr", "Permission denied"),
        ("smx", "qmgrctl/control", "qmgrctl", "qmgr", "welcome"),
    ],
)
def test_sockets_are_open_to_those_they_are_for(gateway, user, socket, role, server, outcome):
    _port, _sink, top = gateway
    account = pwd.getpwnam(user)
    done = subprocess.run(
        ["setpriv", f"--reuid={user}", f"--regid={account.pw_gid}", "--init-groups",
         top / "usr/lib/smx/venv/bin/python", "-c", CALLER, top / "spool" / socket, role, server],
        capture_output=True, text=True, check=False, cwd="/",
    )  # fmt: skip
    assert outcome in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
def test_status_and_a_second_start(gateway, place):
    _port, _sink, top = gateway
    status = script(place, "mcp.sh", "status")
    assert status.returncode == 0
    assert "smx runs" in status.stdout
    again = script(place, "mcp.sh", "start")
    assert again.returncode != 0
    assert "runs already" in again.stdout + again.stderr
    assert script(place, "mcp.sh", "restart").returncode == 0
    assert script(place, "mcp.sh", "stop").returncode == 0
    assert script(place, "mcp.sh", "status").returncode == 3
    sockets = [path for path in (top / "spool").rglob("*") if path.is_socket()]
    assert sockets == []


@pytest.mark.slow
@pytest.mark.covers("X044")
def test_a_second_installation_overwrites_nothing(place):
    top, env = place
    conf = top / "etc/smx.conf"
    before = conf.read_text()
    conf.write_text(before + "# edited\n")
    done = subprocess.run(
        ["make", "-C", ROOT, "install"], env=env, capture_output=True, check=False
    )
    assert done.returncode == 0
    assert conf.read_text() == before + "# edited\n"
    conf.write_text(before)


WRITERS = {
    "": set(),
    "0": {"smxs", "smxq"},
    "F": {"smxs", "smxq"},
    "defedb": {"smxq"},
    "ibdb": {"smxq"},
    "ibdb/ibdb": {"smxq"},
    "qmsmar": {"smxq", "smxm", "smxs"},  # smxs and smxq are in group smxm, as the README has it
    "qmsmtpc": {"smxq", "smxc", "smxs"},  # smxs is in group smxc
    "qmsmtps": {"smxq", "smxs"},
    "smtps": {"smxs"},
    "qmgrctl": {"smxq"},
    "../etc": set(),
    "../etc/smx.conf": {"smx"},
    "../etc/mt": {"smxm"},
    "../log": set(),
    "../log/mcp.log": set(),
    "../log/qmgr.log": {"smxq"},
    "../log/smar.log": {"smxm"},
    "../log/smtpc.log": {"smxc"},
    "../log/smtps.log": {"smxs"},
    "../usr/sbin/mcp": set(),
    "../usr/libexec/smx/qmgr": set(),
    "../usr/lib/smx/venv/bin": set(),
}
"""Path below the queue directory -> users who may write there."""


@pytest.mark.slow
@pytest.mark.covers("X019", "X049", "X053", "X054", "X057", "X058", "X059", "X060", "X061")
def test_nobody_writes_what_is_not_his_own(place):
    top, _env = place
    users = ("smxs", "smxq", "smxc", "smxm", "smx", "nobody")
    for user in users:
        paths = [str(top / "spool" / path) for path in WRITERS]
        code = f"for path in {' '.join(paths)}; do test -w $path && echo $path; done; true"
        done = subprocess.run(
            ["setpriv", f"--reuid={user}", f"--regid={pwd.getpwnam(user).pw_gid}", "--init-groups",
             "sh", "-c", code],
            capture_output=True, text=True, check=True, cwd="/",
        )  # fmt: skip
        wanted = {path for path, writers in WRITERS.items() if user in writers}
        assert set(done.stdout.split()) == {str(top / "spool" / path) for path in wanted}, user
    privileged = [
        path for path in (top / "usr").rglob("*")
        if path.is_file() and not path.is_symlink() and path.stat().st_mode & 0o6000
    ]  # fmt: skip
    assert privileged == []


@pytest.mark.slow
@pytest.mark.covers("X024")
def test_the_unit_is_installed_and_its_capabilities_are_enough(gateway, place):
    _port, sink, top = gateway
    unit = (top / "usr/lib/systemd/system/smx.service").read_text()
    assert f"ExecStart={top}/usr/sbin/mcp -f {top}/etc/smx.conf -d {top}/spool " in unit
    need("systemd-analyze", "systemd")
    verified = subprocess.run(
        ["systemd-analyze", "verify", top / "usr/lib/systemd/system/smx.service"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    problems = [line for line in verified.stderr.splitlines() if "man " not in line]
    assert not [line for line in problems if "smx.service" in line], verified.stderr
    (names,) = [
        line.partition("=")[2].split()
        for line in unit.splitlines()
        if line.startswith("CapabilityBoundingSet=")
    ]
    bounds = ",".join(["-all", *(name.lower().replace("cap_", "+") for name in names)])
    assert script(place, "mcp.sh", "stop").returncode == 0
    done = subprocess.run(
        ["setpriv", f"--bounding-set={bounds}", f"--inh-caps={bounds}", "--no-new-privs",
         top / "usr/sbin/mcp.sh", "start"],
        env=place[1], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    before = len(sink.messages)
    System.send(_At(_port))
    sink.wait(before + 1)
    assert script(place, "mcp.sh", "stop").returncode == 0


def test_snippets_for_systemd_name_accounts_and_directories(place):
    top, _env = place
    accounts = (top / "usr/lib/sysusers.d/smx.conf").read_text().split("\n")
    assert [line.split()[1] for line in accounts if line[:1] == "u"] == list(ACCOUNTS[:4])
    assert [tuple(line.split()[1:]) for line in accounts if line[:1] == "m"] == list(MEMBERS)
    rows = (top / "usr/lib/tmpfiles.d/smx.conf").read_text().splitlines()[1:]
    for row in rows:
        kind, path, mode, owner, _group, _age = row.split()
        assert kind == "d"
        found = os.stat(path)
        assert (found.st_mode & 0o7777, pwd.getpwuid(found.st_uid).pw_name) == (int(mode, 8), owner)
    assert f"{top}/spool/defedb" in [row.split()[1] for row in rows]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["qmgrctl", "sta"], {"status", "stats"}),
        (["qmgrctl", "queue", "--st"], {"--state"}),
        (["qmgrctl", "queue", "--state", "he"], {"held"}),
        (["smxconf", "di"], {"diff"}),
        (["mcp.sh", "re"], {"restart", "reload"}),
    ],
)
def test_a_shell_completes_commands(place, words, wanted):
    top, _env = place
    line = " ".join(f"'{word}'" for word in words)
    code = f"""
        PATH={top}/usr/sbin:$PATH
        . {top}/usr/share/bash-completion/completions/{words[0]}
        COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}
        $(complete -p {words[0]} | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert set(done.stdout.split()) == wanted, done.stderr


@pytest.mark.slow
def test_an_uninstalled_system_leaves_configuration_and_queue(place):
    top, env = place
    prefix = reachable_dir("smx-gone-")
    try:
        shutil.copytree(top / "usr", prefix / "usr", symlinks=True)
        mine = env | {"PREFIX": f"{prefix}/usr"}
        for path in (prefix / "usr/sbin").iterdir():
            path.write_text(path.read_text().replace(f"{top}/usr", f"{prefix}/usr"))
        foreign = prefix / "usr/sbin/other"
        foreign.write_text("#!/bin/sh\n")
        done = subprocess.run(
            ["make", "-C", ROOT, "uninstall"], env=mine, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        left = [path for path in (prefix / "usr").rglob("*") if not path.is_dir()]
        assert left == [foreign]
        assert (top / "etc/smx.conf").exists()
        assert (top / "spool/ibdb").exists()
        again = subprocess.run(["make", "-C", ROOT, "uninstall"], env=mine, check=False)
        assert again.returncode != 0
    finally:
        shutil.rmtree(prefix)
