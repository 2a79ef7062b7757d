"""sendmail: hands a message on standard input to smtps, under the names that programs know.

Kind: shell.

Called as ``sendmail``, ``mailq`` or ``newaliases``. It needs no privilege and no queue of its
own: it connects to a listen_socket of type unix of an smtps section, or to its port on this
machine, and its exit code is the server's answer: 0 is said only after 250. Without a queue
it does not keep what it cannot hand over: EX_TEMPFAIL means try again, and nothing was sent to
anybody. A message goes to all of its recipients or to none.
Reads: smx.conf (which every user may read), standard input.
Untrusted input: replies of the server are bounded; the message is copied as it is.
Exit codes: 0, EX_USAGE, EX_DATAERR, EX_NOUSER, EX_UNAVAILABLE, EX_TEMPFAIL, EX_CONFIG.
Source: sendmail(8) of sendmail 8 and of Postfix; SPEC rows X019, X474, X482.
"""

import contextlib
import os
import pwd
import secrets
import select
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from email.utils import formatdate
from typing import IO

from libsmx.config import DEFAULT_FILE, load_services
from libsmx.errors import (
    EX_CONFIG,
    EX_DATAERR,
    EX_OK,
    EX_TEMPFAIL,
    EX_USAGE,
    ConfigError,
    SmxError,
    UsageError,
)
from libsmx.submission import (
    MAX_HEADER,
    Wish,
    check_address,
    complete,
    exit_code_of,
    header_recipients,
    parse_arguments,
    qualify,
    split_header,
    xtext,
)

TIMEOUT_S = 600.0
"""For one reply: the server may have to wait for a slow disk or a filter."""
MAX_MESSAGE = 1 << 30
"""Bytes that are taken from standard input; the server's own limit is usually far lower."""
_CHUNK = 65536
_IN_MEMORY = 1 << 20
_MAX_REPLY = 64 * 1024

Place = str | tuple[str, int]
"""Path of a Unix socket, or host and port."""


class Refused(SmxError):
    """The server refused; caught in main.

    Attributes:
        code: exit code.
    """

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


class Session:
    """A session of SMTP with the server."""

    def __init__(self, place: Place) -> None:
        try:
            if isinstance(place, str):
                self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                self.sock.settimeout(TIMEOUT_S)
                self.sock.connect(place)
            else:
                self.sock = socket.create_connection(place, TIMEOUT_S)
        except OSError as error:
            where = place if isinstance(place, str) else f"{place[0]}:{place[1]}"
            raise Refused(
                f"no server at {where}: {error.strerror}; nothing was sent, try again later",
                EX_TEMPFAIL,
            ) from error
        self._in = self.sock.makefile("rb")
        self.extensions: dict[str, str] = {}

    def reply(self) -> tuple[int, str]:
        """Return code and text of one reply."""
        lines: list[str] = []
        size = 0
        while True:
            try:
                line = self._in.readline(4096)
            except OSError as error:
                raise Refused(f"the server does not answer: {error}", EX_TEMPFAIL) from error
            size += len(line)
            if not line.endswith(b"\n") or not line[:3].isdigit() or size > _MAX_REPLY:
                raise Refused("the server ended the session; try again later", EX_TEMPFAIL)
            text = line[4:].rstrip(b"\r\n").decode("utf-8", "replace")
            lines.append("".join(c if c.isprintable() else "?" for c in text))
            if line[3:4] != b"-":
                return int(line[:3]), "\n".join(lines)

    def send(self, data: bytes) -> None:
        """Send bytes."""
        try:
            self.sock.sendall(data)
        except OSError as error:
            raise Refused(f"the server went away: {error}", EX_TEMPFAIL) from error

    def command(self, text: str, about: str = "") -> tuple[int, str]:
        """Send a command and return its reply; raises Refused unless it is 2yz or 3yz."""
        self.send(text.encode("utf-8", "surrogateescape") + b"\r\n")
        code, answer = self.reply()
        if code >= 400:
            status = answer.split(" ", 1)[0]
            raise Refused(
                f"{about}{code} {answer}".replace("\n", " / "), exit_code_of(code, status)
            )
        return code, answer

    def hello(self, host: str) -> None:
        """Take the greeting and learn the extensions."""
        code, answer = self.reply()
        if code >= 400:
            raise Refused(f"{code} {answer}", exit_code_of(code, ""))
        _code, answer = self.command(f"EHLO {host}")
        for line in answer.split("\n")[1:]:
            keyword, _, value = line.partition(" ")
            self.extensions[keyword.upper()] = value

    def envelope(
        self, wish: Wish, sender: str, rcpts: Sequence[str], size: int, *, eight: bool
    ) -> None:
        """Send MAIL and every RCPT; the first refusal ends it for all."""
        offered = self.extensions
        words = [f"MAIL FROM:<{sender}>"]
        if "SIZE" in offered and size:
            words.append(f"SIZE={size}")
        if eight and "8BITMIME" in offered:
            words.append("BODY=8BITMIME")
        if not all(text.isascii() for text in (sender, *rcpts)):
            if "SMTPUTF8" not in offered:
                raise Refused("the server takes no addresses beyond ASCII", EX_DATAERR)
            words.append("SMTPUTF8")
        dsn = "DSN" in offered
        if dsn and wish.ret:
            words.append(f"RET={wish.ret}")
        if dsn and wish.envid:
            words.append(f"ENVID={xtext(wish.envid)}")
        self.command(" ".join(words), f"sender {sender or '<>'}: ")
        notify = f" NOTIFY={wish.notify}" if dsn and wish.notify else ""
        for rcpt in rcpts:
            self.command(f"RCPT TO:<{rcpt}>{notify}", f"recipient {rcpt}: ")

    def quit(self) -> None:
        """End the session."""
        with contextlib.suppress(Refused, OSError):
            self.command("QUIT")
        self._in.close()
        self.sock.close()


