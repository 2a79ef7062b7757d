"""Keys derived from passwords: what the server keeps instead of them.

Kind: core.

A line of the file that smxpasswd makes is a user name and its keys with blanks between, SCRAM
ones as RFC 5803 writes them::

    alice SCRAM-SHA-256$15000:SALT$STORED:SERVER SCRAM-SHA-1$15000:... CRAM-MD5$64 HEX DIGITS

The first line is ``# smxpasswd ROUNDS SECRET``: the secret makes keys up for users who do not
exist, always the same ones, so that nobody learns from the conversation who does. From SCRAM
keys the password cannot be had but by guessing; CRAM-MD5 keys are as good as the password for
that one mechanism, hence optional.
Limits: names of 255 characters, lines of 4096 bytes.
Source: RFC 5802 3, RFC 5803, RFC 2195; D43.
"""

import hashlib
import hmac
import re
import struct
from collections.abc import Iterable
from math import floor, sin

import attrs

from libsmx.sasl import (
    HASHES,
    MAX_ITERATIONS,
    MIN_ITERATIONS,
    SaslError,
    decode64,
    encode64,
    prepare,
    salt_password,
    xor,
)

DEFAULT_ITERATIONS = 15_000
SALT_SIZE = 16
SECRET_SIZE = 16
MAX_USER = 255
_MAX_LINE = 4096
_HEAD = re.compile(r"# smxpasswd ([0-9]{1,7}) ([A-Za-z0-9+/]{22}==)")
_SCRAM = re.compile(r"([0-9]{1,7}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)")


@attrs.frozen
class ScramKey:
    """What a server needs for SCRAM.

    Attributes:
        iterations, salt: of the derivation.
        stored: StoredKey.
        server: ServerKey.
    """

    iterations: int
    salt: bytes
    stored: bytes
    server: bytes


@attrs.frozen
class UserKeys:
    """The keys of one user.

    Attributes:
        scram: mechanism name -> key.
        cram_md5: inner and outer state of HMAC-MD5, 32 bytes; empty without that mechanism.
        made_up: mechanisms whose key was made up for want of one; it proves nothing.
    """

    scram: dict[str, ScramKey]
    cram_md5: bytes = b""
    made_up: frozenset[str] = frozenset()


def derive_scram(mechanism: str, password: str, salt: bytes, iterations: int) -> ScramKey:
    """Return the key of a prepared password."""
    name = HASHES[mechanism]
    return scram_key(name, salt_password(name, password, salt, iterations), salt, iterations)


def scram_key(name: str, salted: bytes, salt: bytes, iterations: int) -> ScramKey:
    """Return the key that a salted password makes."""
    client = hmac.digest(salted, b"Client Key", name)
    return ScramKey(
        iterations,
        salt,
        hashlib.new(name, client).digest(),
        hmac.digest(salted, b"Server Key", name),
    )


def proves(name: str, key: ScramKey, auth: bytes, proof: bytes) -> bool:
    """Tell whether a ClientProof fits (RFC 5802 3).

    Args:
        name: of the hash function.
        key: of the user.
        auth: AuthMessage.
        proof: ClientProof.
    """
    signature = hmac.digest(key.stored, auth, name)
    if len(proof) != len(signature):
        return False
    client = xor(proof, signature)
    return hmac.compare_digest(hashlib.new(name, client).digest(), key.stored)


@attrs.frozen
class KeyTable:
    """All users of a file.

    Attributes:
        iterations: rounds for new keys and for those made up.
        secret: see the module.
        users: prepared name -> keys.
    """

    iterations: int
    secret: bytes
    users: dict[str, UserKeys]

    def find(self, user: str) -> UserKeys:
        """Return the keys of a user; made up ones if there is no such user or no such key."""
        made_up = self._make_up(user)
        found = self.users.get(user)
        if found is None:
            return made_up
        # A user without a key for one mechanism must not look different there either.
        lacks = made_up.made_up - found.scram.keys() - ({"CRAM-MD5"} if found.cram_md5 else set())
        return UserKeys({**made_up.scram, **found.scram}, found.cram_md5 or made_up.cram_md5, lacks)

    def _make_up(self, user: str) -> UserKeys:
        def bits(what: str, size: int) -> bytes:
            made = b"".join(
                hmac.digest(self.secret, f"{what}:{at}:{user}".encode(), "sha256") for at in (0, 1)
            )
            return made[:size]

        sizes = {"SCRAM-SHA-1": 20, "SCRAM-SHA-256": 32}
        scram = {
            name: ScramKey(
                self.iterations,
                bits(f"salt {name}", SALT_SIZE),
                bits(f"stored {name}", size),
                bits(f"server {name}", size),
            )
            for name, size in sizes.items()
        }
        return UserKeys(scram, bits("cram", 32), frozenset({*sizes, "CRAM-MD5"}))

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """What can be offered with these keys."""
        cram = any(keys.cram_md5 for keys in self.users.values())
        return ("PLAIN", "LOGIN", *HASHES, *(("CRAM-MD5",) if cram else ()))


def check_user(user: str) -> str:
    """Return a user name as it is kept.

    Raises:
        SaslError: it cannot be used; the text says why.
    """
    name = prepare(user)
    if len(name) > MAX_USER or name.startswith("#") or any(c.isspace() for c in name):
        raise SaslError(f"no blanks, no # in front, at most {MAX_USER} characters")
    return name


