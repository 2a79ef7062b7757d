"""Maps that answer later: other programs on sockets, and the system's users.

Kind: shell.

A socket map keeps one connection and asks one key at a time; where the connection broke since
the last answer, the question is asked once more on a new one. After a failure the server is
left alone for PAUSE_S seconds, so that every session does not wait for it.
Source: SPEC rows X211, X212, X214 to X219; decision D20.
"""

import pwd

import trio

from libsmx.opt_smar_maps import MapConf
from smar.maps import map_answer
from smar.records import Answer, Outcome
from smar.socketmap import NetstringReader, ServerUnable, SocketMapError, read_reply, request

PAUSE_S = 5.0
_READ_BYTES = 65_536
_MAX_LOOKUPS = 4


class PasswdAsker:
    """Asks the user database; it may be far away, hence the threads."""

    def __init__(self) -> None:
        self._limit = trio.CapacityLimiter(_MAX_LOOKUPS)

    async def ask(self, key: str) -> Answer:
        """Return the full name of a user, or that there is none of this name."""
        if not key or "\0" in key or ":" in key:
            return map_answer(None)
        try:
            found = await trio.to_thread.run_sync(
                _user, key, limiter=self._limit, abandon_on_cancel=True
            )
        except OSError as error:
            return Answer(outcome=Outcome.FAILED, detail=f"user database: {error.strerror}")
        return map_answer(found)


def _user(name: str) -> str | None:
    try:
        return pwd.getpwnam(name).pw_gecos
    except KeyError:
        return None


class SocketAsker:
    """Asks a socket map.

    Args:
        conf: its section.
    """

    def __init__(self, conf: MapConf) -> None:
        self._conf = conf
        self._mapname = conf.mapname or conf.name
        self._lock = trio.Lock()
        self._stream: trio.SocketStream | None = None
        self._reader = NetstringReader()
        self._quiet_until = 0.0

    async def ask(self, key: str) -> Answer:
        """Return the value of a key; never raises."""
        with trio.move_on_after(self._conf.timeout):
            async with self._lock:
                if trio.current_time() < self._quiet_until:
                    return Answer(outcome=Outcome.FAILED, detail="the map's server is left alone")
                try:
                    return map_answer(await self._exchange(key))
                except SocketMapError as error:
                    return Answer(outcome=Outcome.FAILED, detail=str(error))
                except OSError as error:
                    self._quiet_until = trio.current_time() + PAUSE_S
                    where = self._conf.path or f"{self._conf.address}:{self._conf.port}"
                    text = f"{where}: {error.strerror or error}"
                    return Answer(outcome=Outcome.FAILED, detail=text)
                except trio.Cancelled:
                    self._quiet_until = trio.current_time() + PAUSE_S
                    self.close()
                    raise
        return Answer(outcome=Outcome.FAILED, detail=f"no answer within {self._conf.timeout} s")

    async def _exchange(self, key: str) -> str | None:
        """Ask, on a new connection where the old one is broken."""
        if self._stream is not None:
            try:
                return await self._talk(self._stream, key)
            except (OSError, trio.BrokenResourceError):
                self.close()
        self._reader = NetstringReader()
        self._stream = await self._connect()
        try:
            return await self._talk(self._stream, key)
        except trio.BrokenResourceError as error:
            self.close()
            raise OSError(None, "the server closed the connection") from error
        except OSError:
            self.close()
            raise

    async def _connect(self) -> trio.SocketStream:
        if self._conf.path:
            return await trio.open_unix_socket(self._conf.path)
        return await trio.open_tcp_stream(self._conf.address, self._conf.port)

    async def _talk(self, stream: trio.SocketStream, key: str) -> str | None:
        await stream.send_all(request(self._mapname, key))
        while True:
            data = await stream.receive_some(_READ_BYTES)
            if not data:
                raise trio.BrokenResourceError("end of stream")
            try:
                for reply in self._reader.feed(data):
                    return read_reply(reply)
            except ServerUnable:
                raise
            except SocketMapError:
                self.close()
                raise

    def close(self) -> None:
        """Close the connection; the next question opens another."""
        if self._stream is not None:
            self._stream.socket.close()
        self._stream = None
