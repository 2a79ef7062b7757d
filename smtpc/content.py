"""The content of one delivery: what is sent after DATA.

Kind: shell.

Small contents are read whole in the loop's thread, because they are in the page cache and a
thread hop costs more than the read; large ones pass in blocks that a worker thread reads. A
file that is shorter than its envelope says is never sent: its last part would be missing, and
the next hop could not know.
Limits: SMALL bytes are held for each session at most, or one block.
Source: SPEC row X017; architecture.md.
"""

import os

import trio

from libsmx.cdb import open_content
from libsmx.envelope import Envelope
from libsmx.errors import StoreError
from smtpc.compose import Original, compose

SMALL = 64 * 1024
BLOCK = 256 * 1024


class Content:
    """Content that is ready to be sent.

    Attributes:
        size: bytes, before dot-stuffing.
        body8: it has, or was declared to have, 8-bit bytes.
        data: all of it, None if it has to be read in blocks.
        left: bytes that ``read`` has still to give.
        utf8_header: its header has 8-bit bytes; looked at where SMTPUTF8 was declared.

    Args:
        fd: file of a large content, -1 where data is all.
        around: what comes before and behind the file and is no part of it; size counts it.
    """

    def __init__(
        self,
        size: int,
        data: bytes | None,
        fd: int,
        *,
        body8: bool,
        utf8_header: bool = False,
        around: tuple[bytes, bytes] = (b"", b""),
    ) -> None:
        self.size = size
        self.body8 = body8
        self.utf8_header = utf8_header
        self.data = data
        self.left = size
        self._fd = fd
        self._before, self._behind = around

    async def read(self) -> bytes:
        """Return the next block of a large content; not to be called when nothing is left.

        Raises:
            StoreError: the file ends early or cannot be read.
        """
        if self._before:
            block, self._before = self._before, b""
            self.left -= len(block)
            return block
        left = self.left - len(self._behind)
        if not left:
            self.left = 0
            return self._behind
        # Not abandoned on cancellation: the thread would read from a descriptor that may
        # belong to another file by then.
        try:
            block = await trio.to_thread.run_sync(os.read, self._fd, min(BLOCK, left))
        except OSError as error:
            raise StoreError(f"reading failed: {error.strerror}") from error
        if not block:
            raise StoreError(f"the file ended {left} bytes early")
        self.left -= len(block)
        return block

    def close(self) -> None:
        """Close the file, if one is open."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def open_message(base: str, envelope: Envelope) -> Content:
    """Return the content of a received message.

    Args:
        base: directory of the CDB, empty or ending in ``/``.
        envelope: names the file and its size.

    Raises:
        StoreError: missing, shorter than the envelope says, or unreadable.
    """
    try:
        fd = open_content(base, envelope.cdb_id)
    except FileNotFoundError as error:
        raise StoreError(f"content file {envelope.cdb_id} is missing") from error
    try:
        size = os.fstat(fd).st_size
        if size < envelope.size:
            raise StoreError(
                f"content file {envelope.cdb_id} has {size} bytes, its envelope says "
                f"{envelope.size}"
            )
        if size > SMALL:
            utf8_header = envelope.smtputf8 and _is_header8(os.pread(fd, SMALL, 0))
            content = Content(size, None, fd, body8=envelope.body8, utf8_header=utf8_header)
            fd = -1
            return content
        data = _read(fd, size)
        if len(data) < size:
            raise StoreError(f"content file {envelope.cdb_id} shrinks while it is read")
        utf8_header = envelope.smtputf8 and _is_header8(data)
        return Content(size, data, -1, body8=envelope.body8, utf8_header=utf8_header)
    finally:
        if fd >= 0:
            os.close(fd)


def compose_report(base: str, envelope: Envelope, boundary: str) -> tuple[Content, str]:
    """Return the content of a DSN, and why the original is missing in it, if it is.

    Args:
        base: directory of the CDB.
        envelope: one with ``dsn`` set.
        boundary: random, for the MIME parts.
    """
    if envelope.dsn is None:
        raise ValueError("the envelope is not that of a report")
    original, problem, fd, size = None, "", -1, 0
    try:
        fd = open_content(base, envelope.cdb_id)
        size = os.fstat(fd).st_size
        original = Original(_read(fd, SMALL), whole=size <= SMALL, body8=envelope.body8)
    except FileNotFoundError:
        problem = "the file is missing"
    except StoreError as error:
        problem = str(error)
    composed = compose(envelope, envelope.dsn, boundary, original)
    utf8_header = envelope.smtputf8 and _is_header8(composed.data)
    if composed.streamed:
        os.lseek(fd, 0, os.SEEK_SET)
        around = composed.data, composed.tail
        size += len(composed.data) + len(composed.tail)
        content = Content(
            size, None, fd, body8=composed.body8, utf8_header=utf8_header, around=around
        )
        return content, problem
    if fd >= 0:
        os.close(fd)
    data = composed.data
    content = Content(len(data), data, -1, body8=composed.body8, utf8_header=utf8_header)
    return content, problem


def _is_header8(data: bytes) -> bool:
    """Tell whether the header at the beginning of a message has 8-bit bytes."""
    return not data.partition(b"\r\n\r\n")[0].isascii()


def _read(fd: int, size: int) -> bytes:
    """Return up to size bytes from the start of a file.

    Raises:
        StoreError: it cannot be read.
    """
    try:
        data = os.read(fd, size)
        while len(data) < size and (more := os.read(fd, size - len(data))):
            data += more
    except OSError as error:
        raise StoreError(f"reading failed: {error.strerror}") from error
    return data
