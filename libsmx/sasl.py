"""SASL: what the mechanisms are worth, which one to take, and the client's side of each.

Kind: core.

The server's side stands in libsmx/saslserver.py, the keys in libsmx/saslkeys.py. Randomness is
an argument. A client mechanism is asked for its first response, if it has one, then for one
response to each challenge; ``finished`` tells whether the server has proved what the mechanism
asks it to prove, and success must not be believed before.
Limits: messages of at most MAX_MESSAGE bytes, at most MAX_ITERATIONS rounds for a server.
Source: RFC 4422, RFC 4616 (PLAIN), RFC 2195 (CRAM-MD5), RFC 5802, RFC 7677 (SCRAM),
draft-murchison-sasl-login; SPEC rows X349-X355; D43.
"""

import base64
import binascii
import hashlib
import hmac
import stringprep
import unicodedata
from collections.abc import Iterable
from enum import Flag, auto

from libsmx.errors import SmxError

MAX_MESSAGE = 8192
"""Longest message taken from a peer, bytes before base64."""
MAX_ITERATIONS = 300_000
"""Most rounds of PBKDF2 that a server may ask a client for: about 0.2 s of one processor."""
MIN_ITERATIONS = 4096
"""RFC 7677 4."""
HASHES = {"SCRAM-SHA-1": "sha1", "SCRAM-SHA-256": "sha256"}


class SaslError(SmxError):
    """A message of the other side breaks the mechanism's rules."""


class Trait(Flag):
    """What a mechanism offers (SPEC rows X349-X355; as Cyrus SASL classifies them)."""

    NOPLAINTEXT = auto()
    """Listening reveals no password."""
    NOACTIVE = auto()
    """Withstands an active attacker who guesses no passwords."""
    NODICTIONARY = auto()
    """Passwords cannot be guessed from what was heard."""
    FORWARD_SECRECY = auto()
    NOANONYMOUS = auto()
    PASS_CREDENTIALS = auto()
    """The server gets credentials that it could pass on."""
    MUTUAL_AUTH = auto()
    """The client learns who the server is."""


_SCRAM = Trait.NOPLAINTEXT | Trait.NOACTIVE | Trait.NOANONYMOUS | Trait.MUTUAL_AUTH
TRAITS = {
    "EXTERNAL": Trait.NOPLAINTEXT | Trait.NOACTIVE | Trait.NODICTIONARY | Trait.NOANONYMOUS,
    "SCRAM-SHA-256": _SCRAM,
    "SCRAM-SHA-1": _SCRAM,
    "CRAM-MD5": Trait.NOPLAINTEXT | Trait.NOANONYMOUS,
    "PLAIN": Trait.NOANONYMOUS | Trait.PASS_CREDENTIALS,
    "LOGIN": Trait.NOANONYMOUS | Trait.PASS_CREDENTIALS,
}
"""Mechanism -> what it offers; the better ones come first."""


def select(mechanisms: Iterable[str], flags: Iterable[str], *, tls: bool) -> tuple[str, ...]:
    """Return the mechanisms that may be used, the better ones first.

    Args:
        mechanisms: names; those that we do not know are left out.
        flags: of ``auth.flags``; noplaintext is about listeners, whom TLS keeps out.
        tls: the connection is encrypted.
    """
    wanted = Trait(0)
    for flag in flags:
        if not (tls and flag == "noplaintext"):
            wanted |= Trait[flag.upper()]
    known = {name.upper() for name in mechanisms}
    return tuple(name for name, has in TRAITS.items() if name in known and wanted in has)


def encode64(data: bytes) -> str:
    """Return base64 text."""
    return base64.b64encode(data).decode("ascii")


