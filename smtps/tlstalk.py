"""STARTTLS and what TLS changes in the conversation.

Kind: core.

Base of smtps/authtalk.py. The handshake itself is the shell's; everything that was said before
it is forgotten, as anybody may have said it.
Source: RFC 3207 4, RFC 8314 3; SPEC rows X004, X413-X418.
"""

import attrs

from libsmx import reply
from libsmx.reply import Reply
from libsmx.tlsfacts import TlsFacts
from libsmx.wire import CertAsk, Refusal, Verdict
from smtps import authevents
from smtps.authsteps import Prove, Question, StartTls
from smtps.judge import Judge
from smtps.policy import Policy
from smtps.xclient import Introduction


class TlsTalk(Judge):
    """A conversation that can become encrypted.

    Attributes:
        tls: what is known of the connection, None in clear text.
        auth_type: mechanism by which the client authenticated.
        wanted: effect that the last command or answer leads to; a handshake needs its reply.
        asked: the question that is open.
    """

    def __init__(self, policy: Policy, client: str, session_id: str) -> None:
        super().__init__(policy, client, session_id)
        self.tls: TlsFacts | None = None
        self.auth_type = ""
        self.wanted: StartTls | Prove | None = None
        self.asked: Question | None = None

    def introduce(self, said: Introduction) -> None:
        """Begin anew as another client, whom the certificate of this one does not concern."""
        super().introduce(said)
        self.subject = self.issuer = ""
        if self.tls is not None:
            self.tls = attrs.evolve(self.tls, cert=None, verified=False)

    @property
    def offers_tls(self) -> bool:
        """Whether EHLO lists STARTTLS."""
        hidden = "starttls" in self.policy.conf.extensions_hidden
        return self.policy.tls_ready and self.tls is None and not hidden

    def starttls(self, _arg: bytes) -> Reply | None:
        """Allow the handshake."""
        if self.tls is not None:
            return reply.TLS_ALREADY
        if not self.offers_tls:
            return reply.NOT_IMPLEMENTED.fill("STARTTLS")
        if not self.helo:
            return reply.SAY_HELLO
        if self.auth:
            return reply.TLS_AFTER_AUTH
        self.reset()
        self.wanted = StartTls()
        return None

    def injected(self) -> None:
        """Leave a client with more behind STARTTLS.

        Somebody on the way may have put it there, to have it executed as if it had come
        encrypted (CVE-2011-0411).
        """
        self.record(authevents.TLS_INJECTION)
        self.close(reply.TLS_INJECTED)

    def secured(self, facts: TlsFacts) -> None:
        """Go on encrypted: from the beginning, and with what the certificate allows."""
        self.tls = facts
        self.secure = True
        self.wanted = None
        self.reset()
        self.helo = ""
        self.esmtp = False
        cert = facts.cert
        self.record(
            authevents.TLS_STARTED,
            version=facts.version,
            cipher=facts.cipher,
            bits=facts.bits,
            resumed=int(facts.resumed),
            sni=facts.sni,
            verify=facts.verify,
            why=facts.why,
            subject=cert.subject if cert is not None else "",
            issuer=cert.issuer if cert is not None else "",
        )
        if cert is None or not facts.verified:
            return  # row X418: what did not verify says nothing
        self.subject, self.issuer = cert.subject, cert.issuer
        flags = self.policy.conf.tls.flags
        if "allow_relaying_if_verified" in flags:
            self._cert_relays(relay=True)
        elif "check_access_map_for_relaying" in flags and self.policy.access and cert.issuer:
            self.wanted = Prove(CertAsk(issuer=cert.issuer, subject=cert.subject))

    def cert_answered(self, answer: Verdict | Refusal | None) -> None:
        """Take what the access map says of a verified certificate (rows X414-X417)."""
        if not isinstance(answer, Verdict):
            # Refusing to relay now would be for good, and wrong once the map is there again.
            self.leave(reply.NO_SERVICE)
            return
        self._cert_relays(relay=answer.accept and answer.mark in {"relay", "quick:relay"})

    def _cert_relays(self, *, relay: bool) -> None:
        self.relay = self.relay or relay
        self.record(
            authevents.CERT_RELAY, relay=int(relay), subject=self.subject, issuer=self.issuer
        )
