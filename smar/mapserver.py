"""The server of smxmapd: answers socket map requests from our maps.

Kind: shell.

Each connection is served in turn: one request, one reply. A request for a map that is not served
is answered with PERM, a map that cannot be asked for now with TEMP.
Limits: MAX_CLIENTS connections, IDLE_S without a request, MAX_BYTES of socketmap.py a request.
Source: SPEC rows X211, X214; decision D20.
"""

import trio

from libsmx.maptext import fold
from smar.mapbook import MapBook
from smar.maps import Found, find
from smar.records import Question, Steps
from smar.socketmap import NetstringReader, SocketMapError, netstring, read_request

MAX_CLIENTS = 64
IDLE_S = 300.0
_READ_BYTES = 65_536
MAX_REPLY = 60_000


class MapServer:
    """Serves maps.

    Args:
        book: the maps.
        names: those that are served.
    """

    def __init__(self, book: MapBook, names: frozenset[str]) -> None:
        self._book = book
        self._names = names
        self._clients = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serve one connection to its end."""
        if self._clients >= MAX_CLIENTS:
            await stream.aclose()
            return
        self._clients += 1
        try:
            async with stream:
                await self._talk(stream)
        except (trio.BrokenResourceError, trio.TooSlowError, SocketMapError):
            pass  # the client went away, or does not speak the protocol
        finally:
            self._clients -= 1

    async def _talk(self, stream: trio.SocketStream) -> None:
        reader = NetstringReader()
        while True:
            data = b""
            with trio.move_on_after(IDLE_S):
                data = await stream.receive_some(_READ_BYTES)
            if not data:
                return
            for request in reader.feed(data):
                reply = await self.answer(request)
                with trio.fail_after(IDLE_S):
                    await stream.send_all(netstring(reply))

    async def answer(self, request: bytes) -> bytes:
        """Return the reply to a request."""
        name, key = read_request(request)
        source = self._book.find(name) if name in self._names else None
        if source is None:
            return b"PERM no such map here"
        found = await self._drive(find(source, [fold(key)]))
        if found is None:
            return b"NOTFOUND "
        if found.unsure:
            return f"TEMP {found.unsure[:200]}".encode("utf-8", "replace")
        reply = f"OK {found.value}".encode("utf-8", "replace")
        return reply if len(reply) <= MAX_REPLY else b"PERM the value is too long"

    async def _drive(self, steps: Steps[Found | None]) -> Found | None:
        """Bring a lookup to its end; all its questions are for maps that answer later."""
        try:
            asked = next(steps)
            while True:
                questions = [one for one in asked if isinstance(one, Question)]
                asked = steps.send(tuple([await self._book.ask(one) for one in questions]))
        except StopIteration as stop:
            result: Found | None = stop.value
            return result
