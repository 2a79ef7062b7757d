"""How one connection is to be opened, decided before it is.

Kind: core.

Source: RFC 5321 3.2, RFC 3207, RFC 4954; SPEC rows X017, X426.
"""

from collections.abc import Mapping

import attrs

from smtpc.phases import TIMEOUT_S, Phase


@attrs.frozen
class Login:
    """Who we are to a next hop that wants to know.

    Attributes:
        user: authentication identity.
        password: its secret; never shown.
        mechanisms: those that may be used, in upper case; empty: any that is safe.
        clear: PLAIN and LOGIN may be used without TLS.
    """

    user: str
    password: str = attrs.field(repr=False)
    mechanisms: frozenset[str] = frozenset()
    clear: bool = False


@attrs.frozen
class Plan:
    """How a connection is opened.

    Attributes:
        helo: our host name.
        lmtp: speak LMTP.
        starttls: begin TLS if the server offers it.
        on_connect: the connection is under TLS from its first byte.
        why_clear: why TLS is not tried, where that is known before.
        login: say who we are; None: nobody asks.
        nonce: fresh and random, printable ASCII without a comma; for SCRAM.
        chunking: use BDAT where it is offered.
        timeouts: longest waits in seconds, one for each phase.
    """

    helo: str
    lmtp: bool = False
    starttls: bool = False
    on_connect: bool = False
    why_clear: str = ""
    login: Login | None = None
    nonce: str = ""
    chunking: bool = True
    timeouts: Mapping[Phase, float] = attrs.field(default=TIMEOUT_S, repr=False)
