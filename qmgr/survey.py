"""Survey: figures about the deferred queue that need not read all of it.

Kind: core.

Each is a function of one transaction of the DEFEDB, as those in qmgr/defedb.py are.
Source: SPEC row X477.
"""

from collections.abc import Iterable

from libsmx.sealed import DamagedValue
from qmgr.defedb import Tables, get_envelope, list_keys, name_prefix


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


def backlog(txn: Tables, names: Iterable[str], limit: int) -> list[int]:
    """Return how many recipients have each of these destinations or domains, at most limit."""
    return [len(list_keys(txn, "name", b"", name_prefix(name), limit)) for name in names]
