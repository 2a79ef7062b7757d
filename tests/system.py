"""A whole smx for a test: own directory, own ports, real processes started through mcp.

As root the daemons run as an unprivileged user (mcp switches), from an environment that this
user can reach; as an ordinary user everything runs as that user.
"""

import contextlib
import json
import os
import pwd
import shutil
import signal
import smtplib
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from libsmx.mapfile import write_map

ROOT = Path(__file__).parent.parent
DEADLINE_S = 60
MANY_CLIENTS = "smtps { max_connections = 1000; max_connection_rate = 1000000; }"
"""All clients of a test share one address; the limits have tests of their own."""


def free_port(host="127.0.0.1"):
    """A port that nobody uses now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as sock:
        sock.bind((host, 0))
        return sock.getsockname()[1]


def wait_for(what, condition, deadline_s=DEADLINE_S):
    """Wait until condition() is true and return what it returned."""
    end = time.monotonic() + deadline_s
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not happen within {deadline_s} s")
        time.sleep(0.02)


def unprivileged_user():
    """The user that daemons run as when the tests run as root."""
    return "nobody" if os.getuid() == 0 else ""


def reachable_dir(prefix="smx-test-"):
    """A new directory that every user can reach (pytest's own are closed)."""
    path = Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))
    path.chmod(0o755)
    return path


