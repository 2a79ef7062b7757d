"""What goes into a delivery session and what comes out of it.

Kind: core.

``Transaction`` is the order; the other classes are what the session wants done.
Source: SPEC row X017.
"""

from collections.abc import Sequence

import attrs

from libsmx.envelope import Recipient
from libsmx.wire import RcptResult
from smtpc.plan import Login
from smtpc.tlspolicy import TlsPolicy


@attrs.frozen
class Send:
    """Write these bytes."""

    data: bytes


@attrs.frozen
class SendContent:
    """Write the whole content, then call ``content_sent``.

    Attributes:
        chunk: as one chunk behind ``BDAT size LAST`` (RFC 3030 2); else with dots doubled and
            the final dot.
    """

    chunk: bool = False


@attrs.frozen
class StartTls:
    """Make the handshake, then call ``secured`` or ``handshake_failed``."""


@attrs.frozen
class Done:
    """The transaction is over.

    Attributes:
        results: exactly one for each recipient, in the order of the transaction.
        usable: the session can take another transaction.
        elsewhere: the host failed, before it accepted any recipient: try another address.
        unknown: the end of data was sent and not answered; the host may have the message.
        reason: why the session ended; empty if it did not.
        tls_failed: it ended because the TLS handshake failed.
    """

    results: list[RcptResult]
    usable: bool
    elsewhere: bool = False
    unknown: bool = False
    reason: str = ""
    tls_failed: bool = False


@attrs.frozen
class Close:
    """Close the connection; the reason is for the log."""

    reason: str


Effect = Send | SendContent | StartTls | Done | Close


@attrs.frozen
class Transaction:
    """What is to be delivered.

    Attributes:
        sender: without brackets, empty for the null reverse-path.
        rcpts: at least one.
        size: bytes of the content before dot-stuffing.
        body8: the content has 8-bit bytes.
        ret, envid: what the sender wants of reports, see libsmx/envelope.py.
        utf8: SMTPUTF8 was declared for it.
        utf8_header: and its header has 8-bit bytes.
        policies: what each recipient asks of TLS, in their order; empty: nothing.
        login: whom the session must be opened as.
    """

    sender: str
    rcpts: Sequence[Recipient]
    size: int
    body8: bool = False
    ret: str = ""
    envid: str = ""
    utf8: bool = False
    utf8_header: bool = False
    policies: Sequence[TlsPolicy] = ()
    login: Login | None = None
