"""AUTH: one exchange of a client with a mechanism, inside the conversation.

Kind: core.

Base of smtps/dialogue.py. While an exchange is open every line of the client belongs to it
(``auth_line``). Who knows the keys, counts failures and makes random numbers is asked through
``wanted``. The reply to a failure is always the same, and waits as the shell says.
Limits: failures in a session, by option; a line is a command line.
Source: RFC 4954; SPEC rows X005, X349-X356, X469; D43, D44.
"""

import attrs

from libsmx import reply
from libsmx.reply import Reply
from libsmx.sasl import SaslError, decode64, encode64, select
from libsmx.saslkeys import UserKeys
from libsmx.saslserver import (
    SERVER_MECHANISMS,
    Challenge,
    Derive,
    Failure,
    Lookup,
    ServerMechanism,
    Step,
    Success,
)
from libsmx.wire import CertAsk, Verdict
from smtps import authevents
from smtps.authsteps import (
    Begin,
    Begun,
    End,
    Ended,
    ProofAnswer,
    Prove,
    Remote,
    RemoteCancel,
    RemoteReply,
)
from smtps.effects import Delay
from smtps.policy import Policy, is_over
from smtps.tlstalk import TlsTalk


@attrs.define
class Exchange:
    """An AUTH command that is not answered yet.

    Attributes:
        mechanism: its name.
        initial: decoded initial response, None without one.
        local: machine that knows keys; None before it is made, and with a server's help.
        end: how it ended, while the shell is told.
        held: LOGIN's initial response, which servers are not known to take.
    """

    mechanism: str
    initial: bytes | None
    local: ServerMechanism | None = None
    end: Success | Failure | None = None
    held: bytes | None = None