def find_server(config: str) -> tuple[Place, str]:
    """Return where to hand mail over, and the name of this host.

    Args:
        config: smx.conf; where there is none, port 25 of this machine is the place.

    Raises:
        ConfigError: it is wrong.
    """
    if not os.path.exists(config):
        return ("127.0.0.1", 25), socket.getfqdn()
    names, services = load_services(config)
    listens = [row for one in services if one.keyword == "smtps" for row in one.conf.listen_socket]
    host = names.hostname or socket.getfqdn()
    for row in listens:
        if row.type == "unix":
            return os.path.join(names.cdb_base_directory, row.path), host
    for row in listens:
        local = "::1" if row.type == "inet6" else "127.0.0.1"
        return (row.address or local, row.port), host
    raise ConfigError([f"{config}: no smtps section has a listen_socket to hand mail to"])


def _lines(source: IO[bytes], *, dots: bool) -> Iterator[bytes]:
    """Yield the lines of a message with CRLF ends; a lone dot ends it unless dots is set."""
    while line := source.readline(_CHUNK):
        whole = line.endswith(b"\n")
        text = line.rstrip(b"\n").removesuffix(b"\r") if whole else line
        if whole and text == b"." and not dots:
            return
        yield text.replace(b"\r", b"\r\n") + (b"\r\n" if whole or len(line) < _CHUNK else b"")


def _spool(source: IO[bytes], out: IO[bytes], *, dots: bool) -> bool:
    """Copy a message; return whether it has bytes beyond ASCII."""
    eight, size = False, 0
    for line in _lines(source, dots=dots):
        eight |= not line.isascii()
        size += len(line)
        if size > MAX_MESSAGE:
            raise Refused(f"the message has more than {MAX_MESSAGE >> 20} MB", EX_DATAERR)
        out.write(line)
    out.seek(0)
    return eight


def _user() -> tuple[str, str]:
    """Return login and full name of the caller."""
    try:
        entry = pwd.getpwuid(os.getuid())
    except KeyError:
        return f"uid{os.getuid()}", ""
    name = entry.pw_gecos.partition(",")[0].replace("&", entry.pw_name.capitalize())
    return entry.pw_name, "".join(c for c in name if c.isprintable())


