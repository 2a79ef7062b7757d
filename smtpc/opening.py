"""From the greeting to a session that can take mail: EHLO, STARTTLS, EHLO again, AUTH.

Kind: core.

``Opening`` is asked what comes next after each reply; it sends nothing itself. What a server
said before TLS counts for nothing after it (RFC 3207 4.2). Where STARTTLS is refused the
session goes on in clear text: whether a recipient may travel so is decided by its policy later.
What AUTH needs stands in smtpc/auth.py.
Source: RFC 5321 3.2, RFC 3207, RFC 4954; SPEC rows X006, X426.
"""

import attrs

from libsmx.reply import Reply
from smtpc.auth import Authentication, AuthFailed
from smtpc.commands import Extensions, parse_extensions
from smtpc.phases import Verb
from smtpc.plan import Plan
from smtpc.result import Outcome, clean, from_reply, temporary
from smtpc.tlspolicy import Secured


@attrs.frozen
class Say:
    """Send a line; the reply to it is that to ``verb``."""

    verb: Verb
    line: bytes = attrs.field(repr=False)


@attrs.frozen
class BeginTls:
    """Make the handshake, then call ``Opening.secured``."""


@attrs.frozen
class Ready:
    """Mail may be sent."""


@attrs.frozen
class GiveUp:
    """This host takes no mail from us; say QUIT and go."""

    outcome: Outcome


@attrs.frozen
class Odd:
    """The server does not keep to the protocol."""

    text: str


Step = Say | BeginTls | Ready | GiveUp | Odd


class Opening:
    """The state of the opening.

    Attributes:
        extensions: EHLO keywords in upper case with their arguments, those that hold now.
        secure: the session under TLS, None in clear text.
        why_clear: why the session is in clear text, if it is.
    """

    def __init__(self, plan: Plan) -> None:
        self.extensions: Extensions = {}
        self.secure: Secured | None = None
        self.why_clear = plan.why_clear or ("" if plan.starttls else "TLS is not to be tried")
        self._plan = plan
        self._tls_asked = False
        self._auth: Authentication | None = None

    def take(self, verb: Verb, reply: Reply) -> Step:
        """Return what follows from the reply to a command of the opening."""
        kind = reply.code // 100
        if verb is Verb.GREETING:
            return self._hello() if reply.code == 220 else _refused(reply)
        if verb is Verb.EHLO:
            if kind == 2:
                self.extensions = parse_extensions(reply.text)
                return self._after_hello()
            if kind == 5 and not self._plan.lmtp:
                # RFC 5321 3.2: an old server
                return Say(Verb.HELO, self._line(b"HELO"))
            return _refused(reply)
        if verb is Verb.HELO:
            return self._after_hello() if kind == 2 else _refused(reply)
        if verb is Verb.STARTTLS:
            return self._on_starttls(reply)
        return self._on_auth(reply)

    def secured(self, session: Secured) -> Step | None:
        """The handshake succeeded: all that was said before is forgotten."""
        self.secure = session
        self.extensions = {}
        self.why_clear = ""
        # under TLS from the first byte the greeting is still to come
        return self._hello() if self._tls_asked else None

    def _hello(self) -> Step:
        return Say(Verb.EHLO, self._line(b"LHLO" if self._plan.lmtp else b"EHLO"))

    def _line(self, word: bytes) -> bytes:
        return b"%s %s\r\n" % (word, self._plan.helo.encode("ascii", "replace"))

    def _after_hello(self) -> Step:
        if self._plan.starttls and self.secure is None and not self._tls_asked:
            if "STARTTLS" in self.extensions:
                self._tls_asked = True
                return Say(Verb.STARTTLS, b"STARTTLS\r\n")
            self.why_clear = "the server does not offer STARTTLS"
        return self._log_in()

    def _on_starttls(self, reply: Reply) -> Step:
        if reply.code == 220:
            return BeginTls()
        if reply.code // 100 not in {4, 5}:
            return _refused(reply)
        self.why_clear = clean(f"STARTTLS was refused: {reply.code} {reply.text}", 300)
        return self._log_in()

    def _log_in(self) -> Step:
        plan = self._plan
        if plan.login is None:
            return Ready()
        try:
            tls = self.secure is not None
            self._auth = Authentication(plan.login, self.extensions, tls=tls, nonce=plan.nonce)
        except AuthFailed as error:
            return _not_logged_in(error)
        return Say(Verb.AUTH, self._auth.first_line())

    def _on_auth(self, reply: Reply) -> Step:
        if self._auth is None:
            return _refused(reply)
        try:
            line = self._auth.next_line(reply)
        except AuthFailed as error:
            return _not_logged_in(error)
        return Ready() if line is None else Say(Verb.AUTH, line)


def _not_logged_in(error: AuthFailed) -> Step:
    return GiveUp(temporary("4.7.8", f"authentication failed: {error}"))


def _refused(reply: Reply) -> Step:
    """The host does not want to talk: RFC 5321 5.1 goes on with the next address."""
    if reply.code // 100 in {4, 5}:
        return GiveUp(from_reply(reply))
    return Odd(clean(f"unexpected reply {reply.code} {reply.text}"))
