"""SASL: the server's side of each mechanism, against derived keys.

Kind: core.

A mechanism gets the client's messages and answers with a step. Two steps are for whoever drives
it: Lookup wants the keys of a user, Derive a slow derivation; the answers go in by ``keys`` and
``derived``. A user who does not exist has made-up keys and takes the same way to Failure.
Source: RFC 4616, RFC 2195, RFC 5802 5, 7, RFC 7677, RFC 4422 appendix A; D43.
"""

import hmac
from typing import ClassVar

import attrs

from libsmx.sasl import (
    HASHES,
    SaslError,
    decode64,
    encode64,
    prepare,
    read_attributes,
    read_text,
)
from libsmx.saslkeys import ScramKey, UserKeys, check_user, cram_digest, proves, scram_key


@attrs.frozen
class Challenge:
    """Send this to the client and hand its answer to ``respond``."""

    data: bytes


@attrs.frozen
class Lookup:
    """Find the keys of this user and hand them to ``keys``."""

    user: str


@attrs.frozen
class Derive:
    """Hand what libsmx.sasl.salt_password gives for these arguments to ``derived``."""

    hash_name: str
    password: str
    salt: bytes
    iterations: int


@attrs.frozen
class Success:
    """The client is this user."""

    user: str


@attrs.frozen
class Failure:
    """The client is not who it says; user is what it says."""

    user: str


Step = Challenge | Lookup | Derive | Success | Failure


class ServerMechanism:
    """One authentication of a client.

    Args:
        nonce: random printable text without commas; CRAM-MD5 and SCRAM send it to the client.
        identity: who the client is by its certificate, "" for nobody; EXTERNAL only.
    """

    name: ClassVar[str]

    def __init__(self, nonce: str, identity: str = "") -> None:
        self.nonce = nonce
        self.identity = identity
        self.user = ""

    def start(self, initial: bytes | None) -> Step:
        """Begin.

        Args:
            initial: the client's initial response, None where it sent none.

        Raises:
            SaslError: as every function that takes what a client sends: it breaks the rules.
        """
        return Challenge(b"") if initial is None else self.respond(initial)

    def respond(self, data: bytes) -> Step:
        """Take a message of the client."""
        raise NotImplementedError

    def keys(self, keys: UserKeys) -> Step:
        """Take the keys that Lookup asked for."""
        raise NotImplementedError

    def derived(self, salted: bytes) -> Step:
        """Take what Derive asked for."""
        raise NotImplementedError

    def verdict(self, keys: UserKeys, mechanism: str, *, right: bool) -> Step:
        """Return the end; a made-up key proves nothing, whatever the client sent."""
        good = right and mechanism not in keys.made_up
        return Success(self.user) if good else Failure(self.user)


class _Password(ServerMechanism):
    """What PLAIN and LOGIN have in common: the password itself comes."""

    password = ""
    _found: UserKeys
    _kind = ""
    _key: ScramKey

    def check(self, user: str, password: str) -> Step:
        """Go and look whether the password is right."""
        self.user, self.password = check_user(user), prepare(password)
        return Lookup(self.user)

    def keys(self, keys: UserKeys) -> Step:
        self._found = keys
        # SCRAM-SHA-256, where the user has such a key
        self._kind = max(keys.scram.keys() - keys.made_up or keys.scram)
        self._key = key = keys.scram[self._kind]
        return Derive(HASHES[self._kind], self.password, key.salt, key.iterations)

    def derived(self, salted: bytes) -> Step:
        key = self._key
        made = scram_key(HASHES[self._kind], salted, key.salt, key.iterations)
        right = hmac.compare_digest(made.stored, key.stored)
        return self.verdict(self._found, self._kind, right=right)


class Plain(_Password):
    """RFC 4616."""

    name = "PLAIN"

    def respond(self, data: bytes) -> Step:
        """Take authorization identity, user and password in one message."""
        parts = read_text(data).split("\0")
        if len(parts) != 3:
            raise SaslError("malformed PLAIN message")
        if parts[0] not in ("", parts[1]):
            return Failure(parts[1][:255])  # nobody speaks for another here
        return self.check(parts[1], parts[2])


class Login(_Password):
    """Two prompts; never standardised, much used."""

    name = "LOGIN"

    def start(self, initial: bytes | None) -> Step:
        """Ask for what the client has not sent yet."""
        return Challenge(b"Username:") if initial is None else self.respond(initial)

    def respond(self, data: bytes) -> Step:
        """Take the name, then the password."""
        text = read_text(data)
        if not self.user:
            self.user = check_user(text)
            return Challenge(b"Password:")
        return self.check(self.user, text)


