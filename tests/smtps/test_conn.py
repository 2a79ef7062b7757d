"""Connections over real sockets: siblings, disk, silence, loss, shutdown."""

import contextlib
import os
import socket

import pytest
import trio

from libsmx.clock import SystemClock
from libsmx.link import Link
from libsmx.version import PRODUCT
from libsmx.wire import (
    MailAsk,
    RcptAsk,
    Refusal,
    SessionClose,
    SessionOpen,
    TaAbort,
    TaCommit,
    TaOpen,
)
from smtps import conn
from smtps.conn import Connection
from tests.smtps.client import make_policy
from tests.smtps.siblings import SILENT, Siblings

BEGIN = b"EHLO c.test\r\nMAIL FROM:<s@a.test>\r\nRCPT TO:<r@b.test>\r\nDATA\r\n"
WHOLE = BEGIN + b"Subject: x\r\n\r\nhello\r\n.\r\n"


class Peer:
    """The client's end of a connection."""

    def __init__(self, sock):
        self.sock = sock
        self.text = b""

    async def say(self, data):
        """Send bytes."""
        while data:
            data = data[await self.sock.send(data) :]

    async def expect(self, text):
        """Read until text came; return all that came before and with it."""
        while text not in self.text:
            data = await self.sock.recv(65536)
            assert data, f"closed after {self.text!r}"
            self.text += data
        at = self.text.index(text) + len(text)
        head, self.text = self.text[:at], self.text[at:]
        return head.decode()

    async def rest(self):
        """Read to the end."""
        while data := await self.sock.recv(65536):
            self.text += data
        return self.text.decode()


