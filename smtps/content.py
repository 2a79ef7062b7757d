"""Message content while it streams in: its end, its size, its header.

Kind: core.
Limits: max_size bytes are given out; four times as many are read and dropped before the
client is cut off. Nothing is kept but what may be part of the end of data or of a field name.
Source: RFC 5321 4.1.1.4, 6.3, RFC 1870, RFC 3030; SPEC rows X378, X379.
"""

import re

from libsmx import reply
from libsmx.lines import DataReader, LineFault
from libsmx.opttab import SmtpsConf
from libsmx.reply import Reply

_RECEIVED = b"\r\nreceived:"
_FIELD_RE = re.compile(rb"[!-9;-~]+[ \t]*:")
_MAX_NAME = 998
"""Bytes in which the name of the first field must end (RFC 5322 2.1.1)."""
DRAIN = 4
"""Times max_size that a client may send before it is cut off instead of being told 552."""


class HeaderWatch:
    """Measures a header that comes in pieces.

    Attributes:
        hops: Received: fields so far.
        fields: fields so far; a line that is none counts as one.
        size: bytes so far.
        in_header: the header is not over.
        plain: what came first is no field, so there is no header but only text.
    """

    def __init__(self) -> None:
        self.hops = 0
        self.fields = 0
        self.size = 0
        self.in_header = True
        self.plain = False
        self._first: bytes | None = b""
        # The header begins at the beginning of a line.
        self._carry = b"\r\n"
        self._before = b"\r\n"

    def feed(self, content: bytes) -> None:
        """Look at the next piece of content."""
        if self._first is not None:
            self._look_at_first(content)
        carried = len(self._carry)
        text = self._carry + content.lower()
        end = text.find(b"\r\n\r\n")
        if end >= 0:
            self.in_header = False
            text = text[: end + 2]
        self.hops += text.count(_RECEIVED)
        self.size += len(text) - min(carried, len(text))
        self._count_fields(content if end < 0 else content[: max(0, end + 2 - carried)])
        # One byte short of the field name: what was counted is not counted again.
        self._carry = text[1 - len(_RECEIVED) :]

    def _look_at_first(self, content: bytes) -> None:
        """Tell by its first line whether a message has a header."""
        line = (self._first or b"") + content[:_MAX_NAME]
        if len(line) < _MAX_NAME and b"\n" not in line:
            self._first = line
            return
        self._first = None
        self.plain = _FIELD_RE.match(line) is None

    def _count_fields(self, piece: bytes) -> None:
        """Count line beginnings that are no continuation."""
        text = self._before + piece
        lines = text.count(b"\r\n")
        if text.endswith(b"\r\n"):
            lines -= 1  # what begins there has not come yet
        self.fields += lines - text.count(b"\r\n ") - text.count(b"\r\n\t")
        self._before = b"\r\n" if text.endswith(b"\r\n") else b"\r" if text.endswith(b"\r") else b""


class ChunkReader:
    """Checks the line ends of content that comes in chunks of a known size (BDAT).

    A message whose lines end otherwise than in CRLF is refused here as after DATA: the next
    server may take it apart at such a line (RFC 5321 2.3.8).
    """

    def __init__(self) -> None:
        self._carry = b""

    def feed(self, data: bytes) -> LineFault | None:
        """Look at the next piece of content; return what is wrong with it."""
        text = self._carry + data
        self._carry = b"\r" if text.endswith(b"\r") else b""
        pairs = text.count(b"\r\n")
        if text.count(b"\n") != pairs:
            return LineFault.BARE_LF
        return LineFault.BARE_CR if text.count(b"\r") - len(self._carry) != pairs else None

    @property
    def torn(self) -> bool:
        """True where the content so far ends in a CR."""
        return bool(self._carry)


class Content:
    """Reads the data of one message.

    Args:
        max_size: greatest size in bytes, 0: unlimited.
        conf: limits of the header.

    Attributes:
        size: content bytes received so far.
        refusal: why the message is refused; what follows is read and dropped.
        endless: the client sends on and on and should be cut off.
    """

    def __init__(self, max_size: int, conf: SmtpsConf) -> None:
        self.size = 0
        self.refusal: Reply | None = None
        self.endless = False
        self._max_size = max_size
        self._conf = conf
        self._reader = DataReader()
        self._header = HeaderWatch()
        self._chunks = ChunkReader()

    def feed(self, data: bytes) -> tuple[bytes, bool, bytes]:
        """Return content to store, whether the data ended, and what follows the end.

        Raises:
            LineError: a bare CR or LF; the session must end.
        """
        content, done, rest = self._reader.feed(data)
        return self._take(content), done, rest

    def feed_chunk(self, data: bytes) -> bytes:
        """Return content to store of a chunk (RFC 3030)."""
        if self.refusal is None and self._chunks.feed(data) is not None:
            self.refusal = reply.BARE_CONTENT
        return self._take(data)

    def end_chunks(self) -> None:
        """Note that the last chunk is over."""
        if self.refusal is None and self._chunks.torn:
            self.refusal = reply.BARE_CONTENT

    def _take(self, content: bytes) -> bytes:
        """Count content; return what is to be stored."""
        self.size += len(content)
        if self.refusal is None:
            if self._header.in_header:
                self._header.feed(content)
                self.refusal = self._check_header()
            if 0 < self._max_size < self.size:
                self.refusal = reply.TOO_BIG.fill(self._max_size)
        if self.refusal is not None:
            self.endless = 0 < DRAIN * self._max_size < self.size
            content = b""
        return content

    def _check_header(self) -> Reply | None:
        header, conf = self._header, self._conf
        if header.hops > conf.max_hops:
            return reply.TOO_MANY_HOPS
        if header.plain:
            return None
        if header.size > conf.max_header_size * 1024:
            return reply.BIG_HEADER.fill(conf.max_header_size * 1024)
        if header.fields > conf.max_header_fields:
            return reply.MANY_FIELDS.fill(conf.max_header_fields)
        return None
