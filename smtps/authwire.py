"""The protocol of Dovecot's auth service: lines in, what they say out, and the other way.

Kind: core.
Limits: a line of MAX_LINE bytes.
Source: Dovecot, doc/auth-protocol (version 1.1 and 1.2).
"""

import attrs

from libsmx.errors import SmxError
from libsmx.sasl import SaslError, decode64, encode64
from libsmx.saslserver import Challenge, Failure, Success
from smtps.authsteps import Remote, RemoteStep

MAX_LINE = 16 * 1024
MAJOR = 1


class AuthServerError(SmxError):
    """The authentication server said what it must not; the connection to it ends."""


@attrs.frozen
class Ready:
    """The server has introduced itself."""

    mechanisms: tuple[str, ...]


@attrs.frozen
class Told:
    """The server's word on one request; None is trouble of its own."""

    number: int
    step: RemoteStep


def hello(pid: int) -> bytes:
    """Return what the client says first."""
    return f"VERSION\t{MAJOR}\t1\nCPID\t{pid}\n".encode()


def _escape(text: str) -> str:
    for char, code in (("\x01", "1"), ("\0", "0"), ("\t", "t"), ("\n", "n"), ("\r", "r")):
        text = text.replace(char, f"\x01{code}")
    return text


def request(number: int, asked: Remote, client: str) -> bytes:
    """Return the line that begins an exchange.

    Args:
        number: of the request, unique on the connection.
        asked: what is to be begun.
        client: IP address of the client.
    """
    words = ["AUTH", str(number), asked.mechanism, "service=smtp", f"rip={_escape(client)}"]
    if asked.secure:
        words.append("secured")
    if asked.verified:
        words.append("valid-client-cert")
    if asked.initial is not None:
        words.append(f"resp={encode64(asked.initial)}")  # must be last
    return ("\t".join(words) + "\n").encode()


def go_on(number: int, data: bytes) -> bytes:
    """Return the line that answers a challenge."""
    return f"CONT\t{number}\t{encode64(data)}\n".encode()


def cancel(number: int) -> bytes:
    """Return the line that gives an exchange up."""
    return f"CANCEL\t{number}\n".encode()


class AuthReader:
    """Bytes of the server to what they say."""

    def __init__(self) -> None:
        self._buffer = b""
        self._mechanisms: list[str] = []

    def feed(self, data: bytes) -> list[Ready | Told]:
        """Take bytes.

        Raises:
            AuthServerError: a line too long, of another version, or malformed.
        """
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        if len(self._buffer) > MAX_LINE:
            raise AuthServerError("line too long")
        found = [self._line(line) for line in lines]
        return [one for one in found if one is not None]

    def _line(self, line: bytes) -> Ready | Told | None:
        if len(line) > MAX_LINE:
            raise AuthServerError("line too long")
        verb, *words = line.decode("utf-8", "replace").split("\t")
        if verb == "VERSION" and words[:1] != [str(MAJOR)]:
            raise AuthServerError(f"protocol version {words[:1]} instead of {MAJOR}")
        if verb == "MECH" and words:
            self._mechanisms.append(words[0].upper()[:20])
            if len(self._mechanisms) > 100:
                raise AuthServerError("too many mechanisms")
        elif verb == "DONE":
            return Ready(tuple(self._mechanisms))
        elif verb in {"OK", "FAIL", "CONT"}:
            return _told(verb, words)
        return None  # SPID, CUID, COOKIE and what later versions add


def _told(verb: str, words: list[str]) -> Told:
    if not words or not words[0].isdigit() or len(words[0]) > 10:
        raise AuthServerError(f"{verb} without a number")
    number, rest = int(words[0]), words[1:]
    if verb == "CONT":
        try:
            return Told(number, Challenge(decode64(rest[0].encode() if rest else b"")))
        except SaslError as error:
            raise AuthServerError("challenge is not base64") from error
    params = dict(word.partition("=")[::2] for word in rest)
    user = "".join(c if c.isprintable() else "?" for c in params.get("user", ""))[:255]
    if verb == "OK":
        return Told(number, Success(user) if user else None)
    if "temp" in params or params.get("code") == "temp_fail":
        return Told(number, None)
    return Told(number, Failure(user))
