"""The client's side of AUTH: which mechanism, what to say next, and how it ended.

Kind: core.

Where a login is configured and does not succeed, nothing is sent: without it the server would
refuse what it otherwise takes, and the mail would come back. So it waits for somebody who
mends the password.
Limits: MAX_ROUNDS challenges.
Source: RFC 4954 4; SPEC row X017.
"""

import base64

from libsmx.reply import Reply
from libsmx.sasl import CLIENT_MECHANISMS, ClientMechanism, SaslError, choose_client, decode64
from smtpc.commands import Extensions
from smtpc.plan import Login
from smtpc.result import clean

MAX_ROUNDS = 10
"""Most challenges of one authentication."""


class AuthFailed(Exception):
    """The session is not what it is to be; the text says why."""


class Authentication:
    """One authentication at a server.

    Args:
        login: as whom.
        extensions: of the server, as it offers them now.
        tls: the session is under TLS.
        nonce: fresh and random.

    Raises:
        AuthFailed: the server offers nothing that may be used.
    """

    def __init__(self, login: Login, extensions: Extensions, *, tls: bool, nonce: str) -> None:
        offered = extensions.get("AUTH", "").upper().split()
        wanted = [one for one in offered if not login.mechanisms or one in login.mechanisms]
        self.name = choose_client(wanted, tls=tls, plain_in_clear=login.clear)
        if not self.name:
            shown = " ".join(offered[:10]) or "no mechanism"
            where = "" if tls else " without TLS"
            raise AuthFailed(clean(f"the server offers {shown}{where}, and none may be used", 300))
        self._rounds = 0
        try:
            make = CLIENT_MECHANISMS[self.name]
            self._mechanism: ClientMechanism = make(login.user, login.password, nonce)
        except SaslError as error:
            raise AuthFailed(f"the configured login cannot be used: {error}") from error

    def first_line(self) -> bytes:
        """Return AUTH with its initial response."""
        first = self._mechanism.first()
        line = b"AUTH " + self.name.encode("ascii")
        if first is not None:
            line += b" " + (base64.b64encode(first) or b"=")
        return line + b"\r\n"

    def next_line(self, reply: Reply) -> bytes | None:
        """Return the line that answers a reply, None where it says that all is well.

        Raises:
            AuthFailed: refused, or the server does not keep to the mechanism.
        """
        kind = reply.code // 100
        if kind == 2:
            if not self._mechanism.finished:
                raise AuthFailed(f"{self.name}: the server did not prove that it knows us")
            return None
        if reply.code != 334:
            said = f"{reply.code} {reply.status} {reply.text}"
            raise AuthFailed(clean(f"{self.name}: {said}", 300))
        self._rounds += 1
        if self._rounds > MAX_ROUNDS:
            raise AuthFailed(f"{self.name}: the server asks without end")
        try:
            challenge = decode64(reply.text.strip().encode("ascii"))
            answer = self._mechanism.respond(challenge)
        except SaslError as error:
            raise AuthFailed(f"{self.name}: the server breaks the mechanism: {error}") from error
        return base64.b64encode(answer) + b"\r\n"
