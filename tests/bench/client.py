"""Clients that smtp-source cannot be: one that times final replies, one with many recipients."""

import contextlib
import selectors
import socket
import time

TIMEOUT_S = 120.0


def percentile(values, part):
    """Return the smallest value that at least this part of all values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * part // 100) - 1)]


class _Session:
    """One connection in a loop of transactions; every command waits for its reply."""

    def __init__(self, port, body):
        self.sock = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
        transaction = (
            (b"MAIL FROM:<a@client.example>\r\n", b"250"),
            (b"RCPT TO:<b@dest.example>\r\n", b"250"),
            (b"DATA\r\n", b"354"),
            (body + b".\r\n", b"250"),
        )
        self.steps = transaction
        self.at = -2  # greeting, EHLO, then the transactions
        self.wanted = b"220"
        self.buffer = b""
        self.sent_at = 0.0

    def reply(self):
        """Read; tell whether a whole reply is there."""
        data = self.sock.recv(65536)
        if not data:
            raise ConnectionError("the server closed the connection")
        self.buffer += data
        lines = self.buffer.split(b"\r\n")
        if len(lines) < 2 or lines[-2][3:4] == b"-" or lines[-1]:
            return False
        if not self.buffer.startswith(self.wanted):
            raise ConnectionError(f"{self.wanted!r} expected, got {self.buffer[:200]!r}")
        self.buffer = b""
        return True

    def go_on(self):
        """Send what comes next."""
        self.at += 1
        if self.at < 0:
            data, self.wanted = b"EHLO client.example\r\n", b"250"
        else:
            self.at %= len(self.steps)
            data, self.wanted = self.steps[self.at]
        self.sent_at = time.monotonic()
        self.sock.sendall(data)

    @property
    def final(self):
        """The reply that is waited for is the one to the message."""
        return self.at == len(self.steps) - 1


def time_replies(port, sessions, messages, size):
    """Send messages; return the seconds that each waited for its final reply, and all took."""
    line = b"x" * 70 + b"\r\n"
    body = b"Subject: timed\r\n\r\n" + line * max(1, size // len(line))
    waits, left = [], messages
    begin = time.monotonic()
    with contextlib.ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        for _ in range(min(sessions, messages)):
            session = _Session(port, body)
            stack.callback(session.sock.close)
            selector.register(session.sock, selectors.EVENT_READ, session)
        while len(waits) < messages:
            ready = selector.select(TIMEOUT_S)
            if not ready:
                raise TimeoutError(f"no reply within {TIMEOUT_S:g} s")
            for key, _ in ready:
                session = key.data
                if not session.reply():
                    continue
                if session.final:
                    waits.append(time.monotonic() - session.sent_at)
                if session.final or session.at == -1:  # a transaction is next
                    if not left:
                        selector.unregister(session.sock)
                        continue
                    left -= 1
                session.go_on()
    return waits, time.monotonic() - begin


def fan_out(port, rcpts, domains):
    """Send one message to so many recipients in so many domains."""
    with (
        socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as sock,
        sock.makefile("rwb") as stream,
    ):

        def expect(code):
            while (line := stream.readline())[3:4] == b"-":
                pass
            if not line.startswith(code):
                raise ConnectionError(f"{code!r} expected, got {line!r}")

        expect(b"220")
        for command in (b"EHLO client.example\r\n", b"MAIL FROM:<a@client.example>\r\n"):
            stream.write(command)
            stream.flush()
            expect(b"250")
        for first in range(0, rcpts, 100):
            some = range(first, min(first + 100, rcpts))
            for number in some:
                stream.write(b"RCPT TO:<r%d@d%d.example>\r\n" % (number, number % domains))
            stream.flush()
            for _ in some:
                expect(b"250")
        stream.write(b"DATA\r\n")
        stream.flush()
        expect(b"354")
        stream.write(b"Subject: fan-out\r\n\r\nto many\r\n.\r\n")
        stream.flush()
        expect(b"250")
        stream.write(b"QUIT\r\n")
        stream.flush()
        expect(b"221")
