"""Incoming queue: sessions, open transactions, and accepted mail that waits for the AQ.

Kind: core.

All SMTP server processes together are held to the limits for one client address. A session or
transaction id means something only on the channel that announced it; when a channel ends, its
sessions and reservations end with it. Sessions, reservations and recipients that wait count
against one bound; beyond it clients are told to come back.
Source: SPEC rows X008, X012, X175, X191, X192, X197, X202-X207; D14, D17.
"""

from collections import deque

import attrs

from libsmx.envelope import Envelope
from libsmx.wire import Refusal
from qmgr.overrides import NONE, Overrides
from qmgr.ta import Rcpt

RATE_WINDOW_S = 60.0
_FULL = Refusal(code=452, status="4.3.1", text="The queue is full, try again later")
_BAD_TA = Refusal(code=451, status="4.3.5", text="Transaction is not known here, try again later")


def _refuse_session(text: str) -> Refusal:
    return Refusal(code=421, status="4.7.0", text=text)


@attrs.define(eq=False)
class Client:
    """One client address."""

    max_rate: int
    max_open: int
    open: int = 0
    opened: deque[float] = attrs.field(factory=deque)
    """When its sessions of the last minute were granted; no more than the rate allows."""


class Clients:
    """Rate and number of connections, for each client address.

    Args:
        max_rate: new connections in any 60 seconds.
        max_open: connections open at a time.
        max_clients: addresses remembered; more are refused until one is a minute old.
    """

    def __init__(self, max_rate: int, max_open: int, max_clients: int) -> None:
        self._max_rate = max_rate
        self._max_open = max_open
        self._max_clients = max_clients
        self._clients: dict[str, Client] = {}
        self._overrides = NONE

    def __len__(self) -> int:
        return len(self._clients)

    def use(self, overrides: Overrides) -> None:
        """Let these overrides hold from now on, also for clients that are known."""
        self._overrides = overrides
        for address, client in self._clients.items():
            client.max_rate, client.max_open = self._bounds(address)

    def _bounds(self, address: str) -> tuple[int, int]:
        find = self._overrides.find
        return find("icr", address, self._max_rate), find("icm", address, self._max_open)

    def open(self, address: str, now_s: float) -> Refusal | None:
        """Count a connection, or say why it may not be."""
        client = self._clients.get(address)
        if client is None:
            if len(self._clients) >= self._max_clients:
                self.expire(now_s)
                if len(self._clients) >= self._max_clients:
                    return _refuse_session("Too many clients, try again later")
            client = self._clients[address] = Client(*self._bounds(address))
        opened = client.opened
        while opened and opened[0] <= now_s - RATE_WINDOW_S:
            opened.popleft()
        if client.open >= client.max_open:
            return _refuse_session("Too many open connections from your address")
        if len(opened) >= client.max_rate:
            return _refuse_session("Too many connections from your address in a minute")
        opened.append(now_s)
        client.open += 1
        return None

    def close(self, address: str) -> None:
        """Count a connection less."""
        client = self._clients[address]
        client.open -= 1

    def expire(self, now_s: float) -> None:
        """Forget clients that have nothing open and were not seen for a minute."""
        past = now_s - RATE_WINDOW_S
        gone = [
            address
            for address, client in self._clients.items()
            if not client.open and (not client.opened or client.opened[-1] <= past)
        ]
        for address in gone:
            del self._clients[address]


@attrs.define(eq=False)
class Session:
    """One SMTP session on one channel."""

    client: str
    tas: set[str] = attrs.field(factory=set)
    """Transactions reserved in it."""


