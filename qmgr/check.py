"""Check: whether what the stores hold fits together.

Kind: core.

Findings come from a walk over the tables of the DEFEDB and from comparing the ids that each
store names. ``note`` marks what is a normal trace of a crash or of earlier damage: the next
start puts it in order, or there is nothing left to do but to look at it.
Source: architecture.md; SPEC rows X013, X015, X052; I1, I2.
"""

from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

import attrs
import msgspec

from libsmx.envelope import Envelope
from libsmx.ids import LEASE, parse_counter
from qmgr import defedb
from qmgr.records import DeferredRcpt

_envelope = msgspec.msgpack.Decoder(Envelope)
_rcpt = msgspec.msgpack.Decoder(DeferredRcpt)
T = TypeVar("T")
_NOT_UNDERSTOOD = (msgspec.DecodeError, UnicodeDecodeError)


class Reader(Protocol):
    """The DEFEDB as it stands, also where it is damaged."""

    def items(self, table: str, /) -> Iterator[tuple[bytes, bytes | None]]:
        """Yield keys with their payload, None where it does not verify."""

    def has(self, table: str, key: bytes, /) -> bool:
        """Tell whether there is a value."""

    def get(self, table: str, key: bytes, /) -> bytes | None:
        """Return a payload, None where there is none that verifies."""

    def starts(self, table: str, prefix: bytes, /) -> bool:
        """Tell whether a key begins so."""


@attrs.frozen
class Finding:
    """Something that does not fit.

    Attributes:
        kind: one word for it.
        id: transaction, content or key.
        file: where it stands, below the queue directory.
        text: a sentence.
        note: nothing needs to be repaired.
    """

    kind: str
    id: str
    file: str
    text: str
    note: bool = False

    def __str__(self) -> str:
        return f"{'note' if self.note else 'bad'} {self.kind} {self.id} {self.file}: {self.text}"


@attrs.define
class DefedbDefects:
    """What is wrong inside the DEFEDB, and what puts it right.

    Attributes:
        damaged: (table, key) of values to be set aside.
        stale: (table, key) of index entries that lead nowhere.
        missing: (table, key) of index entries that must be made.
        lost: envelopes whose content is missing.
        counts: transactions and recipients that are there.
        miscounted: the stored counts are others.
    """

    findings: list[Finding] = attrs.field(factory=list)
    damaged: list[tuple[str, bytes]] = attrs.field(factory=list)
    stale: list[tuple[str, bytes]] = attrs.field(factory=list)
    missing: list[tuple[str, bytes]] = attrs.field(factory=list)
    lost: list[Envelope] = attrs.field(factory=list)
    counts: tuple[int, int] = (0, 0)
    miscounted: bool = False


