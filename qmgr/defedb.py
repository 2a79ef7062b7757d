"""Deferred envelope database: what it holds under which key, and each operation on it.

Kind: core.

An operation is a function of one transaction (``Tables``), so it happens whole or not at all.

===== ================================== ===============================================
table key                                payload
===== ================================== ===============================================
ta    transaction id                     Envelope
rcpt  transaction id, idx                DeferredRcpt
due   next try, transaction id, idx      empty: the order in which recipients become due
name  hash of name, transaction id, idx  empty: by destination, recipient's domain, suspended host
cdb   content id, transaction id         empty: who needs a content file
aside as in ta or rcpt                   what stood there and was damaged, for somebody to look at
meta  schema, counts                     version, (transactions, recipients)
===== ================================== ===============================================

``ta`` and ``rcpt`` are the truth, everything else is made from them again after a rebuild.
Numbers in keys are big endian, so that keys sort as numbers. Names are hashed because a key
holds at most 511 bytes and a destination may be longer.
Source: architecture.md; SPEC row X015.
"""

import hashlib
import math
import struct
from collections.abc import Iterable, Iterator
from itertools import islice, takewhile
from typing import Protocol

import attrs
import msgspec

from libsmx.envelope import Envelope
from libsmx.sealed import DamagedValue
from qmgr.records import DeferredRcpt

TABLES = ("ta", "rcpt", "due", "name", "cdb", "aside", "meta")
PRIMARY = ("ta", "rcpt")
"""Tables from which the others are made."""
SCHEMA = 1

Page = list[tuple[Envelope, list[DeferredRcpt]]]
RcptId = tuple[str, int]

_ID = 19
_IDX = struct.Struct(">I")
_TIME = struct.Struct(">Q")
_COUNTS = struct.Struct(">QQ")
_MAX_TIME = (1 << 63) - 1
_encoder = msgspec.msgpack.Encoder()
_envelope = msgspec.msgpack.Decoder(Envelope)
_rcpt = msgspec.msgpack.Decoder(DeferredRcpt)


class Tables(Protocol):
    """A transaction of the store; libsmx/store.py has the real one."""

    def get(self, table: str, key: bytes, /) -> bytes | None:
        """Return a payload."""

    def has(self, table: str, key: bytes, /) -> bool:
        """Tell whether there is a value."""

    def raw(self, table: str, key: bytes, /) -> bytes:
        """Return a value as it stands, damaged or not."""

    def put(self, table: str, key: bytes, payload: bytes, /) -> None:
        """Store a payload."""

    def delete(self, table: str, key: bytes, /) -> bool:
        """Remove a value."""

    def keys(self, table: str, start: bytes = ..., prefix: bytes = ...) -> Iterator[bytes]:
        """Yield keys in order."""


@attrs.frozen
class DefedbBatch:
    """Changes that belong together. Puts come first: a removal wins.

    Attributes:
        put: new or changed recipients with their envelope; an envelope that is there already
            stays as it is.
        remove: recipients that are done.
        returned: transactions whose envelope is marked so; one that is not there is ignored.
    """

    put: list[tuple[Envelope, list[DeferredRcpt]]] = attrs.field(factory=list)
    remove: list[tuple[str, list[int]]] = attrs.field(factory=list)
    returned: list[str] = attrs.field(factory=list)


@attrs.frozen
class DefedbResult:
    """What a batch did.

    Attributes:
        unreferenced: contents that nothing in the DEFEDB needs any more since this batch.
        tas, rcpts: counts afterwards.
    """

    unreferenced: list[str]
    tas: int
    rcpts: int


# --- keys --------------------------------------------------------------------------------


def rcpt_key(ta_id: str, idx: int) -> bytes:
    """Return the key of a recipient."""
    return ta_id.encode("ascii") + _IDX.pack(idx)


def parse_rcpt_key(key: bytes) -> RcptId:
    """Return (transaction id, idx) from the end of a key of rcpt, due or name."""
    return key[-_ID - 4 : -4].decode("ascii"), _IDX.unpack(key[-4:])[0]


def due_key(rcpt: DeferredRcpt) -> bytes:
    """Return the place of a recipient in the order of next tries; what is held comes never."""
    at = math.inf if rcpt.held else rcpt.next_try_at
    return pack_time(at) + rcpt_key(rcpt.ta_id, rcpt.idx)


def pack_time(seconds: float) -> bytes:
    """Return a time as it stands in keys, in microseconds; what is out of range is clipped."""
    micros = seconds * 1e6
    return _TIME.pack(0 if not micros > 0 else _MAX_TIME if micros > _MAX_TIME else int(micros))


def unpack_time(key: bytes) -> float:
    """Return the time in a key of due, seconds."""
    return int(_TIME.unpack_from(key)[0]) / 1e6