@contextlib.asynccontextmanager
async def connected(around, client="192.0.2.9", wait=True):
    """Run one connection; give its client's end and itself."""
    ours, other = socket.socketpair()
    theirs = trio.socket.from_stdlib_socket(other)
    connection = Connection(around, ours, client, "65538F0007-1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run)
        with theirs:
            peer = Peer(theirs)
            if wait:
                await peer.expect(f"220 mx.test ESMTP {PRODUCT}\r\n".encode())
            yield peer, connection


def event_names(siblings):
    return [event.name for event, _ in siblings.log.records]


@pytest.mark.covers("X011", "X050", "X052")
async def test_message_is_stored_and_committed_before_it_is_accepted(tmp_path):
    siblings = Siblings(tmp_path)
    found = {}

    def look(_channel, commit):
        # At this moment the content is whole on disk, and the client has no 250 yet.
        found.update(siblings.contents())
        assert found[commit.envelope.cdb_id].endswith(b"hello\r\n")
        assert len(found[commit.envelope.cdb_id]) == commit.envelope.size

    siblings.on_seen[TaCommit] = look
    async with siblings.surroundings() as around, connected(around) as (peer, _):
        await peer.say(WHOLE)
        replies = await peer.expect(b"accepted\r\n")
        (ta_id,) = found
        assert ta_id.endswith("07")
        assert replies.endswith(f"250 2.0.0 {ta_id} accepted\r\n")
        await peer.say(b"QUIT\r\n")
        await peer.rest()
        await siblings.until(SessionClose)
    assert siblings.contents() == found
    mode = os.stat(tmp_path / ta_id[16] / ta_id).st_mode
    assert mode & 0o777 == 0o640
    kinds = [type(message) for message in siblings.seen]
    assert kinds.count(TaCommit) == kinds.count(TaOpen) == kinds.count(SessionOpen) == 1
    assert TaAbort not in kinds
    (closed,) = [f for event, f in siblings.log.records if event.name == "session_closed"]
    assert (closed["accepted"], closed["rcpts"], closed["reason"]) == (1, 1, "quit")


@pytest.mark.covers("X009")
async def test_without_resolver_mail_is_refused_for_now(tmp_path):
    siblings = Siblings(tmp_path)
    async with siblings.surroundings() as around, connected(around) as (peer, _):
        smar, around.smar.channel = around.smar.channel, None
        await peer.say(BEGIN)
        assert "451 4.3.0" in await peer.expect(b"503 5.5.1 Need MAIL first\r\n")
        around.smar.channel = smar
        await peer.say(WHOLE)
        await peer.expect(b"accepted\r\n")
        await peer.say(b"QUIT\r\n")


async def test_without_queue_manager_clients_get_421(tmp_path):
    siblings = Siblings(tmp_path)
    async with siblings.surroundings() as around:
        around.qmgr.channel = None
        async with connected(around, wait=False) as (peer, _):
            assert await peer.rest() == (
                "421 4.3.0 mx.test service not available, try again later\r\n"
            )
    assert siblings.got(SessionClose) == []


async def test_refused_session_hears_why(tmp_path):
    siblings = Siblings(tmp_path)
    siblings.answers[SessionOpen] = Refusal(code=421, status="4.7.0", text="slow down")
    async with siblings.surroundings() as around, connected(around, wait=False) as (peer, _):
        assert await peer.rest() == "421 4.7.0 slow down\r\n"
    assert "session_refused" in event_names(siblings)
    assert siblings.got(SessionClose) == []


async def test_refused_commit_removes_the_content(tmp_path):
    siblings = Siblings(tmp_path)
    siblings.answers[TaCommit] = Refusal(code=452, status="4.3.1", text="full")
    async with siblings.surroundings() as around, connected(around) as (peer, _):
        await peer.say(WHOLE)
        await peer.expect(b"452 4.3.1 full\r\n")
        assert siblings.contents() == {}
        await peer.say(b"QUIT\r\n")


async def test_commit_that_nobody_answered_keeps_the_content(tmp_path):
    """qmgr may own it: told 4yz, the client tries again; qmgr removes what is an orphan."""
    siblings = Siblings(tmp_path)
    siblings.answers[TaCommit] = SILENT
    siblings.on_seen[TaCommit] = lambda channel, _: channel.close("crash")
    async with siblings.surroundings() as around, connected(around) as (peer, _):
        await peer.say(WHOLE)
        await peer.expect(b"354 End data with <CR><LF>.<CR><LF>\r\n451 4.3.0 ")
        assert len(siblings.contents()) == 1
        await peer.say(b"QUIT\r\n")
    assert siblings.got(TaAbort) == []
    assert "commit_unknown" in event_names(siblings)


async def test_commit_without_queue_manager_removes_the_content(tmp_path):
    siblings = Siblings(tmp_path)
    async with siblings.surroundings() as around, connected(around) as (peer, connection):
        await peer.say(BEGIN)
        await peer.expect(b"354 ")
        connection.qmgr_lost()
        await peer.say(b"x\r\n.\r\n")
        await peer.expect(b"451 4.3.0 ")
        assert siblings.contents() == {}
        await peer.say(b"MAIL FROM:<s@a.test>\r\n")
        assert "421 4.3.0" in await peer.rest()
    assert siblings.got(TaCommit) == []


@pytest.mark.parametrize("fails", ["write", "fdatasync"])
async def test_disk_failure_is_temporary_and_leaves_nothing(tmp_path, monkeypatch, fails):
    siblings = Siblings(tmp_path)
    real = getattr(os, fails)

    def broken(fd, *data):
        if data == () or data[0][:9] == b"Received:":
            raise OSError(28, "No space left on device")
        return real(fd, *data)

    async with siblings.surroundings() as around, connected(around) as (peer, _):
        monkeypatch.setattr(os, fails, broken)
        await peer.say(WHOLE)
        await peer.expect(b"451 4.3.0 Message could not be stored")
        monkeypatch.undo()
        await siblings.until(TaAbort)
        assert siblings.contents() == {}
        await peer.say(b"QUIT\r\n")
    assert siblings.got(TaCommit) == []
    assert "cdb_failed" in event_names(siblings)


async def test_no_file_can_be_made(tmp_path, monkeypatch):
    siblings = Siblings(tmp_path)
    async with siblings.surroundings() as around, connected(around) as (peer, _):
        monkeypatch.setattr(around.cdb, "_base", "/nonexistent/")
        await peer.say(BEGIN)
        await peer.expect(b"451 4.3.0 Message could not be stored")
        await siblings.until(TaAbort)
        await peer.say(b"QUIT\r\n")


@pytest.mark.parametrize("said", [b"", BEGIN, BEGIN + b"half a mess"])
async def test_client_that_goes_away_leaves_nothing(tmp_path, said):
    siblings = Siblings(tmp_path)
    async with siblings.surroundings() as around:
        async with connected(around) as (peer, _):
            await peer.say(said)
            if said:
                await peer.expect(b"354 ")
            peer.sock.close()
        await siblings.until(SessionClose)
        assert siblings.contents() == {}
        assert len(siblings.got(TaAbort)) == (1 if said else 0)


@pytest.mark.covers("X368")
async def test_silent_client_gets_421(tmp_path, autojump_clock):
    siblings = Siblings(tmp_path)
    # The fakes are real sockets: links would time out on a clock that jumps, so there are none.
    async with bare_surroundings(siblings) as around:
        async with connected(around, wait=False) as (peer, _):
            assert "421 4.4.2 mx.test timed out" in await peer.rest()


@contextlib.asynccontextmanager
async def bare_surroundings(siblings, **options):
    """Give surroundings whose queue manager grants every session by itself."""

    class Granting:
        closed = False

        def request(self, message, on_answer, timeout_s):
            trio.lowlevel.current_trio_token().run_sync_soon(
                on_answer, siblings.answers[type(message)]
            )

        def post(self, message, rid=0):
            siblings.seen.append(message)

    link = Link("none", "smtps", "qmgr", log=siblings.log)
    link.channel = Granting()
    yield conn.Surroundings(make_policy(**options), link, link, None, siblings.log, SystemClock())


async def test_slow_sibling_does_not_time_the_client_out(tmp_path):
    siblings = Siblings(tmp_path)
    siblings.answers[MailAsk] = SILENT
    async with siblings.surroundings(io_timeout=1) as around, connected(around) as (peer, one):
        await peer.say(b"EHLO c.test\r\nMAIL FROM:<s@a.test>\r\n")
        await siblings.until(MailAsk)
        assert one._scope.deadline == float("inf")
        one.cancel()
        assert "421 4.3.2" in await peer.rest()


async def test_idle_session_ends_when_the_server_stops_and_data_may_finish(tmp_path):
    siblings = Siblings(tmp_path)
    async with siblings.surroundings() as around:
        async with connected(around) as (idle, first), connected(around) as (busy, second):
            await busy.say(BEGIN)
            await busy.expect(b"354 ")
            around.policy.stopping = True
            first.wake()
            second.wake()
            assert "421 4.3.2 mx.test shutting down" in await idle.rest()
            await busy.say(b"x\r\n.\r\n")
            rest = await busy.rest()
            assert "accepted\r\n421 4.3.2" in rest
    assert len(siblings.contents()) == 1


async def test_cancelled_data_is_not_accepted(tmp_path):
    siblings = Siblings(tmp_path)
    async with siblings.surroundings() as around, connected(around) as (peer, connection):
        await peer.say(BEGIN + b"half")
        await peer.expect(b"354 ")
        connection.cancel()
        assert "421 4.3.2" in await peer.rest()
        await siblings.until(TaAbort)
        assert siblings.contents() == {}


async def test_smuggler_reads_the_refusal_before_the_connection_ends(tmp_path):
    siblings = Siblings(tmp_path)
    async with siblings.surroundings() as around, connected(around) as (peer, _):
        await peer.say(BEGIN)
        await peer.expect(b"354 ")
        await peer.say(b"x\n.\nMAIL FROM:<evil@a.test>\r\n" + b"y" * 100_000)
        await peer.expect(b"500 5.5.2 ")
        peer.sock.close()
    assert siblings.got(TaCommit) == []
    assert siblings.contents() == {}


async def test_client_that_never_reads_is_held_back_and_left(tmp_path):
    siblings = Siblings(tmp_path)
    async with siblings.surroundings(
        io_timeout=0.05, max_nop_commands_between_transactions=0
    ) as around:
        async with connected(around) as (peer, connection):
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                while True:
                    await peer.say(b"EHLO c.test\r\n" * 1000)
            assert connection.session.dialogue.closed


async def test_group_of_recipients_is_asked_in_one_go_with_the_room(tmp_path):
    siblings = Siblings(tmp_path)
    async with siblings.surroundings() as around, connected(around) as (peer, _):
        await peer.say(b"EHLO c.test\r\nMAIL FROM:<s@a.test>\r\n" + b"RCPT TO:<r@b.test>\r\n" * 20)
        replies = ""
        while replies.count("250 2.1.5") < 20:
            replies += await peer.expect(b"250 2.1.5 Recipient ok\r\n")
        await peer.say(b"QUIT\r\n")
        await peer.rest()
        await siblings.until(TaAbort)
    assert len(siblings.got(RcptAsk)) == 20
    assert len(siblings.got(TaOpen)) == 1
