"""``make bench BACKLOG=n``: what n deferred recipients cost mail that has nothing to do with them.

Measures the same system with an empty and with a full deferred queue: start until mail is
accepted, relay of new mail, memory of the queue manager, and how long operators wait.
"""

import argparse
import contextlib
import json
import os
import pwd
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import trio

from libsmx.clock import SystemClock
from libsmx.envelope import Envelope, Recipient
from libsmx.ids import content_path, format_ta_id
from libsmx.log import NullLog
from qmgr.defedb import DefedbBatch
from qmgr.deferred import Defedb
from qmgr.records import DeferredRcpt
from tests.bench.machine import attach, fs_type
from tests.bench.servers import CountingSink, Smx
from tests.conftest import find_program
from tests.system import unprivileged_user

RCPTS = 100
"""Recipients of one deferred message."""
DOMAINS = 5000
BATCH = 50


def message(number, now_s):
    """One deferred transaction with its recipients, due in hours."""
    ta_id = format_ta_id(number, 255)
    names = [f"user{i}@d{(number * RCPTS + i) % DOMAINS}.backlog.example" for i in range(RCPTS)]
    envelope = Envelope(
        ta_id=ta_id,
        cdb_id=ta_id,
        sender="sender@client.example",
        rcpts=[Recipient(idx=i, address=name) for i, name in enumerate(names)],
        size=400,
        received_at=now_s,
    )
    rcpts = [
        DeferredRcpt(
            ta_id=ta_id,
            idx=i,
            address=name,
            dest=name.partition("@")[2],
            tries=3,
            next_try_at=now_s + 7200 + (number * 17 + i * 61) % 3600,
            error="451 4.7.1 try again later, this host is busy with other things",
            status="4.7.1",
        )
        for i, name in enumerate(names)
    ]
    return envelope, rcpts


def make(spool, count):
    """Put count recipients into the deferred queue of a stopped system."""

    async def fill():
        store = Defedb(str(spool / "defedb"), NullLog(), SystemClock())
        await store.open()
        now_s = time.time()
        for first in range(0, count // RCPTS, BATCH):
            numbers = range(first, min(first + BATCH, count // RCPTS))
            put = [message(number, now_s) for number in numbers]
            for envelope, _ in put:
                (spool / content_path(envelope.cdb_id)).write_bytes(b"Subject: x\r\n\r\n" * 30)
            await store.apply(DefedbBatch(put=put))
        await store.close()

    trio.run(fill)
    user = unprivileged_user()
    if user:
        uid, gid = pwd.getpwnam(user)[2:4]
        for path in [*(spool / "defedb").iterdir(), *spool.glob("[0-9A-F]/S*")]:
            os.chown(path, uid, gid)


def memory_mb(pid):
    """Memory of its own; pages of mapped files belong to the system."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    fields = dict(line.split(":", 1) for line in text.splitlines()[1:])
    return int(fields["Anonymous"].split()[0]) / 1024


def seconds(function, times=3):
    """Median time of a call."""
    taken = []
    for _ in range(times):
        begin = time.monotonic()
        function()
        taken.append(time.monotonic() - begin)
    return statistics.median(taken)


def measure(base, count, messages, source, sink_program):
    """Run the system with that many deferred recipients; return its figures."""
    sink = CountingSink(sink_program)
    server = Smx(base, sink.port)
    system = server.system
    try:
        system.stop()
        begin = time.monotonic()
        make(system.spool, count)
        made_s = time.monotonic() - begin
        begin = time.monotonic()
        system.start()
        figures = {"made_s": made_s, "start_s": time.monotonic() - begin}
        (_, qmgr), = system.pids("qmgr")  # fmt: skip
        rates, accepted = [], []
        for number in (messages // 10, messages, messages, messages):
            begin = time.monotonic()
            subprocess.run(
                [source, "-d", "-s", "10", "-m", str(number), "-l", "4096",
                 "-f", "a@client.example", "-t", "b@good.example", f"127.0.0.1:{server.port}"],
                check=True,
            )  # fmt: skip
            accepted.append(number / (time.monotonic() - begin))
            sink.wait_for(number)
            rates.append(number / (time.monotonic() - begin))
        figures["relay_rate"] = statistics.median(rates[1:])
        figures["accept_rate"] = statistics.median(accepted[1:])
        figures["qmgr_mb"] = memory_mb(qmgr)
        figures["status_s"] = seconds(lambda: system.ctl("status"))
        if count:
            lines = system.ctl("queue", "--json", "--domain", "d7.backlog.example").splitlines()
            figures["domain_rows"] = len(lines)
            figures["domain_s"] = seconds(
                lambda: system.ctl("queue", "--json", "--domain", "d7.backlog.example")
            )
        system.stop()
        begin = time.monotonic()
        system.start()
        figures["restart_s"] = time.monotonic() - begin
        system.kill_all()
        begin = time.monotonic()
        system.start()
        figures["after_kill_s"] = time.monotonic() - begin
        # The deferred queue is probed first, while new mail goes on.
        system.ctl("queue", "--json", "--domain", "d7.backlog.example")
        figures["after_kill_deferred_s"] = time.monotonic() - begin
        return figures
    finally:
        server.stop()
        sink.stop()


@contextlib.contextmanager
def disk(size_mb):
    """Yield (directory, kind) on a fresh ext4 of its own, else on /var/tmp."""
    place = Path(tempfile.mkdtemp(prefix="smx-backlog-", dir="/var/tmp"))
    place.chmod(0o755)
    mount = place / "fs"
    mount.mkdir()
    mounted = os.getuid() == 0 and attach(place / "image", mount, size_mb)
    try:
        mount.chmod(0o755)
        yield mount, fs_type(mount)
    finally:
        if mounted:
            subprocess.run(["umount", mount], check=False)
        shutil.rmtree(place, ignore_errors=True)


def main():
    """Run with an empty and with a full queue."""
    parser = argparse.ArgumentParser(prog="make bench BACKLOG=n", description=__doc__)
    parser.add_argument("count", type=int, help="deferred recipients")
    parser.add_argument("--messages", type=int, default=3000, help="new messages in each run")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    source, sink_program = find_program("smtp-source"), find_program("smtp-sink")
    if not source or not sink_program:
        sys.exit("make bench needs smtp-source and smtp-sink (Debian package postfix)")
    results = {}
    with disk(1500 + options.count // 300) as (base, kind):
        for count in (0, options.count):
            results[count] = measure(base, count, options.messages, source, sink_program)
            print(count, "deferred:", {k: round(v, 3) for k, v in results[count].items()}, kind,
                  flush=True)  # fmt: skip
    empty, full = results[0], results[options.count]
    print(f"relay rate {full['relay_rate'] / empty['relay_rate']:.2f} of that with an empty queue, "
          f"qmgr {full['qmgr_mb'] - empty['qmgr_mb']:+.1f} MB, start {full['start_s']:.1f} s "
          f"(empty {empty['start_s']:.1f} s), accept rate "
          f"{full['accept_rate'] / empty['accept_rate']:.2f}, "
          f"status {full['status_s']:.2f} s")  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
