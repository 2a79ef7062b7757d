"""Messages between qmgrctl and the queue manager.

Kind: table.

A request that concerns many recipients is done page by page: the answer names the position to
go on from, so no request takes the queue manager long and an answer fits into a frame.
Source: SPEC rows X162, X477.
"""

from typing import Annotated

import attrs
from msgspec import Meta

from libsmx.envelope import Address, Count, Envelope, Id, Idx, Short, Text
from libsmx.wirebase import message

MAX_PAGE = 2000
"""Most recipients that one request looks for."""

Position = Annotated[str, Meta(max_length=64)]
PageSize = Annotated[int, Meta(ge=1, le=MAX_PAGE)]
Pattern = Annotated[str, Meta(max_length=320)]
Seconds = Annotated[float, Meta(ge=0, le=1e10)]

HOLD, RELEASE, REMOVE, BOUNCE, REQUEUE, REDIRECT = (
    "hold", "release", "remove", "bounce", "requeue", "redirect",
)  # fmt: skip
ACTIONS = (HOLD, RELEASE, REMOVE, BOUNCE, REQUEUE, REDIRECT)
STATES = ("incoming", "active", "deferred", "held")


@attrs.frozen(kw_only=True)
class Select:
    """Which recipients; all that is given must hold, nothing given is everything.

    Addresses are compared without case; ``*`` stands for any text.
    """

    ta_id: Id = ""
    to: Pattern = ""
    sender: Pattern = ""
    """``<>``: the null sender."""
    domain: Address = ""
    """Destination or domain of the recipient, whole."""
    state: Short = ""
    """One of STATES."""
    older_s: Seconds = 0.0
    """In the queue for longer than this."""


@message(50)
class StatusAsk:
    """Answer: StatusAnswer."""


@attrs.frozen(kw_only=True)
class Figure:
    """One line of the status."""

    name: Short
    value: Count
    limit: Count = 0
    """0: none."""
    unit: Short = ""


@message(51)
class StatusAnswer:
    """Fill levels and counters of the queue manager."""

    state: Short
    """normal, slow, stop or stopping; why stands in ``reason``."""
    reason: Text
    figures: Annotated[list[Figure], Meta(max_length=200)]


@message(52)
class QueueAsk:
    """List recipients in the queue after this position. Answer: QueueAnswer."""

    after: Position
    """``next`` of the last answer; empty to begin."""
    limit: PageSize
    select: Select = attrs.field(factory=Select)


@attrs.frozen(kw_only=True)
class QueueEntry:
    """One transaction in the queue with its open recipients."""

    ta_id: Id
    received_at: float
    size: Count
    sender: Address
    rcpts: Annotated[list["QueueRcpt"], Meta(max_length=50_000)]


@attrs.frozen(kw_only=True)
class QueueRcpt:
    """One open recipient."""

    address: Address
    place: Short
    """incoming, active (with the state in it: routing, waiting ...), deferred, held."""
    next_try_at: float
    """Wall clock, seconds; 0 for now."""
    tries: Count
    error: Text
    """Last temporary failure."""


@message(53)
class QueueAnswer:
    """One page of the queue; it may be empty although there is a next one."""

    entries: Annotated[list[QueueEntry], Meta(max_length=MAX_PAGE)]
    next: Position
    """Empty at the end."""


@message(54)
class FlushAsk:
    """Try deferred recipients now. Answer: Done."""

    dest: Address = ""
    """Only this destination or recipient domain; empty for all."""


@message(55)
class StopAsk:
    """Stop the whole system in order. Answer: Done."""


@message(56)
class Done:
    """A request was carried out."""

    count: Count = 0
    next: Position = ""
    """Where to go on; empty when there is no more."""


@message(57)
class ShowAsk:
    """All about one transaction. Answer: ShowAnswer."""

    ta_id: Id


@attrs.frozen(kw_only=True)
class PastTry:
    """One attempt that did not succeed."""

    at: float
    """Wall clock, seconds."""
    status: Short
    text: Text
    remote: Address = ""


@attrs.frozen(kw_only=True)
class RcptDetail:
    """One open recipient, with the reasons for its state."""

    idx: Idx
    address: Address
    place: Short
    dest: Address = ""
    """Destination, where known."""
    tries: Count
    next_try_at: float
    """Wall clock, seconds; 0 for now."""
    history: Annotated[list[PastTry], Meta(max_length=20)]
    why: Annotated[list[Text], Meta(max_length=20)]
    """Why it has not gone, sentences; what is decisive first."""
    next: Text
    """What happens next, and when."""


