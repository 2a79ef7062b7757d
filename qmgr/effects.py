"""Effects: what the core of the queue manager wants done.

Kind: table.

The shell carries them out in order. Those that have an outcome (Commit, Note, AskRoute,
Deliver) are handed back to the core with it, as they are. Channels are numbers that the shell
gave.
"""

from collections.abc import Mapping

import attrs

from libsmx.envelope import Envelope
from libsmx.logtab import Event
from qmgr.places import Delivery
from qmgr.records import DeferredRcpt, Entry
from qmgr.ta import Rcpt, Transaction


@attrs.define(eq=False)
class Answer:
    """Answer a request; rid 0 is a notification."""

    channel: int
    message: object
    rid: int = 0


@attrs.define(eq=False)
class Commit:
    """Write a new transaction to the IBDB and call committed()."""

    ta: Transaction
    channel: int
    rid: int
    entry: Entry


@attrs.define(eq=False)
class Note:
    """Write what became of recipients to the IBDB and call noted()."""

    entry: Entry
    rcpts: list[Rcpt]
    """In memory until the entry is on disk."""
    bounces: list[Transaction]
    """New with this entry; they begin their way when it is on disk."""


@attrs.define(eq=False)
class AskRoute:
    """Ask smar for the routes of these recipients and call routed() or route_failed()."""

    rcpts: list[Rcpt]


@attrs.define(eq=False)
class Deliver:
    """Hand a delivery to its smtpc and call delivered(), or delivery_lost()."""

    channel: int
    delivery: Delivery


@attrs.define(eq=False)
class RemoveContents:
    """Remove content files that nothing refers to."""

    cdb_ids: list[str]


@attrs.define(eq=False)
class Record:
    """Log an event."""

    event: Event
    fields: Mapping[str, str | float]


@attrs.define(eq=False)
class Batch:
    """Changes of the DEFEDB that belong together; applied() or apply_failed() follows."""

    put: list[tuple[Envelope, list[DeferredRcpt]]]
    remove: list[tuple[str, list[int]]]
    rcpts: list[Rcpt]
    """In memory until the batch is on disk."""
    returned: list[str] = attrs.field(factory=list)
    """Transactions whose sender has the whole message back."""


Effect = Answer | Commit | Note | AskRoute | Deliver | RemoveContents | Record
