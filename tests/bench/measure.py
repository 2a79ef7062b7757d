"""One run of one work on one server: what is done, and the figures that come of it."""

import contextlib
import os
import smtplib
import subprocess
import time
from pathlib import Path

import attrs

from tests.bench.client import fan_out, percentile, time_replies
from tests.bench.machine import Memory, cpu_s, machine_cpu_s, tree
from tests.bench.rows import Work, load
from tests.bench.servers import DEAD, CountingSink
from tests.sink import Sink
from tests.system import wait_for

DOMAINS = 200
_LONG_S = 600


@attrs.frozen
class Tools:
    """Programs that every run needs, and where the spool lies."""

    source: str
    sink: str
    strace: str
    base: str


class Meter:
    """Processor time and memory of a server while something is done, and of everybody else."""

    def __init__(self, pid, helpers=()):
        self.pid = pid
        self.helpers = list(helpers)

    def __enter__(self):
        self._before = cpu_s(tree(self.pid))
        self._helpers = sum(cpu_s(self.helpers).values())
        self._mine = os.times()
        self._machine = machine_cpu_s()
        self._memory = Memory(self.pid)
        self._memory.start()
        self._begin = time.monotonic()
        return self

    def __exit__(self, *exc):
        self.seconds = time.monotonic() - self._begin
        after = cpu_s(tree(self.pid))
        busy = machine_cpu_s() - self._machine
        self._memory.stop()
        self.cpu = {name: after[name] - self._before.get(name, 0.0) for name in after}
        mine = sum(os.times()[:4]) - sum(self._mine[:4])
        helpers = sum(cpu_s(self.helpers).values()) - self._helpers
        others = busy - sum(self.cpu.values()) - mine - helpers
        self.noise = max(0.0, others / self.seconds)

    def figures(self, messages):
        """Return the figures for so many messages."""
        return {
            "cpu_ms": 1000 * sum(self.cpu.values()) / messages,
            "cpu_by_process_ms": {
                name: round(1000 * value / messages, 3) for name, value in self.cpu.items() if value
            },
            "peak_mb": self._memory.peak / 1e6,
            "processes": self._memory.processes,
            "noise": self.noise,
        }


@contextlib.contextmanager
def running(server_class, tools, *, accept_only=False):
    """Yield a server and the sink behind it."""
    sink = CountingSink(tools.sink)
    try:
        server = server_class(tools.base, sink.port, accept_only=accept_only)
        try:
            yield server, sink
        finally:
            server.stop()
    finally:
        sink.stop()


def warm_up(server, sink, work, tools):
    """Have every process started and every cache filled."""
    warm = attrs.evolve(work, messages=max(50, 4 * work.sessions))
    load(tools.source, server.port, warm)
    if not work.accept_only:
        sink.wait_for(warm.messages)


def run_load(server_class, work, tools):
    """Throughput: until the last message arrived, or was accepted."""
    with running(server_class, tools, accept_only=work.accept_only) as (server, sink):
        warm_up(server, sink, work, tools)
        with Meter(server.pid, [sink.process.pid]) as meter:
            seconds = load(tools.source, server.port, work)
            if not work.accept_only:
                sink.wait_for(work.messages)
        if not work.accept_only:
            seconds = meter.seconds
        return {"rate": work.messages / seconds} | meter.figures(work.messages)


def run_latency(server_class, work, tools):
    """How long a client waits for the reply to its message while it is relayed."""
    with running(server_class, tools) as (server, sink):
        warm_up(server, sink, work, tools)
        with Meter(server.pid, [sink.process.pid]) as meter:
            waits, seconds = time_replies(server.port, work.sessions, work.messages, work.size)
            sink.wait_for(work.messages)
        parts = {f"reply_p{part}_ms": 1000 * percentile(waits, part) for part in (50, 95, 99)}
        return parts | {"rate": work.messages / seconds} | meter.figures(work.messages)


