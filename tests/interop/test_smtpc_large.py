"""A large message passes through the client in blocks: its memory does not grow with the mail."""

import re
from pathlib import Path

import pytest

from tests.sink import Sink

pytestmark = pytest.mark.slow
LINE = "x" * 70 + "\r\n"
SIZE = 20 << 20
SPARE_KB = 8 << 10
"""Far below the size of the message, far above what a block and its copies take."""


def peak_kb(system):
    """The most memory that the client has occupied so far."""
    ((_, pid),) = system.pids("smtpc")
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", text)[1])


@pytest.mark.covers("X017")
def test_memory_stays_flat_while_a_large_message_goes_out(smx):
    with Sink() as sink:
        options = {"smtps": "max_message_size = 64MB;"}
        system = smx(nexthop=sink.address, options=options).start()
        system.send()
        system.wait_empty()
        before = peak_kb(system)
        system.send(body="Subject: large\r\n\r\n" + LINE * (SIZE // len(LINE)))
        system.wait_empty()
        assert len(sink.wait(2)[1].data) > SIZE - len(LINE)
        assert peak_kb(system) - before < SPARE_KB
