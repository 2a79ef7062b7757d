"""What a submission program does to a message: its header, its recipients, its options.

Kind: core.

The options are those of sendmail 8, as far as a program that hands mail to a server on the same
machine can mean them; what only a queue runner or a listening sendmail could do is refused by
name, and what has no effect here is taken and ignored, because old scripts pass it.
Limits: a header of MAX_HEADER bytes, MAX_RCPTS recipients, addresses of MAX_ADDRESS characters.
Source: sendmail(8) of sendmail 8 and of Postfix; RFC 5322 3.6; RFC 6409 8; SPEC row X474.
"""

import re
from collections.abc import Iterable, Sequence
from email.utils import formataddr, getaddresses

import attrs

from libsmx.errors import UsageError

MAX_HEADER = 256 * 1024
MAX_RCPTS = 1000
MAX_ADDRESS = 320

MODES = {"m": "send", "s": "smtp", "p": "mailq", "v": "verify", "i": "newaliases"}
"""Letter of -b -> what to do."""
_OTHER_MODES = {
    "d": "smx is started with: mcp.sh start",
    "D": "smx is started with: mcp.sh start",
    "t": "what becomes of an address is shown by -bv",
    "a": "there is no such protocol any more",
    "h": "qmgrctl destinations shows the hosts",
    "H": "there is no such file; qmgrctl destinations shows the hosts",
    "P": "qmgrctl status shows how much is queued",
}
_WITH_VALUE = "fFrRNVBCLhopXOMdDA"
_IGNORED = "vUnGmTEsceJIaxY"
_NOTIFY = {"never", "success", "failure", "delay"}
_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:")
_RCPT_FIELDS = (b"to", b"cc", b"bcc")


@attrs.define
class Wish:
    """What the command line asks for.

    Attributes:
        mode: send, smtp, mailq, verify, newaliases, or flush.
        sender: envelope sender of -f, None without; "" is the null sender.
        full_name: of -F.
        from_header: recipients stand in the header (-t).
        dots: a line with a single dot does not end the message (-i).
        notify: NOTIFY of every recipient (-N), RFC 3461.
        ret: FULL or HDRS (-R).
        envid: envelope id (-V).
        config: file of -C.
        rcpts: recipients of the command line.
        match: of -qR, a domain to flush.
    """

    mode: str = "send"
    sender: str | None = None
    full_name: str = ""
    from_header: bool = False
    dots: bool = False
    notify: str = ""
    ret: str = ""
    envid: str = ""
    config: str = ""
    match: str = ""
    rcpts: list[str] = attrs.field(factory=list)


def parse_arguments(argv: Sequence[str], name: str = "sendmail") -> Wish:
    """Return what a command line asks for.

    Args:
        argv: the arguments.
        name: under which the program was called; mailq and newaliases are modes.

    Raises:
        UsageError: it asks for what there is not.
    """
    wish = Wish(mode=name if name in ("mailq", "newaliases") else "send")
    words = list(argv)
    while words:
        word = words.pop(0)
        if word == "--":
            wish.rcpts += words
            break
        if word[:1] != "-" or word == "-":
            wish.rcpts.append(word)
            continue
        _option(wish, word, words)
    if len(wish.rcpts) > MAX_RCPTS:
        raise UsageError(f"more than {MAX_RCPTS} recipients")
    return wish


def _option(wish: Wish, word: str, words: list[str]) -> None:
    """Take one word with one or several options."""
    at = 1
    while at < len(word):
        letter, rest = word[at], word[at + 1 :]
        at += 1
        if letter == "b":
            _set_mode(wish, rest)
            return
        if letter == "q":
            wish.mode = "flush"
            if rest[:1] in ("R", "S", "I"):
                wish.match = rest[1:]
                if rest[0] != "R":
                    raise UsageError(f"-q{rest[0]}: use qmgrctl flush with --from or an id")
            return
        if letter == "t":
            wish.from_header = True
        elif letter == "i":
            wish.dots = True
        elif letter in _WITH_VALUE:
            value = rest
            if not value and letter != "d":
                if not words:
                    raise UsageError(f"option -{letter} needs a value")
                value = words.pop(0)
            _set_value(wish, letter, value)
            return
        elif letter not in _IGNORED:
            raise UsageError(f"option -{letter} is unknown")


def _set_mode(wish: Wish, letter: str) -> None:
    if letter[:1] in MODES:
        wish.mode = MODES[letter[0]]
        return
    why = _OTHER_MODES.get(letter[:1], "there is no such mode")
    raise UsageError(f"-b{letter}: not here; {why}")


