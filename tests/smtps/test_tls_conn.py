"""TLS of connections over real sockets: what is cut, what is silent, what is too much."""

import contextlib
import socket

import attrs
import pytest
import trio

from libsmx.log import NullLog
from libsmx.opt_tls import SmtpsTlsConf
from libsmx.tls import TlsMachine
from libsmx.tlscontext import TlsContext, TlsFiles
from libsmx.tlsfacts import TlsError
from libsmx.tlssource import TlsSource
from libsmx.wire import TaCommit
from smtps.conn import Connection
from tests.libsmx.tlspair import Authority
from tests.smtps.siblings import Siblings

MAIL = (
    b"EHLO c.test\r\nMAIL FROM:<s@a.test>\r\nRCPT TO:<r@b.test>\r\nDATA\r\n"
    b"Subject: x\r\n\r\nhello\r\n.\r\n"
)


@pytest.fixture(scope="module")
def tls_conf(tmp_path_factory):
    cert, key = Authority(tmp_path_factory.mktemp("ca")).issue("mx.test")
    return attrs.evolve(SmtpsTlsConf(), cert_file=cert, key_file=key)


class SecurePeer:
    """A client that speaks TLS."""

    def __init__(self, sock):
        self.sock = sock
        self.machine = TlsMachine(TlsContext(TlsFiles(), server=False), host="mx.test")
        self.text = b""

    async def say_raw(self, data, step=1 << 30):
        """Send bytes of the network, in pieces."""
        for at in range(0, len(data), step):
            piece = data[at : at + step]
            while piece:
                piece = piece[await self.sock.send(piece) :]

    async def shake(self, step=1 << 30):
        """Shake hands; the client's bytes travel in pieces."""
        self.machine.start()
        await self.say_raw(self.machine.output(), step)
        while self.machine.facts is None:
            data = await self.sock.recv(65536)
            assert data, "closed during the handshake"
            self.text += self.machine.receive(data)
            await self.say_raw(self.machine.output(), step)

    async def say(self, data, step=1 << 30):
        self.machine.send(data)
        await self.say_raw(self.machine.output(), step)

    async def read(self):
        """Read once; empty at the end."""
        data = await self.sock.recv(65536)
        if data:
            self.text += self.machine.receive(data)
        return data

    async def expect(self, text):
        while text not in self.text:
            assert await self.read(), f"closed after {self.text!r}"
        at = self.text.index(text) + len(text)
        head, self.text = self.text[:at], self.text[at:]
        return head.decode()

    async def clear(self, said, until):
        """Speak in clear text until a line with these words came."""
        await self.say_raw(said)
        got = b""
        while until not in got:
            data = await self.sock.recv(65536)
            assert data, f"closed after {got!r}"
            got += data
        return got


@contextlib.asynccontextmanager
async def served(siblings, conf, *, implicit=False, **options):
    """A connection of its own process; gives the client's end."""
    ours, theirs = await pair()
    if implicit:
        conf = attrs.evolve(conf, implicit_ports=(ours.getsockname()[1],))
    async with siblings.surroundings(tls=conf, **options) as around:
        source = TlsSource(conf, "", NullLog())
        around.policy.tls_ready = source.ready
        secure = attrs.evolve(around, tls=source)
        connection = Connection(secure, ours, "192.0.2.9", "65538F00-1")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.run)
            with theirs:
                yield SecurePeer(theirs)
            nursery.cancel_scope.cancel()


async def pair():
    """Return the server's end as a plain socket, and the client's."""
    with socket.create_server(("127.0.0.1", 0)) as gate:
        theirs = trio.socket.socket()
        await theirs.connect(gate.getsockname())
        ours, _ = gate.accept()
    return ours, theirs


@pytest.mark.parametrize("step", [1, 100, 1 << 30])
async def test_a_message_comes_over_tls_however_it_is_cut(tmp_path, tls_conf, step):
    siblings = Siblings(tmp_path)
    async with served(siblings, tls_conf) as peer:
        await peer.clear(b"EHLO c.test\r\nSTARTTLS\r\n", b"220 2.0.0")
        await peer.shake(step)
        await peer.say(MAIL, step)
        await peer.expect(b"accepted\r\n")
        assert len(siblings.got(TaCommit)) == 1
        ((_, content),) = siblings.contents().items()
        assert content.endswith(b"Subject: x\r\n\r\nhello\r\n")
        assert b"with ESMTPS\r\n\t(version=TLSv1.3 " in content
        await peer.say(b"QUIT\r\n")
        await peer.expect(b"221 ")
        while await peer.read():
            pass
        assert peer.machine.closed, "the end is told"


async def test_tls_from_the_first_byte(tmp_path, tls_conf):
    siblings = Siblings(tmp_path)
    async with served(siblings, tls_conf, implicit=True) as peer:
        await peer.shake()
        await peer.expect(b"220 mx.test ESMTP")
        await peer.say(b"EHLO c.test\r\n")
        assert "STARTTLS" not in await peer.expect(b"SMTPUTF8\r\n")
        await peer.say(MAIL)
        await peer.expect(b"accepted\r\n")


@pytest.mark.parametrize("implicit", [False, True])
async def test_who_never_shakes_hands_is_left(tmp_path, tls_conf, implicit):
    siblings = Siblings(tmp_path)
    conf = attrs.evolve(tls_conf, handshake_timeout=1)
    async with served(siblings, conf, implicit=implicit) as peer:
        if not implicit:
            await peer.clear(b"EHLO c.test\r\nSTARTTLS\r\n", b"220 2.0.0")
        with trio.fail_after(60):
            assert await peer.sock.recv(100) == b""


async def test_rubbish_gets_an_alert_and_the_end(tmp_path, tls_conf):
    siblings = Siblings(tmp_path)
    async with served(siblings, tls_conf, implicit=True) as peer:
        await peer.say_raw(b"EHLO this is no handshake\r\n" * 100)
        got = b""
        with contextlib.suppress(OSError), trio.fail_after(60):
            while data := await peer.sock.recv(100):
                got += data
        assert b"220" not in got


async def test_rubbish_in_the_stream_ends_it(tmp_path, tls_conf):
    siblings = Siblings(tmp_path)
    async with served(siblings, tls_conf) as peer:
        await peer.clear(b"EHLO c.test\r\nSTARTTLS\r\n", b"220 2.0.0")
        await peer.shake()
        await peer.say(MAIL[: MAIL.index(b"hello")])
        await peer.expect(b"354 ")
        await peer.say_raw(b"\x17\x03\x03\x00\x10" + b"x" * 16)
        with contextlib.suppress(OSError, TlsError), trio.fail_after(60):
            while await peer.read():
                pass
        with trio.fail_after(60):
            while siblings.contents():
                await trio.sleep(0.01)
        assert not siblings.got(TaCommit)


async def test_a_megabyte_of_commands_is_answered_one_by_one(tmp_path, tls_conf):
    siblings = Siblings(tmp_path)
    async with served(siblings, tls_conf, max_nop_commands_between_transactions=0) as peer:
        await peer.clear(b"EHLO c.test\r\nSTARTTLS\r\n", b"220 2.0.0")
        await peer.shake()
        count = (1 << 20) // 6
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.say, b"NOOP\r\n" * count + b"QUIT\r\n")
            while await peer.read():
                pass
        assert peer.text.count(b"250 2.0.0 Ok\r\n") == count