def send(wish: Wish, place: Place, host: str, source: IO[bytes]) -> int:
    """Hand a message over; return the exit code."""
    login, full_name = _user()
    sender = qualify(login if wish.sender is None else wish.sender, host)
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as spool:
        eight = _spool(source, spool, dots=wish.dots)
        header, rest = split_header(spool.read(MAX_HEADER))
        if spool.tell() == MAX_HEADER and not rest:
            raise Refused(f"the header has more than {MAX_HEADER >> 10} KB", EX_DATAERR)
        rcpts = [check_address(one.strip("<>")) for one in wish.rcpts]
        if wish.from_header:
            rcpts += header_recipients(header)
        rcpts = list(dict.fromkeys(qualify(one, host) for one in rcpts))
        if not rcpts:
            raise UsageError("no recipients: name them, or use -t with a To field")
        header = complete(
            header,
            sender=sender or f"{login}@{host}",
            full_name=wish.full_name or full_name,
            date=formatdate(localtime=True),
            message_id=f"<{secrets.token_hex(12)}@{host}>",
        )
        session = Session(place)
        try:
            session.hello(host)
            at = spool.tell()
            size = spool.seek(0, os.SEEK_END) + sum(map(len, header.fields))
            spool.seek(at)
            session.envelope(wish, sender, rcpts, size, eight=eight)
            session.command("DATA")
            session.send(_stuff(b"".join(header.fields), at_start=True) + b"\r\n")
            at_start = True
            while rest:
                session.send(_stuff(rest, at_start=at_start))
                at_start = rest.endswith(b"\n")
                rest = spool.read(_CHUNK)
                if rest.endswith(b"\r"):  # never between CR and LF, so that dots are seen
                    rest += spool.read(1)
            if not at_start:
                session.send(b"\r\n")
            session.command(".")
        finally:
            session.quit()
    return EX_OK


def _stuff(data: bytes, *, at_start: bool) -> bytes:
    """Return data with the dots at the beginning of lines doubled (RFC 5321 4.5.2)."""
    data = data.replace(b"\n.", b"\n..")
    return b"." + data if at_start and data.startswith(b".") else data


def verify(wish: Wish, place: Place, host: str) -> int:
    """Ask the server about every recipient and print what it says; return the exit code."""
    login, _name = _user()
    worst = EX_OK
    for address in wish.rcpts:
        rcpt = qualify(check_address(address.strip("<>")), host)
        session = Session(place)
        try:
            session.hello(host)
            session.envelope(wish, qualify(login, host), [rcpt], 0, eight=False)
            print(f"{rcpt}... deliverable")
        except Refused as error:
            print(f"{rcpt}... {str(error).removeprefix(f'recipient {rcpt}: ')}")
            worst = max(worst, error.code)
        finally:
            session.quit()
    return worst


def converse(place: Place) -> int:
    """Connect standard input and output with the server (-bs)."""
    session = Session(place)
    sock, source = session.sock, sys.stdin.buffer.fileno()
    sock.settimeout(None)
    watched = [sock.fileno(), source]
    while True:
        ready, _, _ = select.select(watched, [], [], TIMEOUT_S)
        if not ready:
            return EX_TEMPFAIL
        if source in ready:
            data = os.read(source, _CHUNK)
            if data:
                sock.sendall(data)
            else:
                sock.shutdown(socket.SHUT_WR)
                watched.remove(source)
        if sock.fileno() in ready:
            data = sock.recv(_CHUNK)
            if not data:
                return EX_OK
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()


def become(module: str, *words: str) -> int:
    """Become another program of smx; returns only where that fails."""
    os.execv(sys.executable, [sys.executable, "-I", "-m", module, *words])  # noqa: S606 (no shell)


def run(wish: Wish) -> int:
    """Do what is wished; return the exit code."""
    config = wish.config or DEFAULT_FILE
    if wish.mode == "mailq":
        return become("qmgr.qmgrctl", "-f", config, "queue")
    if wish.mode == "flush":
        return become("qmgr.qmgrctl", "-f", config, "flush", *([wish.match] if wish.match else []))
    if wish.mode == "newaliases":
        base = os.path.join(os.path.dirname(config), "aliases")
        return become("libsmx.createmap", "-t", "aliases", f"{base}.db", base)
    place, host = find_server(config)
    if wish.mode == "smtp":
        return converse(place)
    if wish.mode == "verify":
        return verify(wish, place, host)
    return send(wish, place, host, sys.stdin.buffer)


def main(argv: Sequence[str] | None = None, name: str = "") -> int:
    """Run the program and return its exit code.

    Args:
        argv: arguments; the first may be ``--as=NAME``, by which the start-up file tells under
            which name it was called.
        name: that name, "" to look at the arguments.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0].startswith("--as="):
        name = os.path.basename(words.pop(0).removeprefix("--as="))
    name = name or "sendmail"
    try:
        return run(parse_arguments(words, name))
    except UsageError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return EX_USAGE
    except ConfigError as error:
        for problem in error.problems:
            print(f"{name}: {problem}", file=sys.stderr)
        return EX_CONFIG
    except Refused as error:
        print(f"{name}: {error}", file=sys.stderr)
        return error.code


if __name__ == "__main__":
    sys.exit(main())
