"""The SMTP client against Postfix's smtp-sink in its many moods."""

import os
import re
import socket
import subprocess

import attrs
import pytest
import trio

from tests.conftest import need
from tests.smtpc.bench import Start, outcomes
from tests.system import free_port, reachable_dir, wait_for

CONTENT = b"Subject: sink\r\n\r\n.\r\n..\r\nlast line\r\n"


@attrs.frozen
class Place:
    """Where a sink listens."""

    address: tuple


def answers(port):
    """Tell whether somebody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), 10).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.fixture
def sink():
    """Start sinks: sink(flag, ...) returns the place; all end with the test."""
    program = need("smtp-sink", "postfix")
    running = []

    def start(*flags):
        port = free_port()
        # As root it wants another user; it never needs more than a socket.
        user = ["-u", "nobody"] if os.getuid() == 0 else []
        running.append(
            subprocess.Popen(
                [program, *user, *flags, f"127.0.0.1:{port}", "100"], stderr=subprocess.DEVNULL
            )
        )
        wait_for("smtp-sink", lambda: answers(port))
        return Place(("127.0.0.1", port))

    yield start
    for process in running:
        process.kill()
        process.wait()


@pytest.mark.parametrize("flags", [(), ("-p",), ("-e",), ("-8",), ("-E",)])
async def test_all_dialects_take_three_messages_in_one_session(sink, tmp_path, flags):
    place = sink(*flags)
    async with Start(tmp_path) as bench:
        for _ in range(3):
            envelope = bench.envelope(CONTENT, ("a", "b"), body8=True)
            answer = await bench.deliver([place], envelope)
            assert [code for _, code, _ in outcomes(answer)] == [250, 250]
            assert answer.open
        assert bench.events().count("da_session_opened") == 1


async def test_the_sink_gets_what_was_stored(sink, tmp_path):
    dump = reachable_dir("smx-sink-")
    os.chmod(dump, 0o777)
    place = sink("-d", f"{dump}/message.")
    async with Start(tmp_path) as bench:
        await bench.deliver([place], bench.envelope(CONTENT))
    (path,) = dump.iterdir()
    lines = path.read_bytes().split(b"\n")
    assert b"\n".join(lines).endswith(CONTENT.replace(b"\r\n", b"\n") + b"\n")
    path.unlink()
    dump.rmdir()


@pytest.mark.covers("X006")
async def test_lmtp(sink, tmp_path):
    place = sink("-L")
    async with Start(tmp_path) as bench:
        envelope = bench.envelope(CONTENT, ("a", "b", "c"))
        answer = await bench.deliver([place], envelope, lmtp=True)
        assert [code for _, code, _ in outcomes(answer)] == [250] * 3
        assert answer.open


@pytest.mark.parametrize(
    ("flags", "codes", "is_open"),
    [
        (("-f", "MAIL"), {5}, True),
        (("-r", "MAIL"), {4}, True),
        (("-f", "RCPT"), {5}, True),
        (("-r", "RCPT"), {4}, True),
        (("-p", "-f", "RCPT"), {5}, True),
        (("-f", "DATA"), {5}, True),
        (("-r", "DATA"), {4}, True),
        (("-f", "."), {5}, True),
        (("-r", "."), {4}, True),
        (("-q", "CONNECT"), {4}, False),
        (("-q", "EHLO"), {4}, False),
        (("-q", "MAIL"), {4}, False),
        (("-q", "RCPT"), {4}, False),
        (("-q", "DATA"), {4}, False),
        (("-q", "."), {4}, False),
        (("-f", "CONNECT"), {5}, False),
        (("-r", "CONNECT"), {4}, False),
    ],
)
async def test_moods(sink, tmp_path, flags, codes, is_open):
    place = sink(*flags)
    async with Start(tmp_path) as bench:
        for _ in range(2):
            answer = await bench.deliver([place], bench.envelope(CONTENT, ("a", "b")))
            assert {code // 100 for _, code, _ in outcomes(answer)} == codes
            assert answer.open == is_open
            assert all(re.fullmatch(r"[45]\.\d+\.\d+", status) for *_, status in outcomes(answer))


async def test_many_sessions_at_once(sink, tmp_path):
    place = sink()
    async with Start(tmp_path, capacity=50) as bench:
        for number in range(50):
            bench.order([place], bench.envelope(CONTENT), da_sess=number)
        with trio.fail_after(60):
            answers = [await bench.qmgr.next() for _ in range(50)]
        assert {answer.results[0].code for answer in answers} == {250}
