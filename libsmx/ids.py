"""Ids of transactions, sessions and contents.

Kind: core.

A transaction id doubles as the name of its content file: ``S``, sixteen hexadecimal digits of
a counter that never repeats, two digits of the SMTP server's id (``S000000000006B1D200``).
The counter survives restarts by leases: before its first number is used, a block of numbers is
written off on disk (libsmx/cdb.py does the I/O), so that a crash skips numbers and never
repeats one. Where the lease file was lost, counting starts from the wall clock, which is ahead
of every number ever leased as long as fewer than 65,536 messages a second were accepted.

Transactions that the queue manager makes itself (DSNs) begin with ``Q`` instead.
Source: SPEC rows X052, X480.
"""

import re
from typing import NewType

TaId = NewType("TaId", str)

LEASE = 4096
"""Numbers leased at a time; a restart skips at most this many."""

MAX_SERVER_ID = 255
_COUNTER_BITS = 64
_TA_RE = re.compile(r"[SQ][0-9A-F]{18}")


def is_ta_id(text: str) -> bool:
    """Tell whether text is a well-formed transaction id."""
    return _TA_RE.fullmatch(text) is not None


def format_ta_id(counter: int, server_id: int, prefix: str = "S") -> TaId:
    """Return the transaction id for a counter value.

    Args:
        counter: 0 <= counter < 2**64.
        server_id: 0 to 255, unique among the SMTP servers of one spool.
        prefix: ``S`` for received mail, ``Q`` for mail that the queue manager makes.
    """
    return TaId(f"{prefix}{counter % (1 << _COUNTER_BITS):016X}{server_id:02X}")


def parse_counter(ta_id: str) -> int:
    """Return the counter inside a well-formed transaction id."""
    return int(ta_id[1:17], 16)


def content_path(cdb_id: str) -> str:
    """Return a content file's path below the CDB base: ``<last counter digit>/<id>``."""
    return f"{cdb_id[16]}/{cdb_id}"


def first_counter(leased_until: int | None, now_s: float) -> int:
    """Return the first counter value to use after a start.

    Args:
        leased_until: content of the lease file, None where there is none.
        now_s: wall clock, seconds since the epoch.
    """
    return leased_until if leased_until is not None else int(now_s) << 16


class Counter:
    """Hands out numbers from the current lease and says when a new lease is due."""

    def __init__(self, first: int) -> None:
        self._next = first
        self._end = first

    @property
    def left(self) -> int:
        """Numbers that may be taken before the next lease."""
        return self._end - self._next

    def extend(self) -> int:
        """Return the value the lease file must hold before ``granted`` is called with it."""
        return self._end + LEASE

    def granted(self, until: int) -> None:
        """Note that the lease up to ``until`` is on disk."""
        self._end = until

    def take(self) -> int:
        """Return the next number; the caller made sure that ``left`` is positive."""
        if self._next >= self._end:
            raise ValueError("the lease is used up")
        value = self._next
        self._next += 1
        return value