@message(58)
class ShowAnswer:
    """An envelope and its recipients that are still in the queue."""

    envelope: Envelope
    """Its list of recipients may be cut."""
    total: Count
    """Recipients it came with."""
    rcpts: Annotated[list[RcptDetail], Meta(max_length=50_000)]
    left_out: Count = 0
    """Recipients beyond what one answer holds."""


@message(59)
class ChangeAsk:
    """Do something to the recipients selected. Answer: Done, with what is on disk."""

    action: Short
    """One of ACTIONS."""
    select: Select
    address: Address = ""
    """REDIRECT: the new recipient."""
    dry_run: bool = False
    after: Position = ""
    limit: PageSize = 1000


@message(60)
class DestinationsAsk:
    """List destinations: those in memory, then those with deferred mail only.

    Answer: DestinationsAnswer.
    """

    after: Address = ""
    match: Address = ""
    """Only this destination, host or address."""
    limit: PageSize = 200


@attrs.frozen(kw_only=True)
class HostState:
    """One address of a destination."""

    host: Address
    address: Address
    port: Count
    window: Count
    maximum: Count = 0
    """Widest window that it may have; 0 where it is not told."""
    open: Count
    blocked_until: float = 0.0
    """Wall clock, seconds; 0: it may be tried."""
    failures: Count = 0
    error: Text = ""
    suspended: Text = ""


@attrs.frozen(kw_only=True)
class DestState:
    """One destination."""

    dest: Address
    waiting: Count
    sessions: Count
    idle: Count
    deferred: Count = 0
    """Recipients in the DEFEDB under this name, counted up to a bound."""
    suspended: Text = ""
    hosts: Annotated[list[HostState], Meta(max_length=200)]


@message(61)
class DestinationsAnswer:
    """One page of destinations; it may be empty although there is a next one."""

    dests: Annotated[list[DestState], Meta(max_length=MAX_PAGE)]
    next: Address


@message(62)
class SuspendAsk:
    """Deliver nothing to a domain, destination, host or address. Answer: Done."""

    name: Address
    reason: Annotated[str, Meta(max_length=500)] = ""
    for_s: Seconds = 0.0
    """0: until it is resumed."""


@message(63)
class ResumeAsk:
    """End a suspension; what waited for it is tried. Answer: Done."""

    name: Address


@message(64)
class SuspensionsAsk:
    """Answer: SuspensionsAnswer."""


@attrs.frozen(kw_only=True)
class Suspension:
    """One name that gets no mail."""

    name: Address
    """Lower case."""
    reason: Annotated[str, Meta(max_length=500)] = ""
    since: float
    """Wall clock, seconds."""
    until: float = 0.0
    """0: no end."""
    uid: Count = 0


@message(65)
class SuspensionsAnswer:
    """All suspensions, by name."""

    suspensions: Annotated[list[Suspension], Meta(max_length=10_000)]


@message(66)
class LogLevelAsk:
    """Change what the queue manager logs, until its next start. Answer: Done (the old level)."""

    level: Annotated[int, Meta(ge=0, le=100)]


@message(67)
class ReloadAsk:
    """Do what SIGHUP does. Answer: Done."""


@message(68)
class StatsAsk:
    """Answer: StatsAnswer."""


@attrs.frozen(kw_only=True)
class StatRow:
    """One number of one process; unit and meaning stand in libsmx/stattab.py."""

    daemon: Short
    process: Short
    """Number of the process; "ended" for what those that are gone have counted."""
    name: Short
    value: Annotated[int, Meta(ge=0, le=1 << 62)]


@message(69)
class StatsAnswer:
    """The numbers of all processes that the queue manager knows."""

    rows: Annotated[list[StatRow], Meta(max_length=60_000)]


REQUESTS: frozenset[type] = frozenset(
    {
        StatusAsk, QueueAsk, FlushAsk, StopAsk, ShowAsk, ChangeAsk, DestinationsAsk, SuspendAsk,
        StatsAsk, ResumeAsk, SuspensionsAsk, LogLevelAsk, ReloadAsk,
    }
)  # fmt: skip
ANSWERS: frozenset[type] = frozenset(
    {
        StatusAnswer,
        QueueAnswer,
        Done,
        ShowAnswer,
        DestinationsAnswer,
        SuspensionsAnswer,
        StatsAnswer,
    }
)
CHANGES: frozenset[type] = frozenset(
    {FlushAsk, StopAsk, ChangeAsk, SuspendAsk, ResumeAsk, LogLevelAsk, ReloadAsk}
)
"""Requests that not everybody may make."""
