"""Places that mail goes to, and what is on its way there.

Kind: table.

The records that the active queue (qmgr/aq.py), the connection cache (qmgr/occ.py) and the
scheduler (qmgr/sched.py) share: a destination has recipients that wait in groups; a session of
a smtpc process (a carrier) takes deliveries for one destination to one host. They know each
other, so they stand together; who changes what is said at the fields.
Source: architecture.md; SPEC rows X016, X017.
"""

from collections import deque

import attrs

from libsmx.wire import Target
from qmgr.ta import Home, Rcpt, State, Transaction

RETRY_TURN = 4
"""Of so many transactions for a destination one is a retry, if new mail waits as well."""

SLOW_S = 10.0
"""A host whose transactions take longer is slow."""

HostKey = tuple[str, int]
"""Address and port; the address is empty for the local LMTP socket."""


@attrs.define(eq=False)
class Host:
    """One remote address."""

    key: HostKey
    window: int
    """Sessions that it may have, while it can be reached (see ``allowed``)."""
    used_at: float
    initial: int = 1
    """Its window at first, and when nothing is known of it any more."""
    maximum: int = 1
    """Its widest window."""
    open: int = 0
    """Sessions that count against the window, busy or idle."""
    good: int = 0
    """Those of them in which the host has worked."""
    failures: int = 0
    """Connection failures since the last success."""
    blocked_at: float = 0.0
    blocked_until: float = 0.0
    error: str = ""
    """Last connection failure."""
    pace_s: float = 0.0
    """Seconds that a transaction takes there, a moving average; 0 where nothing is known."""
    parked: "deque[Destination]" = attrs.field(factory=deque)
    """Destinations that wait for the window to open."""

    @property
    def slow(self) -> bool:
        """Its transactions take so long that it may not have all sessions."""
        return self.pace_s > SLOW_S

    @property
    def allowed(self) -> int:
        """Sessions that it may have now: one, a probe, if it could not be reached last time."""
        return 1 if self.failures else self.window


@attrs.define(eq=False)
class Group:
    """Recipients of one transaction for one destination."""

    ta: Transaction
    rcpts: list[Rcpt]


@attrs.define(eq=False)
class Destination:
    """One place that mail goes to, and what waits for it."""

    key: str
    lmtp: bool
    targets: list[Target]
    groups: deque[Group] = attrs.field(factory=deque)
    """New mail that waits."""
    retries: deque[Group] = attrs.field(factory=deque)
    """Mail from the DEFEDB that waits."""
    waiting: int = 0
    """Recipients in both."""
    taken: int = 0
    """Transactions taken so far."""
    debt: int = 0
    """Turns that it must let pass for the large transaction that it had."""
    sessions: int = 0
    """Delivery sessions, busy or idle."""
    idle: "list[DeliverySession]" = attrs.field(factory=list)
    """The idle ones, last used last."""
    queued: bool = False
    """It stands in the scheduler's ring or waits for a window or for capacity."""

    @property
    def retry_next(self) -> bool:
        """The next transaction is a retry: new mail goes first, three times of four."""
        return bool(self.retries) and (not self.groups or self.taken % RETRY_TURN == RETRY_TURN - 1)

    def _queue(self, ta: Transaction) -> deque[Group]:
        return self.groups if ta.home is Home.IBDB else self.retries

    def add(self, rcpt: Rcpt) -> None:
        """Append a recipient; neighbours of one transaction travel together."""
        rcpt.state = State.WAITING
        self.waiting += 1
        queue = self._queue(rcpt.ta)
        if queue and queue[-1].ta is rcpt.ta:
            queue[-1].rcpts.append(rcpt)
        else:
            queue.append(Group(rcpt.ta, [rcpt]))

    def put_back(self, ta: Transaction, rcpts: list[Rcpt]) -> None:
        """Put recipients of a transaction in front again."""
        for rcpt in rcpts:
            rcpt.state = State.WAITING
        self.waiting += len(rcpts)
        self._queue(ta).appendleft(Group(ta, rcpts))

    def take(self, most: int) -> Group:
        """Remove and return up to ``most`` recipients of the next transaction."""
        queue = self.retries if self.retry_next else self.groups
        self.taken += 1
        group = queue[0]
        if len(group.rcpts) <= most:
            queue.popleft()
        else:
            queue[0] = Group(group.ta, group.rcpts[most:])
            group = Group(group.ta, group.rcpts[:most])
        self.waiting -= len(group.rcpts)
        return group

    def remove(self, gone: set[Rcpt]) -> None:
        """Remove these recipients, which wait here."""
        self.groups = _without(self.groups, gone)
        self.retries = _without(self.retries, gone)
        self.waiting = sum(len(group.rcpts) for group in (*self.groups, *self.retries))

    def clear(self) -> list[Rcpt]:
        """Remove and return everything that waits."""
        rcpts = [rcpt for group in (*self.groups, *self.retries) for rcpt in group.rcpts]
        self.groups.clear()
        self.retries.clear()
        self.waiting = 0
        return rcpts


def _without(groups: deque[Group], gone: set[Rcpt]) -> deque[Group]:
    kept: deque[Group] = deque()
    for group in groups:
        rcpts = [rcpt for rcpt in group.rcpts if rcpt not in gone]
        if rcpts:
            kept.append(Group(group.ta, rcpts))
    return kept


@attrs.define(eq=False)
class Carrier:
    """One smtpc process."""

    channel: int
    capacity: int
    sessions: "dict[int, DeliverySession]" = attrs.field(factory=dict)
    full: bool = False
    """It refused work; it is asked again when something of it ends, or at the next tick."""


@attrs.define(eq=False)
class DeliverySession:
    """One session of a smtpc process to one destination."""

    id: int
    carrier: Carrier
    dest: Destination
    host: Host
    delivery: "Delivery | None" = None
    tas: int = 0
    streak: int = 0
    good: bool = False
    idle_since: float = 0.0


@attrs.define(eq=False)
class Delivery:
    """One transaction handed to a session."""

    id: int
    session: DeliverySession
    ta: Transaction
    rcpts: list[Rcpt]
    targets: list[Target]
    started_at: float = 0.0
    retry: bool = False
    """Its transaction came from the DEFEDB."""
    slow: bool = False
    """It goes to a host that was slow when it was begun."""
