"""What goes into a delivery session and what comes out of it.

Kind: core.

``Transaction`` is the order; the other classes are what the session wants done.
Source: SPEC row X017.
"""

from collections.abc import Sequence

import attrs

from libsmx.envelope import Recipient
from libsmx.wire import RcptResult


@attrs.frozen
class Send:
    """Write these bytes."""

    data: bytes


@attrs.frozen
class SendContent:
    """Write the whole content with its final dot, then call ``content_sent``."""


@attrs.frozen
class Done:
    """The transaction is over.

    Attributes:
        results: exactly one for each recipient, in the order of the transaction.
        usable: the session can take another transaction.
        elsewhere: the host failed, before it accepted any recipient: try another address.
        unknown: the end of data was sent and not answered; the host may have the message.
        reason: why the session ended; empty if it did not.
    """

    results: list[RcptResult]
    usable: bool
    elsewhere: bool = False
    unknown: bool = False
    reason: str = ""


@attrs.frozen
class Close:
    """Close the connection; the reason is for the log."""

    reason: str


Effect = Send | SendContent | Done | Close


@attrs.frozen
class Transaction:
    """What is to be delivered.

    Attributes:
        sender: without brackets, empty for the null reverse-path.
        rcpts: at least one.
        size: bytes of the content before dot-stuffing.
        body8: the content has 8-bit bytes.
        ret, envid: what the sender wants of reports, see libsmx/envelope.py.
    """

    sender: str
    rcpts: Sequence[Recipient]
    size: int
    body8: bool = False
    ret: str = ""
    envid: str = ""
