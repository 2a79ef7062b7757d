"""The milter protocol, version 6, in bytes: packets to a filter and replies from it.

Kind: core.

A packet is a length of four bytes, a command of one byte and data. Texts end in NUL; they are
bytes in mail, and are kept as text by surrogates for what is not UTF-8.
Limits: MAX_PACKET for a packet of a filter, CHUNK for a piece of body.
Source: sendmail 8, include/libmilter/mfdef.h and libmilter/docs; SPEC D45.
"""

from collections.abc import Iterable

import attrs

from libsmx.errors import SmxError

VERSION = 6
MAX_PACKET = 1 << 20
CHUNK = 65_535

# What a filter may change.
ADD_HEADERS, CHANGE_BODY, ADD_RCPT, DELETE_RCPT = 0x01, 0x02, 0x04, 0x08
CHANGE_HEADERS, QUARANTINE, CHANGE_SENDER, ADD_RCPT_PAR = 0x10, 0x20, 0x40, 0x80

# What a filter wants to be spared, and where it does not answer.
NO_STEP = {"connect": 0x01, "helo": 0x02, "mail": 0x04, "rcpt": 0x08, "body": 0x10,
           "header": 0x20, "eoh": 0x40, "data": 0x200}  # fmt: skip
NO_REPLY = {"header": 0x80, "connect": 0x1000, "helo": 0x2000, "mail": 0x4000, "rcpt": 0x8000,
            "data": 0x10000, "eoh": 0x40000, "body": 0x80000}  # fmt: skip
NO_UNKNOWN, NO_REPLY_UNKNOWN, SKIP_OFFERED, LEADING_SPACE = 0x100, 0x20000, 0x400, 0x100000
OFFERED = (
    sum(NO_STEP.values())
    | sum(NO_REPLY.values())
    | NO_UNKNOWN
    | NO_REPLY_UNKNOWN
    | SKIP_OFFERED
    | LEADING_SPACE
)

COMMANDS = {"connect": b"C", "helo": b"H", "mail": b"M", "rcpt": b"R", "data": b"T",
            "header": b"L", "eoh": b"N", "body": b"B", "end": b"E"}  # fmt: skip
ABORT = b"\0\0\0\1A"
QUIT = b"\0\0\0\1Q"


class MilterError(SmxError):
    """A filter does not keep to the protocol; it is not used any more in this session."""


@attrs.frozen
class Options:
    """Answer to the negotiation.

    Attributes:
        version: of the protocol.
        actions: what the filter wants to change.
        protocol: what it wants to be spared.
    """

    version: int
    actions: int
    protocol: int


def encode(command: bytes, data: bytes = b"") -> bytes:
    """Return a packet."""
    return (len(data) + 1).to_bytes(4, "big") + command + data


def to_bytes(text: str) -> bytes:
    """Return text as it is on the wire, without its NUL; a NUL in it would end it."""
    return text.encode("utf-8", "surrogateescape").replace(b"\0", b"?")


def to_text(data: bytes) -> str:
    """Return bytes of the wire as text."""
    return data.decode("utf-8", "surrogateescape")


def encode_words(command: bytes, words: Iterable[str]) -> bytes:
    """Return a packet of texts."""
    return encode(command, b"".join(to_bytes(word) + b"\0" for word in words))


def encode_hello(actions: int) -> bytes:
    """Return the beginning of the negotiation."""
    numbers = (VERSION, actions, OFFERED)
    return encode(b"O", b"".join(number.to_bytes(4, "big") for number in numbers))


def encode_connect(name: str, address: str, port: int) -> bytes:
    """Return the packet that tells the client."""
    family = b"6" if ":" in address else b"4"
    shown = f"IPv6:{address}" if ":" in address else address
    data = to_bytes(name) + b"\0" + family + port.to_bytes(2, "big") + to_bytes(shown) + b"\0"
    return encode(b"C", data)


def encode_macros(stage: str, macros: Iterable[tuple[str, str]]) -> bytes:
    """Return the packet that tells macros for a stage; nothing where there are none."""
    words = b"".join(to_bytes(text) + b"\0" for pair in macros for text in pair)
    return encode(b"D", COMMANDS[stage] + words) if words else b""


@attrs.frozen
class Packet:
    """What a filter sent."""

    command: bytes
    data: bytes

    def words(self) -> list[str]:
        """Return the texts in the data."""
        return [to_text(part) for part in self.data.removesuffix(b"\0").split(b"\0")]

    def number(self) -> int:
        """Return the number at the beginning of the data.

        Raises:
            MilterError: there is none.
        """
        if len(self.data) < 4:
            raise MilterError("packet without its number")
        return int.from_bytes(self.data[:4], "big")

    def after_number(self) -> "Packet":
        """Return the packet without that number."""
        return Packet(self.command, self.data[4:])


class PacketReader:
    """Bytes from a filter to packets."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[Packet]:
        """Return the packets that are whole with these bytes.

        Raises:
            MilterError: a packet of no or of too great length.
        """
        self._buffer += data
        found = []
        while len(self._buffer) >= 4:
            length = int.from_bytes(self._buffer[:4], "big")
            if not 0 < length <= MAX_PACKET:
                raise MilterError(f"packet of {length} bytes")
            if len(self._buffer) < 4 + length:
                break
            found.append(Packet(self._buffer[4:5], self._buffer[5 : 4 + length]))
            self._buffer = self._buffer[4 + length :]
        return found


def read_options(packet: Packet, actions: int) -> Options:
    """Return the filter's answer to the negotiation.

    Args:
        packet: the answer.
        actions: what was offered.

    Raises:
        MilterError: no answer, or it wants what was not offered.
    """
    data = packet.data
    if packet.command != b"O" or len(data) < 12:
        raise MilterError("no answer to the negotiation")
    version, wanted, protocol = (int.from_bytes(data[at : at + 4], "big") for at in (0, 4, 8))
    if not 2 <= version <= VERSION:
        raise MilterError(f"protocol version {version} is not spoken here")
    if wanted & ~actions or protocol & ~OFFERED:
        raise MilterError(
            f"wants what is not offered (actions 0x{wanted:X}, protocol 0x{protocol:X})"
        )
    return Options(version, wanted, protocol)
