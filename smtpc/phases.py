"""Phases of a delivery session, its commands, and how long each wait may last.

Kind: table.

The limits are those that RFC 5321 4.5.3.2 asks a client to have at least; the configuration's
section ``timeouts`` sets others, and ``io_timeout`` caps each of them. RFC 5321 names none for
EHLO, RSET, QUIT, TLS and AUTH.
Source: RFC 5321 4.5.3.2; SPEC row X432.
"""

import enum


class Phase(enum.Enum):
    """What a session waits for; the value is the text in results and logs."""

    GREETING = "greeting"
    HELLO = "reply to EHLO"
    TLS = "TLS handshake"
    AUTH = "reply to AUTH"
    IDLE = "next transaction"
    RSET = "reply to RSET"
    MAIL = "reply to MAIL"
    RCPT = "reply to RCPT"
    DATA = "reply to DATA"
    CONTENT = "the server to take the message"
    DOT = "reply to end of data"
    QUIT = "reply to QUIT"
    CLOSED = "closed"

    __hash__ = object.__hash__  # Enum's own is a call of Python; each wait looks a time up


TIMEOUT_S: dict[Phase, float] = {
    Phase.GREETING: 300.0,
    Phase.HELLO: 300.0,
    Phase.TLS: 300.0,
    Phase.AUTH: 300.0,
    Phase.IDLE: float("inf"),  # the queue manager decides how long a session is kept
    Phase.RSET: 300.0,
    Phase.MAIL: 300.0,
    Phase.RCPT: 300.0,
    Phase.DATA: 120.0,
    Phase.CONTENT: 180.0,  # for each block
    Phase.DOT: 600.0,
    Phase.QUIT: 5.0,
    Phase.CLOSED: 0.0,
}
"""Seconds until the wait of a phase is given up, where nothing else is configured."""


class Verb(enum.Enum):
    """What a reply answers."""

    GREETING = enum.auto()
    EHLO = enum.auto()
    HELO = enum.auto()
    STARTTLS = enum.auto()
    AUTH = enum.auto()
    RSET = enum.auto()
    MAIL = enum.auto()
    RCPT = enum.auto()
    DATA = enum.auto()
    DOT = enum.auto()
    QUIT = enum.auto()


OPENING = frozenset({Verb.GREETING, Verb.EHLO, Verb.HELO, Verb.STARTTLS, Verb.AUTH})
"""What is said before the first transaction."""

PHASE_OF = {
    Verb.GREETING: Phase.GREETING,
    Verb.EHLO: Phase.HELLO,
    Verb.HELO: Phase.HELLO,
    Verb.STARTTLS: Phase.TLS,
    Verb.AUTH: Phase.AUTH,
    Verb.RSET: Phase.RSET,
    Verb.MAIL: Phase.MAIL,
    Verb.RCPT: Phase.RCPT,
    Verb.DATA: Phase.DATA,
    Verb.DOT: Phase.DOT,
    Verb.QUIT: Phase.QUIT,
}
"""What is waited for while the reply to a command is missing."""
