"""The SMTP commands: which there are, what they take, how each is misused.

Kind: table, and the function that takes a line apart.
Source: RFC 5321 4.1; SPEC row X002.
"""

import enum

import attrs


class Verb(enum.Enum):
    """Commands that the session knows how to answer."""

    EHLO = "EHLO"
    HELO = "HELO"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    BDAT = "BDAT"
    XCLIENT = "XCLIENT"
    STARTTLS = "STARTTLS"
    AUTH = "AUTH"
    RSET = "RSET"
    NOOP = "NOOP"
    QUIT = "QUIT"
    VRFY = "VRFY"
    HELP = "HELP"


class Argument(enum.Enum):
    """What may follow the verb."""

    NONE = enum.auto()
    ANY = enum.auto()
    NEEDED = enum.auto()


@attrs.frozen
class Command:
    """One command.

    Attributes:
        verb: its name.
        argument: what may follow; anything else gets 501.
    """

    verb: Verb
    argument: Argument


COMMANDS: dict[bytes, Command] = {
    row.verb.value.encode(): row
    for row in (
        Command(Verb.EHLO, Argument.NEEDED),  # RFC 5321 4.1.1.1
        Command(Verb.HELO, Argument.NEEDED),
        Command(Verb.MAIL, Argument.ANY),  # 4.1.1.2, has a reply of its own for a lack
        Command(Verb.RCPT, Argument.ANY),  # 4.1.1.3
        Command(Verb.DATA, Argument.NONE),  # 4.1.1.4
        Command(Verb.BDAT, Argument.ANY),  # RFC 3030 2, has a refusal of its own
        Command(Verb.XCLIENT, Argument.NEEDED),  # Postfix's XCLIENT_README
        Command(Verb.STARTTLS, Argument.NONE),  # RFC 3207 4
        Command(Verb.AUTH, Argument.ANY),  # RFC 4954 4, has a refusal of its own
        Command(Verb.RSET, Argument.NONE),  # 4.1.1.5
        Command(Verb.VRFY, Argument.NEEDED),  # 4.1.1.6
        Command(Verb.HELP, Argument.ANY),  # 4.1.1.8
        Command(Verb.NOOP, Argument.ANY),  # 4.1.1.9
        Command(Verb.QUIT, Argument.NONE),  # 4.1.1.10
    )
}

NOT_IMPLEMENTED = frozenset(
    (b"EXPN", b"TURN", b"ETRN", b"ATRN", b"BURL",
     b"SEND", b"SOML", b"SAML", b"XFORWARD")
)  # fmt: skip
"""Commands of RFCs and of other servers that get 502 instead of 500."""

FOREIGN = frozenset((b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"CONNECT", b"HOST:"))
"""First words of HTTP: a web browser that somebody points here must not reach the commands
that its request's body may hold (cross-protocol attack; Postfix closes on them as well)."""


def split_command(line: bytes) -> tuple[bytes, bytes]:
    """Return verb in upper case and argument without blanks around it."""
    verb, _, arg = line.partition(b" ")
    return verb.upper(), arg.strip(b" ")