def run_fan_out(server_class, work, tools):
    """One message for many: until the last recipient has it."""
    with Sink() as sink:
        server = server_class(tools.base, sink.port)
        try:

            def arrived():
                with sink.lock:
                    return sum(len(message.rcpts) for message in sink.messages)

            fan_out(server.port, 5, 5)
            wait_for("the first message", lambda: arrived() >= 5)
            with Meter(server.pid) as meter:
                fan_out(server.port, work.messages, DOMAINS)
                while arrived() < 5 + work.messages:
                    if time.monotonic() - meter._begin > _LONG_S:
                        raise AssertionError(f"{arrived()} recipients after {_LONG_S} s")
                    time.sleep(0.002)
            return {"seconds": meter.seconds} | meter.figures(work.messages)
        finally:
            server.stop()


def send_one(port):
    """Send one message; tell whether it was accepted."""
    try:
        with smtplib.SMTP("127.0.0.1", port, timeout=5) as client:
            client.sendmail("a@client.example", ["b@dest.example"], "Subject: new\r\n\r\nnew\r\n")
    except (OSError, smtplib.SMTPException):
        return False
    return True


def run_queue(server_class, work, tools):
    """Much mail waits for a dead host: what others notice of it."""
    relay = Work("load", work.sessions, max(100, work.messages // 10))
    with running(server_class, tools) as (server, sink):

        def rate():
            begin = time.monotonic()
            load(tools.source, server.port, relay)
            sink.wait_for(relay.messages)
            return relay.messages / (time.monotonic() - begin)

        warm_up(server, sink, work, tools)
        empty = rate()
        with Meter(server.pid, [sink.process.pid]) as meter:
            load(tools.source, server.port, work, f"x@{DEAD}")
            wait_for("a full queue", lambda: server.deferred() >= work.messages, _LONG_S)
        full = rate()
        begin = time.monotonic()
        listed = server.list_queue()
        listing_s = time.monotonic() - begin
        if listed < work.messages:
            raise AssertionError(f"{server.name} lists {listed} of {work.messages} messages")
        server.stop_programs()
        begin = time.monotonic()
        server.start_programs()
        while not send_one(server.port):
            if time.monotonic() - begin > _LONG_S:
                raise AssertionError(f"no mail is accepted {_LONG_S} s after the start")
            time.sleep(0.02)
        sink.wait_for(1)
        return {
            "restart_s": time.monotonic() - begin,
            "listing_s": listing_s,
            "backlog_ratio": full / empty,
            "rate": full,
        } | meter.figures(work.messages)


RUNNERS = {
    "load": run_load,
    "latency": run_latency,
    "fan-out": run_fan_out,
    "queue": run_queue,
}


def syncs(server_class, tools, *, accept_only=False, messages=40):
    """Count how often a server syncs for each message that it accepts from one client."""
    with running(server_class, tools, accept_only=accept_only) as (server, sink):
        log = Path(tools.base) / "strace.out"
        with subprocess.Popen(
            [tools.strace, "-f", "-qq", "-e", "trace=fsync,fdatasync,syncfs,sync_file_range",
             "-o", log, *[word for pid in tree(server.pid) for word in ("-p", str(pid))]],
            stderr=subprocess.DEVNULL,
        ) as tracer:  # fmt: skip
            time.sleep(1)
            load(tools.source, server.port, Work("load", 1, messages))
            if not accept_only:
                sink.wait_for(messages)
            tracer.terminate()
        text = log.read_text()
        log.unlink()
        return count_syncs(text) / messages


def count_syncs(trace):
    """Count the calls in an output of strace that made something durable."""
    names = ("fsync(", "fdatasync(", "syncfs(")
    lines = [line for line in trace.splitlines() if any(name in line for name in names)]
    # A call that another thread interrupts has two lines; its second has "resumed>".
    return sum("resumed>" not in line and " = -1 " not in line for line in lines)
