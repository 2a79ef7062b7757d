"""Every message between the processes of smx, and who may send which to whom.

Kind: table.

A class is a message; its number on the wire is never reused. ``CHANNELS`` is the privilege
map: a channel accepts the messages listed for its direction and ends at anything else. mcp
appears nowhere: it talks to its children by descriptors, signals and exit codes only. What
qmgrctl says stands in libsmx/wire_control.py, what smtps asks smar in libsmx/wire_smar.py. How
messages become bytes stands in libsmx/rcb.py, how they travel in libsmx/channel.py.
Source: SPEC rows X012, X016, X017.
"""

from typing import Annotated

import attrs
from msgspec import Meta

from libsmx import wire_control, wire_grey, wire_try
from libsmx.envelope import MAX_RCPTS, Address, Envelope, Id, Idx, Short, Text
from libsmx.wire_smar import (
    CertAsk,
    Code,
    ConnAsk,
    ConnVerdict,
    Facts,
    MailAsk,
    RcptAsk,
    Session,
    Verdict,
)
from libsmx.wirebase import message

__all__ = ["CertAsk", "ConnAsk", "ConnVerdict", "Facts", "MailAsk", "RcptAsk", "Verdict"]

PROTOCOL_VERSION = 3
"""Rises with every change of a message; peers that differ refuse each other at the hello."""

MAX_TARGETS = 200
"""Most addresses that one route carries."""

DeliveryId = Annotated[int, Meta(ge=0, le=1 << 62)]


# --- every channel -------------------------------------------------------------------------


@message(1)
class Hello:
    """First message of a client on every channel."""

    version: int
    role: Short
    """Process name: smtps, smtpc, qmgr, qmgrctl."""
    id: Annotated[int, Meta(ge=0, le=255)]
    """Process id given by mcp's pass_id; unique among the processes of one role."""
    capacity: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    """smtpc: most sessions it runs at a time."""


@message(2)
class Welcome:
    """The server accepts the client."""

    version: int
    name: Short


@message(3)
class Refusal:
    """Answer to any request that cannot be met; carries what an SMTP client would be told."""

    code: Code
    status: Short
    """Enhanced status code."""
    text: Text


@attrs.frozen(kw_only=True)
class StatValue:
    """One number; its unit and meaning stand in libsmx/stattab.py."""

    name: Short
    value: Annotated[int, Meta(ge=0, le=1 << 62)]


@message(4)
class Stats:
    """What a process tells the queue manager of itself every few seconds (no answer)."""

    values: Annotated[list[StatValue], Meta(max_length=100)]


# --- smtps -> qmgr -------------------------------------------------------------------------


@message(10)
class SessionOpen:
    """A client connected. Answer: SessionGranted or Refusal."""

    session: Session
    client: Address


@message(11)
class SessionGranted:
    """The session may go on."""


@message(12)
class SessionClose:
    """The session ended (no answer)."""

    session: Session


@message(13)
class TaOpen:
    """Reserve room for a transaction at its first accepted recipient.

    Answer: TaOpened or Refusal (4yz).
    """

    ta_id: Id
    session: Session


@message(14)
class TaOpened:
    """Room is reserved until TaCommit or TaAbort."""


@message(15)
class TaCommit:
    """The content is on disk; take responsibility. Answer: TaCommitted or Refusal (4yz)."""

    envelope: Envelope


@message(16)
class TaCommitted:
    """The envelope is on disk: the client may be told 250."""


@message(17)
class TaAbort:
    """The transaction ended without a commit (no answer)."""

    ta_id: Id


@message(18)
class Throttle:
    """qmgr -> smtps: refuse or accept new transactions from now on (no answer)."""

    stop: bool
    reason: Text = ""


# --- qmgr -> smar --------------------------------------------------------------------------


@message(30)
class RouteAsk:
    """Where do these recipients go? Answer: RouteAnswer, routes in the order of rcpts."""

    rcpts: Annotated[list[Address], Meta(max_length=1000)]


@attrs.frozen(kw_only=True)
class Target:
    """One address to try."""

    host: Address
    """Name that the route gave (MX host); for logs and TLS names."""
    address: Address
    """IPv4 or IPv6 address in text form; empty: the LMTP socket that smtpc is configured with."""
    port: Annotated[int, Meta(ge=0, le=65535)]
    rank: Annotated[int, Meta(ge=0, le=100_000)] = 0
    """Equal for addresses that are as good as each other (MX preference), the best come first;
    0: nothing is known of it."""


