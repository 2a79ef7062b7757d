"""A scripted SMTP or LMTP server on a real socket, for the tests of the client."""

import re
import socket

import attrs
import trio


class TlsSocket:
    """The two calls of a socket that a peer uses, over TLS."""

    def __init__(self, sock, context):
        self.stream = trio.SSLStream(
            trio.SocketStream(sock), context, server_side=True, https_compatible=True
        )

    async def send(self, data):
        await self.stream.send_all(data)
        return len(data)

    async def recv(self, size):
        return await self.stream.receive_some(size)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        pass


@attrs.define
class Message:
    """What one transaction brought."""

    mail: bytes
    rcpts: list
    data: bytes


@attrs.define
class Peer:
    """A server; ``replies`` overrides the answer to a verb, once for each entry.

    An answer of None closes the connection, ``...`` never comes.
    """

    replies: dict = attrs.field(factory=dict)
    greeting: object = b"220 peer ESMTP\r\n"
    ehlo: bytes = b"250-peer\r\n250-PIPELINING\r\n250-SIZE 0\r\n250 8BITMIME\r\n"
    lmtp: bool = False
    close_after: int = 0
    """Close the connection after this many messages."""
    sessions: int = 0
    messages: list = attrs.field(factory=list)
    quits: int = 0
    tls: object = None
    """Context of module ssl: STARTTLS is offered and used."""
    implicit: bool = False
    """TLS from the first byte."""
    deaf_to_tls: bool = False
    """STARTTLS is answered and the handshake is not."""
    handshakes: list = attrs.field(factory=list)
    """(version, resumed, certificate of the client or None) of each."""
    helos: list = attrs.field(factory=list)
    clients: list = attrs.field(factory=list)
    """Address of each client."""
    address: tuple = ()

    async def listen(self, nursery, address="127.0.0.1", family=socket.AF_INET):
        """Serve from now on; sets ``address``."""
        listener = trio.socket.socket(family, socket.SOCK_STREAM)
        await listener.bind(address if family == socket.AF_UNIX else (address, 0))
        listener.listen(20)
        self.address = listener.getsockname()
        nursery.start_soon(self._accept, listener, nursery)
        return self

    async def _accept(self, listener, nursery):
        with listener:
            while True:
                sock, client = await listener.accept()
                self.sessions += 1
                self.clients.append(client)
                nursery.start_soon(self._serve, sock)

    async def _serve(self, sock):
        with sock:
            try:
                await self._talk(sock)
            except (OSError, EOFError, trio.BrokenResourceError):
                return

    async def _handshake(self, sock):
        if self.deaf_to_tls:
            await trio.sleep_forever()
        wrapped = TlsSocket(sock, self.tls)
        await wrapped.stream.do_handshake()
        self.handshakes.append(
            (
                wrapped.stream.version(),
                wrapped.stream.session_reused,
                wrapped.stream.getpeercert(),
            )
        )
        return wrapped

    async def _say(self, sock, verb, default):
        replies = self.replies.get(verb)
        reply = replies.pop(0) if replies else default
        if reply is None:
            raise EOFError
        if reply is ...:
            await trio.sleep_forever()
        left = reply
        while left:
            left = left[await sock.send(left) :]
        return reply

    async def _read_until(self, sock, end):
        while end not in self._buffer(sock):
            data = await sock.recv(65536)
            if not data:
                raise EOFError
            self._buffers[sock] += data
        head, _, self._buffers[sock] = self._buffers[sock].partition(end)
        return head

    def _buffer(self, sock):
        return self._buffers.setdefault(sock, b"")

    _buffers: dict = attrs.field(factory=dict)

    async def _talk(self, sock):
        if self.implicit:
            sock = await self._handshake(sock)
        await self._say(sock, "greeting", self.greeting)
        mail, rcpts, taken = b"", [], 0
        while True:
            line = await self._read_until(sock, b"\r\n")
            verb = re.match(rb"[A-Z]*", line)[0].decode()
            if verb in {"EHLO", "LHLO"}:
                self.helos.append(line.decode())
                offer = self.tls is not None and not isinstance(sock, TlsSocket)
                await self._say(sock, verb, b"250-peer\r\n250-STARTTLS\r\n" * offer + self.ehlo)
            elif verb == "STARTTLS":
                reply = await self._say(sock, verb, b"220 2.0.0 go\r\n")
                if reply.startswith(b"220"):
                    sock = await self._handshake(sock)
            elif verb == "BDAT":
                size = int(line.split()[1])
                while len(self._buffer(sock)) < size:
                    data = await sock.recv(65536)
                    if not data:
                        raise EOFError
                    self._buffers[sock] += data
                data, self._buffers[sock] = self._buffers[sock][:size], self._buffers[sock][size:]
                self.messages.append(Message(mail, rcpts, data))
                for _ in rcpts if self.lmtp else rcpts[:1]:
                    await self._say(sock, "dot", b"250 2.0.0 taken\r\n")
            elif verb == "MAIL":
                reply = await self._say(sock, verb, b"250 2.1.0 ok\r\n")
                mail, rcpts = line if reply.startswith(b"2") else b"", []
            elif verb == "RCPT":
                name = re.search(rb"<(.*?)>", line)[1].decode()
                reply = self.replies.get(name, b"250 2.1.5 ok\r\n")
                reply = reply if mail else b"503 5.5.1 MAIL first\r\n"
                await self._say(sock, verb, reply)
                if reply.startswith(b"2"):
                    rcpts.append(name)
            elif verb == "DATA":
                if not rcpts:
                    await self._say(sock, verb, b"503 5.5.1 no recipients\r\n")
                    continue
                await self._say(sock, verb, b"354 go\r\n")
                # the data begins at the beginning of a line: a lone dot may come at once
                self._buffers[sock] = b"\r\n" + self._buffer(sock)
                data = await self._read_until(sock, b"\r\n.\r\n")
                self.messages.append(Message(mail, rcpts, (data + b"\r\n")[2:]))
                for _ in rcpts if self.lmtp else rcpts[:1]:
                    await self._say(sock, "dot", b"250 2.0.0 taken\r\n")
                taken += 1
                if taken == self.close_after:
                    return
            elif verb == "QUIT":
                self.quits += 1
                await self._say(sock, verb, b"221 bye\r\n")
                return
            else:
                await self._say(sock, verb, b"250 ok\r\n")
