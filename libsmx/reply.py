"""SMTP replies: the table of those we give, and the parser of those we get.

Kind: core. No other file spells a reply out.
Source: RFC 5321 4.2, RFC 2034, RFC 3463.
"""

import re

import attrs

from libsmx.errors import SmxError

MAX_LINE = 2048
"""Longest reply line taken from a server, bytes; RFC 5321 4.5.3.1.5 allows 512, Postfix 2048."""
MAX_LINES = 200
"""Most lines of one reply taken from a server."""
MAX_REPLY = 32_768
"""Longest reply taken from a server, bytes."""
_MAX_SENT = 500
"""Longest text sent in one line, characters: 512 less code, separators and CRLF."""

# What may not be sent or logged as it is: controls, DEL and everything that is not ASCII.
_UNPRINTABLE = re.compile(r"[^ -~\n]")
_UNPRINTABLE_BYTES = bytes(c if 32 <= c < 127 else ord("?") for c in range(256))
_LINE_RE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)
_STATUS_RE = re.compile(r"([245])\.[0-9]{1,3}\.[0-9]{1,3}(?= |$)")


class ReplyError(SmxError):
    """A server sent what is no SMTP reply; the client ends that connection."""


@attrs.frozen
class Reply:
    r"""One SMTP reply.

    Attributes:
        code: 200 to 599.
        status: enhanced status code; empty where there is none (greeting, EHLO, 3yz).
        text: printable ASCII; ``\n`` separates the lines of a multi-line reply.
    """

    code: int
    status: str
    text: str

    def encode(self) -> bytes:
        """Return the reply as sent; text from elsewhere cannot break out of its line."""
        text = _UNPRINTABLE.sub("?", self.text)
        status = f"{self.status} " if self.status else ""
        if "\n" not in text and len(text) <= _MAX_SENT:
            return f"{self.code} {status}{text}\r\n".encode("ascii")
        lines = [line[:_MAX_SENT] for line in text.split("\n")]
        head = "".join(f"{self.code}-{status}{line}\r\n" for line in lines[:-1])
        return f"{head}{self.code} {status}{lines[-1]}\r\n".encode("ascii")

    @property
    def enhanced(self) -> str:
        """The enhanced status code, made from the reply code where the server gave none."""
        return self.status or f"{self.code // 100}.0.0"

    def fill(self, *values: object) -> "Reply":
        """Return the reply with the %-places of its text filled."""
        return Reply(self.code, self.status, self.text % values)

    def soften(self) -> "Reply":
        """Return a permanent refusal as a temporary one (SPEC row X364), others unchanged."""
        if self.code < 500:
            return self
        status = f"4{self.status[1:]}" if self.status.startswith("5.") else self.status
        return Reply(self.code - 100, status, self.text)


# --- replies of our server, by what they say -----------------------------------------------

START_TLS = Reply(220, "2.0.0", "Ready to start TLS")
GREETING = Reply(220, "", "%s ESMTP %s")
BYE = Reply(221, "2.0.0", "%s closing connection")
HELP = Reply(214, "2.0.0", "Commands: EHLO HELO MAIL RCPT DATA BDAT RSET NOOP QUIT VRFY HELP")
AUTH_OK = Reply(235, "2.7.0", "Authentication succeeded")
OK = Reply(250, "2.0.0", "Ok")
SENDER_OK = Reply(250, "2.1.0", "Sender ok")
RCPT_OK = Reply(250, "2.1.5", "Recipient ok")
ACCEPTED = Reply(250, "2.0.0", "%s accepted")
VERIFIED = Reply(250, "2.1.5", "<%s>")
CHUNK_TAKEN = Reply(250, "2.0.0", "%d bytes received")
CANNOT_VERIFY = Reply(252, "2.5.2", "Cannot verify; mail to it will be tried")
START_MAIL = Reply(354, "", "End data with <CR><LF>.<CR><LF>")

