"""A real mcp on a queue directory of its own, with small children instead of mail programs."""

import json
import os
import pwd
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = os.geteuid() == 0
USER = "nobody" if ROOT else ""
PATIENCE_S = 60.0
"""Only a fault makes a test wait so long."""
PROGRAM = Path(__file__).with_name("child.py")

_FIELD = re.compile(r'([a-z_]+)=("(?:[^"\\]|\\.)*"|\S*)')


def reachable_python():
    """A Python that the children's user may execute; any version does for child.py."""
    if not ROOT:
        return sys.executable
    return shutil.which("python3", path="/usr/bin:/usr/local/bin:/bin")


class Run:
    """One mcp; its log comes through a pipe, so that waiting for an event is just reading."""

    def __init__(self, directory, config, *more, prefix=()):
        self.directory = directory
        self.seen = []
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-I", "-m", "mcp", "-f", config, "-d", directory, *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._rest, self._ready = b"", []

    def lines(self):
        """Return the lines of the log as they come; give up when none comes for long."""
        fd = self.process.stdout.fileno()
        while True:
            while self._ready:
                self.seen.append(self._ready.pop(0).decode("utf-8", "replace"))
                yield self.seen[-1]
            if not select.select([fd], [], [], PATIENCE_S)[0]:
                raise AssertionError(self.failure("nothing came any more"))
            data = os.read(fd, 65536)
            if not data:
                return
            *self._ready, self._rest = (self._rest + data).split(b"\n")

    def failure(self, text):
        return "\n".join([text, *self.seen])

    def expect(self, event, **fields):
        """Read on until the event comes; return its fields."""
        for line in self.lines():
            words = line.split(": ", 1)[-1].split(" ", 1)
            found = {
                key: json.loads(value) if value.startswith('"') else value
                for key, value in _FIELD.findall(words[1] if len(words) > 1 else "")
            }
            if words[0].strip() == event and fields.items() <= found.items():
                return found
        raise AssertionError(self.failure(f"no {event} {fields} in:"))

    def text(self, service, start=""):
        """Read on until the service prints a line that begins so; return the line."""
        while True:
            line = self.expect("child_output", service=service)["text"]
            if line.startswith(start):
                return line

    def signal(self, signo):
        self.process.send_signal(signo)

    def end(self):
        """Read to the end; return the exit code."""
        for _line in self.lines():
            pass
        return self.process.wait()

    def stop(self):
        self.signal(signal.SIGTERM)
        return self.end()


class Bench:
    """A queue directory and what is needed to run mcp on it."""

    def __init__(self, directory):
        self.directory = directory
        self.python = reachable_python()
        self.runs = []
        shutil.copy(PROGRAM, directory / "child.py")

    def section(self, keyword, mode, *, options="", start_action="wait"):
        """Return a section that runs child.py."""
        user = f"user = {USER};" if USER else ""
        return (
            f"{keyword} {{ start_action = {start_action}; {user} {options}\n"
            f'  path = "{self.python}"; arguments = "child -I child.py {mode}"; }}\n'
        )

    def config(self, *sections):
        path = self.directory / "smx.conf"
        path.write_text("\n".join(sections))
        return str(path)

    def start(self, *sections, more=(), prefix=()):
        run = Run(str(self.directory), self.config(*sections), *more, prefix=prefix)
        self.runs.append(run)
        return run


@pytest.fixture
def bench():
    # Not tmp_path: the children's user must reach it.
    directory = Path(tempfile.mkdtemp(prefix="smx-mcp-", dir="/tmp"))
    directory.chmod(0o755)
    made = Bench(directory)
    if made.python is None:
        pytest.skip("no python3 that other users may execute")
    if ROOT:
        nobody = pwd.getpwnam(USER)
        os.chown(directory, nobody.pw_uid, nobody.pw_gid)
    yield made
    for run in made.runs:
        if run.process.poll() is None:
            run.stop()
        run.process.stdout.close()
    shutil.rmtree(directory)
