"""What the queue manager's stores hold: log entries and deferred recipients.

Kind: core.

The classes are stored as msgpack maps; a new field needs a default, so that what an older
version wrote stays readable. Field types carry their bounds, which are checked on reading.
Source: SPEC rows X013, X015.
"""

from typing import Annotated

import attrs
from msgspec import Meta

from libsmx.envelope import MAX_RCPTS, MAX_TEXT, Address, Count, Envelope, Id, Idx, Short, Text
from libsmx.wire_control import PastTry

DELIVERED = "delivered"
FAILED = "failed"
DEFERRED = "deferred"
EXPIRED = "expired"
DISCARDED = "discarded"
EXPANDED = "expanded"


@attrs.frozen
class Closed:
    """Recipients of one transaction that the log need not remember any more."""

    ta_id: Id
    idxs: Annotated[list[Idx], Meta(max_length=MAX_RCPTS)]
    outcome: Short
    """One of the words above; for people, recovery treats them alike."""


@attrs.frozen
class Entry:
    """One atomic record of the IBDB: after a crash all of it holds or nothing.

    A bounce and the failure that causes it stand in one entry, so that neither exists alone.
    """

    new: Annotated[list[Envelope], Meta(max_length=1000)] = attrs.field(factory=list)
    closed: Annotated[list[Closed], Meta(max_length=100_000)] = attrs.field(factory=list)


def _clip(text: str) -> str:
    """Cut a remote host's text to what a record holds."""
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT]


@attrs.frozen
class DeferredRcpt:
    """One recipient in the DEFEDB."""

    ta_id: Id
    idx: Idx
    address: Address
    dest: Address
    """Key of the destination at the last attempt; empty where none was known."""
    tries: Count
    """Attempts made so far."""
    next_try_at: float
    """Wall clock, seconds since the epoch."""
    error: Text = attrs.field(default="", converter=_clip)
    """Last temporary failure; longer texts are cut."""
    status: Short = ""
    """Its enhanced status code."""
    warned: bool = False
    """Its sender was told that it is delayed."""
    held: bool = False
    """An operator holds it: it is not due before it is released."""
    redirected: bool = False
    """Its address is not that in the envelope: an operator changed it."""
    via: Address = ""
    """Name of the suspended host that it waits for; it is found under this name too."""
    history: Annotated[list[PastTry], Meta(max_length=20)] = attrs.field(factory=list)
    """The last attempts, oldest first."""