class CramMd5(ServerMechanism):
    """RFC 2195."""

    name = "CRAM-MD5"
    _digest = ""

    def start(self, initial: bytes | None) -> Step:
        """Challenge; the client has no initial response."""
        if initial is not None:
            raise SaslError("CRAM-MD5 has no initial response")
        return Challenge(self._challenge)

    @property
    def _challenge(self) -> bytes:
        return f"<{self.nonce}@smx>".encode()

    def respond(self, data: bytes) -> Step:
        """Take name and digest."""
        user, separator, self._digest = read_text(data).rpartition(" ")
        if not separator or len(self._digest) != 32 or not self._digest.isascii():
            raise SaslError("malformed CRAM-MD5 message")
        self.user = check_user(user)
        return Lookup(self.user)

    def keys(self, keys: UserKeys) -> Step:
        """Compare digests."""
        wanted = cram_digest(keys.cram_md5, self._challenge)
        right = hmac.compare_digest(wanted, self._digest.lower())
        return self.verdict(keys, self.name, right=right)


class _Scram(ServerMechanism):
    """RFC 5802 without channel binding."""

    _header = ""
    _bare = ""
    _first = ""
    _client_nonce = ""
    _found: UserKeys | None = None
    _ended: Step | None = None

    def respond(self, data: bytes) -> Step:
        """Take client-first, client-final, and the empty answer to server-final."""
        text = read_text(data)
        if self._ended is not None:
            if text:
                raise SaslError("nothing more is expected")
            return self._ended
        if self._found is None:
            return self._take_first(text)
        return self._take_final(text, self._found)

    def _take_first(self, text: str) -> Step:
        binding, _, rest = text.partition(",")
        authz, separator, bare = rest.partition(",")
        if not separator or binding not in ("n", "y") or (authz and not authz.startswith("a=")):
            # p= asks for channel binding, which is not offered
            raise SaslError("malformed SCRAM message")
        said = read_attributes(bare)
        if not bare.startswith("n=") or not said.get("r"):
            raise SaslError("malformed SCRAM message")
        self._header, self._bare, self._client_nonce = f"{binding},{authz},", bare, said["r"]
        self.user = check_user(_unescape(said["n"]))
        if authz and prepare(_unescape(authz[2:])) != self.user:
            return Failure(self.user)
        return Lookup(self.user)

    def keys(self, keys: UserKeys) -> Step:
        """Send salt and rounds."""
        self._found = keys
        key = keys.scram[self.name]
        nonce = self._client_nonce + self.nonce
        self._first = f"r={nonce},s={encode64(key.salt)},i={key.iterations}"
        return Challenge(self._first.encode())

    def _take_final(self, text: str, keys: UserKeys) -> Step:
        said = read_attributes(text)
        without, _, proof = text.rpartition(",p=")
        if not without or not proof or "c" not in said or "r" not in said:
            raise SaslError("malformed SCRAM message")
        if (
            decode64(said["c"].encode()) != self._header.encode()
            or said["r"] != self._client_nonce + self.nonce
        ):
            raise SaslError("SCRAM message of another exchange")
        auth = f"{self._bare},{self._first},{without}".encode()
        key, name = keys.scram[self.name], HASHES[self.name]
        right = proves(name, key, auth, decode64(proof.encode()))
        end = self.verdict(keys, self.name, right=right)
        if isinstance(end, Failure):
            return end
        self._ended = end
        return Challenge(f"v={encode64(hmac.digest(key.server, auth, name))}".encode())


def _unescape(name: str) -> str:
    """Return a user name as it was before ``=`` and commas were replaced (RFC 5802 5.1)."""
    plain = name.replace("=2C", ",").replace("=3D", "=")
    if name.replace("=2C", "").replace("=3D", "").count("="):
        raise SaslError("malformed SCRAM name")
    return plain


class ScramSha1(_Scram):
    """RFC 5802."""

    name = "SCRAM-SHA-1"


class ScramSha256(_Scram):
    """RFC 7677."""

    name = "SCRAM-SHA-256"


class External(ServerMechanism):
    """The certificate of the connection says who the client is (RFC 4422 appendix A)."""

    name = "EXTERNAL"

    def respond(self, data: bytes) -> Step:
        """Take the authorization identity, empty for that of the certificate."""
        wanted = read_text(data)
        if self.identity and wanted in ("", self.identity):
            return Success(self.identity)
        return Failure(wanted[:255])


SERVER_MECHANISMS: dict[str, type[ServerMechanism]] = {
    kind.name: kind for kind in (External, ScramSha256, ScramSha1, CramMd5, Plain, Login)
}