SHUTTING_DOWN = Reply(421, "4.3.2", "%s shutting down, try again later")
TOO_BUSY = Reply(421, "4.3.2", "%s too many sessions, try again later")
NO_SERVICE = Reply(421, "4.3.0", "%s service not available, try again later")
TIMED_OUT = Reply(421, "4.4.2", "%s timed out waiting for you")
TOO_MANY_BAD = Reply(421, "4.7.0", "%s too many bad commands")
TOO_MANY_NOPS = Reply(421, "4.7.0", "%s too many commands that do nothing")
TOO_MANY_INVALID = Reply(421, "4.7.0", "%s too many invalid recipients")
TOO_MANY_TAS = Reply(421, "4.7.0", "%s too many transactions in this session")
NO_SMTP = Reply(421, "4.7.0", "%s this is not what SMTP clients say")
ENDLESS_LINE = Reply(421, "4.7.0", "%s endless command line")
ENDLESS_DATA = Reply(421, "4.7.0", "%s endless message")
TOO_SLOW = Reply(421, "4.4.2", "%s you send too slowly")
FILTER_DOWN = Reply(421, "4.3.0", "%s a content filter does not work, try again later")

TOO_MANY_FAILURES = Reply(421, "4.7.0", "%s too many failed authentications")
TRY_LATER = Reply(451, "4.3.0", "Temporary system problem, try again later")
CANNOT_STORE = Reply(451, "4.3.0", "Message could not be stored, try again later")
THROTTLED = Reply(452, "4.3.1", "System is too busy, try again later")
TOO_MANY_RCPTS = Reply(452, "4.5.3", "Too many recipients")

AUTH_TROUBLE = Reply(454, "4.7.0", "Temporary authentication failure, try again later")
AUTH_TOO_OFTEN = Reply(454, "4.7.0", "Too many failed authentications from your address, wait")

UNKNOWN_COMMAND = Reply(500, "5.5.1", "Command unrecognized")
LINE_TOO_LONG = Reply(500, "5.5.6", "Command line too long")
BARE_CR = Reply(500, "5.5.2", "Line ends must be <CR><LF>, bare <CR> received")
BARE_LF = Reply(500, "5.5.2", "Line ends must be <CR><LF>, bare <LF> received")
NO_ARGUMENT = Reply(501, "5.5.4", "%s takes no argument")
NEEDS_ARGUMENT = Reply(501, "5.5.4", "%s needs an argument")
BAD_HELO = Reply(501, "5.5.4", "%s needs a domain name or an address literal")
BAD_MAIL = Reply(501, "5.5.4", "Syntax: MAIL FROM:<address>")
BAD_RCPT = Reply(501, "5.5.4", "Syntax: RCPT TO:<address>")
BAD_AUTH = Reply(501, "5.5.4", "Syntax: AUTH mechanism [initial-response]")
BAD_BASE64 = Reply(501, "5.5.2", "Response is not base64")
BAD_RESPONSE = Reply(501, "5.5.2", "Response does not belong to the mechanism")
AUTH_CANCELLED = Reply(501, "5.7.0", "Authentication cancelled")
BAD_PARAM = Reply(501, "5.5.4", "Bad value of parameter %s")
BAD_BDAT = Reply(501, "5.5.4", "Syntax: BDAT size [LAST]")
BAD_XCLIENT = Reply(501, "5.5.4", "Bad attribute in XCLIENT")
NOT_IMPLEMENTED = Reply(502, "5.5.1", "%s is not implemented")
SAY_HELLO = Reply(503, "5.5.1", "Say EHLO first")
TLS_ALREADY = Reply(503, "5.5.1", "The connection is encrypted already")
TLS_AFTER_AUTH = Reply(503, "5.5.1", "STARTTLS must come before AUTH")
AUTH_ALREADY = Reply(503, "5.5.1", "You are authenticated already")
AUTH_IN_MAIL = Reply(503, "5.5.1", "AUTH is not allowed during a transaction")
NESTED_MAIL = Reply(503, "5.5.1", "Sender is already given")
NEED_MAIL = Reply(503, "5.5.1", "Need MAIL first")
NEED_RCPT = Reply(503, "5.5.1", "Need RCPT first")
IN_CHUNKS = Reply(503, "5.5.1", "The message is being sent with BDAT")
NO_XCLIENT = Reply(550, "5.7.0", "XCLIENT is not for you")
NEED_TLS = Reply(530, "5.7.0", "Must issue a STARTTLS command first")
NEED_AUTH = Reply(530, "5.7.0", "Authentication required")
BAD_MECHANISM = Reply(504, "5.5.4", "Mechanism is not offered")
AUTH_REFUSED = Reply(535, "5.7.8", "Authentication credentials invalid")
AUTH_NEEDS_TLS = Reply(538, "5.7.11", "Encryption required for this mechanism")
TLS_INJECTED = Reply(554, "5.5.1", "Nothing may follow STARTTLS before the handshake")
EARLY_TALKER = Reply(554, "5.5.1", "%s you spoke before the greeting")
BARE_CONTENT = Reply(554, "5.6.0", "Message has lines that do not end in <CR><LF>")
REFUSED_BY_FILTER = Reply(554, "5.7.1", "Message refused by a content filter")
NO_VALID_RCPTS = Reply(554, "5.5.1", "No valid recipients")
TOO_BIG = Reply(552, "5.3.4", "Message is larger than %d bytes")
BIG_HEADER = Reply(552, "5.3.4", "Header is larger than %d bytes")
MANY_FIELDS = Reply(552, "5.3.4", "Header has more than %d fields")
TOO_MANY_HOPS = Reply(554, "5.4.6", "Too many Received fields, this looks like a mail loop")
UNKNOWN_PARAM = Reply(555, "5.5.4", "Parameter %s is not supported")