class System:
    """One instance; use as a context manager.

    Args:
        programs: directory of the programs to start.
        nexthop: ``host:port`` that everything goes to, or None for the mailertable given.
        mt: text of the mailertable when nexthop is None.
        aliases: keys and values of the aliases map; None for no such map.
        options: section -> lines added to it ("" is the global part).
        smtps_processes, smtpc_processes: how many to run.
    """

    def __init__(self, programs, *, nexthop=None, mt=None, options=None, smtps_processes=1,
                 smtpc_processes=1, base=None, listen=("127.0.0.1",), extra="",
                 aliases=None):  # fmt: skip
        self.programs = Path(programs)
        self.dir = base or reachable_dir()
        self.port = free_port()
        self.spool = self.dir / "spool"
        self.conf = self.dir / "smx.conf"
        self.mt = self.dir / "mt"
        self.options = options or {}
        self.processes = {"smtps": smtps_processes, "smtpc": smtpc_processes}
        self.listen = listen
        self.extra = extra
        self.mcp = None
        self.output = b""
        text = mt if mt is not None else ""
        if nexthop:
            host, port = nexthop.rsplit(":", 1)
            text += f". {port}^esmtp:[{'IPv6:' if ':' in host else ''}{host}]\n"
        self._make(text)
        if aliases is not None:
            self.write_aliases(aliases)

    def write_aliases(self, entries):
        """Put a new aliases map in the place of the old one."""
        write_map(str(self.dir / "aliases.db"), entries, source="a test", made_at=time.time())

    def _make(self, mt):
        for name in (*"0123456789ABCDEF", "defedb", "ibdb", "ibdb/ibdb", "qmsmar", "qmsmtpc",
                     "qmsmtps", "smtps", "qmgrctl"):  # fmt: skip
            (self.spool / name).mkdir(parents=True)
        (self.dir / "log").mkdir()
        self.mt.write_text(mt)
        self.write_conf()
        user = unprivileged_user()
        if user:
            uid, gid = pwd.getpwnam(user)[2:4]
            for path in (self.spool, *self.spool.rglob("*"), self.dir / "log"):
                os.chown(path, uid, gid)

    def write_conf(self):
        """Write smx.conf from the current settings."""
        user = unprivileged_user()
        common = f"user = {user};" if user else ""
        lib = self.programs
        gid = pwd.getpwnam(user)[3] if user else os.getgid()
        sockets = "".join(
            f"listen_socket {{ type = {'inet6' if ':' in host else 'inet'};"
            f' address = "{host}"; port = {self.port}; }}'
            for host in self.listen
        )
        own = {
            "smtps": f"{sockets} pass_fd_socket = smtps/smtpsfd; CDB_gid = {gid};",
            "smtpc": "",
            "smar": f'mailertable {{ file = "{self.mt}"; }}',
            "qmgr": "" if "max_connection" in self.options.get("qmgr", "") else MANY_CLIENTS,
        }  # fmt: skip
        text = 'hostname = "mx.smx.test";\n' + self.options.get("", "")
        for name, action in (
            ("qmgr", "wait"),
            ("smar", "wait"),
            ("smtps", "pass"),
            ("smtpc", "wait"),
        ):
            many = ""
            if self.processes.get(name) == 0:
                continue
            if name in self.processes:
                count = self.processes[name]
                many = f'pass_id = "-i"; min_processes = {count}; max_processes = {count};'
            dependencies = ""
            if name == "qmgr":
                others = ", ".join(other for other, count in self.processes.items() if count)
                dependencies = f"restart_dependencies = {{ {others} }};"
            text += f"""
{name} {{ start_action = {action}; {common} {many} {dependencies}
  path = "{lib}/{name}"; arguments = "{name} -f {self.conf}";
  log {{ file = "{self.dir}/log/{name}.log"; }}
  {own[name]}
  {self.options.get(name, "")}
}}
"""
        self.conf.write_text(text + self.extra)

    def start(self, *, ready=True):
        """Start mcp and wait until mail is accepted."""
        if self.mcp is not None:
            raise AssertionError("already started")
        self.mcp_log = open(self.dir / "mcp.out", "ab")
        self.mcp = subprocess.Popen(
            [self.programs / "mcp", "-f", self.conf, "-d", self.spool, "-p", self.dir / "mcp.pid"],
            stdin=subprocess.DEVNULL, stdout=self.mcp_log, stderr=self.mcp_log, cwd=self.spool,
        )  # fmt: skip
        if ready:
            wait_for("a greeting", self.greets)
        return self

    def greets(self):
        """Tell whether a server answers on the port."""
        if self.mcp.poll() is not None:
            raise AssertionError(f"mcp ended with {self.mcp.returncode}\n{self.report()}")
        try:
            with socket.create_connection((self.listen[0], self.port), 5) as sock:
                return sock.recv(100).startswith(b"220")
        except OSError:
            return False

    def stop(self):
        """Stop in order and return mcp's exit status."""
        status = None
        if self.mcp is not None:
            if self.mcp.poll() is None:
                self.mcp.terminate()
            try:
                status = self.mcp.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                self.kill_all()
                raise AssertionError(f"mcp did not stop\n{self.report()}") from None
            finally:
                self.mcp_log.close()
                self.mcp = None
        return status

    def kill_all(self):
        """SIGKILL every process at once, as a power cut does to them."""
        pids = [pid for _, pid in self.pids()]
        for pid in [self.mcp.pid, *pids]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.mcp.wait()
        self.mcp_log.close()
        self.mcp = None
        wait_for("the end of all processes", lambda: not any(alive(pid) for pid in pids))

    def pids(self, name=None):
        """(name, pid) of the children, found by the configuration file they were given."""
        found = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                with open(f"/proc/{entry}/stat") as file:
                    parent = int(file.read().rsplit(")", 1)[1].split()[1])
                if self.mcp is None or parent != self.mcp.pid:
                    continue
                with open(f"/proc/{entry}/cmdline", "rb") as file:
                    words = file.read().replace(b"\0", b" ").decode().split()
            except (OSError, IndexError):
                continue
            for daemon in ("qmgr", "smar", "smtps", "smtpc"):
                if any(word == daemon or word.endswith(f"/{daemon}") for word in words[:4]):
                    found.append((daemon, int(entry)))
        return [item for item in found if name is None or item[0] == name]

    def kill(self, name, sig=signal.SIGKILL):
        """Send a signal to one process of that name and return its pid."""
        pids = wait_for(f"a {name} process", lambda: self.pids(name))
        os.kill(pids[0][1], sig)
        return pids[0][1]

    def ctl(self, *words, check=True):
        """Run qmgrctl and return what it printed; with check, "not now" is asked again."""
        socket_path = self.spool / "qmgrctl/control"

        def ask():
            return subprocess.run(
                [self.programs / "qmgrctl", "-f", self.conf, "-s", socket_path, *words],
                capture_output=True, text=True, check=False, cwd=self.spool, timeout=DEADLINE_S,
            )  # fmt: skip

        done = ask()
        end = time.monotonic() + DEADLINE_S
        while check and done.returncode == os.EX_TEMPFAIL and time.monotonic() < end:
            time.sleep(0.1)
            done = ask()
        if check and done.returncode:
            raise AssertionError(f"qmgrctl {words}: {done.returncode} {done.stdout}{done.stderr}")
        return done.stdout

    def status(self):
        """The status figures as a dict."""
        answer = json.loads(self.ctl("status", "--json"))
        return {figure["name"]: figure["value"] for figure in answer["figures"]} | {
            "state": answer["state"]
        }

    def queue(self):
        """The queue as a list of dicts."""
        return [json.loads(line) for line in self.ctl("queue", "--json").splitlines()]

    def wait_empty(self, deadline_s=DEADLINE_S):
        """Wait until nothing is queued."""
        wait_for(f"an empty queue in {self.dir}", lambda: not self.queue(), deadline_s)

    def contents(self):
        """Paths of all content files."""
        return [path for name in "0123456789ABCDEF" for path in (self.spool / name).iterdir()]

    def log(self, name):
        """The log lines of one daemon."""
        path = self.dir / "log" / f"{name}.log"
        return path.read_text().splitlines() if path.exists() else []

    def mcp_lines(self):
        """The lines that mcp has printed."""
        return (self.dir / "mcp.out").read_text().splitlines()

    def report(self):
        """All logs, for a failing test."""
        text = [(self.dir / "mcp.out").read_text()[-4000:]]
        for path in sorted((self.dir / "log").iterdir()):
            text.append(f"--- {path.name}\n" + path.read_text()[-4000:])
        return "\n".join(text)

    def send(
        self, sender="a@client.example", rcpts=("b@dest.example",), body="Subject: x\r\n\r\nhi\r\n"
    ):
        """Send one message with the standard library's client."""
        with smtplib.SMTP(self.listen[0], self.port, timeout=DEADLINE_S) as client:
            return client.sendmail(sender, list(rcpts), body)

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, value, trace):
        try:
            self.stop()
        finally:
            if kind is not None:
                print(self.report(), file=sys.stderr)
            elif "SMX_KEEP" not in os.environ:
                shutil.rmtree(self.dir)


def alive(pid):
    """Tell whether a process exists and is no zombie."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False
