"""Incoming queue backup database: the form of its log, and what replay makes of it.

Kind: core.

The log is a sequence of segment files. A segment begins with a header (magic, schema version,
segment number) and goes on with records: length, type, mark, payload, CRC-32C. The rest of
the preallocated file is zero, so length 0 is the end. The checksum also covers segment number
and offset: bytes of another segment or another place never verify.

The mark tells how much of the segment was known to be on disk when the record was written.
It separates the two kinds of bad bytes that replay meets: those before some later mark were
acknowledged and are damage; the others belong to writes that a crash cut short, nobody was
told that they succeeded. Replay skips both and keeps every record that verifies.

An entry may stand in the log twice (it is written again after a failed sync), so applying is
idempotent.
Source: architecture.md; SPEC row X013.
"""

import re
import struct
from collections.abc import Iterator

import attrs
import msgspec

from libsmx.checksum import crc32c
from libsmx.envelope import Envelope
from libsmx.errors import EX_CONFIG, Bug, StartError
from qmgr.records import Closed, Entry

MAGIC = b"smx-ibdb"
SCHEMA = 1
MAX_LENGTH = (1 << 24) - 1
"""Largest length field; twice the largest frame between processes."""

_HEADER = struct.Struct(">IB8sHQ")
_RECORD = struct.Struct(">IBI")
_SEED = struct.Struct(">QQ")
_CRC = struct.Struct(">I")
_TYPE_HEADER = 1
_TYPE_ENTRY = 2

HEADER_SIZE = _HEADER.size + _CRC.size
OVERHEAD = _RECORD.size + _CRC.size
"""Bytes that a record takes besides its payload."""

# Where a record may begin: a length below 2**24, any type known. Used to find the next record
# behind damaged bytes; the checksum decides.
_CANDIDATE = re.compile(rb"(?=\x00...\x02)", re.DOTALL)

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Entry)


def encode_entry(entry: Entry) -> bytes:
    """Return an entry as payload of a record.

    Raises:
        Bug: it is larger than a record may be; no message between processes is.
    """
    payload = _encoder.encode(entry)
    if len(payload) + OVERHEAD > MAX_LENGTH:
        raise Bug(f"IBDB entry of {len(payload)} bytes; split it")
    return payload


def seal_header(number: int) -> bytes:
    """Return the first bytes of a segment."""
    body = _HEADER.pack(_HEADER.size - 4, _TYPE_HEADER, MAGIC, SCHEMA, number)
    return body + _CRC.pack(crc32c(_SEED.pack(number, 0) + body))


def seal_record(payload: bytes, number: int, offset: int, mark: int) -> bytes:
    """Return a record as it stands in segment ``number`` at ``offset``.

    Args:
        payload: what encode_entry returned.
        number: segment number.
        offset: place of the record's first byte, in bytes.
        mark: bytes of this segment that are on disk for certain.
    """
    body = _RECORD.pack(len(payload) + _RECORD.size - 4, _TYPE_ENTRY, mark) + payload
    return body + _CRC.pack(crc32c(_SEED.pack(number, offset) + body))


@attrs.frozen
class Damage:
    """Bytes of a segment that hold no readable record.

    Attributes:
        start, end: their place, in bytes.
        acknowledged: they were on disk once, so that somebody was told of success; else they
            are what a crash left of unfinished writes.
        unreadable: the checksum is right but the content is not understood.
    """

    start: int
    end: int
    acknowledged: bool
    unreadable: bool = False

    def __str__(self) -> str:
        if self.unreadable:
            return f"record at byte {self.start} is intact but not understood by this version"
        size = self.end - self.start
        what = "damaged" if self.acknowledged else "of an unfinished write cut off"
        return f"{size} bytes {what} at byte {self.start}"


def _check(data: bytes, number: int, at: int, end: int) -> tuple[int, int] | None:
    """Return (mark, end) of the record at a place, or None where no whole record stands."""
    if end - at < OVERHEAD:
        return None
    length, kind, mark = _RECORD.unpack_from(data, at)
    stop = at + 4 + length
    if kind != _TYPE_ENTRY or length < _RECORD.size - 4 or stop + _CRC.size > len(data):
        return None
    (crc,) = _CRC.unpack_from(data, stop)
    return (mark, stop + _CRC.size) if crc == _sum(data, number, at, stop) else None


