"""Survey: figures about the deferred queue that need not read all of it.

Kind: core.

Each is a function of one transaction of the DEFEDB, as those in qmgr/defedb.py are.
Source: SPEC row X477.
"""

from collections.abc import Iterable

from libsmx.sealed import DamagedValue
from qmgr.defedb import Tables, get_envelope, get_rcpt, list_keys, name_prefix

_PREFIX = 16
"""Bytes of a name's hash at the beginning of a key of table name."""
_BEYOND = b"\xff" * 24
"""Behind every key with the same hash."""


def oldest(txn: Tables) -> float | None:
    """Return when the message with the lowest id came, of mail and of reports; ids rise."""
    times = []
    for kind in (b"S", b"Q"):
        key = next(txn.keys("ta", prefix=kind), None)
        try:
            envelope = get_envelope(txn, key.decode("ascii")) if key else None
        except DamagedValue:
            continue  # found when it is loaded
        if envelope is not None:
            times.append(envelope.received_at)
    return min(times, default=None)


def names(txn: Tables, start: bytes, limit: int) -> tuple[list[str], bytes]:
    """Return destinations that have recipients here, of at most ``limit`` names looked at.

    A domain is named only where no destination is known of its mail yet. Each name takes two
    reads, however many recipients it has.

    Args:
        txn: transaction.
        start: hash to begin with.
        limit: names, of destinations and of domains, that are looked at.

    Returns:
        The names, in the order of their hashes, and the hash to go on from, empty at the end.
    """
    found: list[str] = []
    for _ in range(limit):
        key = next(txn.keys("name", start), None)
        if key is None:
            return found, b""
        start = key[:_PREFIX] + _BEYOND
        try:
            rcpt = get_rcpt(txn, key[_PREFIX:])
        except DamagedValue:
            continue  # set aside when it is loaded
        name = (rcpt.dest or rcpt.address.rpartition("@")[2]) if rcpt is not None else ""
        if name and name_prefix(name) == key[:_PREFIX]:
            found.append(name)
    return found, start


def unindexed(
    txn: Tables, cdb_ids: Iterable[str], start: bytes, limit: int
) -> tuple[list[bytes], bytes]:
    """Return what is missing in the index of contents, of these contents.

    Mail from outside has the id of its content; only transactions of our own need be read.

    Args:
        txn: transaction.
        cdb_ids: contents that the index does not know.
        start: key to go on from, empty to begin.
        limit: transactions that are looked at.

    Returns:
        The keys, and the key to go on from, empty at the end.
    """
    wanted = {cdb_id.encode("ascii", "replace") for cdb_id in cdb_ids}
    missing = []
    keys = list_keys(txn, "ta", start, b"Q", limit)
    for key in (*([] if start else sorted(wanted)), *keys):
        try:
            envelope = get_envelope(txn, key.decode("ascii"))
        except DamagedValue:
            continue  # set aside when it is loaded
        content = envelope.cdb_id.encode("ascii") if envelope is not None else b""
        if content in wanted:
            missing.append(content + key)
    return missing, keys[-1] + b"\0" if len(keys) == limit else b""


def index_contents(txn: Tables, missing: Iterable[bytes]) -> None:
    """Enter what is missing in the index of contents, if it is still needed."""
    for key in missing:
        if txn.has("ta", key[len(key) // 2 :]):
            txn.put("cdb", key, b"")


def backlog(txn: Tables, wanted: Iterable[str], limit: int) -> list[int]:
    """Return how many recipients have each of these destinations or domains, at most limit."""
    return [len(list_keys(txn, "name", b"", name_prefix(name), limit)) for name in wanted]
