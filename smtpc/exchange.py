"""One transaction on a session: which commands may be sent, and what their replies mean.

Kind: core.

Source: RFC 5321 4.1.1, 4.5.3.1.10, RFC 2920 3.1, RFC 3030 2; SPEC row X017.
"""

from collections import deque

from libsmx.reply import Reply
from smtpc.commands import (
    Extensions,
    mail_command,
    rcpt_command,
    refuse_rcpt,
    refuse_transaction,
)
from smtpc.effects import Transaction
from smtpc.phases import Verb
from smtpc.plan import Login
from smtpc.result import Outcome, Results, from_reply, temporary
from smtpc.tlspolicy import Secured, judge

Sent = deque[tuple[Verb, int]]
"""Commands without a reply, and the recipient that each is about."""


class Exchange:
    """The state of one transaction.

    Attributes:
        ta: what is to be delivered.
        results: of its recipients.
        mail_refused: nothing more is said.
        void: a lone dot was sent only to get out of DATA.
        chunk_due: every recipient is answered and the content may follow as a chunk.
    """

    def __init__(self, ta: Transaction) -> None:
        self.ta = ta
        self.results = Results(ta.rcpts)
        self.mail_refused = False
        self.void = False
        self.chunk_due = False
        self._next = -1  # what to send next: -1 MAIL, then recipients by position, then DATA

    @property
    def begun(self) -> bool:
        """True when commands were sent, or are not going to be."""
        return self._next >= 0

    @property
    def more(self) -> bool:
        """True while commands are left to be sent."""
        return self._next <= len(self.ta.rcpts)

    def refuse(self, extensions: Extensions) -> None:
        """Give every recipient its result if the server need not be asked."""
        refusal = refuse_transaction(self.ta, extensions)
        if refusal is not None:
            self.results.settle(refusal)
            self._next = len(self.ta.rcpts) + 1

    def admit(
        self, login: Login | None, secure: Secured | None, why_clear: str, *, kept: bool
    ) -> Outcome | None:
        """Sort out recipients that may not travel on this session.

        Args:
            login: whom the session was opened as.
            secure: its TLS.
            why_clear: why it has none.
            kept: it was opened for another transaction.

        Returns:
            Why none may, None if somebody may.
        """
        ta = self.ta
        if ta.login != login:
            return temporary("4.7.0", "the session was opened with another login")
        verdict = None
        for position, policy in enumerate(ta.policies):
            unmet = judge(policy, secure, why_clear)
            if unmet is not None:
                verdict = temporary(unmet.status, unmet.text)
                self.results.refuse(position, verdict)
        # a session that was opened for others says nothing about one opened for these
        return None if self.results.open and not kept else verdict

    def commands(self, sent: Sent, window: int, extensions: Extensions, *, chunk: bool) -> bytes:
        """Return what may be sent now.

        Args:
            sent: commands that are not answered; those returned are added.
            window: most commands without a reply.
            extensions: of the server.
            chunk: the content is sent with BDAT instead of DATA.
        """
        out: list[bytes] = []
        count = len(self.ta.rcpts)
        while len(sent) < window and self._next <= count:
            if self._next < 0:
                sent.append((Verb.MAIL, 0))
                out.append(mail_command(self.ta, extensions))
            elif self.mail_refused:
                self._next = count
            elif self._next < count:
                self._add_rcpt(sent, out, extensions)
            elif chunk:
                if sent:
                    break
                self.chunk_due = bool(self.results.accepted)
            elif self.results.accepted or sent:
                sent.append((Verb.DATA, 0))
                out.append(b"DATA\r\n")
            self._next += 1
        return b"".join(out)

    def _add_rcpt(self, sent: Sent, out: list[bytes], extensions: Extensions) -> None:
        position = self._next
        if self.results.has(position):
            return
        rcpt = self.ta.rcpts[position]
        refusal = refuse_rcpt(rcpt, self.ta, extensions)
        if refusal is not None:
            self.results.refuse(position, refusal)
            return
        sent.append((Verb.RCPT, position))
        out.append(rcpt_command(rcpt, self.ta, extensions))

    def refused_rcpt(self, position: int, reply: Reply) -> None:
        """Take the refusal of one recipient."""
        outcome = from_reply(reply)
        if reply.code == 552 and self.results.accepted and reply.status in {"", "5.5.3"}:
            # RFC 5321 4.5.3.1.10: the RFC 821 way to say "too many recipients" (452)
            outcome = Outcome(452, "4.5.3", outcome.text)
        self.results.set(position, outcome)