class ReplyParser:
    """Bytes from a server to replies (RFC 5321 4.2.1).

    Lines may end with LF alone: a reply carries no content that could be smuggled, and some
    servers do so. Anything that is not printable ASCII becomes ``?``.
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._code = 0
        self._lines: list[str] = []
        self._size = 0

    @property
    def pending(self) -> bool:
        """True while part of a reply was received; STARTTLS must not be begun then."""
        return bool(self._buffer or self._lines)

    def feed(self, data: bytes) -> list[Reply]:
        """Return the replies that are complete with these bytes.

        Raises:
            ReplyError: not a reply, or beyond MAX_LINE, MAX_LINES, MAX_REPLY.
        """
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        replies = [reply for line in lines if (reply := self._line(line)) is not None]
        if len(self._buffer) > MAX_LINE:
            raise ReplyError(f"reply line longer than {MAX_LINE} bytes")
        return replies

    def _line(self, line: bytes) -> Reply | None:
        """Take one line; return the reply that it ends."""
        found = _LINE_RE.fullmatch(line[:-1] if line.endswith(b"\r") else line)
        if len(line) > MAX_LINE:
            raise ReplyError(f"reply line longer than {MAX_LINE} bytes")
        if found is None:
            shown = line[:80].translate(_UNPRINTABLE_BYTES).decode("ascii")
            raise ReplyError(f"no SMTP reply: {shown}")
        code, separator, text = int(found[1]), found[2], found[3] or b""
        self._size += len(line)
        if self._lines and code != self._code:
            raise ReplyError(f"reply begins with code {self._code} and goes on with {code}")
        if len(self._lines) >= MAX_LINES or self._size > MAX_REPLY:
            raise ReplyError(f"reply longer than {MAX_LINES} lines or {MAX_REPLY} bytes")
        self._code = code
        self._lines.append(text.translate(_UNPRINTABLE_BYTES).decode("ascii"))
        if separator == b"-":
            return None
        reply = _make_reply(code, self._lines)
        self._lines, self._size = [], 0
        return reply


def _make_reply(code: int, lines: list[str]) -> Reply:
    """Return the reply, with an enhanced status code that fits the code taken out of it."""
    found = _STATUS_RE.match(lines[0])
    if found is None or int(found[1]) != code // 100:
        return Reply(code, "", "\n".join(lines))
    status = found[0]
    cut = f"{status} "
    text = "\n".join("" if line == status else line.removeprefix(cut) for line in lines)
    return Reply(code, status, text)