def _set_value(wish: Wish, letter: str, value: str) -> None:
    match letter:
        case "f" | "r":
            wish.sender = check_address(value.strip("<>"), allow_null=True)
        case "F":
            wish.full_name = "".join(c for c in value if c.isprintable())[:200]
        case "N":
            words = [word.strip().lower() for word in value.split(",")]
            if not set(words) <= _NOTIFY or ("never" in words and len(words) > 1):
                raise UsageError(f"-N {value}: never, or a list of success, failure, delay")
            wish.notify = ",".join(words).upper()
        case "R":
            if value.lower() not in ("full", "hdrs"):
                raise UsageError(f"-R {value}: full or hdrs")
            wish.ret = value.upper()
        case "V":
            wish.envid = value[:100]
        case "C":
            wish.config = value
        case "o":
            wish.dots |= value.startswith("i")
        case "O":
            wish.dots |= value.lower().startswith("ignoredots")
        case _:
            pass  # taken and ignored


def check_address(text: str, *, allow_null: bool = False) -> str:
    """Return an address that may stand in a command of SMTP.

    Raises:
        UsageError: it is empty or too long, or holds what would end the command.
    """
    text = text.strip()
    if not text and not allow_null:
        raise UsageError("an address is empty")
    if len(text) > MAX_ADDRESS:
        raise UsageError(f"an address has more than {MAX_ADDRESS} characters")
    if any(not c.isprintable() or c in "<>" for c in text):
        raise UsageError(f"{text!r} is no mail address")
    return text


def qualify(address: str, host: str) -> str:
    """Return an address with a domain: a name alone is a user of this host."""
    return address if "@" in address or not address else f"{address}@{host}"


def xtext(text: str) -> str:
    """Return a text as a value of an SMTP parameter (RFC 3461 4)."""
    return "".join(
        c if "!" <= c <= "~" and c not in "+=" else "".join(f"+{b:02X}" for b in c.encode())
        for c in text
    )


@attrs.frozen
class Header:
    """The header of a message: its fields, each with its line ends, and where the body begins."""

    fields: tuple[bytes, ...]

    def values(self, names: Iterable[bytes]) -> list[str]:
        """Return the contents of the fields of these names, unfolded."""
        wanted = set(names)
        found = []
        for field in self.fields:
            name, _, value = field.partition(b":")
            if name.strip().lower() in wanted:
                found.append(" ".join(value.decode("utf-8", "replace").split()))
        return found

    def has(self, name: bytes) -> bool:
        """Tell whether there is such a field."""
        return any(f.partition(b":")[0].strip().lower() == name for f in self.fields)

    def without(self, names: Iterable[bytes]) -> "Header":
        """Return the header without the fields of these names."""
        gone = set(names)
        return Header(
            tuple(f for f in self.fields if f.partition(b":")[0].strip().lower() not in gone)
        )


def split_header(data: bytes) -> tuple[Header, bytes]:
    """Return the header of a message with CRLF line ends, and the body.

    A first line ``From user date`` of a mailbox file is dropped. What does not begin with a
    field is all body.
    """
    if data.startswith(b"From "):
        data = data.partition(b"\r\n")[2]
    fields: list[bytes] = []
    while data:
        line, end, rest = data.partition(b"\r\n")
        if not line:
            return Header(tuple(fields)), rest
        if line[:1] in b" \t" and fields:
            fields[-1] += line + b"\r\n"
        elif _FIELD.match(line):
            fields.append(line + b"\r\n")
        else:
            break  # no header any more: the empty line was forgotten
        data = rest if end else b""
    return Header(tuple(fields)), data


def header_recipients(header: Header) -> list[str]:
    """Return the recipients that a header names: of Resent- fields if there are any (-t).

    Raises:
        UsageError: one is no address, or there are too many.
    """
    resent = tuple(b"resent-" + name for name in _RCPT_FIELDS)
    values = header.values(resent) or header.values(_RCPT_FIELDS)
    found = [address for _name, address in getaddresses(values) if address]
    if len(found) > MAX_RCPTS:
        raise UsageError(f"more than {MAX_RCPTS} recipients")
    return [check_address(address) for address in dict.fromkeys(found)]


def complete(header: Header, *, sender: str, full_name: str, date: str, message_id: str) -> Header:
    """Return a header that may leave: without Bcc, with From, Date and Message-ID (RFC 6409 8).

    Args:
        header: as it came.
        sender: address for From.
        full_name: name for From, may be empty.
        date: RFC 5322 date.
        message_id: with its angle brackets.
    """
    made = list(header.without((b"bcc", b"resent-bcc")).fields)
    for name, value in (
        (b"message-id", f"Message-ID: {message_id}"),
        (b"date", f"Date: {date}"),
        (b"from", f"From: {formataddr((full_name, sender))}"),
    ):
        if not header.has(name):
            made.insert(0, value.encode("utf-8", "replace") + b"\r\n")
    return Header(tuple(made))


def exit_code_of(code: int, status: str) -> int:
    """Return the exit code of a reply that refuses: sysexits(3) as sendmail 8 uses them."""
    if code // 100 == 4:
        return 75  # EX_TEMPFAIL
    if status.startswith("5.1.") or code in (550, 551, 553):
        return 67  # EX_NOUSER
    if code in (500, 501, 502, 503, 504):
        return 65  # EX_DATAERR
    return 69  # EX_UNAVAILABLE