def _sum(data: bytes, number: int, at: int, stop: int) -> int:
    return crc32c(_SEED.pack(number, at) + data[at:stop])


def _header_end(data: bytes, number: int) -> int:
    """Return where the records begin, 0 where the header is damaged.

    Raises:
        StartError: the segment was written by a version with another schema.
    """
    stop = _HEADER.size
    if len(data) < HEADER_SIZE:
        return 0
    _, kind, magic, schema, named = _HEADER.unpack_from(data, 0)
    if _CRC.unpack_from(data, stop)[0] != _sum(data, named, 0, stop):
        return 0
    if kind != _TYPE_HEADER or magic != MAGIC or named != number:
        return 0
    if schema != SCHEMA:
        raise StartError(
            f"IBDB segment {number} has schema {schema}, this version reads {SCHEMA}: let the "
            "version that wrote it empty the queue first",
            EX_CONFIG,
        )
    return HEADER_SIZE


def scan_segment(data: bytes, number: int) -> Iterator[Entry | Damage]:
    """Yield the entries of a segment in order, then what could not be read.

    Args:
        data: the whole file.
        number: segment number, from the file's name.

    Raises:
        StartError: the segment was written by a version with another schema.
    """
    end = len(data.rstrip(b"\0"))
    if end == 0:
        return  # created, and never begun
    at = _header_end(data, number)
    bad: list[tuple[int, int]] = []  # unreadable bytes
    damages: list[Damage] = []
    top_mark = 0
    if at == 0:
        bad.append((0, min(HEADER_SIZE, end)))
        at = HEADER_SIZE
    while at < end:
        found = _check(data, number, at, len(data))
        start = at
        while found is None:
            match = _CANDIDATE.search(data, at + 1, end)
            if match is None:
                break
            at = match.start()
            found = _check(data, number, at, len(data))
        if found is None:
            bad.append((start, end))
            break
        if at > start:
            bad.append((start, at))
        mark, stop = found
        top_mark = max(top_mark, mark)
        try:
            yield _decoder.decode(data[at + _RECORD.size : stop - _CRC.size])
        except (msgspec.DecodeError, UnicodeDecodeError):
            damages.append(Damage(at, stop, acknowledged=True, unreadable=True))
        at = stop
    # The header is synced before the segment's first record is written.
    damages += [Damage(*place, acknowledged=place[0] < max(top_mark, 1)) for place in bad]
    yield from damages


@attrs.define
class _Open:
    envelope: Envelope
    number: int
    idxs: set[int]


class OpenTas:
    """Transactions of the log that have open recipients, and the segments that hold them.

    The same class serves recovery and the running log: a segment may go when it and all older
    ones hold none. The order matters, because the record that closes a transaction stands in
    a later segment than the one that opens it and must not go first.
    """

    def __init__(self) -> None:
        self._open: dict[str, _Open] = {}
        self._held: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._open)

    def apply(self, number: int, entry: Entry) -> None:
        """Take in an entry that stands in segment ``number``; twice is as good as once."""
        for envelope in entry.new:
            idxs = {rcpt.idx for rcpt in envelope.rcpts}
            found = self._open.get(envelope.ta_id)
            if found is not None:  # written again, to be held by a newer segment
                self._release(found.number)
                found.number = number
            elif idxs:
                self._open[envelope.ta_id] = _Open(envelope, number, idxs)
            else:
                continue
            self._held[number] = self._held.get(number, 0) + 1
        for closed in entry.closed:
            self._close(closed)

    def _close(self, closed: Closed) -> None:
        found = self._open.get(closed.ta_id)
        if found is None:
            return  # the opening record is gone already, or was never certain
        found.idxs.difference_update(closed.idxs)
        if not found.idxs:
            del self._open[closed.ta_id]
            self._release(found.number)

    def _release(self, number: int) -> None:
        left = self._held[number] - 1
        if left:
            self._held[number] = left
        else:
            del self._held[number]

    def held(self, number: int) -> int:
        """Return how many open transactions a segment holds."""
        return self._held.get(number, 0)

    def list_open(self, until: int | None = None) -> list[tuple[Envelope, list[int]]]:
        """Return open transactions, oldest first, each with its open idxs.

        Args:
            until: only those of this segment and of older ones.
        """
        return [
            (ta.envelope, sorted(ta.idxs))
            for ta in self._open.values()
            if until is None or ta.number <= until
        ]
