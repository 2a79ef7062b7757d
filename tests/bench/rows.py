"""The workloads, and how a load is put on a server."""

import subprocess
import time

import attrs


@attrs.frozen
class Row:
    """One workload."""

    name: str
    sessions: int
    messages: int
    size: int = 4096
    reuse: bool = True
    accept_only: bool = False


ROWS = (
    Row("relay 4 KiB, 1 session, reused", 1, 800),
    Row("relay 4 KiB, 10 sessions, reused", 10, 4000),
    Row("relay 4 KiB, 50 sessions, reused", 50, 6000),
    Row("relay 4 KiB, 50 sessions, one message each", 50, 4000, reuse=False),
    Row("relay 4 KiB, 200 sessions, one message each", 200, 4000, reuse=False),
    Row("relay 50 KiB, 10 sessions, reused", 10, 2000, 50 << 10),
    Row("relay 1 MiB, 10 sessions, reused", 10, 400, 1 << 20),
    Row("accept 4 KiB, 1 session, reused", 1, 1000, accept_only=True),
    Row("accept 4 KiB, 10 sessions, reused", 10, 4000, accept_only=True),
    Row("accept 4 KiB, 50 sessions, reused", 50, 6000, accept_only=True),
    Row("accept 4 KiB, 200 sessions, reused", 200, 8000, accept_only=True),
)


def load(source, port, row):
    """Send the row's messages; return the seconds that smtp-source took."""
    begin = time.monotonic()
    subprocess.run(
        [source, "-s", str(row.sessions), "-m", str(row.messages), "-l", str(row.size),
         "-f", "a@client.example", "-t", "b@dest.example",
         *(["-d"] if row.reuse else []), f"127.0.0.1:{port}"],
        check=True, timeout=600,
    )  # fmt: skip
    return time.monotonic() - begin
