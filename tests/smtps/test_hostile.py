"""Clients that mean harm: what they can make the server keep is bounded, and others are served."""

import pytest
import trio

from libsmx.lines import MAX_COMMAND_LINE
from tests.smtps.client import Client
from tests.smtps.siblings import Siblings
from tests.smtps.test_conn import BEGIN, WHOLE, connected

MAIL = "MAIL FROM:<s@a.test>\r\n"
RCPT = "RCPT TO:<r@b.test>\r\n"


async def say_all(peer, data, times):
    """Send as long as the server lets us."""
    try:
        for _ in range(times):
            await peer.say(data)
    except OSError:
        pass


async def drain(peer):
    """Read what is there until the end; a reset is an end."""
    try:
        return await peer.rest()
    except OSError:
        return peer.text.decode()


@pytest.mark.parametrize(("said", "times", "last"), [
    (b"x" * 65_536, 64, "421 4.7.0 mx.test endless command line"),
    (b"NOOP\r\n" * 1000, 10, "421 4.7.0 mx.test too many commands that do nothing"),
    (b"FOO\r\n" * 1000, 10, "421 4.7.0 mx.test too many bad commands"),
    (b"RSET\r\nEHLO x\r\n" * 1000, 10, "421 4.7.0 mx.test too many commands that do nothing"),
    (b"\0" * 65_536, 64, "421 4.7.0 mx.test endless command line"),
    (b"BDAT 3000000000 LAST\r\n" + b"x" * 60_000, 1, "421 4.7.0 mx.test endless message"),
])  # fmt: skip
async def test_flood_ends_with_a_clear_refusal(tmp_path, said, times, last):
    siblings = Siblings(tmp_path)
    async with siblings.surroundings(error_delay=0) as around:
        async with connected(around) as (peer, _), trio.open_nursery() as nursery:
            nursery.start_soon(say_all, peer, said, times)
            with trio.fail_after(60):
                assert last in await drain(peer)
            nursery.cancel_scope.cancel()


async def test_flood_does_not_disturb_others(tmp_path):
    siblings = Siblings(tmp_path)
    async with siblings.surroundings(max_message_size=64) as around:
        async with connected(around) as (bad, _), connected(around) as (good, _):
            async with trio.open_nursery() as nursery:
                await bad.say(BEGIN)
                await bad.expect(b"354 ")
                nursery.start_soon(say_all, bad, b"y" * 998 + b"\r\n", 100_000)
                for _ in range(5):
                    await good.say(WHOLE)
                    with trio.fail_after(60):
                        await good.expect(b"accepted\r\n")
                with trio.fail_after(60):
                    assert "421 4.7.0 mx.test endless message" in await drain(bad)
                nursery.cancel_scope.cancel()
        assert len(siblings.contents()) == 5


async def test_client_that_never_reads_is_left_and_little_is_kept_for_it(tmp_path, autojump_clock):
    siblings = Siblings(tmp_path)
    options = {"max_nop_commands_between_transactions": 0, "max_invalid_addresses_per_session": 0}
    async with siblings.surroundings(**options) as around:
        async with connected(around) as (peer, connection):
            sent = 0
            with trio.move_on_after(3600):
                try:
                    while True:
                        sent += await peer.sock.send(b"HELP\r\n" * 1000)
                except OSError:
                    pass
            # The socket's buffers hold back a client that does not read; nothing grows here.
            assert sent < 20_000_000
            assert len(connection.session.lines._buffer) <= 65_536 + MAX_COMMAND_LINE
            assert connection.session.dialogue.closed


def test_ten_thousand_recipients_cost_no_more_than_the_limit_allows():
    client = Client(max_recipients_per_transaction=100)
    client.talk("EHLO c.test\r\n" + MAIL)
    for _ in range(10):
        assert client.talk(RCPT * 1000).count("\r\n") == 1000
    dialogue = client.session.dialogue
    assert len(dialogue.ta.rcpts) == 100
    assert sum(len(ask.questions) for ask in client.asks) <= 200
    assert not dialogue.group
    assert not dialogue.out
    assert not client.session.lines.take_rest()


@pytest.mark.parametrize("line", [
    b"MAIL FROM:<" + b"a" * 1900 + b"@b.test>\r\n",
    b"MAIL FROM:<a@" + b"b." * 900 + b"test>\r\n",
    b"MAIL FROM:<" + b"@a," * 600 + b"@b;c@d.test>\r\n",
    b'MAIL FROM:<"' + b"\\a" * 900 + b'"@b.test>\r\n',
    b"MAIL FROM:<a@b.test> " + b"A=B " * 450 + b"\r\n",
    b"MAIL FROM:<" + b'"' * 1900 + b">\r\n",
    b"MAIL FROM:<a@[IPv6:" + b":" * 1900 + b"]>\r\n",
    b"XCLIENT " + b"NAME=" * 400 + b"\r\n",
    b"BDAT " + b"0" * 1900 + b"\r\n",
])  # fmt: skip
def test_long_lines_are_refused_and_not_pondered(line):
    client = Client(max_nop_commands_between_transactions=0)
    client.talk("EHLO c.test\r\n")
    for _ in range(20):
        codes = client.codes(line)
        assert codes[:1] == "5"
        if client.closed:
            break
