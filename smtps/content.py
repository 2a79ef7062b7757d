"""Message content while it streams in: its end, its size, its hops.

Kind: core.
Limits: max_size bytes are given out; four times as many are read and dropped before the
client is cut off. Nothing is kept but what may be part of the end of data or of a field name.
Source: RFC 5321 4.1.1.4, 6.3, RFC 1870; SPEC rows X378, X379.
"""

from libsmx import reply
from libsmx.lines import DataReader
from libsmx.reply import Reply

_RECEIVED = b"\r\nreceived:"
_DRAIN = 4
"""Times max_size that a client may send before it is cut off instead of being told 552."""


class HopCounter:
    """Counts the Received: fields of a header that comes in pieces."""

    def __init__(self) -> None:
        self.hops = 0
        self.in_header = True
        # The header begins at the beginning of a line.
        self._carry = b"\r\n"

    def feed(self, content: bytes) -> None:
        """Look at the next piece of content."""
        text = self._carry + content.lower()
        end = text.find(b"\r\n\r\n")
        if end >= 0:
            self.in_header = False
            text = text[: end + 2]
        self.hops += text.count(_RECEIVED)
        # One byte short of the field name: what was counted is not counted again.
        self._carry = text[1 - len(_RECEIVED) :]


class Content:
    """Reads the data of one message.

    Args:
        max_size: greatest size in bytes, 0: unlimited.
        max_hops: greatest number of Received: fields.

    Attributes:
        size: content bytes received so far.
        refusal: why the message is refused; what follows is read and dropped.
        endless: the client sends on and on and should be cut off.
    """

    def __init__(self, max_size: int, max_hops: int) -> None:
        self.size = 0
        self.refusal: Reply | None = None
        self.endless = False
        self._max_size = max_size
        self._max_hops = max_hops
        self._reader = DataReader()
        self._hops = HopCounter()

    def feed(self, data: bytes) -> tuple[bytes, bool, bytes]:
        """Return content to store, whether the data ended, and what follows the end.

        Raises:
            LineError: a bare CR or LF; the session must end.
        """
        content, done, rest = self._reader.feed(data)
        self.size += len(content)
        if self.refusal is None:
            if self._hops.in_header:
                self._hops.feed(content)
                if self._hops.hops > self._max_hops:
                    self.refusal = reply.TOO_MANY_HOPS
            if 0 < self._max_size < self.size:
                self.refusal = reply.TOO_BIG.fill(self._max_size)
        if self.refusal is not None:
            self.endless = 0 < _DRAIN * self._max_size < self.size
            content = b""
        return content, done, rest
