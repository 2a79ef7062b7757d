"""Transactions in memory: envelopes, their open recipients, and the contents they refer to.

Kind: core.

A transaction has a home, the store that must be told when one of its recipients is done: the
IBDB for new mail, the DEFEDB for mail that was deferred before. One message may be here with
both homes at a time, for different recipients. A recipient leaves memory only when what became
of it is on disk; until then nobody may load it again from the DEFEDB.

A content file is needed by any number of transactions in memory and in the DEFEDB. Counting
those in memory and noting which contents the DEFEDB may know too answers, without asking the
disk, whether a message that was delivered at once may lose its file.
Source: architecture.md; SPEC rows X012, X014.
"""

import enum

import attrs

from libsmx.envelope import Envelope, Recipient, recipient_of
from libsmx.errors import Bug
from libsmx.wire_control import PastTry
from qmgr.records import DeferredRcpt


class Home(enum.Enum):
    """The store that holds a transaction."""

    IBDB = "ibdb"
    DEFEDB = "defedb"


class State(enum.Enum):
    """Where a recipient is on its way; the values are shown by qmgrctl."""

    INCOMING = "incoming"
    """Accepted, waits for room in the active queue."""
    ROUTING = "routing"
    """In the active queue; its route is being asked for."""
    WAITING = "waiting"
    """In the active queue of its destination."""
    DELIVERING = "delivering"
    """Handed to a delivery session."""
    CLOSING = "closing"
    """Its fate is known and on its way to disk."""


@attrs.define(eq=False)
class Rcpt:
    """One open recipient of a transaction."""

    ta: "Transaction"
    recipient: Recipient
    state: State = State.INCOMING
    active: bool = False
    """It takes a place in the active queue."""
    tries: int = 0
    """Attempts before this one."""
    error: str = ""
    """Last temporary failure."""
    warned: bool = False
    """Its sender was told that it is delayed."""
    losses: int = 0
    """How often the process that delivered it went away."""
    dest: str = ""
    """Key of its destination, once known."""
    wish: str = ""
    """What an operator wants done when its attempt has ended, one of wire_control.ACTIONS."""
    redirect: str = ""
    """The address that goes with the wish to redirect."""
    redirected: bool = False
    """Its address is not that in the envelope."""
    history: tuple[PastTry, ...] = ()
    """The last attempts, oldest first."""

    @property
    def address(self) -> str:
        """Its address."""
        return self.recipient.address

    @property
    def idx(self) -> int:
        """Its place in the transaction."""
        return self.recipient.idx


@attrs.define(eq=False)
class Transaction:
    """An envelope and those of its recipients that are in memory."""

    envelope: Envelope
    home: Home
    rcpts: dict[int, Rcpt] = attrs.field(factory=dict)
    redirected: bool = False
    """One of its recipients has another address than in the envelope."""

    def note_returned(self) -> None:
        """Note that a report carries the whole message: the next ones need not."""
        if not self.envelope.returned:
            self.envelope = attrs.evolve(self.envelope, returned=True)


class Contents:
    """Counts who in memory needs a content file."""

    def __init__(self) -> None:
        self._count: dict[str, int] = {}
        self._spilled: set[str] = set()

    def __contains__(self, cdb_id: object) -> bool:
        return cdb_id in self._count

    def __len__(self) -> int:
        return len(self._count)

    def hold(self, cdb_id: str) -> None:
        """Count one transaction more."""
        self._count[cdb_id] = self._count.get(cdb_id, 0) + 1

    def spilled(self, cdb_id: str) -> None:
        """Note that the DEFEDB refers to this content, which is held."""
        if cdb_id not in self._count:
            raise Bug(f"content {cdb_id} went to the DEFEDB and nobody held it")
        self._spilled.add(cdb_id)

    def is_spilled(self, cdb_id: str) -> bool:
        """Tell whether the DEFEDB may refer to a content that is held."""
        return cdb_id in self._spilled

    def release(self, cdb_id: str) -> bool:
        """Count one transaction less; tell whether the file may be removed."""
        left = self._count[cdb_id] - 1
        if left:
            self._count[cdb_id] = left
            return False
        del self._count[cdb_id]
        if cdb_id in self._spilled:
            # The DEFEDB still refers to it; it says so when its last reference goes.
            self._spilled.discard(cdb_id)
            return False
        return True

    def unreferenced(self, cdb_id: str) -> bool:
        """Note that the DEFEDB's last reference is gone; tell whether the file may go too."""
        self._spilled.discard(cdb_id)
        return cdb_id not in self._count


class Tas:
    """All transactions in memory, by home and id."""

    def __init__(self) -> None:
        self.ibdb: dict[str, Transaction] = {}
        self.defedb: dict[str, Transaction] = {}
        self.contents = Contents()

    def __contains__(self, ta_id: object) -> bool:
        return ta_id in self.ibdb or ta_id in self.defedb

    def holds(self, ta_id: str, idx: int) -> bool:
        """Tell whether a recipient is in memory, whatever its home."""
        ta = self.defedb.get(ta_id)
        if ta is not None and idx in ta.rcpts:
            return True
        ta = self.ibdb.get(ta_id)
        return ta is not None and idx in ta.rcpts

    def accept(self, envelope: Envelope) -> Transaction:
        """Add a new transaction, all recipients open, home IBDB."""
        ta = Transaction(envelope, Home.IBDB)
        ta.rcpts = {rcpt.idx: Rcpt(ta, rcpt) for rcpt in envelope.rcpts}
        if envelope.ta_id in self.ibdb:
            raise Bug(f"transaction {envelope.ta_id} was accepted twice")
        self.ibdb[envelope.ta_id] = ta
        self.contents.hold(envelope.cdb_id)
        return ta

    def load(self, envelope: Envelope) -> Transaction:
        """Return the transaction with home DEFEDB, made if it is not in memory yet."""
        ta = self.defedb.get(envelope.ta_id)
        if ta is None:
            ta = self.defedb[envelope.ta_id] = Transaction(envelope, Home.DEFEDB)
            self.contents.hold(envelope.cdb_id)
            self.contents.spilled(envelope.cdb_id)
            twin = self.ibdb.get(envelope.ta_id)
            if twin is not None and twin.envelope.returned:
                ta.note_returned()
        return ta

    def take(self, envelope: Envelope, stored: DeferredRcpt) -> Rcpt:
        """Add a deferred recipient, which is not in memory yet."""
        ta = self.load(envelope)
        rcpt = ta.rcpts[stored.idx] = Rcpt(
            ta,
            recipient_of(envelope, stored.idx, stored.address),
            tries=stored.tries,
            error=stored.error,
            warned=stored.warned,
            dest=stored.dest,
            redirected=stored.redirected,
            history=tuple(stored.history),
        )
        ta.redirected |= stored.redirected
        return rcpt

    def close(self, rcpt: Rcpt) -> str:
        """Forget a recipient; return the id of a content that nobody needs any more, or ""."""
        ta = rcpt.ta
        del ta.rcpts[rcpt.idx]
        if ta.rcpts:
            return ""
        envelope = ta.envelope
        del (self.ibdb if ta.home is Home.IBDB else self.defedb)[envelope.ta_id]
        return envelope.cdb_id if self.contents.release(envelope.cdb_id) else ""
