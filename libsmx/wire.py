"""Every message between the processes of smx, and who may send which to whom.

Kind: table.

A class is a message; its number on the wire is never reused. ``CHANNELS`` is the privilege
map: a channel accepts the messages listed for its direction and ends at anything else. mcp
appears nowhere: it talks to its children by descriptors, signals and exit codes only. What
qmgrctl says stands in libsmx/wire_control.py. How messages become bytes stands in
libsmx/rcb.py, how they travel in libsmx/channel.py.
Source: SPEC rows X012, X016, X017.
"""

from typing import Annotated

import attrs
from msgspec import Meta

from libsmx import wire_control, wire_grey
from libsmx.envelope import MAX_RCPTS, Address, Envelope, Id, Idx, Short, Text
from libsmx.wirebase import message

PROTOCOL_VERSION = 3
"""Rises with every change of a message; peers that differ refuse each other at the hello."""

MAX_TARGETS = 200
"""Most addresses that one route carries."""

Session = Annotated[str, Meta(max_length=40)]
DeliveryId = Annotated[int, Meta(ge=0, le=1 << 62)]
Code = Annotated[int, Meta(ge=0, le=999)]


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


# --- smtps -> smar -------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Facts:
    """What smtps knows of a session when it asks; what it does not know is empty."""

    client_name: Address = ""
    """Verified name of the client, from ConnVerdict."""
    resolve: Short = ""
    """From ConnVerdict."""
    helo: Address = ""
    mark: Short = ""
    """Of the session, from ConnVerdict."""
    auth: Address = ""
    """Authenticated identity."""
    issuer: Text = ""
    """Distinguished names of a verified client certificate, encoded as keys of the access map."""
    subject: Text = ""
    delayed: bool = False
    """A rejection of the session or of the sender waits for the recipients (delay_checks)."""
    session: Session = ""
    smtputf8: bool = False
    rules: Short = ""
    """What this server's section asks of the resolver, words with blanks between: access,
    greylisting, lmtp_does_not_imply_relaying, allow_by_sender, allow_by_client_ip,
    generic_lookup, implicitly_match_detail. What is missing is off for this server."""


_NO_FACTS = Facts()


@message(20)
class MailAsk:
    """May this sender be accepted? Answer: Verdict."""

    sender: Address
    client: Address
    facts: Facts = _NO_FACTS


@message(21)
class RcptAsk:
    """May this recipient be accepted? Answer: Verdict."""

    rcpt: Address
    client: Address
    relay: bool
    """The session may relay."""
    facts: Facts = _NO_FACTS
    sender: Address = ""
    first: bool = False
    """No recipient of the transaction was accepted yet."""


@message(22)
class Verdict:
    """What smar says of an address, and of a certificate."""

    accept: bool
    code: Code = 250
    status: Short = "2.0.0"
    text: Text = ""
    local: bool = False
    """The domain is ours: its route is LMTP."""
    mark: Short = ""
    """What an accepting rule said: ok, relay, quick:ok, quick:relay or nothing. Of a recipient the
    last two cancel rejections that wait; of a certificate relay permits relaying; of a sender it
    holds for the transaction. Of a refusal ``quick``: it must not wait for the recipients. Of a
    discarded recipient ``quick``: the whole transaction is dropped."""
    discard: bool = False
    """Accept, but drop: the transaction of a sender, a recipient."""
    greylisted: bool = False
    """The refusal is greylisting's, which smtps may hold back until DATA."""


@message(23)
class ConnAsk:
    """May this client connect? Sent with the access flag only. Answer: ConnVerdict."""

    client: Address


@message(24)
class ConnVerdict:
    """What smar says of a client."""

    accept: bool
    code: Code = 250
    status: Short = "2.0.0"
    text: Text = ""
    mark: Short = ""
    """As in Verdict; relay and quick:relay permit relaying."""
    discard: bool = False
    """Accept the session and drop all its transactions."""
    name: Address = ""
    """Name of the client, where its addresses hold the client's; else empty."""
    resolve: Short = ""
    """ok, no, temp, or forged: there is a name, and its addresses are others."""


@message(25)
class CertAsk:
    """May the holder of this verified certificate relay? Answer: Verdict, mark relay if so."""

    issuer: Text
    """Distinguished names, encoded as keys of the access map."""
    subject: Text


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
    """Seconds that each phase took: ``connect=0.002 mail=0.010 dot=0.300``."""
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
    ("qmgrctl", "qmgr"): frozenset({Hello}) | wire_control.REQUESTS,
    ("qmgr", "qmgrctl"): frozenset({Welcome, Refusal}) | wire_control.ANSWERS,
}
"""(sender, receiver) -> what it may send. Every pair that is missing is impossible."""
