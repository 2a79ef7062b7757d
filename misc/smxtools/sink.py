"""smxsink: the last stop of the quick start, an SMTP server that writes a Maildir.

Kind: shell. It takes every message for everybody and is meant for loopback only. Each message
gets a Return-Path field and a Delivered-To field for each recipient; 250 is said when it is on
disk. SIGTERM lets a message that is being received finish.
Limits: MAX_SESSIONS connections, MAX_SIZE bytes a message, IDLE_S without a word.
Source: RFC 5321; RFC 1870 SIZE; RFC 2920 PIPELINING; RFC 6152 8BITMIME.
"""

import argparse
import itertools
import signal
import socket
import sys
from typing import NoReturn

import trio

from libsmx import reply
from libsmx.address import AddressError, parse_path
from libsmx.errors import EX_CANTCREAT, EX_OK, EX_UNAVAILABLE, EX_USAGE
from libsmx.lines import DataReader, LineError, LineFault, LineReader
from libsmx.reply import Reply
from libsmx.version import PRODUCT
from smxtools.maildir import Entry, make

MAX_SESSIONS = 200
MAX_SIZE = 256 * 1024 * 1024
MAX_RCPTS = 1000
IDLE_S = 300.0
DRAIN_S = 5.0
_CHUNK = 65536
_FULL = (LineFault.TOO_LONG,)


class Sink:
    """What all sessions share."""

    def __init__(self, maildir: str, name: str) -> None:
        self.maildir = maildir
        self.name = name
        self.stopping = False
        self.numbers = itertools.count(1)
        self.idle: set[trio.CancelScope] = set()
        self.sessions = 0


class Session:
    """One connection.

    Args:
        sink: shared things.
        sock: connected.
    """

    def __init__(self, sink: Sink, sock: trio.socket.SocketType) -> None:
        self._sink = sink
        self._sock = sock
        self._lines = LineReader()
        self._sender: str | None = None
        self._rcpts: list[str] = []
        self._out = b""
        self._open = True

    async def run(self) -> None:
        """Serve until the client leaves, is silent for long, or the sink stops."""
        self._say(reply.GREETING.fill(self._sink.name, PRODUCT))
        with trio.CancelScope() as scope:
            self._sink.idle.add(scope)
            try:
                while self._open:
                    await self._flush()
                    scope.deadline = trio.current_time() + IDLE_S
                    data = await self._sock.recv(_CHUNK)
                    if not data:
                        return
                    # From here to the answer this is no session that may be cut off.
                    self._sink.idle.discard(scope)
                    scope.deadline = float("inf")
                    await self._serve(data)
                    if self._sink.stopping:
                        self._say(reply.SHUTTING_DOWN.fill(self._sink.name))
                        self._open = False
                    self._sink.idle.add(scope)
                await self._flush()
            except OSError:
                return  # the client went away
            finally:
                self._sink.idle.discard(scope)

    def _say(self, answer: Reply) -> None:
        self._out += answer.encode()

    async def _flush(self) -> None:
        while self._out:
            sent = await self._sock.send(self._out)
            self._out = self._out[sent:]

    async def _serve(self, data: bytes) -> None:
        self._lines.feed(data)
        while self._open:
            try:
                line = self._lines.next_line()
            except LineError as error:
                self._say(reply.LINE_TOO_LONG if error.kind in _FULL else reply.BARE_LF)
                self._open = error.kind in _FULL
                continue
            if line is None:
                return
            verb, _, rest = line.partition(b" ")
            await self._command(verb.upper(), rest.strip())

    async def _command(self, verb: bytes, rest: bytes) -> None:
        match verb:
            case b"EHLO":
                self._reset()
                words = f"{self._sink.name}\nPIPELINING\nSIZE {MAX_SIZE}\n8BITMIME"
                self._say(Reply(250, "", words + "\nENHANCEDSTATUSCODES"))
            case b"HELO":
                self._reset()
                self._say(Reply(250, "", self._sink.name))
            case b"MAIL":
                self._mail(rest)
            case b"RCPT":
                self._rcpt(rest)
            case b"DATA":
                await self._data()
            case b"RSET":
                self._reset()
                self._say(reply.OK)
            case b"NOOP":
                self._say(reply.OK)
            case b"QUIT":
                self._say(reply.BYE.fill(self._sink.name))
                self._open = False
            case _:
                self._say(reply.UNKNOWN_COMMAND)

    def _reset(self) -> None:
        self._sender, self._rcpts = None, []

    def _mail(self, rest: bytes) -> None:
        if self._sender is not None:
            self._say(reply.NESTED_MAIL)
        elif rest[:5].upper() != b"FROM:":
            self._say(reply.BAD_MAIL)
        else:
            try:
                self._sender, _params = parse_path(rest[5:].lstrip(), "MAIL")
            except AddressError as error:
                self._say(Reply(error.code, error.status, str(error)))
            else:
                self._say(reply.SENDER_OK)

    def _rcpt(self, rest: bytes) -> None:
        if self._sender is None:
            self._say(reply.NEED_MAIL)
        elif rest[:3].upper() != b"TO:":
            self._say(reply.BAD_RCPT)
        elif len(self._rcpts) >= MAX_RCPTS:
            self._say(reply.TOO_MANY_RCPTS)
        else:
            try:
                rcpt, _params = parse_path(rest[3:].lstrip(), "RCPT")
            except AddressError as error:
                self._say(Reply(error.code, error.status, str(error)))
            else:
                self._rcpts.append(rcpt)
                self._say(reply.RCPT_OK)

    async def _data(self) -> None:
        if not self._rcpts:
            self._say(reply.NEED_RCPT if self._sender is not None else reply.NEED_MAIL)
            return
        self._say(reply.START_MAIL)
        await self._flush()
        try:
            entry = Entry(self._sink.maildir, next(self._sink.numbers))
        except OSError as error:
            self._complain(error)
            self._open = False
            return
        try:
            await self._receive(entry)
        finally:
            entry.discard()
        self._reset()

    async def _receive(self, entry: Entry) -> None:
        head = f"Return-Path: <{self._sender}>\r\n"
        head += "".join(f"Delivered-To: {rcpt}\r\n" for rcpt in self._rcpts)
        reader, size, chunk, rest = DataReader(), 0, self._lines.take_rest(), b""
        try:
            entry.write(head.encode())
            done = False
            while not done:
                if not chunk:
                    with trio.fail_after(IDLE_S):
                        chunk = await self._sock.recv(_CHUNK)
                    if not chunk:
                        self._open = False
                        return
                content, done, rest = reader.feed(chunk)
                size += len(content)
                if size <= MAX_SIZE:
                    entry.write(content)
                chunk = b""
            self._lines.feed(rest)
            if size > MAX_SIZE:
                self._say(reply.TOO_BIG.fill(MAX_SIZE))
                return
            # Here, and only here, the message becomes ours: it is on disk before we say so.
            path = await trio.to_thread.run_sync(entry.commit)
        except LineError:
            self._say(reply.BARE_LF)
            self._open = False
        except trio.TooSlowError:
            self._open = False
        except OSError as error:
            self._complain(error)
            self._open = False
        else:
            self._say(reply.ACCEPTED.fill(entry.name))
            print(f"message for {' '.join(self._rcpts)[:200]} is in {path}", flush=True)

    def _complain(self, error: OSError) -> None:
        print(f"cannot store a message: {error}", flush=True)
        self._say(reply.CANNOT_STORE)