@attrs.frozen(kw_only=True)
class Route:
    """The way to one recipient, or why there is none."""

    dest: Address
    """Key of the destination: recipients with equal keys may share a transaction."""
    lmtp: bool = False
    targets: Annotated[list[Target], Meta(max_length=MAX_TARGETS)]
    """In the order in which to try them; empty means no route, code tells why."""
    code: Code = 0
    """0 where there is a route, else 4yz (try later) or 5yz (never)."""
    status: Short = ""
    text: Text = ""
    expand: Annotated[list[Address], Meta(max_length=MAX_RCPTS)] = attrs.field(factory=list)
    """The recipient stands for these, which take its place; the other fields but ``owner`` then
    count for nothing. Each is asked about again: what stands for itself, or for others in a
    circle, has no end and is returned after a few rounds."""
    owner: Address = ""
    """The recipient is a list: its members get the message with this sender (RFC 3461 5.2.7.3).
    Empty where it is an alias: they get it with the sender that it has (5.2.7.1)."""


@message(31)
class RouteAnswer:
    """Answer to RouteAsk."""

    routes: Annotated[list[Route], Meta(max_length=1000)]


# --- qmgr -> smtpc (smtpc connects) --------------------------------------------------------


@message(40)
class Deliver:
    """Deliver one transaction. Answer: Delivered."""

    da_sess: DeliveryId
    """Delivery session; if smtpc has it open and idle it is used, else it is opened."""
    da_ta: DeliveryId
    lmtp: bool
    dest: Address
    targets: Annotated[list[Target], Meta(max_length=MAX_TARGETS)]
    envelope: Envelope
    """rcpts holds only those of this delivery."""


@attrs.frozen(kw_only=True)
class RcptResult:
    """Result for one recipient: code 2yz delivered, 4yz try again, 5yz failed for good."""

    idx: Idx
    code: Code
    status: Short
    text: Text


@attrs.frozen(kw_only=True)
class Attempt:
    """One address that was tried before the one that took the transaction."""

    address: Address
    text: Text
    refused: bool
    """True where no connection or no usable greeting was had."""


@message(41)
class Delivered:
    """Answer to Deliver."""

    da_sess: DeliveryId
    da_ta: DeliveryId
    open: bool
    """The session can take another transaction."""
    host: Address
    address: Address
    results: Annotated[list[RcptResult], Meta(max_length=50_000)]
    attempts: Annotated[list[Attempt], Meta(max_length=MAX_TARGETS)]
    dsn: bool = False
    """The server took over to report what the sender wants reported (RFC 3461 5.2.1)."""
    tls: Short = ""
    """TLS of the session, for people; empty in clear text."""
    took: Text = ""
    """Seconds that each phase took: ``connect:0.002 mail:0.010 dot:0.300``."""
    unknown: bool = False
    """The connection was lost after the end of data: the server may have the message."""


@message(42)
class SessionEnd:
    """qmgr: close this delivery session, it is not needed any more (no answer)."""

    da_sess: DeliveryId


@message(43)
class SessionLost:
    """smtpc: an idle delivery session ended by itself (no answer)."""

    da_sess: DeliveryId


CHANNELS: dict[tuple[str, str], frozenset[type]] = {
    ("smtps", "qmgr"): frozenset(
        {Hello, Stats, SessionOpen, SessionClose, TaOpen, TaCommit, TaAbort}
    ),
    ("qmgr", "smtps"): frozenset(
        {Welcome, Refusal, SessionGranted, TaOpened, TaCommitted, Throttle}
    ),
    ("smtps", "smar"): frozenset({Hello, ConnAsk, CertAsk, MailAsk, RcptAsk}),
    ("smar", "smtps"): frozenset({Welcome, Refusal, ConnVerdict, Verdict}),
    ("qmgr", "smar"): frozenset({Hello, RouteAsk}),
    ("smar", "qmgr"): frozenset({Welcome, Refusal, Stats, RouteAnswer}),
    ("smtpc", "qmgr"): frozenset({Hello, Stats, Delivered, Refusal, SessionLost}),
    ("qmgr", "smtpc"): frozenset({Welcome, Refusal, Deliver, SessionEnd}),
    ("smxgrey", "smar"): frozenset({Hello}) | wire_grey.REQUESTS,
    ("smar", "smxgrey"): frozenset({Welcome, Refusal}) | wire_grey.ANSWERS,
    ("smxtest", "smar"): frozenset({Hello}) | wire_try.REQUESTS,
    ("smar", "smxtest"): frozenset({Welcome, Refusal}) | wire_try.ANSWERS,
    ("qmgrctl", "qmgr"): frozenset({Hello}) | wire_control.REQUESTS,
    ("qmgr", "qmgrctl"): frozenset({Welcome, Refusal}) | wire_control.ANSWERS,
}
"""(sender, receiver) -> what it may send. Every pair that is missing is impossible."""