class AuthTalk(TlsTalk):
    """A conversation in which the client can say who it is.

    Attributes:
        exchange: the one under way.
    """

    def __init__(self, policy: Policy, client: str, session_id: str) -> None:
        super().__init__(policy, client, session_id)
        self.exchange: Exchange | None = None
        self._failures = 0

    # --- what is offered ---------------------------------------------------------------

    @property
    def identity(self) -> str:
        """Who the client is by its verified certificate: mail address, host name or CN."""
        facts = self.tls
        if facts is None or facts.cert is None or not facts.verified:
            return ""
        cert = facts.cert
        return next((name for name in (*cert.emails, *cert.dns, cert.cn) if name), "")[:255]

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """What this client may use now."""
        policy = self.policy
        if "auth" in policy.conf.extensions_hidden:
            return ()
        names = policy.auth_mechanisms
        if not self.identity:
            names = tuple(name for name in names if name != "EXTERNAL")
        return select(names, policy.conf.auth.flags, tls=self.tls is not None) if names else ()

    def own_extensions(self) -> str:
        """Return the lines of the EHLO reply that depend on the session, each after a newline."""
        text = "\nSTARTTLS" if self.offers_tls else ""
        if self.policy.auth_mechanisms and (names := self.mechanisms):
            text += f"\nAUTH {' '.join(names)}"
        return text

    # --- the exchange ------------------------------------------------------------------

    def auth_command(self, arg: bytes) -> Reply | None:
        """Begin an exchange (RFC 4954 4)."""
        if not self.policy.auth_mechanisms or "auth" in self.policy.conf.extensions_hidden:
            return reply.NOT_IMPLEMENTED.fill("AUTH")
        if not self.esmtp:
            return reply.SAY_HELLO
        if self.auth:
            return reply.AUTH_ALREADY
        if self.ta is not None:
            return reply.AUTH_IN_MAIL
        words = arg.split()
        if not 1 <= len(words) <= 2:
            return reply.BAD_AUTH
        name = words[0].decode("ascii", "replace").upper()
        if name not in self.mechanisms:
            over_tls = select(self.policy.auth_mechanisms, self.policy.conf.auth.flags, tls=True)
            needs_tls = self.tls is None and name in over_tls and name != "EXTERNAL"
            return reply.AUTH_NEEDS_TLS if needs_tls else reply.BAD_MECHANISM
        initial = None
        if len(words) == 2:
            try:
                initial = b"" if words[1] == b"=" else decode64(words[1])
            except SaslError:
                return reply.BAD_BASE64
        self.exchange = Exchange(name, initial)
        self.wanted = Prove(Begin())
        return None

    def auth_line(self, line: bytes) -> None:
        """Take a line that belongs to the exchange: base64, or ``*`` to give it up."""
        exchange = self.exchange
        if exchange is None:
            return
        if line == b"*":
            self.auth_over(reply.AUTH_CANCELLED)
            return
        try:
            data = decode64(line)
            if exchange.local is None:
                self.wanted = Prove(RemoteReply(data))
            else:
                self._take(exchange, exchange.local.respond(data))
        except SaslError as error:
            self._malformed(error)

    def auth_over(self, last: Reply) -> None:
        """Give the exchange up because of what the client sent."""
        exchange, self.exchange = self.exchange, None
        if exchange is not None and exchange.local is None:
            self.wanted = Prove(RemoteCancel())
        self.record_failure(exchange, "", last)
        self.refuse_bad(last)

    def _malformed(self, error: SaslError) -> None:
        last = reply.BAD_BASE64 if str(error) == "not base64" else reply.BAD_RESPONSE
        self.auth_over(last)

    def proved(self, answer: ProofAnswer | None) -> None:
        """Go on with what the shell found out."""
        exchange, asked, self.asked = self.exchange, self.asked, None
        if isinstance(asked, CertAsk):
            self.cert_answered(answer if isinstance(answer, Verdict) else None)
            return
        if exchange is None:
            return  # answer to RemoteCancel
        try:
            self._go_on(exchange, answer)
        except SaslError as error:
            self._malformed(error)

    def _go_on(self, exchange: Exchange, answer: ProofAnswer | None) -> None:
        match answer:
            case Begun():
                self._begun(exchange, answer)
            case UserKeys() if exchange.local is not None:
                self._take(exchange, exchange.local.keys(answer))
            case bytes() if exchange.local is not None:
                self._take(exchange, exchange.local.derived(answer))
            case Challenge() if exchange.held is not None:
                held, exchange.held = exchange.held, None
                self.wanted = Prove(RemoteReply(held))
            case Challenge() | Success() | Failure():
                self._take(exchange, answer)
            case Ended():
                self._ended(exchange, answer)
            case _:
                self.exchange = None
                self._put_off(exchange, reply.AUTH_TROUBLE)

    def _begun(self, exchange: Exchange, answer: Begun) -> None:
        initial = exchange.initial
        if answer.blocked:
            self.exchange = None
            self._put_off(exchange, reply.AUTH_TOO_OFTEN)
        elif self.policy.auth_remote and exchange.mechanism != "EXTERNAL":
            if exchange.mechanism == "LOGIN":
                exchange.held, initial = initial, None
            verified = self.tls is not None and self.tls.verified
            self.wanted = Prove(Remote(exchange.mechanism, initial, self.tls is not None, verified))
        else:
            kind = SERVER_MECHANISMS[exchange.mechanism]
            exchange.local = kind(answer.nonce, self.identity)
            self._take(exchange, exchange.local.start(initial))

    def _put_off(self, exchange: Exchange, last: Reply) -> None:
        """Let the client try later; it counts as a command that does nothing."""
        if self.count_nop():
            self.record_failure(exchange, "", last)
            self.say(last)

    def _take(self, exchange: Exchange, step: Step) -> None:
        match step:
            case Challenge(data):
                # Not a Reply: challenges are longer than what people read.
                self.out.append(f"334 {encode64(data)}\r\n".encode("ascii"))
            case Lookup() | Derive():
                self.wanted = Prove(step)
            case Success() | Failure():
                exchange.end = step
                self.wanted = Prove(End(isinstance(step, Success)))

    def _ended(self, exchange: Exchange, ended: Ended) -> None:
        """Tell the client how it ended."""
        self.exchange = None
        if isinstance(exchange.end, Success):
            trusted = {name.upper() for name in self.policy.conf.auth.trusted_mechs}
            self.auth = exchange.end.user
            self.auth_type = exchange.mechanism
            may_relay = exchange.mechanism in trusted
            self.relay = self.relay or may_relay
            self.record(
                authevents.AUTH_DONE,
                user=self.auth,
                mech=exchange.mechanism,
                relay=int(may_relay),
            )
            self.say(reply.AUTH_OK)
            return
        self._failures += 1
        user = exchange.end.user if exchange.end is not None else ""
        self.record_failure(exchange, user, reply.AUTH_REFUSED)
        if ended.delay_s:
            self.effects.append(Delay(ended.delay_s))
        if is_over(self._failures, self.policy.conf.auth.max_failures_per_session):
            self.leave(reply.TOO_MANY_FAILURES)
        else:
            self.say(reply.AUTH_REFUSED)

    def record_failure(self, exchange: Exchange | None, user: str, last: Reply) -> None:
        """Log that an exchange came to nothing."""
        self.record(
            authevents.AUTH_FAILED,
            user=user,
            mech=exchange.mechanism if exchange is not None else "",
            stat=f"{last.code} {last.text}",
        )
