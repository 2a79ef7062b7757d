"""The sink: what it takes is in the Maildir before it says so."""

import smtplib
import socket
import threading
from functools import partial

import pytest
import trio
from smxtools.maildir import Entry, make
from smxtools.sink import Session, Sink, accept, listen

MESSAGE = b"Subject: hello\r\n\r\n.dot\r\nbody\r\n"


@pytest.fixture
def maildir(tmp_path):
    make(str(tmp_path / "m"))
    return tmp_path / "m"


async def talk(maildir, *parts):
    """Send the parts, each at once; return all that the sink said."""
    ours, theirs = socket.socketpair()
    client = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
    said = b""
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:

            async def serve():
                with trio.socket.from_stdlib_socket(theirs) as sock:
                    await Session(Sink(str(maildir), "sink.test"), sock).run()

            nursery.start_soon(serve)
            async with client:
                for part in parts:
                    await client.send_all(part)
                await client.send_eof()
                async for data in client:
                    said += data
    return said.decode().splitlines()


ENVELOPE = (
    b"EHLO me\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nRCPT TO:<e@f.example>\r\n"
)


async def test_message_is_stored_with_its_envelope(maildir):
    said = await talk(
        maildir, ENVELOPE + b"DATA\r\n", MESSAGE.replace(b"\n.", b"\n..") + b".\r\nQUIT\r\n"
    )
    assert [line[:4] for line in said][-5:] == ["250 ", "250 ", "354 ", "250 ", "221 "]
    [path] = (maildir / "new").iterdir()
    assert path.read_bytes() == (
        b"Return-Path: <a@b.example>\r\nDelivered-To: c@d.example\r\n"
        b"Delivered-To: e@f.example\r\n" + MESSAGE
    )
    assert not list((maildir / "tmp").iterdir())


async def test_several_messages_in_one_session(maildir):
    one = ENVELOPE[9:] + b"DATA\r\n" + MESSAGE.replace(b"\n.", b"\n..") + b".\r\n"
    await talk(maildir, b"EHLO me\r\n", one + one, one)
    assert len(list((maildir / "new").iterdir())) == 3


@pytest.mark.parametrize("ending", [b"a\n.\r\n", b"a\r.\r\n", b"x\r\n.\nMAIL"])
async def test_bare_line_ends_are_refused_and_nothing_stays(maildir, ending):
    said = await talk(maildir, ENVELOPE + b"DATA\r\n", ending + b"\r\n.\r\n")
    assert said[-1].startswith("500 ")
    assert not list((maildir / "new").iterdir())
    assert not list((maildir / "tmp").iterdir())


async def test_client_that_leaves_in_the_middle_leaves_nothing(maildir):
    await talk(maildir, ENVELOPE + b"DATA\r\nSubject: half\r\n")
    assert not list((maildir / "new").iterdir())
    assert not list((maildir / "tmp").iterdir())


DIALOGUE = [
    (b"RCPT TO:<a@b>\r\n", "503"),
    (b"DATA\r\n", "503"),
    (b"MAIL FROM:<>\r\nDATA\r\n", "503"),
    (b"MAIL FROM:<>\r\nMAIL FROM:<>\r\n", "503"),
    (b"MAIL TO:<>\r\n", "501"),
    (b"MAIL FROM:<a b>\r\n", "501"),
    (b"MAIL FROM:<>\r\nRCPT FROM:<>\r\n", "501"),
    (b"MAIL FROM:<>\r\nRCPT TO:<>\r\n", "501"),
    (b"NOOP\r\n", "250"),
    (b"RSET\r\n", "250"),
    (b"HELO me\r\n", "250"),
    (b"WHAT\r\n", "500"),
    (b"NOOP" + b"x" * 5000 + b"\r\n", "500"),
    (b"bare\n", "500"),
]


@pytest.mark.parametrize(("sent", "code"), DIALOGUE, ids=[code for _, code in DIALOGUE])
async def test_dialogue(maildir, sent, code):
    said = await talk(maildir, sent)
    assert said[0].startswith("220 sink.test")
    assert said[-1].startswith(code)


async def test_full_disk_is_a_temporary_failure(maildir, monkeypatch):
    def full(_self):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Entry, "commit", full)
    said = await talk(maildir, ENVELOPE + b"DATA\r\n", MESSAGE + b"\r\n.\r\n")
    assert said[-1].startswith("451 ")


def test_listens_on_both_families():
    with listen("127.0.0.1:0") as sock:
        assert sock.family == socket.AF_INET
    with pytest.raises(ValueError, match="invalid literal"):
        listen("127.0.0.1:smtp")


async def test_foreign_client_delivers(maildir):
    """smtplib knows nothing of us."""
    sink = Sink(str(maildir), "sink.test")
    listener = listen("127.0.0.1:0")
    port = listener.getsockname()[1]
    done = []

    def send():
        with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
            client.sendmail("a@b.example", ["c@d.example"], MESSAGE)
        done.append(threading.get_ident())

    async with trio.open_nursery() as nursery:
        with trio.socket.from_stdlib_socket(listener) as door:
            nursery.start_soon(partial(accept, sink, door, nursery))
            await trio.to_thread.run_sync(send)
            nursery.cancel_scope.cancel()
    assert done
    assert len(list((maildir / "new").iterdir())) == 1
