"""Messages to bytes and back: the record communication buffer.

Kind: core.

A frame is ``<length u32><type u8><rid u32><payload>``, big endian; length counts what follows
it. The payload is msgpack of the message's fields, checked by type and bounds while it is
decoded. rid is 0 for a notification, else it pairs a request with its answer.

The decoder is total: any bytes give messages or PeerError, a length beyond the limit is
refused before anything is allocated, and what the table does not allow on this channel is
refused before its payload is looked at.
"""

import struct
from collections.abc import Iterator
from typing import Any

import msgspec

from libsmx import wirebase
from libsmx.errors import PeerError

HEADER = struct.Struct(">IBI")
MAX_FRAME = 8 << 20
"""Longest frame in bytes: an envelope with its largest number of recipients fits."""

_encoder = msgspec.msgpack.Encoder()
_decoders: dict[int, msgspec.msgpack.Decoder[Any]] = {}


def _decoder(number: int) -> msgspec.msgpack.Decoder[Any]:
    """Return the decoder of a message type, made at its first use."""
    decoder = _decoders.get(number)
    if decoder is None:
        decoder = _decoders[number] = msgspec.msgpack.Decoder(wirebase.TYPES[number])
    return decoder


def encode(message: object, rid: int = 0) -> bytes:
    """Return the frame of a message."""
    payload = _encoder.encode(message)
    return HEADER.pack(len(payload) + 5, wirebase.NUMBERS[type(message)], rid) + payload


class FrameReader:
    """Collects received bytes and yields the messages in them.

    Args:
        allowed: message classes that the peer may send.
        limit: longest frame accepted, bytes.
    """

    def __init__(self, allowed: frozenset[type], limit: int = MAX_FRAME) -> None:
        self._allowed = frozenset(wirebase.NUMBERS[cls] for cls in allowed)
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[Any, int]]:
        """Yield (message, rid) for every frame that is complete with these bytes.

        Raises:
            PeerError: a frame is too long, not allowed here, or its payload is not what
                its type says.
        """
        buffer: bytes | bytearray = data
        if self._buffer:
            self._buffer += data
            buffer = self._buffer
        at, size = 0, len(buffer)
        view = memoryview(buffer)
        try:
            while size - at >= HEADER.size:
                length, number, rid = HEADER.unpack_from(buffer, at)
                if not 5 <= length <= self._limit:
                    raise PeerError(f"frame of {length} bytes, at most {self._limit} are accepted")
                if number not in self._allowed:
                    raise PeerError(f"message type {number} is not accepted on this channel")
                end = at + 4 + length
                if size < end:
                    break
                try:
                    message = _decoder(number).decode(view[at + HEADER.size : end])
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    raise PeerError(f"{wirebase.TYPES[number].__name__}: {error}") from error
                at = end
                yield message, rid
        finally:
            view.release()
            if buffer is self._buffer:
                del self._buffer[:at]
            elif at < size:
                self._buffer += data[at:]

    @property
    def pending(self) -> int:
        """Bytes of a frame that is not complete yet."""
        return len(self._buffer)