async def accept(sink: Sink, listener: trio.socket.SocketType, nursery: trio.Nursery) -> None:
    """Serve every connection until cancelled."""

    async def one(sock: trio.socket.SocketType) -> None:
        sink.sessions += 1
        try:
            with sock:
                await Session(sink, sock).run()
        finally:
            sink.sessions -= 1

    while True:
        try:
            sock, _address = await listener.accept()
        except OSError:
            await trio.sleep(0.1)  # out of descriptors: sessions that end give some back
            continue
        if sink.sessions >= MAX_SESSIONS:
            sock.close()
        else:
            nursery.start_soon(one, sock)


async def serve(sink: Sink, listener: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT, then let messages in flight finish."""
    async with trio.open_nursery() as sessions:
        with (
            trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received,
            trio.socket.from_stdlib_socket(listener) as door,
        ):
            async with trio.open_nursery() as accepting:
                accepting.start_soon(accept, sink, door, sessions)
                await received.__anext__()
                accepting.cancel_scope.cancel()
        sink.stopping = True
        sessions.cancel_scope.deadline = trio.current_time() + DRAIN_S
        for scope in list(sink.idle):
            scope.cancel()


def listen(text: str) -> socket.socket:
    """Return a listening socket for ``address:port``; raises ValueError, OSError."""
    host, _, digits = text.rpartition(":")
    host, port = host.strip("[]"), int(digits)
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(256)
    except OSError:
        sock.close()
        raise
    return sock


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(EX_USAGE, f"smxsink: {message}; see smxsink -h\n")


def main() -> int:
    """Run smxsink; return its exit code."""
    parser = _Parser(prog="smxsink", description="Take all mail and write it to a Maildir.")
    parser.add_argument("-l", dest="listen", metavar="ADDRESS:PORT", default="127.0.0.1:2526")
    parser.add_argument("-m", dest="maildir", metavar="DIR", required=True)
    options = parser.parse_args()
    try:
        make(options.maildir)
    except OSError as error:
        print(f"smxsink: {options.maildir}: {error.strerror}", file=sys.stderr)
        return EX_CANTCREAT
    try:
        listener = listen(options.listen)
    except ValueError:
        parser.error(f"{options.listen} is not address:port")
    except OSError as error:
        print(f"smxsink: cannot listen on {options.listen}: {error.strerror}", file=sys.stderr)
        return EX_UNAVAILABLE
    trio.run(serve, Sink(options.maildir, socket.gethostname()), listener)
    return EX_OK


if __name__ == "__main__":
    raise SystemExit(main())
