"""The protocol of socket maps: requests and replies as netstrings.

Kind: core.

A request is the map's name, a blank and the key; the reply is ``OK value``, ``NOTFOUND``, or
``TEMP``, ``TIMEOUT``, ``PERM`` with a reason. A netstring is the length in decimal digits, a colon,
the bytes, a comma. Both sides are total: any bytes give messages or SocketMapError.
Limits: MAX_BYTES bytes a message.
Source: SPEC rows X211, X214; decision D20; sendmail 8, cf/README, socketmap.
"""

from collections.abc import Iterator

from libsmx.errors import SmxError

MAX_BYTES = 65_536
_MAX_DIGITS = len(str(MAX_BYTES))


class SocketMapError(SmxError):
    """The peer does not speak the protocol, or could not answer."""


class ServerUnable(SocketMapError):
    """The server says that it could not answer; the connection can go on."""


def netstring(data: bytes) -> bytes:
    """Return bytes as a netstring."""
    return b"%d:%s," % (len(data), data)


def request(name: str, key: str) -> bytes:
    """Return the request for a key of a map."""
    return netstring(f"{name} {key}".encode("utf-8", "replace"))


class NetstringReader:
    """Collects bytes and yields the netstrings in them."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what is complete.

        Raises:
            SocketMapError: this is no netstring, or one that is too long.
        """
        self._buffer += data
        while self._buffer:
            digits, colon, _ = self._buffer.partition(b":")
            if not colon and len(digits) <= _MAX_DIGITS and digits.isdigit():
                return
            if not digits.isdigit() or not colon or len(digits) > _MAX_DIGITS:
                raise SocketMapError("no netstring: digits and a colon are expected")
            length, start = int(digits), len(digits) + 1
            if length > MAX_BYTES:
                raise SocketMapError(f"a message of more than {MAX_BYTES} bytes")
            if len(self._buffer) <= start + length:
                return
            if self._buffer[start + length] != ord(","):
                raise SocketMapError("no netstring: a comma is expected at its end")
            found = bytes(self._buffer[start : start + length])
            del self._buffer[: start + length + 1]
            yield found


def read_reply(data: bytes) -> str | None:
    """Return the value in a reply, None for NOTFOUND.

    Raises:
        SocketMapError: the server could not answer; or this is no reply.
    """
    text = data.decode("utf-8", "replace")
    word, _, rest = text.partition(" ")
    if word == "OK":
        return rest
    if word == "NOTFOUND":
        return None
    if word in ("TEMP", "TIMEOUT", "PERM"):
        raise ServerUnable(f"the server says {text[:200]!r}")
    raise SocketMapError(f"{text[:40]!r} is no reply of a socket map")


def read_request(data: bytes) -> tuple[str, str]:
    """Return map and key of a request.

    Raises:
        SocketMapError: there is no blank between them, or it is not UTF-8.
    """
    try:
        name, blank, key = data.decode().partition(" ")
    except UnicodeDecodeError:
        raise SocketMapError("the request is not UTF-8") from None
    if not blank or not name:
        raise SocketMapError("a request is the map's name, a blank and the key")
    return name, key
