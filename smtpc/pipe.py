"""The bytes of one connection: a socket, TLS over it, and what could not be sent yet.

Kind: shell.

Writing sends at once what the system takes and keeps the rest for ``flush``; reading takes what
is there and never waits. TLS changes what travels and nothing else, and costs nothing where
there is none. Errors are kept in ``broken`` and ``ended`` and told by whoever uses the pipe.
Limits: one read of READ_SIZE bytes; what is kept is at most what was written and not sent.
Source: RFC 5321 4.5.3.2, RFC 3207.
"""

import contextlib
import socket

import trio

from libsmx.tls import TlsMachine
from libsmx.tlsfacts import TlsError, TlsFacts
from smtpc.dial import close

READ_SIZE = 64 * 1024


class Pipe:
    """One connection.

    Attributes:
        waiting: bytes that are to be sent.
        broken: why nothing can be sent any more, empty while it can.
        ended: why nothing more will come, empty while something may.
        machine: TLS, None in clear text.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.waiting = b""
        self.broken = ""
        self.ended = ""
        self.machine: TlsMachine | None = None
        self._sock: socket.socket | None = sock

    @property
    def facts(self) -> TlsFacts | None:
        """Facts of TLS, None before its handshake is complete."""
        return self.machine.facts if self.machine is not None else None

    def begin_tls(self, machine: TlsMachine) -> None:
        """Begin the handshake; the reads that follow carry it on.

        Raises:
            TlsError: it cannot be begun.
        """
        self.machine = machine
        try:
            machine.start()
        finally:
            self._send(machine.output())

    def write(self, data: bytes) -> None:
        """Send now what the system takes; ``flush`` sends the rest."""
        machine = self.machine
        if machine is None:
            self._send(data)
            return
        try:
            machine.send(data)
        except TlsError as error:
            self.broken = f"TLS failed ({error})"
        self._send(machine.output())

    def _send(self, data: bytes) -> None:
        if self.waiting or self._sock is None:
            self.waiting += data
            return
        if not data:
            return
        try:
            sent = self._sock.send(data, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.broken = f"connection lost ({error.strerror})"
            return
        if sent < len(data):
            self.waiting = data[sent:]

    async def flush(self) -> None:
        """Send what waits."""
        view = memoryview(self.waiting)
        try:
            while view and self._sock is not None and not self.broken:
                await trio.lowlevel.wait_writable(self._sock)
                try:
                    view = view[self._sock.send(view, socket.MSG_NOSIGNAL) :]
                except BlockingIOError:
                    continue
                except OSError as error:
                    self.broken = f"connection lost ({error.strerror})"
        finally:
            self.waiting = bytes(view)

    async def readable(self) -> None:
        """Wait until there is something to read."""
        if self._sock is not None:
            await trio.lowlevel.wait_readable(self._sock)

    def read(self) -> bytes | None:
        """Return what is there, None if that is nothing; empty where TLS kept it to itself.

        Raises:
            TlsError: the handshake failed, or the stream is broken.
        """
        if self._sock is None or self.ended:
            return None
        try:
            data = self._sock.recv(READ_SIZE)
        except BlockingIOError:
            return None
        except OSError as error:
            self.ended = f"connection lost ({error.strerror})"
            return None
        if not data:
            self.ended = "connection closed by the server"
            return None
        machine = self.machine
        if machine is None:
            return data
        try:
            plain = machine.receive(data)
        finally:
            self._send(machine.output())
        if machine.closed:
            self.ended = "connection closed by the server"
        return plain

    def close(self) -> None:
        """Close the connection, under TLS with a word of goodbye if it can be had at once."""
        sock, self._sock = self._sock, None
        if sock is None:
            return
        if self.machine is not None and not self.broken and not self.waiting:
            self.machine.close()
            with contextlib.suppress(OSError):
                sock.send(self.machine.output(), socket.MSG_NOSIGNAL)
        close(sock)