def format_keys(table: KeyTable) -> str:
    """Return the text of a file; ``read_keys`` is its inverse."""
    lines = [f"# smxpasswd {table.iterations} {encode64(table.secret)}"]
    for user in sorted(table.users):
        keys = table.users[user]
        words = [user]
        words += [
            f"{name}${key.iterations}:{encode64(key.salt)}"
            f"${encode64(key.stored)}:{encode64(key.server)}"
            for name, key in sorted(keys.scram.items())
        ]
        if keys.cram_md5:
            words.append(f"CRAM-MD5${keys.cram_md5.hex()}")
        lines.append(" ".join(words))
    return "\n".join(lines) + "\n"


def read_keys(lines: Iterable[str]) -> KeyTable:
    """Return what a file says.

    Raises:
        SaslError: names the line and what is wrong; nothing of such a file is used.
    """
    found: KeyTable | None = None
    for number, line in enumerate(lines, 1):
        text = line.rstrip("\n")
        if found is None:
            head = _HEAD.fullmatch(text)
            if head is None:
                raise SaslError("line 1: this is no file of smxpasswd")
            found = KeyTable(int(head[1]), decode64(head[2].encode()), {})
            if not MIN_ITERATIONS <= found.iterations <= MAX_ITERATIONS:
                raise SaslError(f"line 1: {found.iterations} rounds: out of range")
            continue
        if not text or text.startswith("#"):
            continue
        try:
            user, keys = _read_line(text)
        except SaslError as error:
            raise SaslError(f"line {number}: {error}") from error
        if user in found.users:
            raise SaslError(f"line {number}: {user} stands in an earlier line already")
        found.users[user] = keys
    if found is None:
        raise SaslError("line 1: this is no file of smxpasswd")
    return found


def _read_line(text: str) -> tuple[str, UserKeys]:
    if len(text) > _MAX_LINE:
        raise SaslError("line too long")
    user, *words = text.split(" ")
    scram: dict[str, ScramKey] = {}
    cram = b""
    for word in words:
        name, _, value = word.partition("$")
        if name in HASHES and name not in scram:
            scram[name] = _read_scram(name, value)
        elif name == "CRAM-MD5" and not cram and re.fullmatch(r"[0-9a-f]{64}", value):
            cram = bytes.fromhex(value)
        else:
            raise SaslError(f"malformed key {name[:20]!r}")
    if not scram:
        raise SaslError("no SCRAM key")
    return check_user(user), UserKeys(scram, cram)


def _read_scram(name: str, value: str) -> ScramKey:
    parts = _SCRAM.fullmatch(value)
    if parts is None:
        raise SaslError(f"malformed key {name}")
    key = ScramKey(int(parts[1]), *(decode64(parts[at].encode()) for at in (2, 3, 4)))
    size = hashlib.new(HASHES[name]).digest_size
    if not 1 <= key.iterations <= MAX_ITERATIONS or {len(key.stored), len(key.server)} != {size}:
        raise SaslError(f"malformed key {name}")
    return key


# --- CRAM-MD5 ------------------------------------------------------------------------------

# hashlib cannot go on from a state of MD5, which is all that is kept of a password, so the one
# function of RFC 1321 3.4 stands here; two or three blocks are hashed for each authentication.
_MASK = 0xFFFFFFFF
_START = struct.pack("<4I", 0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476)
_SINES = [floor(abs(sin(at + 1)) * 2**32) & _MASK for at in range(64)]
_SHIFTS = ((7, 12, 17, 22), (5, 9, 14, 20), (4, 11, 16, 23), (6, 10, 15, 21))
_BLOCK = 64


def _compress(state: bytes, block: bytes) -> bytes:
    words = struct.unpack("<16I", block)
    a, b, c, d = before = struct.unpack("<4I", state)
    for at in range(64):
        turn = at // 16
        if turn == 0:
            mixed, word = (b & c) | (~b & d), at
        elif turn == 1:
            mixed, word = (d & b) | (~d & c), (5 * at + 1) % 16
        elif turn == 2:
            mixed, word = b ^ c ^ d, (3 * at + 5) % 16
        else:
            mixed, word = c ^ (b | (~d & _MASK)), 7 * at % 16
        total = (a + mixed + _SINES[at] + words[word]) & _MASK
        shift = _SHIFTS[turn][at % 4]
        a, d, c = d, c, b
        b = (b + (total << shift | total >> (32 - shift))) & _MASK
    after = (a, b, c, d)
    return struct.pack("<4I", *((x + y) & _MASK for x, y in zip(before, after, strict=True)))


def _finish(state: bytes, message: bytes) -> bytes:
    """Return MD5 of a first block, which led to the state, and a message."""
    bits = 8 * (_BLOCK + len(message))
    padded = message + b"\x80" + bytes(-(len(message) + 9) % _BLOCK) + struct.pack("<Q", bits)
    for at in range(0, len(padded), _BLOCK):
        state = _compress(state, padded[at : at + _BLOCK])
    return state


def derive_cram(password: str) -> bytes:
    """Return inner and outer state of HMAC-MD5 with a prepared password as key."""
    key = password.encode()
    if len(key) > _BLOCK:
        key = hashlib.md5(key, usedforsecurity=False).digest()
    key = key.ljust(_BLOCK, b"\0")
    return b"".join(_compress(_START, bytes(byte ^ pad for byte in key)) for pad in (0x36, 0x5C))


def cram_digest(states: bytes, challenge: bytes) -> str:
    """Return the digest that a client with this key must send, lower case hexadecimal."""
    return _finish(states[16:], _finish(states[:16], challenge)).hex()
