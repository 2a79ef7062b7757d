"""TLS over memory: bytes of the network in, plain text out, and the other way.

Kind: shell.

The one door to OpenSSL, together with libsmx/tlscontext.py. A TlsMachine is one connection
without a socket: the caller reads and writes, the machine translates. Certificates of peers
are requested and verified but never required here: the handshake goes on and ``facts`` tells
what was found, so that policy is decided in one place, by others.

Renegotiation, compression and protocols before TLS 1.2 are off. A server's tickets are bound
to its process: pyOpenSSL gives no access to the ticket keys, so a client that comes back to
another process shakes hands in full, which costs time and nothing else.
Limits: one call gives out at most what it was given; OpenSSL bounds handshake messages.
Source: RFC 8446, RFC 5246, RFC 7525; SPEC rows X409-X418, X422-X425.
"""

from datetime import UTC, datetime

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from OpenSSL import SSL
from OpenSSL._util import lib  # for one fact that pyOpenSSL keeps to itself, see below

from libsmx.tlscontext import UNREADABLE, TlsContext, read_cert, words_of
from libsmx.tlsfacts import TlsError, TlsFacts, is_address

_RECORD = 16 * 1024
_CHUNK = 64 * 1024
_REASONS = {
    number: name.removeprefix("ERR_").lower().replace("_", " ")
    for name, number in vars(SSL.X509VerificationCodes).items()
    if name.startswith("ERR_") and isinstance(number, int)
}


@attrs.frozen
class Resumption:
    """What a client keeps of a session for the next one to the same server."""

    session: SSL.Session
    verified: bool
    why: str


class TlsMachine:
    """One TLS connection without a socket.

    After every call what ``output`` returns must be sent, also after an error: it holds the
    alert that tells the peer.

    Args:
        context: for this side.
        host: client: the server's name, sent as SNI unless it is an address.
        resume: client: session to go on with; of the same context, else it is not used.

    Attributes:
        facts: None until the handshake is complete.
        closed: the peer has said that it sends no more.
    """

    def __init__(
        self, context: TlsContext, *, host: str = "", resume: Resumption | None = None
    ) -> None:
        self.facts: TlsFacts | None = None
        self.closed = False
        self._context = context
        self._host = host
        self._resume = resume
        self._wrong: list[int] = []
        self._connection = connection = SSL.Connection(context.raw, None)
        connection.set_app_data(self._wrong)
        if context.server:
            connection.set_accept_state()
            return
        connection.set_connect_state()
        if host and not is_address(host):
            connection.set_tlsext_host_name(host.encode("ascii", "replace"))
        if resume is not None:
            try:
                connection.set_session(resume.session)
            except ValueError:
                self._resume = None  # of another context: certificates were reloaded

    def start(self) -> None:
        """Begin the handshake (client); a server waits for its client anyway."""
        self._handshake()

    def receive(self, data: bytes) -> bytes:
        """Take bytes from the network; return plain text, which may be empty.

        Raises:
            TlsError: the handshake failed or the stream is broken; nothing more may be received.
        """
        if data:
            self._connection.bio_write(data)
        if self.facts is None and not self._handshake():
            return b""
        parts: list[bytes] = []
        try:
            while not self.closed:
                parts.append(self._connection.recv(_RECORD))
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self.closed = True
        except SSL.Error as error:
            raise TlsError(words_of(error)) from error
        return b"".join(parts)

    def send(self, data: bytes) -> None:
        """Encrypt plain text.

        Raises:
            TlsError: the connection is broken or not established.
        """
        if self.facts is None:
            raise TlsError("nothing can be sent before the handshake")
        try:
            self._connection.sendall(data)
        except SSL.Error as error:
            raise TlsError(words_of(error)) from error

    def output(self) -> bytes:
        """Return and forget what is to be sent to the network."""
        parts: list[bytes] = []
        try:
            while not parts or len(parts[-1]) == _CHUNK:
                parts.append(self._connection.bio_read(_CHUNK))
        except SSL.WantReadError:
            pass
        return b"".join(parts)

    def close(self) -> None:
        """Say that we send no more (close_notify), where that is still possible."""
        if self.facts is None:
            return
        try:
            self._connection.shutdown()
        except SSL.Error:
            self.closed = True  # nobody listens

    def resumption(self) -> Resumption | None:
        """Return what a client may go on with later; ask at the end, when tickets have come."""
        session = self._connection.get_session()
        if session is None or self.facts is None:
            return None
        return Resumption(session, self.facts.verified, self.facts.why)

    def _handshake(self) -> bool:
        """Go on with the handshake; tell whether it is complete."""
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            return False
        except SSL.Error as error:
            raise TlsError(words_of(error)) from error
        try:
            self.facts = self._find_facts()
        except UNREADABLE as error:
            raise TlsError("the peer's certificate cannot be read") from error
        return True

    def _find_facts(self) -> TlsFacts:
        connection = self._connection
        # pyOpenSSL has no method for it. SLF001: the connection is locked to one version.
        resumed = bool(lib.SSL_session_reused(connection._ssl))  # noqa: SLF001
        sni = connection.get_servername() if self._context.server else self._host.encode()
        raw = connection.get_peer_certificate(as_cryptography=True)
        verified, why = False, ""
        if raw is not None:
            verified, why = self._judge(raw, resumed=resumed)
        return TlsFacts(
            version=connection.get_protocol_version_name(),
            cipher=connection.get_cipher_name() or "",
            bits=connection.get_cipher_bits() or 0,
            resumed=resumed,
            cert=None if raw is None else read_cert(raw),
            verified=verified,
            why=why,
            sni=(sni or b"").decode("ascii", "replace"),
        )

    def _judge(self, cert: x509.Certificate, *, resumed: bool) -> tuple[bool, str]:
        """Return whether the peer's certificate verified and, if not, why.

        OpenSSL verifies nothing again in a resumed session, and its own memory of the verdict
        is overwritten by going on after a failure; so the verdict is remembered here.
        """
        if cert.not_valid_after_utc < datetime.now(UTC):
            return False, "cert has expired"
        if not resumed:
            if not self._wrong:
                if self._context.server:
                    self._context.remember(cert.fingerprint(SHA256()))
                return True, ""
            return False, _REASONS.get(self._wrong[0], f"error {self._wrong[0]}")
        if self._context.server:
            known = self._context.remembers(cert.fingerprint(SHA256()))
            return known, "" if known else "not verified in the first session"
        if self._resume is None:
            return False, "not verified in the first session"
        return self._resume.verified, self._resume.why