class DefedbCheck:
    """One walk over the DEFEDB.

    Args:
        reader: the tables.
        file: name of the database for findings.
        has_content: tells whether a content file is there.
    """

    def __init__(self, reader: Reader, file: str, has_content: Callable[[str], bool]) -> None:
        self._reader = reader
        self._file = file
        self._has_content = has_content
        self._found = DefedbDefects()

    def run(self) -> DefedbDefects:
        """Walk."""
        tas = self._check_tas()
        rcpts = self._check_rcpts()
        for table in ("due", "name", "cdb"):
            self._check_index(table)
        for key, payload in self._reader.items("aside"):
            text = "was set aside because it was damaged" if payload is None else "was set aside"
            self._find("aside", _id_of(key), text, note=True)
        self._found.counts = (tas, rcpts)
        stored = self._reader.get("meta", b"counts")
        if stored != defedb.pack_counts(tas, rcpts):
            self._found.miscounted = True
            self._find("counts", "-", f"there are {tas} transactions and {rcpts} recipients")
        return self._found

    def _find(self, kind: str, name: str, text: str, *, note: bool = False) -> None:
        self._found.findings.append(Finding(kind, name, self._file, text, note))

    def _damaged(self, table: str, key: bytes) -> None:
        self._found.damaged.append((table, key))
        self._find("damaged", _id_of(key), f"the value in table {table} does not verify")

    def _check_tas(self) -> int:
        count = 0
        for key, payload in self._reader.items("ta"):
            count += 1
            envelope = _decode(_envelope, payload)
            if envelope is None:
                self._damaged("ta", key)
                continue
            if not self._reader.starts("rcpt", key):
                self._found.stale.append(("ta", key))
                self._find("empty", envelope.ta_id, "the envelope has no recipient any more")
            elif not self._reader.has("cdb", envelope.cdb_id.encode() + key):
                self._found.missing.append(("cdb", envelope.cdb_id.encode() + key))
                self._find("index", envelope.ta_id, "its content is not in the index of contents")
            if envelope.dsn is None and not self._has_content(envelope.cdb_id):
                self._found.lost.append(envelope)
                self._find("no_content", envelope.ta_id, f"content {envelope.cdb_id} is missing")
        return count

    def _check_rcpts(self) -> int:
        count = 0
        for key, payload in self._reader.items("rcpt"):
            count += 1
            rcpt = _decode(_rcpt, payload)
            if rcpt is None:
                self._damaged("rcpt", key)
                continue
            if not self._reader.has("ta", rcpt.ta_id.encode()):
                self._found.damaged.append(("rcpt", key))
                self._find("no_envelope", _id_of(key), "a recipient without envelope")
                continue
            missing = [place for place in defedb.index_keys(rcpt) if not self._reader.has(*place)]
            if missing:
                self._found.missing += missing
                self._find("index", _id_of(key), f"the recipient is not in index {missing[0][0]}")
        return count

    def _check_index(self, table: str) -> None:
        for key, _ in self._reader.items(table):
            if not self._leads_somewhere(table, key):
                self._found.stale.append((table, key))
                tail = key[-19:] if table == "cdb" else key
                self._find("stale", _id_of(tail), f"an entry of index {table} leads nowhere")

    def _leads_somewhere(self, table: str, key: bytes) -> bool:
        if table == "cdb":
            ta_id = key[19:]
            envelope = _decode(_envelope, self._reader.get("ta", ta_id))
            # One that is damaged is told already, and keeps its content.
            here = self._reader.has("ta", ta_id) or self._reader.has("aside", ta_id)
            return here if envelope is None else envelope.cdb_id.encode() == key[:19]
        tail = key[-23:]
        rcpt = _decode(_rcpt, self._reader.get("rcpt", tail))
        if rcpt is None:
            return self._reader.has("rcpt", tail)
        return (table, key) in defedb.index_keys(rcpt)


def _decode(decoder: "msgspec.msgpack.Decoder[T]", payload: bytes | None) -> T | None:
    try:
        return None if payload is None else decoder.decode(payload)
    except _NOT_UNDERSTOOD:
        return None


def _id_of(key: bytes) -> str:
    """Return the transaction that a key ends with, with the recipient's place."""
    tail = key[-23:] if len(key) >= 23 else key
    text = tail[:19].decode("ascii", "backslashreplace")
    return f"{text}.{int.from_bytes(tail[19:], 'big')}" if len(tail) == 23 else text


def check_lease(name: str, until: int | None, highest: int) -> Finding | None:
    """Return what is wrong with a lease of message numbers.

    Args:
        name: the file.
        until: first number that is not leased, None where the file is damaged.
        highest: greatest number in use in the CDB that was made under this lease.
    """
    if until is None:
        return Finding("lease", "-", name, "does not hold a number; counting starts by the clock")
    if until <= highest:
        return Finding("lease", str(until), name, f"number {highest} is in use beyond the lease")
    return None


def next_lease(highest: int) -> int:
    """Return a lease that is beyond every number in use."""
    return highest + LEASE


def highest_numbers(cdb_ids: Iterator[str]) -> dict[str, int]:
    """Return for each server id (two digits) the greatest number in use."""
    highest: dict[str, int] = {}
    for cdb_id in cdb_ids:
        server, number = cdb_id[17:], parse_counter(cdb_id)
        if number > highest.get(server, -1):
            highest[server] = number
    return highest