def decode64(text: bytes) -> bytes:
    """Return what base64 text says, strictly.

    Raises:
        SaslError: it is not base64, or longer than MAX_MESSAGE.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise SaslError("not base64") from error
    if len(data) > MAX_MESSAGE:
        raise SaslError("message too long")
    return data


_PROHIBITED = (
    stringprep.in_table_c12, stringprep.in_table_c21_c22, stringprep.in_table_c3,
    stringprep.in_table_c4, stringprep.in_table_c5, stringprep.in_table_c6,
    stringprep.in_table_c7, stringprep.in_table_c8, stringprep.in_table_c9,
)  # fmt: skip


def prepare(text: str) -> str:
    """Return a user name or password as it is compared (SASLprep, RFC 4013).

    Raises:
        SaslError: empty, or with characters that must not stand there.
    """
    if text.isascii():
        if not text or not text.isprintable():
            raise SaslError("empty, or with control characters")
        return text
    mapped = "".join(
        " " if stringprep.in_table_c12(c) else c for c in text if not stringprep.in_table_b1(c)
    )
    made = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    if not made or any(table(c) for c in made for table in _PROHIBITED):
        raise SaslError("empty, or with characters that are not allowed")
    if any(stringprep.in_table_a1(c) for c in made):
        raise SaslError("with characters that are not assigned")
    if any(stringprep.in_table_d1(c) for c in made) and (
        any(stringprep.in_table_d2(c) for c in made)
        or not (stringprep.in_table_d1(made[0]) and stringprep.in_table_d1(made[-1]))
    ):
        raise SaslError("with directions of writing mixed")
    return made


def salt_password(name: str, password: str, salt: bytes, iterations: int) -> bytes:
    """Return SaltedPassword (RFC 5802 3); takes milliseconds.

    Args:
        name: of the hash function, ``sha1`` or ``sha256``.
        password: prepared.
        salt: of the user.
        iterations: rounds.
    """
    return hashlib.pbkdf2_hmac(name, password.encode(), salt, iterations)


def xor(one: bytes, two: bytes) -> bytes:
    """Return the bytewise exclusive or of equally long strings."""
    return bytes(a ^ b for a, b in zip(one, two, strict=True))


def read_attributes(message: str) -> dict[str, str]:
    """Return the attributes of a SCRAM message (RFC 5802 5).

    Raises:
        SaslError: not ``letter=value`` with commas between, a letter twice, or an extension
            that must be understood.
    """
    found: dict[str, str] = {}
    for part in message.split(","):
        letter, separator, value = part.partition("=")
        if not separator or len(letter) != 1 or not letter.isalpha() or letter in found:
            raise SaslError("malformed SCRAM message")
        if letter == "m":
            raise SaslError("SCRAM extension not supported")
        found[letter] = value
    return found


def read_text(data: bytes) -> str:
    """Return a message as text.

    Raises:
        SaslError: not UTF-8, or longer than MAX_MESSAGE.
    """
    if len(data) > MAX_MESSAGE:
        raise SaslError("message too long")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise SaslError("not UTF-8") from error


# --- the client's side ---------------------------------------------------------------------


class ClientMechanism:
    """One authentication of ours.

    Args:
        user: name, not empty.
        password: not empty.
        nonce: random text for SCRAM, at least 18 printable characters without commas.

    Raises:
        SaslError: name or password cannot be used.
    """

    def __init__(self, user: str, password: str, nonce: str) -> None:
        self.user = prepare(user)
        self.password = prepare(password)
        self.nonce = nonce
        self.finished = True

    def first(self) -> bytes | None:
        """Return the initial response, None where the server speaks first."""
        return None

    def respond(self, challenge: bytes) -> bytes:
        """Return the response to a challenge.

        Raises:
            SaslError: the server breaks the rules; cancel the exchange.
        """
        raise SaslError("a challenge that does not belong to the mechanism")


class _Plain(ClientMechanism):
    def first(self) -> bytes:
        return f"\0{self.user}\0{self.password}".encode()

    def respond(self, challenge: bytes) -> bytes:
        # A server that did not take the initial response asks with an empty challenge.
        if challenge:
            return super().respond(challenge)
        return self.first()


class _Login(ClientMechanism):
    _asked = 0

    def respond(self, challenge: bytes) -> bytes:
        # The words of the challenge are anybody's guess (Username:, User Name); the order is not.
        self._asked += 1
        if self._asked > 2:
            return super().respond(challenge)
        return (self.user if self._asked == 1 else self.password).encode()


class _CramMd5(ClientMechanism):
    _answered = False

    def respond(self, challenge: bytes) -> bytes:
        if self._answered or not challenge:
            return super().respond(challenge)
        self._answered = True
        proof = hmac.new(self.password.encode(), challenge, "md5").hexdigest()
        return f"{self.user} {proof}".encode()


class _Scram(ClientMechanism):
    """RFC 5802 without channel binding."""

    hash_name = "sha256"

    def __init__(self, user: str, password: str, nonce: str) -> None:
        super().__init__(user, password, nonce)
        self.finished = False
        name = self.user.replace("=", "=3D").replace(",", "=2C")
        self._bare = f"n={name},r={nonce}"
        self._stage = 0
        self._signature = b""

    def first(self) -> bytes:
        return f"n,,{self._bare}".encode()

    def respond(self, challenge: bytes) -> bytes:
        if self._stage == 0 and not challenge:
            return self.first()
        self._stage += 1
        if self._stage == 1:
            return self._prove(read_text(challenge))
        if self._stage == 2:
            self._check(read_text(challenge))
            return b""
        return super().respond(challenge)

    def _prove(self, challenge: str) -> bytes:
        said = read_attributes(challenge)
        nonce = said.get("r", "")
        if not nonce.startswith(self.nonce) or len(nonce) <= len(self.nonce):
            raise SaslError("the server's nonce does not go on from ours")
        salt, iterations = decode64(said.get("s", "").encode()), said.get("i", "")
        if not salt or not (iterations.isascii() and iterations.isdigit()) or len(iterations) > 9:
            raise SaslError("malformed SCRAM message")
        if not 1 <= int(iterations) <= MAX_ITERATIONS:
            raise SaslError(f"{iterations} rounds are not taken: at most {MAX_ITERATIONS}")
        salted = salt_password(self.hash_name, self.password, salt, int(iterations))
        final = f"c=biws,r={nonce}"
        auth = f"{self._bare},{challenge},{final}".encode()
        client_key = hmac.digest(salted, b"Client Key", self.hash_name)
        stored = hashlib.new(self.hash_name, client_key).digest()
        proof = xor(client_key, hmac.digest(stored, auth, self.hash_name))
        server_key = hmac.digest(salted, b"Server Key", self.hash_name)
        self._signature = hmac.digest(server_key, auth, self.hash_name)
        return f"{final},p={encode64(proof)}".encode()

    def _check(self, challenge: str) -> None:
        said = read_attributes(challenge)
        if "e" in said:
            raise SaslError(f"the server refuses: {said['e'][:100]}")
        if not hmac.compare_digest(decode64(said.get("v", "").encode()), self._signature):
            raise SaslError("the server does not know the password")
        self.finished = True


class _ScramSha1(_Scram):
    hash_name = "sha1"


CLIENT_MECHANISMS: dict[str, type[ClientMechanism]] = {
    "SCRAM-SHA-256": _Scram,
    "SCRAM-SHA-1": _ScramSha1,
    "CRAM-MD5": _CramMd5,
    "PLAIN": _Plain,
    "LOGIN": _Login,
}
"""Mechanisms that a client has, the better ones first."""


def choose_client(offered: Iterable[str], *, tls: bool, plain_in_clear: bool = False) -> str:
    """Return the best mechanism that the server offers and the connection allows, "" for none.

    Args:
        offered: by the server's EHLO.
        tls: the connection is encrypted.
        plain_in_clear: passwords may travel in clear text.
    """
    flags = () if plain_in_clear else ("noplaintext",)
    usable = select(offered, flags, tls=tls)
    return next((name for name in usable if name in CLIENT_MECHANISMS), "")