class Iqdb:
    """The incoming queue.

    Args:
        max_entries: bound on ``entries``.
        clients: limits for each client address.

    Attributes:
        waiting: recipients that wait for room in the active queue, oldest first.
        committing: recipients whose transaction is on its way to disk.
        spilling: recipients on their way to the DEFEDB because too many wait here, and members
            of lists on their way to disk.
        granted: sessions granted since the start.
        refused: sessions refused since the start.
    """

    def __init__(self, max_entries: int, clients: Clients) -> None:
        self.granted = 0
        self.refused = 0
        self.clients = clients
        self.waiting: deque[Rcpt] = deque()
        self.committing = 0
        self.spilling = 0
        self._max_entries = max_entries
        self._channels: dict[int, dict[str, Session]] = {}
        self._reserved: dict[str, tuple[int, Session]] = {}
        self._sessions = 0

    @property
    def entries(self) -> int:
        """Everything that takes room here."""
        return (
            self._sessions
            + len(self._reserved)
            + self.committing
            + self.spilling
            + len(self.waiting)
        )

    @property
    def sessions(self) -> int:
        """SMTP sessions that are open."""
        return self._sessions

    @property
    def reserved(self) -> int:
        """Transactions that are open."""
        return len(self._reserved)

    def room_to_wait(self, rcpts: int) -> bool:
        """Tell whether so many recipients may wait here; half of the room is for open work."""
        return len(self.waiting) + rcpts <= self._max_entries // 2

    def room_to_expand(self, rcpts: int) -> bool:
        """Tell whether so many more may be made of one: one large lot after another."""
        return not self.spilling or self.entries + rcpts <= self._max_entries

    def open_channel(self, channel: int) -> None:
        """Begin with a channel that has no sessions."""
        self._channels[channel] = {}

    def close_channel(self, channel: int) -> None:
        """End all sessions and reservations of a channel."""
        for name in list(self._channels.get(channel, ())):
            self.close_session(channel, name)
        self._channels.pop(channel, None)

    def open_session(self, channel: int, name: str, client: str, now_s: float) -> Refusal | None:
        """Grant a session, or say why not."""
        refusal = self._open_session(channel, name, client, now_s)
        if refusal is None:
            self.granted += 1
        else:
            self.refused += 1
        return refusal

    def _open_session(self, channel: int, name: str, client: str, now_s: float) -> Refusal | None:
        sessions = self._channels[channel]
        if name in sessions:
            return _refuse_session("Session is open already")
        if self.entries >= self._max_entries:
            return Refusal(code=421, status="4.3.2", text="Too busy, try again later")
        refusal = self.clients.open(client, now_s)
        if refusal is None:
            sessions[name] = Session(client)
            self._sessions += 1
        return refusal

    def close_session(self, channel: int, name: str) -> None:
        """End a session and its reservations; an unknown one is ignored."""
        session = self._channels[channel].pop(name, None)
        if session is not None:
            self._sessions -= 1
            self.clients.close(session.client)
            for ta_id in session.tas:
                del self._reserved[ta_id]

    def reserve(self, channel: int, ta_id: str, name: str) -> Refusal | None:
        """Reserve room for a transaction, or say why there is none."""
        session = self._channels[channel].get(name)
        if session is None or ta_id in self._reserved or not ta_id.startswith("S"):
            return _BAD_TA
        if self.entries >= self._max_entries:
            return _FULL
        self._reserved[ta_id] = channel, session
        session.tas.add(ta_id)
        return None

    def is_reserved(self, ta_id: str) -> bool:
        """Tell whether a transaction of that id is open."""
        return ta_id in self._reserved

    def abort(self, channel: int, ta_id: str) -> None:
        """Give a reservation up; one that this channel does not have is ignored."""
        owner, session = self._reserved.get(ta_id, (None, None))
        if owner == channel and session is not None:
            del self._reserved[ta_id]
            session.tas.discard(ta_id)

    def commit(self, channel: int, envelope: Envelope) -> Refusal | None:
        """Turn a reservation into room for all recipients, or say why not.

        The reservation ends either way. The content must be the transaction's own: no SMTP
        server may name the file of another message, or make a report.
        """
        owner, _ = self._reserved.get(envelope.ta_id, (None, None))
        if owner != channel:
            return _BAD_TA
        self.abort(channel, envelope.ta_id)
        rcpts = envelope.rcpts
        if (
            envelope.cdb_id != envelope.ta_id
            or envelope.dsn is not None
            or not rcpts
            or (len(rcpts) > 1 and len({rcpt.idx for rcpt in rcpts}) != len(rcpts))
        ):
            return _BAD_TA
        if self.entries + len(rcpts) > self._max_entries:
            return _FULL
        self.committing += len(rcpts)
        return None
