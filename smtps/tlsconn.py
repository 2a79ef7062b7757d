"""TLS on the socket of one connection.

Kind: shell.

Sits between a connection and its socket only while there is TLS: clear text costs nothing. What
reading and writing mean is the connection's, which hands its functions over.
Source: RFC 3207, RFC 8446 6.1; SPEC row X004.
"""

from collections.abc import Awaitable, Callable

import trio

from libsmx.tls import TlsMachine
from libsmx.tlscontext import TlsContext
from libsmx.tlsfacts import TlsError, TlsFacts

Recv = Callable[[], Awaitable[bytes]]
Send = Callable[[bytes], Awaitable[None]]


class TlsBroken(ConnectionError):
    """TLS cannot go on; for the connection the same as a lost socket."""


class TlsConn:
    """One connection's TLS.

    Args:
        context: for the server's side.
        recv: reads bytes of the network, empty at their end.
        send: writes bytes to the network.
    """

    def __init__(self, context: TlsContext, recv: Recv, send: Send) -> None:
        self._machine = TlsMachine(context)
        self._recv = recv
        self._send = send

    async def shake(self, first: bytes, timeout_s: float) -> tuple[TlsFacts, bytes]:
        """Shake hands.

        Args:
            first: bytes of the handshake that came already.
            timeout_s: longest time for it all.

        Returns:
            What is known then, and plain text that came with the end of the handshake.

        Raises:
            TlsBroken: it failed.
        """
        machine, plain = self._machine, b""
        try:
            with trio.fail_after(timeout_s):
                while machine.facts is None:
                    data = first or await self._recv()
                    first = b""
                    if not data:
                        raise TlsBroken("the client left during the handshake")
                    plain += await self._feed(data)
        except trio.TooSlowError as error:
            raise TlsBroken("the handshake took too long") from error
        return machine.facts, plain

    async def recv(self) -> bytes:
        """Return plain text, empty at its end.

        Raises:
            TlsBroken: the stream is damaged.
        """
        while not self._machine.closed:
            data = await self._recv()
            if not data:
                break
            plain = await self._feed(data)
            if plain:
                return plain
        return b""

    async def send(self, data: bytes) -> None:
        """Send plain text.

        Raises:
            TlsBroken: the stream is damaged.
        """
        try:
            self._machine.send(data)
        except TlsError as error:
            raise TlsBroken(f"TLS: {error}") from error
        await self._flush()

    async def _feed(self, data: bytes) -> bytes:
        try:
            plain = self._machine.receive(data)
        except TlsError as error:
            await self._flush()  # the alert that tells the client why
            raise TlsBroken(f"TLS: {error}") from error
        await self._flush()
        return plain

    async def _flush(self) -> None:
        out = self._machine.output()
        if out:
            await self._send(out)

    def last_words(self) -> bytes:
        """Return what tells the client that no more comes."""
        self._machine.close()
        return self._machine.output()
