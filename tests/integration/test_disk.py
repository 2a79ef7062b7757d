"""Disks that fill up, fail and lose power under real processes: I1 holds.

As root on Linux only: file systems are made for it, and strace injects the failures.
"""

import contextlib
import fcntl
import os
import subprocess
import time

import pytest

from tests.conftest import need
from tests.integration.test_crash import check
from tests.load import NUMBER, Load
from tests.sink import Sink
from tests.system import System, reachable_dir, wait_for

SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN
WITHOUT_FLUSH = 2  # what is not in the journal is lost, as when the power fails
SMALL = "IBDB { size = 256KB; }"


def run(*words, check=True):
    """Run a program of the system."""
    return subprocess.run(words, check=check, capture_output=True, text=True)


@pytest.fixture
def disk():
    """Mount a file system as the spool of a system: disk(kind, megabytes) -> base directory."""
    if os.getuid() != 0:
        pytest.skip("needs root to mount a file system")
    mounts, bases = [], []

    def make(kind, size_mb):
        base = reachable_dir()
        bases.append(base)
        spool = base / "spool"
        spool.mkdir()
        if kind == "tmpfs":
            done = run("mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "none", spool, check=False)
        else:
            image = base / "image"
            with open(image, "wb") as file:
                file.truncate(size_mb << 20)
            run(need("mkfs.ext4", "e2fsprogs"), "-q", "-F", image)
            done = run("mount", "-o", "loop", image, spool, check=False)
        if done.returncode:
            pytest.skip(f"cannot mount {kind} here: {done.stderr.strip()}")
        mounts.append(spool)
        if kind != "tmpfs":
            (spool / "lost+found").rmdir()
        return base

    yield make
    for spool in mounts:
        run("umount", "-l", spool, check=False)
    for base in bases:
        run("rm", "-rf", base)


def free_kb(system):
    """Free space of the spool."""
    info = os.statvfs(system.spool)
    return info.f_bavail * info.f_frsize // 1024


def fill(system, leave_kb):
    """Fill the spool up to some free space; return the file that does it."""
    path = system.spool / "ballast"
    with open(path, "ab", buffering=0) as file, contextlib.suppress(OSError):
        while free_kb(system) > leave_kb:
            file.write(bytes(min(1 << 20, (free_kb(system) - leave_kb) << 10)))
    return path


def attempt(system):
    """Send a message; return the reply code that ended it."""
    try:
        system.send()
    except OSError as error:  # of smtplib: refused connection, sender, recipients or data
        codes = [getattr(error, "smtp_code", 0)]
        codes += [code for code, _ in getattr(error, "recipients", {}).values()]
        return max(codes)
    return 250


@pytest.mark.slow
@pytest.mark.covers("X178", "X179")
def test_too_little_space_refuses_until_there_is_enough_again(disk, smx):
    base = disk("tmpfs", 64)
    options = {"qmgr": SMALL + "min_disk_space = 8MB; ok_disk_space = 16MB;"}
    with Sink() as sink:
        system = smx(base=base, nexthop=sink.address, options=options).start()
        assert attempt(system) == 250
        ballast = fill(system, 4096)
        wait_for("a refusal", lambda: attempt(system) == 452)
        reason = system.ctl("status")
        os.truncate(ballast, ballast.stat().st_size - (8 << 20))  # 12 MB free: not enough yet
        wait_for("another look at the disk", lambda: system.ctl("status") != reason)
        looked = time.monotonic() + 11  # the queue manager looks every ten seconds
        wait_for("a look for certain", lambda: time.monotonic() > looked)
        assert attempt(system) == 452
        ballast.unlink()
        wait_for("mail to be accepted again", lambda: attempt(system) == 250)
        sink.wait(2)


@pytest.mark.slow
@pytest.mark.covers("X011", "X013")
def test_a_full_disk_loses_nothing_that_was_acknowledged(disk, smx):
    base = disk("tmpfs", 24)
    options = {"qmgr": SMALL + "min_disk_space = 0; ok_disk_space = 1;"}
    with Sink() as sink:
        system = smx(base=base, nexthop=sink.address, options=options).start()
        with Load(system.port, size=20_000) as load:
            wait_for("mail to flow", lambda: len(load.acked) > 50)
            for _ in range(3):
                before = load.refusals
                # Each delivery frees space, which could feed the next message for ever.
                wait_for(
                    "refusals",
                    lambda: fill(system, 0) and load.refusals > before + 20,  # noqa: B023
                )
                (system.spool / "ballast").unlink()
                before = len(load.acked)
                wait_for("mail to flow again", lambda: len(load.acked) > before + 50)  # noqa: B023
            check(load, sink, system, in_flight=0)


class Injection:
    """strace on the processes of one name, failing or killing some system calls."""

    def __init__(self, system, name, *rules):
        strace = need("strace", "strace")
        self.log = system.dir / f"strace.{name}"
        pids = [word for _, pid in system.pids(name) for word in ("-p", str(pid))]
        words = [word for rule in rules for word in ("-e", f"inject={rule}")]
        calls = ",".join(rule.partition(":")[0] for rule in rules)
        self.process = subprocess.Popen(
            [strace, "-f", "-o", self.log, "-e", f"trace={calls}", *words, *pids],
            stderr=subprocess.PIPE,
        )
        first = self.process.stderr.readline().decode()
        if "attached" not in first:
            self.process.kill()
            pytest.skip(f"strace cannot attach here: {first}")

    def injected(self):
        """How often it happened."""
        return self.log.read_text().count("INJECTED") if self.log.exists() else 0

    def stop(self):
        """Let the processes go on without it.

        By force: asked to end, it may wait for ever for the main thread of a process that died
        while it had not yet seen its other threads die, and mcp does not hear of the death.
        """
        self.process.kill()
        self.process.communicate()


@pytest.mark.slow
@pytest.mark.covers("X013")
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
@pytest.mark.parametrize(
    ("name", "call", "rate"),
    [("qmgr", "fdatasync", 7), ("qmgr", "pwrite64", 11), ("smtps", "fdatasync", 7)],
)
def test_failing_writes_lose_nothing_that_was_acknowledged(smx, name, call, rate, error):
    if os.getuid() != 0:
        pytest.skip("needs root to trace the daemons")
    with Sink() as sink:
        system = smx(nexthop=sink.address, options={"qmgr": SMALL}).start()
        with Load(system.port) as load:
            wait_for("mail to flow", lambda: len(load.acked) > 20)
            injection = Injection(system, name, f"{call}:error={error}:when=3+{rate}")
            before = len(load.acked)
            wait_for("failures", lambda: injection.injected() > 5)
            wait_for("mail all the same", lambda: len(load.acked) > before + 50)
            injection.stop()
            check(load, sink, system, in_flight=0)


@pytest.mark.slow
@pytest.mark.covers("X013", "X018")
@pytest.mark.parametrize("call", ["fdatasync", "pwrite64", "unlink", "fsync"])
@pytest.mark.parametrize("number", [1, 4])
def test_a_queue_manager_that_dies_in_a_write_loses_nothing(smx, call, number):
    if os.getuid() != 0:
        pytest.skip("needs root to trace the daemons")
    with Sink() as sink:
        system = smx(nexthop=sink.address, options={"qmgr": "IBDB { size = 64KB; }"}).start()
        with Load(system.port) as load:
            wait_for("mail to flow", lambda: len(load.acked) > 20)
            (_, pid), = system.pids("qmgr")  # fmt: skip
            injection = Injection(system, "qmgr", f"{call}:signal=SIGKILL:when={number}")
            wait_for("the death", lambda: pid not in [p for _, p in system.pids("qmgr")])
            injection.stop()
            before = len(load.acked)
            wait_for("mail to flow again", lambda: len(load.acked) > before + 30)
            check(load, sink, system, in_flight=sink.most_open)


def cut_power(system):
    """Let the file system forget what is not on disk, and every process die."""
    fd = os.open(system.spool, os.O_RDONLY)
    fcntl.ioctl(fd, SHUTDOWN, WITHOUT_FLUSH.to_bytes(4, "little"))
    os.close(fd)
    system.kill_all()


@pytest.mark.slow
@pytest.mark.covers("X011", "X013")
def test_what_was_acknowledged_survives_a_power_failure(disk, programs):
    base = disk("ext4", 96)
    with Sink() as sink:
        options = {"qmgr": SMALL + "min_disk_space = 0; ok_disk_space = 1;"}
        system = System(programs, base=base, nexthop=sink.address, options=options)
        system.start()
        try:
            with Load(system.port) as load:
                wait_for("mail to flow", lambda: len(load.acked) > 200)
                cut_power(system)
                load.stop()
                run("umount", system.spool)
                run("mount", "-o", "loop", base / "image", system.spool)
                system.start()
                # Removals and delivery records of the last moments may be undone: mail that
                # was delivered then is delivered again, as after any crash.
                check(load, sink, system, in_flight=len(load.acked))
        finally:
            system.stop()


SYNCS = ("fsync", "fdatasync", "syncfs", "msync", "sync_file_range")


def recovered(system, logged):
    """Tell whether the log says, from a line on, that what was left open is in the queue."""
    text = "\n".join(system.log("qmgr")[logged:])
    nothing = " defedb_opened " in text and " ibdb_recovered " not in text
    return nothing or " recovered " in text


def kept(system):
    """Numbers of the messages in the queue whose content is there."""
    queued = {entry["ta_id"] for entry in system.queue()}
    found = (NUMBER.search(p.read_bytes()) for p in system.contents() if p.name in queued)
    return {match[1].decode() for match in found if match}


@pytest.mark.slow
@pytest.mark.covers("X013")
@pytest.mark.parametrize("syncs", [True, False])
def test_a_power_failure_is_survived_because_of_syncs_and_not_by_luck(disk, programs, syncs):
    """Where every sync only says that it was done, the same power failure must lose mail.

    Nothing is delivered, so that what is not in the queue afterwards is lost.
    """
    base = disk("ext4", 96)
    with Sink(replies={"RCPT": lambda _: "451 4.2.1 not now"}) as sink:
        options = {"qmgr": SMALL + "min_disk_space = 0; ok_disk_space = 1;"}
        system = System(programs, base=base, nexthop=sink.address, options=options)
        system.start()
        try:
            with Load(system.port) as load:
                wait_for("mail to flow", lambda: len(load.acked) > 20)
                lies = [] if syncs else [
                    Injection(system, name, *(f"{call}:retval=0" for call in SYNCS))
                    for name in ("smtps", "qmgr")
                ]  # fmt: skip
                before = len(load.acked)
                wait_for("mail to flow", lambda: len(load.acked) > before + 100)
                cut_power(system)
                load.stop()
            for lie in lies:
                lie.stop()
            run("umount", system.spool)
            run("mount", "-o", "loop", base / "image", system.spool)
            logged = len(system.log("qmgr"))
            system.start()
            wait_for("the end of recovery", lambda: recovered(system, logged))
            assert (load.acked <= kept(system)) is syncs
        finally:
            system.stop()
