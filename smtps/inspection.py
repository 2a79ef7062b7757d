"""One message before the content filters: what they see of it, and what they make of it.

Kind: shell.

Each filter sees what those before it have made of the message. The content is read from its
file, and written to a new one where something was changed, which takes the name of the old one
before anybody says that the message is accepted.
Limits: the header is in memory, as large as the options allow and a filter's changes make it;
the body never is. A new body may be as large as a message may be.
Source: libmilter/docs (smfi_*, xxfi_eom); decision D45.
"""

import os
import tempfile
from types import TracebackType
from typing import IO, Self

import trio

from libsmx.address import AddressError, parse_mailbox
from libsmx.cdb import CdbFile, CdbWriter
from libsmx.errors import StoreError
from smtps.draft import Draft, LineEnds
from smtps.effects import Inspect, Inspected, Said
from smtps.milter import Filter
from smtps.milterio import FilterLink
from smtps.milterwire import CHUNK, MilterError, Packet

_BLOCK = 256 * 1024
_MAX_REASON = 128
_MAX_ADDED = 1000
"""Most recipients that filters may add, so that the envelope still fits one frame to qmgr."""


class Inspection:
    """Use as a context manager.

    Args:
        cdb: makes the new content file.
        file: content as it came.
        inspect: the effect.

    Attributes:
        hold: why the message shall be held in the queue, empty: it shall not.
    """

    def __init__(self, cdb: CdbWriter, file: CdbFile, inspect: Inspect) -> None:
        self.hold = ""
        self._cdb = cdb
        self._file = file
        self._inspect = inspect
        self._sender: str | None = None
        self._added: list[str] = []
        self._deleted: set[str] = set()
        self._body: IO[bytes] | None = None
        self._fresh: _Spool | None = None

    def __enter__(self) -> Self:
        """Read the header."""
        try:
            self._file.flush()
            self._fd = os.open(self._file.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise StoreError(f"{self._file.path}: cannot be read: {error.strerror}") from error
        self._draft = _read_header(self._fd, self._inspect.head)
        self._start, self._end = self._draft.body_at, self._file.size
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close everything."""
        os.close(self._fd)
        if self._body is not None:
            self._body.close()
        if self._fresh is not None:
            self._fresh.close()

    async def show(self, link: FilterLink) -> None:
        """Tell one filter the whole message, unless it has heard enough before."""
        machine = link.machine
        machine.changes, machine.said = [], Said()
        self._fresh = _Spool(os.path.dirname(self._file.path), self._inspect.max_size)
        for name, value in self._draft.shown():
            await link.tell(machine.header(name, value))
            if _is_done(machine):
                return
        await link.tell(machine.end_header())
        if _is_done(machine):
            return
        at = self._start
        while at < self._end and not machine.skipped and machine.wants("body"):
            chunk = os.pread(self._source, min(CHUNK, self._end - at), at)
            if not chunk:
                raise StoreError(f"{self._file.path}: is shorter than it was")
            at += len(chunk)
            await link.tell(machine.body(chunk))
            if _is_done(machine):
                return
        await link.tell(machine.end(self._inspect.macros), self._fresh.write)

    @property
    def _source(self) -> int:
        return self._fd if self._body is None else self._body.fileno()

    def apply(self, machine: Filter) -> int:
        """Carry out what a filter wants changed; return how much of it makes no sense."""
        blank = "" if machine.leading_space else " "
        odd = machine.ignored
        for packet in machine.changes:
            try:
                if packet.command in b"him":
                    _change_header(self._draft, packet, blank)
                else:
                    self._change_envelope(packet)
            except (AddressError, MilterError):
                odd += 1
        self._draft.settle()
        fresh, self._fresh = self._fresh, None
        body = fresh.finish() if fresh is not None else None
        if body is not None:
            if self._body is not None:
                self._body.close()
            self._body = body
            self._start, self._end = 0, os.fstat(body.fileno()).st_size
        return odd

    def _change_envelope(self, packet: Packet) -> None:
        """Carry out a change of sender or recipients, or a quarantine."""
        first, *_parameters = packet.words()
        if packet.command == b"q":
            shown = "".join(char if " " <= char <= "~" else "?" for char in first)
            self.hold = shown[:_MAX_REASON] or "quarantined by a content filter"
            return
        address = first.strip()
        if address.startswith("<") and address.endswith(">"):
            address = address[1:-1]
        if packet.command == b"e" and not address:
            self._sender = ""
            return
        mailbox = str(parse_mailbox(address, utf8=True))
        if packet.command == b"e":
            self._sender = mailbox
        elif packet.command == b"-":
            self._deleted.add(mailbox)
            self._added = [one for one in self._added if one != mailbox]
        elif len(self._added) < _MAX_ADDED:
            self._added.append(mailbox)
        else:
            raise MilterError("too many recipients")

    def result(self, said: Said, fresh: CdbFile | None = None) -> Inspected:
        """Return what the filters say and changed."""
        return Inspected(
            said,
            fresh.size if fresh is not None else 0,
            self._sender,
            tuple(self._added),
            frozenset(self._deleted),
            self.hold,
        )

    async def finish(self) -> tuple[Inspected, CdbFile]:
        """Return the result and the content file, a new one where content was changed.

        Raises:
            StoreError: the disk is full or broken; the old file is still there.
        """
        if not self._draft.changed and self._body is None:
            return self.result(Said()), self._file
        fresh = self._cdb.create(await self._cdb.next_id())
        done = False
        try:
            fresh.write(self._draft.encode())
            at = self._start
            while at < self._end:
                block = os.pread(self._source, min(_BLOCK, self._end - at), at)
                if not block:
                    raise StoreError(f"{self._file.path}: is shorter than it was")
                fresh.write(block)
                at += len(block)
                await trio.lowlevel.checkpoint()
            # qmgr takes a transaction's own content only, so the new file gets the old one's name.
            fresh.flush()
            fresh.replace(self._file)
            done = True
        finally:
            if not done:
                fresh.discard()
        return self.result(Said(), fresh), fresh


class _Spool:
    """A new body while it comes in, in a file without a name."""

    def __init__(self, directory: str, max_size: int) -> None:
        self._directory = directory
        self._max_size = max_size
        self._file: IO[bytes] | None = None
        self._size = 0
        self._ends = LineEnds()

    def write(self, piece: bytes) -> None:
        """Add a piece.

        Raises:
            MilterError: the body grows too large.
            StoreError: the disk is full or broken.
        """
        self._size += len(piece)
        if 0 < self._max_size < self._size:
            raise MilterError(f"replaces the body by more than {self._max_size} bytes")
        self._append(self._ends.feed(piece))

    def _append(self, data: bytes) -> None:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115
            self._file.write(data)
        except OSError as error:
            raise StoreError(f"{self._directory}: new body: {error.strerror}") from error

    def finish(self) -> IO[bytes] | None:
        """Return the file with the new body, None where there is none."""
        if self._file is None:
            return None
        self._append(self._ends.end())
        self._file.flush()
        body, self._file = self._file, None
        return body

    def close(self) -> None:
        """Drop what came."""
        if self._file is not None:
            self._file.close()


def _is_done(machine: Filter) -> bool:
    """Tell whether a filter has heard enough."""
    return machine.idle or machine.said != Said()


def _read_header(fd: int, head: int) -> Draft:
    """Return the header of a content file; no more of it is read than a block beyond."""
    data = b""
    while True:
        block = os.pread(fd, _BLOCK, len(data))
        data += block
        draft = Draft(data, head)
        if draft.ended or not block:
            return draft


def _change_header(draft: Draft, packet: Packet, blank: str) -> None:
    """Carry out a change of the header."""
    number = 0
    if packet.command != b"h":
        number, packet = packet.number(), packet.after_number()
    words = packet.words()
    name, value = words[0], words[1] if len(words) > 1 else ""
    if packet.command == b"h":
        draft.add(name, blank + value)
    elif packet.command == b"i":
        draft.insert(number, name, blank + value)
    else:
        draft.change(number, name, blank + value if value else "")
