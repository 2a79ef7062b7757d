"""A Postfix instance of its own: a next hop for interoperability tests, the peer for benchmarks.

Needs root (its master does) and Debian's package; touches nothing of a Postfix that is
configured on the machine.
"""

import shutil
import subprocess
from pathlib import Path

from tests.system import wait_for

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
MASTER = """\
{listen} inet n - n - {limit} smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""
MAIN = """\
compatibility_level = 3.6
queue_directory = {dir}/spool
data_directory = {dir}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file = {dir}/log/mail.log
maillog_file_prefixes = {dir}
myhostname = next.hop.test
mydestination =
mynetworks = 127.0.0.0/8 [::1]/128
smtpd_relay_restrictions = permit_mynetworks, reject
inet_protocols = ipv4
biff = no
relayhost = {relayhost}
smtp_host_lookup = native
disable_dns_lookups = yes
message_size_limit = 50000000
{extra}
"""
TUNED = """\
default_process_limit = 250
in_flow_delay = 0
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_peername_lookup = no
receive_override_options = no_address_mappings
default_destination_concurrency_limit = 50
initial_destination_concurrency = 20
"""


class Postfix:
    """One instance; use as a context manager.

    Args:
        base: directory that everything goes below; reachable by every user.
        port: port on 127.0.0.1 to listen on.
        relayhost: ``host:port`` of the next hop.
        extra: more lines of main.cf.
    """

    def __init__(self, base, port, relayhost, extra=""):
        self.dir = Path(base)
        self.port = port
        host, _, hop = relayhost.rpartition(":")
        for name in ("conf", "spool", "data", "log"):
            (self.dir / name).mkdir(parents=True)
        shutil.chown(self.dir / "data", "postfix")
        conf = self.dir / "conf"
        (conf / "master.cf").write_text(MASTER.format(listen=f"127.0.0.1:{port}", limit="-"))
        (conf / "main.cf").write_text(
            MAIN.format(dir=self.dir, relayhost=f"[{host}]:{hop}", extra=extra)
        )

    def command(self, *words):
        """Run a Postfix administration command on this instance."""
        return subprocess.run(
            [words[0], "-c", self.dir / "conf", *words[1:]],
            capture_output=True, text=True, check=True, env={"PATH": PATH},
        ).stdout  # fmt: skip

    def __enter__(self):
        self.command("postfix", "start")
        return self

    def __exit__(self, *exc):
        self.command("postfix", "stop")
        pid = self.dir / "spool/pid/master.pid"
        wait_for("Postfix to end", lambda: not running(pid))

    def queued(self):
        """Number of messages in its queue."""
        return sum(
            1 for line in self.command("postqueue", "-j").splitlines() if line.startswith("{")
        )


def running(pid_file):
    """Tell whether the process of a pid file lives."""
    try:
        return Path(f"/proc/{int(pid_file.read_text())}").exists()
    except (OSError, ValueError):
        return False
