"""SMTP lines and message data: bytes to command lines, to content, and back.

Kind: core.
Limits: a command line and what is held back between two calls are bounded; content passes in
the chunks that came, and is worked on with bytes methods only, never per byte.
Source: RFC 5321 2.3.8, 4.1.1.4, 4.5.2; SPEC row X002.

Smuggling: a receiver that ends the message data at anything but CRLF . CRLF, or that lets a
lone CR or LF through to a next hop which does, accepts messages with any sender from any
client. Hence every CR that is not followed by LF and every LF that does not follow CR is an
error here, wherever it stands, and nothing else than CRLF . CRLF ends the data.
"""

import enum

from libsmx.errors import SmxError

MAX_COMMAND_LINE = 2048
"""Longest command line, bytes with CRLF; RFC 5321 4.5.3.1.4 asks for 512, Postfix takes 2048."""
_MAX_DISCARD = 1 << 20
"""Bytes of one overlong line that are thrown away before the peer is given up."""


class LineFault(enum.Enum):
    """What is wrong with a line."""

    BARE_CR = "bare CR"
    BARE_LF = "bare LF"
    TOO_LONG = "line too long"
    ENDLESS = "line without end"


class LineError(SmxError):
    """The peer sent a line that is refused.

    Attributes:
        kind: TOO_LONG leaves the reader usable (the rest of that line is thrown away); after
            any other fault nothing more of this peer may be believed.
    """

    def __init__(self, kind: LineFault) -> None:
        super().__init__(kind.value)
        self.kind = kind


class LineReader:
    """Bytes to command lines."""

    def __init__(self, limit: int = MAX_COMMAND_LINE) -> None:
        self._limit = limit
        self._buffer = b""
        self._at = 0
        self._discarded = 0

    def feed(self, data: bytes) -> None:
        """Add received bytes."""
        self._buffer = self._buffer[self._at :] + data if self._at < len(self._buffer) else data
        self._at = 0

    def next_line(self) -> bytes | None:
        """Return the next whole line without its CRLF, None if there is none yet.

        Raises:
            LineError: for TOO_LONG once a line, for ENDLESS when a megabyte of it is gone.
        """
        buffer, at = self._buffer, self._at
        end = buffer.find(b"\n", at)
        if self._discarded:
            return self._discard()
        if end < 0:
            if len(buffer) - at > self._limit:
                self._discarded = 1
                raise LineError(LineFault.TOO_LONG)
            if 0 <= buffer.find(b"\r", at) < len(buffer) - 1:
                raise LineError(LineFault.BARE_CR)
            if at == len(buffer):
                self._buffer, self._at = b"", 0  # an idle session keeps no chunk alive
            return None
        self._at = end + 1
        if end == at or buffer[end - 1] != 13:
            raise LineError(LineFault.BARE_LF)
        if end + 1 - at > self._limit:
            raise LineError(LineFault.TOO_LONG)
        line = buffer[at : end - 1]
        if b"\r" in line:
            raise LineError(LineFault.BARE_CR)
        return line

    def _discard(self) -> bytes | None:
        """Throw the rest of an overlong line away, then go on with the next."""
        buffer, at = self._buffer, self._at
        end = buffer.find(b"\r\n", at)
        if end >= 0:
            self._at = end + 2
            self._discarded = 0
            return self.next_line()
        # A CR at the end may be the first half of the CRLF that is looked for.
        keep = 1 if buffer.endswith(b"\r") else 0
        self._discarded += max(0, len(buffer) - at - keep)
        self._at = len(buffer) - keep
        if self._discarded > _MAX_DISCARD:
            raise LineError(LineFault.ENDLESS)
        return None

    def take_rest(self) -> bytes:
        """Return and forget what was fed and not read: the data that follows DATA."""
        rest = self._buffer[self._at :]
        self._buffer, self._at = b"", 0
        return rest


class DataReader:
    """Bytes after DATA to content: finds the end, removes dot-stuffing.

    One object reads one message.
    """

    def __init__(self) -> None:
        # What is not given out yet, after _skip bytes that were and that are only looked at.
        # The data begins at the beginning of a line, so a CRLF is thought before it.
        self._carry = b"\r\n"
        self._skip = 2

    def feed(self, data: bytes) -> tuple[bytes, bool, bytes]:
        """Return content, whether the data ended, and the bytes after the end.

        Every byte fed is given out at once, but for at most two that may belong to the end.

        Raises:
            LineError: BARE_CR or BARE_LF; the message must be refused, and nothing after it
                may be read as commands.
        """
        buffer = self._carry + data
        dot = buffer.find(b"\r\n.")
        end = buffer.find(b"\r\n.\r\n", dot) if dot >= 0 else -1
        content = buffer[: end + 2 if end >= 0 else len(buffer) - _undecided(buffer)]
        pairs = content.count(b"\r\n")
        if content.count(b"\n") != pairs:
            raise LineError(LineFault.BARE_LF)
        if content.count(b"\r") != pairs:
            raise LineError(LineFault.BARE_CR)
        if end < 0:
            # "CRLF . CR" waits for its LF; any other byte after that CR is caught above.
            at_line_start = content.endswith(b"\r\n")
            rest = buffer[len(content) :]
            skip = self._skip
            self._skip = 2 if at_line_start else 0
            self._carry = b"\r\n" + rest if at_line_start else rest
        else:
            skip, rest = self._skip, buffer[end + 5 :]
        if 0 <= dot < len(content) - 2:
            # RFC 5321 4.5.2: a dot at the beginning of a line that has more is deleted
            content = content.replace(b"\r\n.", b"\r\n")
        return content[skip:], end >= 0, rest if end >= 0 else b""


def _undecided(buffer: bytes) -> int:
    """Return how many bytes at the end may be part of the end of data or of a CRLF."""
    if buffer.endswith(b"\r"):
        return 2 if buffer.endswith(b"\r\n.\r") else 1
    return 1 if buffer.endswith(b"\r\n.") else 0


class DotStuffer:
    """Content to what is sent after DATA.

    One object writes one message.
    """

    def __init__(self) -> None:
        self._last = b"\r\n"

    def encode(self, chunk: bytes) -> bytes:
        """Return the chunk with the dots doubled that begin a line.

        A dot after a lone LF is doubled too: such content is refused on reception, but should
        a file be damaged, no next hop is led to end the message there.
        """
        if not chunk:
            return chunk
        stuffed = chunk.replace(b"\n.", b"\n..") if b"\n." in chunk else chunk
        if self._last.endswith(b"\n") and chunk.startswith(b"."):
            stuffed = b"." + stuffed
        self._last = (self._last + chunk[-2:])[-2:]
        return stuffed

    def end(self) -> bytes:
        """Return the end of the data; a last line without CRLF gets one (RFC 5321 4.1.1.4)."""
        return b".\r\n" if self._last == b"\r\n" else b"\r\n.\r\n"
