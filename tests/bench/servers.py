"""The servers that are measured, each set up anew for a run, and the sink behind them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.postfix import TUNED, Postfix
from tests.system import System, free_port, wait_for

DEAD = "dead.example"
"""Mail for this domain goes to a port that nobody listens on."""


class CountingSink:
    """Postfix's smtp-sink with its message counter."""

    def __init__(self, program):
        self.port = free_port()
        self.process = subprocess.Popen(
            [program, "-u", "nobody", "-c", f"127.0.0.1:{self.port}", "1000"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.count = 0

    def wait_for(self, count):
        """Read the counter until it has reached count since the last call."""
        goal = self.count + count
        while self.count < goal:
            data = self.process.stdout.read1(65536)
            if not data:
                raise AssertionError("smtp-sink ended")
            found = re.findall(rb"mesg=(\d+)", data)
            if found:
                self.count = int(found[-1])

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()


class Smx:
    """smx as it stands in this checkout."""

    name = "smx"

    def __init__(self, base, sink_port, *, accept_only=False, programs=None):
        self.base = Path(base) / "smx"
        self.base.mkdir()
        self.base.chmod(0o755)
        options = {
            "qmgr": "IQDB { max_cache_entries = 200000; hash_table_entries = 400009; }"
            "smtps { max_connections = 1000; max_connection_rate = 1000000; }"
        }
        self.system = System(
            programs or Path(sys.executable).parent, nexthop=f"127.0.0.1:{sink_port}",
            mt=f"{DEAD} {free_port()}^esmtp:[127.0.0.1]\n",
            base=self.base, options=options, smtpc_processes=0 if accept_only else 1,
        )  # fmt: skip
        self.port = self.system.port
        try:
            self.system.start()
        except AssertionError:
            self.stop()
            raise

    @property
    def pid(self):
        return self.system.mcp.pid

    def deferred(self):
        """Number of messages that wait for another try."""
        status = self.system.status()
        return status["defedb_tas"] if not status["ibdb_open_tas"] else 0

    def list_queue(self):
        """Print the queue; return the number of rows."""
        return self.system.ctl("queue").count(DEAD)

    def stop_programs(self):
        self.system.stop()

    def start_programs(self):
        """Begin to start; mail is accepted soon after."""
        self.system.start(ready=False)

    def stop(self):
        self.system.stop()
        shutil.rmtree(self.base)


class PostfixDefault:
    """Postfix as Debian sets it up."""

    name = "postfix-default"
    extra = ""

    def __init__(self, base, sink_port, *, accept_only=False):
        self.base = Path(base) / "postfix"
        self.port = free_port()
        self.base.mkdir()
        self.base.chmod(0o755)
        transport = Path(base) / "postfix-transport"
        transport.write_text(f"{DEAD} smtp:[127.0.0.1]:{free_port()}\n")
        more = f"transport_maps = texthash:{transport}\n"
        if accept_only:
            more += "smtpd_client_restrictions = static:HOLD\n"
        self.postfix = Postfix(self.base, self.port, f"127.0.0.1:{sink_port}", self.extra + more)
        self.start_programs()
        wait_for("Postfix", (self.base / "spool/pid/master.pid").exists)

    @property
    def pid(self):
        return int((self.base / "spool/pid/master.pid").read_text())

    def _files(self, *queues):
        places = (self.base / "spool" / queue for queue in queues)
        return sum(len(names) for place in places for _, _, names in os.walk(place))

    def deferred(self):
        """Number of messages that wait for another try."""
        return self._files("deferred") if not self._files("incoming", "active") else 0

    def list_queue(self):
        """Print the queue; return the number of rows."""
        return self.postfix.command("postqueue", "-p").count(DEAD)

    def stop_programs(self):
        self.postfix.__exit__()

    def start_programs(self):
        """Begin to start; mail is accepted soon after."""
        self.postfix.__enter__()

    def stop(self):
        self.postfix.__exit__()
        shutil.rmtree(self.base)


class PostfixTuned(PostfixDefault):
    """Postfix with its limits and safety pauses out of the way."""

    name = "postfix-tuned"
    extra = TUNED


ALL = (Smx, PostfixDefault, PostfixTuned)
