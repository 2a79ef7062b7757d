"""Envelopes: what is known of a message apart from its content.

Kind: table.

The same classes travel from smtps to qmgr, are stored in IBDB and DEFEDB, and go to smtpc.
Field types carry their bounds, so that a decoder refuses what no honest sender makes. A new
field needs a default: records written by an older version stay readable.
Source: RFC 5321 2.3.1, RFC 3461; SPEC rows X012, X013.
"""

from typing import Annotated

import attrs
from msgspec import Meta

MAX_ADDRESS = 1024
"""Longest address stored, in characters; RFC 5321 4.5.3.1 asks for 256, local parts vary."""
MAX_RCPTS = 50_000
"""Most recipients in one transaction that the formats carry; options set the working limit."""
MAX_TEXT = 2048
"""Longest remote text kept, in characters."""

Address = Annotated[str, Meta(max_length=MAX_ADDRESS)]
Text = Annotated[str, Meta(max_length=MAX_TEXT)]
Short = Annotated[str, Meta(max_length=128)]
Id = Annotated[str, Meta(max_length=19, pattern=r"^(?:[SQ][0-9A-F]{18})?$")]
Idx = Annotated[int, Meta(ge=0, lt=MAX_RCPTS)]
Count = Annotated[int, Meta(ge=0, le=1 << 62)]


@attrs.frozen(kw_only=True)
class Recipient:
    """One RCPT TO: its place in the transaction and its address without brackets."""

    idx: Idx
    address: Address
    notify: Short = ""
    """NOTIFY as libsmx/dsnparam.py writes it; empty where it was not given (RFC 3461 4.1)."""
    orcpt: Address = ""
    """ORCPT, decoded: ``type;address``; empty where it was not given (RFC 3461 4.2)."""


@attrs.frozen(kw_only=True)
class ReportedRcpt:
    """One recipient inside a report."""

    address: Address
    status: Short
    """Enhanced status code, RFC 3463."""
    text: Text
    """What the remote host said, or what we found."""
    remote: Address = ""
    """Host that said it, empty where we decided ourselves."""
    action: Short = "failed"
    """failed, delayed, relayed, expanded or delivered (RFC 3464 2.3.3); one report has one sort of
    news."""
    orcpt: Address = ""
    """As in Recipient."""
    attempt_at: float = 0.0
    """Wall clock of the last attempt, seconds; 0 where there was none."""
    retry_until: float = 0.0
    """Wall clock, seconds, until which a delayed recipient is tried; 0 for other actions."""


@attrs.frozen(kw_only=True)
class DsnReport:
    """What a delivery status notification tells; smtpc writes it around the original content.

    Source: RFC 3464. The content that it refers to is the envelope's ``cdb_id``.
    """

    ta_id: Id
    """Transaction that is reported on."""
    sender: Address
    """Recipient of the report: its sender, or who is told when there is none."""
    received_at: float
    """Wall clock, seconds."""
    reporter: Address
    """Host name of this system."""
    rcpts: Annotated[list[ReportedRcpt], Meta(max_length=MAX_RCPTS)]
    envid: Short = ""
    """ENVID of the transaction."""
    headers_only: bool = False
    """Return the header of the message only."""
    mime: bool = True
    """multipart/report; else plain text."""
    utf8: bool = False
    """The message came with SMTPUTF8: the report may hold UTF-8 (RFC 6533)."""


@attrs.frozen(kw_only=True)
class Envelope:
    """One transaction: sender, recipients and the content they share."""

    ta_id: Id
    cdb_id: Id
    """Content file; a DSN has that of the message it reports on."""
    sender: Address
    """Without brackets; empty is the null reverse-path."""
    rcpts: Annotated[list[Recipient], Meta(max_length=MAX_RCPTS)]
    size: Count
    """Content size in bytes, with the Received: field of this system."""
    body8: bool = False
    """BODY=8BITMIME was given (RFC 6152)."""
    received_at: float
    """Wall clock at acceptance, seconds; the age of the message counts from here."""
    client: Address = ""
    """Address of the client that sent it; empty for a DSN."""
    session: Short = ""
    dsn: DsnReport | None = None
    ret: Short = ""
    """RET: FULL, HDRS, or empty where it was not given (RFC 3461 4.3)."""
    envid: Short = ""
    """ENVID, decoded; empty where it was not given (RFC 3461 4.4)."""
    returned: bool = False
    """A report has carried the whole message to its sender already."""
    smtputf8: bool = False
    """SMTPUTF8 was given (RFC 6531): addresses and header fields may hold UTF-8."""
    hold: Short = ""
    """Why the transaction waits from its acceptance on until an operator releases it; empty where
    it does not."""
    expanded: Annotated[int, Meta(ge=0, le=100)] = 0
    """How many aliases and lists, one after another, stood for its recipients."""


def recipient_of(envelope: Envelope, idx: int, address: str) -> Recipient:
    """Return a recipient as its envelope has it.

    Args:
        envelope: its recipients stand at their idx, unless somebody took some out.
        idx: which one.
        address: where it goes now; that in the envelope may be older.
    """
    rcpts = envelope.rcpts
    found = rcpts[idx] if idx < len(rcpts) else None
    if found is None or found.idx != idx:
        found = next((rcpt for rcpt in rcpts if rcpt.idx == idx), None)
    if found is None:
        return Recipient(idx=idx, address=address)
    return found if found.address == address else attrs.evolve(found, address=address)