def name_prefix(name: str) -> bytes:
    """Return what the keys of a destination or a domain begin with."""
    return hashlib.blake2b(name.lower().encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _names(rcpt: DeferredRcpt) -> set[bytes]:
    """Return the keys under which a recipient is found by name."""
    domain = rcpt.address.rpartition("@")[2]
    tail = rcpt_key(rcpt.ta_id, rcpt.idx)
    return {name_prefix(name) + tail for name in (rcpt.dest, domain, rcpt.via) if name}


def index_keys(rcpt: DeferredRcpt) -> list[tuple[str, bytes]]:
    """Return (table, key) of each index entry that a recipient has."""
    return [("due", due_key(rcpt)), *(("name", name) for name in _names(rcpt))]


def pack_counts(tas: int, rcpts: int) -> bytes:
    """Return counts as they are stored."""
    return _COUNTS.pack(tas, rcpts)


# --- reading -----------------------------------------------------------------------------


def get_envelope(txn: Tables, ta_id: str) -> Envelope | None:
    """Return an envelope, None where there is none.

    Raises:
        DamagedValue: it is damaged or not understood.
    """
    key = ta_id.encode("ascii", "replace")
    payload = txn.get("ta", key)
    try:
        return None if payload is None else _envelope.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamagedValue("ta", key) from error


def get_rcpt(txn: Tables, key: bytes) -> DeferredRcpt | None:
    """Return a recipient, None where there is none.

    Raises:
        DamagedValue: it is damaged or not understood.
    """
    payload = txn.get("rcpt", key)
    try:
        return None if payload is None else _rcpt.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamagedValue("rcpt", key) from error


def counts(txn: Tables) -> tuple[int, int]:
    """Return (transactions, recipients)."""
    payload = txn.get("meta", b"counts")
    tas, rcpts = _COUNTS.unpack(payload) if payload else (0, 0)
    return tas, rcpts


def load(txn: Tables, ids: Iterable[RcptId]) -> tuple[Page, list[tuple[str, bytes]]]:
    """Return recipients by transaction, in the order asked for, and what is damaged.

    Args:
        txn: transaction.
        ids: those that are not there are left out.

    Returns:
        The page, and (table, key) of each value that cannot be used.
    """
    found: dict[str, tuple[Envelope, list[DeferredRcpt]] | None] = {}
    bad: list[tuple[str, bytes]] = []
    for ta_id, idx in ids:
        try:
            if ta_id not in found:
                found[ta_id] = None
                envelope = get_envelope(txn, ta_id)
                found[ta_id] = None if envelope is None else (envelope, [])
            entry = found[ta_id]
            rcpt = None if entry is None else get_rcpt(txn, rcpt_key(ta_id, idx))
            if entry is not None and rcpt is not None:
                entry[1].append(rcpt)
        except DamagedValue as error:
            bad.append((error.table, error.key))
    return [entry for entry in found.values() if entry is not None and entry[1]], bad


def load_ta(txn: Tables, ta_id: str) -> tuple[Page, list[tuple[str, bytes]]]:
    """Return a transaction with all its recipients, as ``load`` does."""
    prefix = ta_id.encode("ascii", "replace")
    return load(txn, [parse_rcpt_key(key) for key in txn.keys("rcpt", prefix=prefix)])


def list_keys(txn: Tables, table: str, start: bytes, prefix: bytes, limit: int) -> list[bytes]:
    """Return at most ``limit`` keys with a prefix, from ``start`` on."""
    return list(islice(txn.keys(table, start, prefix), limit))


def list_due(txn: Tables, start: bytes, now_s: float, limit: int) -> list[bytes]:
    """Return keys of due, from ``start`` on, that are not later than now; at most ``limit``."""
    end = pack_time(now_s)
    keys = takewhile(lambda key: key[: len(end)] <= end, txn.keys("due", start))
    return list(islice(keys, limit))


# --- changing ----------------------------------------------------------------------------


def apply_batch(txn: Tables, batch: DefedbBatch) -> DefedbResult:
    """Carry out a batch.

    Raises:
        DamagedValue: a value that it touches is damaged; nothing is changed.
    """
    tas, rcpts = counts(txn)
    for envelope, changed in batch.put:
        key = envelope.ta_id.encode("ascii")
        if changed and not txn.has("ta", key):
            txn.put("ta", key, _encoder.encode(envelope))
            txn.put("cdb", envelope.cdb_id.encode("ascii") + key, b"")
            tas += 1
        for rcpt in changed:
            rcpts += _put_rcpt(txn, rcpt)
    for ta_id in batch.returned:
        marked = get_envelope(txn, ta_id)
        if marked is not None and not marked.returned:
            payload = _encoder.encode(attrs.evolve(marked, returned=True))
            txn.put("ta", ta_id.encode("ascii"), payload)
    touched: list[str] = []
    for ta_id, idxs in batch.remove:
        rcpts -= sum(_drop_rcpt(txn, rcpt_key(ta_id, idx)) for idx in idxs)
        cdb_id = _drop_ta_if_done(txn, ta_id)
        if cdb_id is not None:
            touched.append(cdb_id)
            tas -= 1
    txn.put("meta", b"counts", _COUNTS.pack(tas, rcpts))
    gone = [cdb_id for cdb_id in dict.fromkeys(touched) if not is_referenced(txn, cdb_id)]
    return DefedbResult(gone, tas, rcpts)


def _put_rcpt(txn: Tables, rcpt: DeferredRcpt) -> int:
    """Store one recipient; return how many that adds."""
    key = rcpt_key(rcpt.ta_id, rcpt.idx)
    old = get_rcpt(txn, key)
    stale = set() if old is None else _names(old)
    fresh = _names(rcpt)
    if old is not None:
        txn.delete("due", due_key(old))
    for name in stale - fresh:
        txn.delete("name", name)
    for name in fresh - stale:
        txn.put("name", name, b"")
    txn.put("rcpt", key, _encoder.encode(rcpt))
    txn.put("due", due_key(rcpt), b"")
    return int(old is None)


def _drop_rcpt(txn: Tables, key: bytes) -> int:
    """Remove one recipient; return how many that were."""
    rcpt = get_rcpt(txn, key)
    if rcpt is None:
        return 0
    txn.delete("rcpt", key)
    txn.delete("due", due_key(rcpt))
    for name in _names(rcpt):
        txn.delete("name", name)
    return 1


def _drop_ta_if_done(txn: Tables, ta_id: str) -> str | None:
    """Remove a transaction without recipients; return its content's id then."""
    key = ta_id.encode("ascii")
    if any(True for _ in txn.keys("rcpt", prefix=key)):
        return None
    envelope = get_envelope(txn, ta_id)
    if envelope is None:
        return None
    txn.delete("ta", key)
    txn.delete("cdb", envelope.cdb_id.encode("ascii") + key)
    return envelope.cdb_id


def is_referenced(txn: Tables, cdb_id: str) -> bool:
    """Tell whether a transaction here needs this content."""
    return any(True for _ in txn.keys("cdb", prefix=cdb_id.encode("ascii", "replace")))


def set_aside(txn: Tables, table: str, key: bytes) -> None:
    """Take a damaged value of ta or rcpt out of the queue, into ``aside``.

    With an envelope go all its recipients, which cannot be delivered without it. The content
    stays referenced, so that nobody removes it.
    """
    rcpts = [key] if table == "rcpt" else list(txn.keys("rcpt", prefix=key))
    lost = set(rcpts)
    for index in ("due", "name"):
        # Read whole, because the value that tells the places may be what is damaged.
        places = [place for place in txn.keys(index) if place[-_ID - _IDX.size :] in lost]
        for place in places:
            txn.delete(index, place)
    tas, left = counts(txn)
    for rcpt in rcpts:
        txn.put("aside", rcpt, txn.raw("rcpt", rcpt))
        left -= txn.delete("rcpt", rcpt)
    if table == "ta":
        txn.put("aside", key, txn.raw("ta", key))
        tas -= txn.delete("ta", key)
    txn.put("meta", b"counts", _COUNTS.pack(max(tas, 0), max(left, 0)))


def reindex(txn: Tables, keys: list[bytes]) -> None:
    """Enter recipients into the indexes again, from what is stored under their keys."""
    tas, rcpts = counts(txn)
    for key in keys:
        rcpt = get_rcpt(txn, key)
        if rcpt is None:
            continue
        envelope = get_envelope(txn, rcpt.ta_id)
        if envelope is None:  # lost with the damage: no sender, no content to go by
            txn.put("aside", key, txn.raw("rcpt", key))
            txn.delete("rcpt", key)
            continue
        reference = envelope.cdb_id.encode("ascii") + rcpt.ta_id.encode("ascii")
        if not txn.has("cdb", reference):
            txn.put("cdb", reference, b"")
            tas += 1
        rcpts += not txn.has("due", due_key(rcpt))
        txn.put("due", due_key(rcpt), b"")
        for name in _names(rcpt):
            txn.put("name", name, b"")
    txn.put("meta", b"counts", _COUNTS.pack(tas, rcpts))


def reschedule(txn: Tables, keys: list[bytes], now_s: float) -> int:
    """Make recipients due now that were due later; return how many."""
    moved = 0
    for key in keys:
        rcpt = get_rcpt(txn, key)
        if rcpt is not None and rcpt.next_try_at > now_s and not rcpt.held:
            txn.delete("due", due_key(rcpt))
            rcpt = attrs.evolve(rcpt, next_try_at=now_s)
            txn.put("rcpt", key, _encoder.encode(rcpt))
            txn.put("due", due_key(rcpt), b"")
            moved += 1
    return moved
