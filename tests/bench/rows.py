"""The workloads, what each is compared by, and the goals."""

import subprocess
import time

import attrs


@attrs.frozen
class Row:
    """One line of the table.

    Attributes:
        name: what the table calls it.
        work: how it is measured; rows of equal work share their runs.
        figure: which of the figures that the work gives is compared.
        unit: of that figure.
        goal: ratio smx / best Postfix that is wanted; of the figure itself where own is set.
        lower: less is better.
        own: the figure is compared with nothing.
    """

    name: str
    work: "Work"
    figure: str = "rate"
    unit: str = "msg/s"
    goal: float = 1.0
    lower: bool = False
    own: bool = False


@attrs.frozen
class Work:
    """What a server is made to do in one run.

    Attributes:
        kind: "load", "latency", "fan-out" or "queue".
        sessions: clients at a time.
        messages: in all; deferred ones for "queue", recipients for "fan-out".
        size: bytes of a message.
        reuse: many messages a connection.
        accept_only: nothing is delivered.
    """

    kind: str
    sessions: int
    messages: int
    size: int = 4096
    reuse: bool = True
    accept_only: bool = False

    def shorter(self, part: int) -> "Work":
        """Return the same work with fewer messages."""
        return attrs.evolve(self, messages=max(self.messages // part, 2 * self.sessions))


def _load(sessions: int, messages: int, size: int = 4096, **options: bool) -> Work:
    return Work("load", sessions, messages, size, **options)


_TEN = _load(10, 4000)
_FIFTY = _load(50, 6000)
_QUEUE = Work("queue", 10, 20_000)
_LATENCY = Work("latency", 10, 2000)

ROWS = (
    Row("relay 4 KiB, 10 sessions, reused", _TEN, goal=1.7),
    Row("relay 4 KiB, 50 sessions, reused", _FIFTY, goal=2.5),
    Row("relay 4 KiB, 1 session, reused", _load(1, 800), goal=0.8),
    Row("relay 4 KiB, 50 sessions, one message each", _load(50, 4000, reuse=False), goal=1.7),
    Row("relay 4 KiB, 200 sessions, one message each", _load(200, 4000, reuse=False), goal=2.0),
    Row("relay 50 KiB, 10 sessions, reused", _load(10, 2000, 50 << 10), goal=1.4),
    Row("relay 1 MiB, 10 sessions, reused", _load(10, 400, 1 << 20), goal=1.2),
    Row("accept 4 KiB, 1 session, reused", _load(1, 1000, accept_only=True), goal=0.8),
    Row("accept 4 KiB, 10 sessions, reused", _load(10, 4000, accept_only=True), goal=1.1),
    Row("accept 4 KiB, 50 sessions, reused", _load(50, 6000, accept_only=True), goal=2.0),
    Row("accept 4 KiB, 200 sessions, reused", _load(200, 8000, accept_only=True), goal=2.0),
    Row("final reply, 10 sessions, median", _LATENCY, "reply_p50_ms", "ms", 1.0, lower=True),
    Row("final reply, 10 sessions, 99 of 100", _LATENCY, "reply_p99_ms", "ms", 1.0, lower=True),
    Row("fan-out, 1,000 recipients, 200 domains", Work("fan-out", 1, 1000), "seconds", "s", 1.0,
        lower=True),
    Row("memory (PSS), 50 sessions", _FIFTY, "peak_mb", "MB", 0.8, lower=True),
    Row("CPU a message, relay, 10 sessions", _TEN, "cpu_ms", "ms", 0.7, lower=True),
    Row("20,000 queued: start until new mail is delivered", _QUEUE, "restart_s", "s", 0.5,
        lower=True),
    Row("20,000 queued: listing", _QUEUE, "listing_s", "s", 1.0, lower=True),
    Row("20,000 queued: relay of new mail / with an empty queue", _QUEUE, "backlog_ratio", "",
        0.95, own=True),
)  # fmt: skip

QUICK = 4
"""A quick run has so many times fewer messages."""
QUICK_WORK = frozenset((
    _TEN, _FIFTY, _load(1, 800), _load(10, 4000, accept_only=True), _LATENCY,
    Work("fan-out", 1, 1000),
))  # fmt: skip


def quick_rows() -> list[Row]:
    """Return the rows of a quick run, with less to do."""
    return [
        attrs.evolve(row, work=row.work.shorter(QUICK)) for row in ROWS if row.work in QUICK_WORK
    ]


def load(source, port, work, rcpt="b@dest.example"):
    """Send the messages of a work with smtp-source; return the seconds that it took."""
    begin = time.monotonic()
    subprocess.run(
        [source, "-s", str(work.sessions), "-m", str(work.messages), "-l", str(work.size),
         "-f", "a@client.example", "-t", rcpt,
         *(["-d"] if work.reuse else []), f"127.0.0.1:{port}"],
        check=True, timeout=600,
    )  # fmt: skip
    return time.monotonic() - begin
