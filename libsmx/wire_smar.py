"""Messages between the SMTP server and the address resolver.

Kind: table.

Source: SPEC rows X273, X454 to X473.
"""

from typing import Annotated

import attrs
from msgspec import Meta

from libsmx.envelope import Address, Short, Text
from libsmx.wirebase import message

Session = Annotated[str, Meta(max_length=40)]
Code = Annotated[int, Meta(ge=0, le=999)]


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
