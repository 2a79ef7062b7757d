"""The client side of SMTP and LMTP as a machine: bytes and orders in, effects out.

Kind: core.

One ``Session`` is one connection; it carries transactions one after the other. The shell feeds
it what arrives and obeys the effects it returns:

* ``Send``: write these bytes;
* ``SendContent``: write the content, then call ``content_sent``;
* ``StartTls``: make the handshake, then call ``secured`` or ``handshake_failed``;
* ``Done``: the transaction is over, with one result for every recipient;
* ``Close``: close the connection.

The opening stands in smtpc/opening.py. With PIPELINING, MAIL, the RCPTs and DATA travel in one
write; without it the same machine sends one command at a time. With CHUNKING the content
follows the replies to RCPT as one chunk. Every reply is matched to the command it answers: one
too many, malformed or of a class that has no meaning there ends the session, and whoever has
no result yet gets a temporary failure. Nothing a server sends raises.

``Done.elsewhere`` tells whether the failure is one of the host and not of the message, with
nothing promised by the host yet: another address may then be tried.
A recipient whose TLS policy the session does not meet is not named to the server. Where none is
left, or the session was opened for others, the host counts as failed in the same way.
Source: RFC 5321, RFC 2033 (LMTP), RFC 2920 (PIPELINING), RFC 1870 (SIZE), RFC 3030 (CHUNKING),
RFC 6152 (8BITMIME), RFC 3207 (STARTTLS); SPEC rows X006, X017, X426, decision D49.
"""

from collections import deque
from collections.abc import Callable
from typing import ClassVar

from libsmx.reply import Reply, ReplyError, ReplyParser
from smtpc.effects import Close, Done, Effect, Send, SendContent, StartTls, Transaction
from smtpc.exchange import Exchange
from smtpc.opening import BeginTls, GiveUp, Odd, Opening, Ready, Say, Step
from smtpc.phases import OPENING, PHASE_OF, Phase, Verb
from smtpc.plan import Plan
from smtpc.result import Outcome, clean, from_reply, temporary
from smtpc.tlspolicy import Secured

PIPELINE_WINDOW = 100
"""Most commands without a reply: their replies must fit into our receive buffer, or both sides
wait for each other (RFC 2920 3.1)."""

_NOTHING = Transaction(sender="", rcpts=(), size=0)


class Session:
    """One delivery session.

    Args:
        plan: how it is opened.

    Attributes:
        steps: rises whenever a wait begins anew; the shell then sets its deadline again.
        transactions: transactions begun.
        greeted: the server was ready for mail at least once.
    """

    def __init__(self, plan: Plan) -> None:
        self.steps = 0
        self.transactions = 0
        self.greeted = False
        self._plan = plan
        self._lmtp = plan.lmtp
        self._opening = Opening(plan)
        self._parser = ReplyParser()
        self._sent: deque[tuple[Verb, int]] = deque([(Verb.GREETING, 0)])
        # overrides what the oldest command says
        self._phase: Phase | None = Phase.TLS if plan.on_connect else None
        self._window = 1
        self._chunking = False
        self._ready = False
        self._dirty = False  # the server holds a transaction that was not ended by a dot
        self._active = False  # a transaction is under way
        self._exchange = Exchange(_NOTHING)

    # --- what the shell may ask ----------------------------------------------------------

    @property
    def phase(self) -> Phase:
        """What is waited for now."""
        if self._phase is not None:
            return self._phase
        return PHASE_OF[self._sent[0][0]] if self._sent else Phase.IDLE

    @property
    def timeout_s(self) -> float:
        """Seconds that the present phase may last."""
        return self._plan.timeouts[self.phase]

    @property
    def extensions(self) -> dict[str, str]:
        """EHLO keywords in upper case with their arguments, those that hold now."""
        return self._opening.extensions

    @property
    def secure(self) -> Secured | None:
        """The TLS of the session, None in clear text."""
        return self._opening.secure

    @property
    def idle(self) -> bool:
        """True while the session can take a transaction."""
        return self._ready and not self._active and self._phase is None

    # --- orders ----------------------------------------------------------------------------

    def start(self, ta: Transaction) -> list[Effect]:
        """Begin a transaction; before the greeting is in, it waits for that."""
        self._active = True
        self._exchange = Exchange(ta)
        self.transactions += 1
        effects: list[Effect] = []
        self._advance(effects)
        return effects

    def content_sent(self) -> None:
        """Note that the content and the final dot are on their way."""
        if self._phase is Phase.CONTENT:
            self._phase = None
            # RFC 2033 4.2: one reply for each accepted recipient, in the order of RCPT
            waits = (
                self._exchange.results.accepted
                if self._lmtp
                else self._exchange.results.accepted[:1]
            )
            self._sent.extend((Verb.DOT, position) for position in waits)
            self.steps += 1

    def secured(self, session: Secured) -> list[Effect]:
        """Go on after the handshake."""
        self._phase = None
        self.steps += 1
        effects: list[Effect] = []
        step = self._opening.secured(session)
        if step is not None:
            self._do(step, effects)
        return effects

    def handshake_failed(self, why: str) -> list[Effect]:
        """Give this connection up: nobody knows what the server makes of it (RFC 3207 4.1)."""
        verdict = temporary("4.7.5", f"TLS handshake failed: {why}")
        return self._end(verdict, tls_failed=True)

    def block_sent(self) -> None:
        """Note that one block of content left: the next one has its own time."""
        self.steps += 1

    def fail(self, verdict: Outcome) -> list[Effect]:
        """Give up: the connection broke, the content cannot be read, or we are told to stop.

        Open recipients get the verdict; a message half sent is never ended with a dot.
        """
        return self._end(verdict)

    def lost(self, what: str) -> list[Effect]:
        """The connection ended or broke; ``what`` says how."""
        if self.phase is Phase.TLS:
            return self.handshake_failed(what)
        if self.phase is Phase.DOT:
            # RFC 5321 4.5.3.2.6: the server may have taken the message; all we can do is to
            # send it again.
            return self._end(
                temporary("4.4.2", f"{what} after end of data, before its reply"), unknown=True
            )
        return self._end(temporary("4.4.2", f"{what} while waiting for {self.phase.value}"))

    def timed_out(self) -> list[Effect]:
        """The time of the present phase is over."""
        if not self._active and self.phase in {Phase.IDLE, Phase.QUIT}:
            return self._end(temporary("4.4.2", f"no {self.phase.value} in time"))
        return self.lost("time-out")

    def quit(self) -> list[Effect]:
        """Say QUIT if the session is idle, and close in any case."""
        if self.idle:
            self._ready = False
            self._sent.append((Verb.QUIT, 0))
            self.steps += 1
            return [Send(b"QUIT\r\n")]
        return self._end(temporary("4.3.2", "session was ended on our side"))

    def receive(self, data: bytes) -> list[Effect]:
        """Take bytes from the server."""
        effects: list[Effect] = []
        # Line by line: what was said before a fault in the same packet keeps its meaning.
        for piece in data.splitlines(keepends=True):
            if self._phase is Phase.CLOSED:
                return effects
            if self._phase is Phase.TLS:
                # RFC 3207 4.2, CVE-2011-0411: somebody on the way put them in
                effects += self._broken("clear text behind the reply to STARTTLS")
                return effects
            try:
                replies = self._parser.feed(piece)
            except ReplyError as error:
                effects += self._broken(str(error))
                return effects
            for reply in replies:
                self._take(reply, effects)
        self._advance(effects)
        return effects

    # --- replies ---------------------------------------------------------------------------

    def _take(self, reply: Reply, effects: list[Effect]) -> None:
        """Match one reply to the command that it answers."""
        if self._phase is Phase.CLOSED:
            return
        self.steps += 1
        if self._phase is Phase.CONTENT:
            self._early(reply, effects)
        elif not self._sent:
            gone = reply.code == 421
            effects += self._end(from_reply(reply)) if gone else self._broken("unsolicited reply")
        elif reply.code == 421 and self._sent[0][0] not in {Verb.GREETING, Verb.QUIT}:
            # the server ends the session, whatever it was asked (RFC 5321 3.8)
            effects += self._end(from_reply(reply))
        else:
            verb, position = self._sent.popleft()
            if verb in OPENING:
                self._do(self._opening.take(verb, reply), effects)
            else:
                self._HANDLERS[verb](self, reply, position, effects)

    def _do(self, step: Step, effects: list[Effect]) -> None:
        """Do what the opening wants."""
        match step:
            case Say(verb, line):
                self._sent.append((verb, 0))
                effects.append(Send(line))
            case BeginTls():
                self._phase = Phase.TLS
                effects.append(StartTls())
            case GiveUp(outcome):
                effects.append(Send(b"QUIT\r\n"))
                effects += self._end(outcome)
            case Odd(text):
                effects += self._broken(text)
            case Ready():
                self._window = PIPELINE_WINDOW if "PIPELINING" in self.extensions else 1
                self._chunking = self._plan.chunking and "CHUNKING" in self.extensions
                self._ready = self.greeted = True

    def _on_rset(self, reply: Reply, _position: int, effects: list[Effect]) -> None:
        if reply.code // 100 != 2:
            effects += self._broken(f"RSET was refused: {clean(f'{reply.code} {reply.text}')}")

    def _on_mail(self, reply: Reply, _position: int, effects: list[Effect]) -> None:
        if reply.code // 100 == 2:
            self._dirty = True
        elif self._verdict(reply, effects):
            self._exchange.mail_refused = True
            self._exchange.results.settle(from_reply(reply))

    def _on_rcpt(self, reply: Reply, position: int, effects: list[Effect]) -> None:
        if reply.code // 100 == 2:
            self._exchange.results.accepted.append(position)
        elif not self._exchange.mail_refused and self._verdict(reply, effects):
            self._exchange.refused_rcpt(position, reply)

    def _on_data(self, reply: Reply, _position: int, effects: list[Effect]) -> None:
        if reply.code != 354:
            if self._verdict(reply, effects):
                self._exchange.results.settle(from_reply(reply))
                self._exchange.results.accepted = []
        elif self._exchange.mail_refused and self._exchange.results.accepted:
            effects += self._broken("MAIL was refused, and RCPT and DATA were accepted")
        elif self._exchange.results.accepted:
            self._phase = Phase.CONTENT
            effects.append(SendContent())
        elif self._lmtp:
            # RFC 2033 4.2: DATA must fail then; what a dot would be answered with is unknown
            effects += self._broken("DATA was accepted without a recipient")
        else:
            # RFC 2920 3.1: all recipients were refused, end the empty message at once
            self._exchange.void = True
            self._sent.append((Verb.DOT, 0))
            effects.append(Send(b".\r\n"))

    def _on_dot(self, reply: Reply, position: int, effects: list[Effect]) -> None:
        self._dirty = False
        if self._exchange.void:
            return
        if reply.code // 100 == 3:
            text = clean(f"protocol error: unexpected reply {reply.code} {reply.text}")
            effects += self._end(temporary("4.5.0", text), unknown=True)
        elif self._lmtp:
            self._exchange.results.set(position, from_reply(reply))
        else:
            self._exchange.results.settle(from_reply(reply))

    def _on_quit(self, _reply: Reply, _position: int, effects: list[Effect]) -> None:
        effects += self._end(temporary("4.3.2", "quit"))

    def _early(self, reply: Reply, effects: list[Effect]) -> None:
        """A reply before the final dot: a refusal holds, a promise means nothing."""
        if reply.code // 100 in {4, 5}:
            effects += self._end(from_reply(reply))
        else:
            effects += self._broken("reply before end of data")

    # --- results ---------------------------------------------------------------------------

    def _verdict(self, reply: Reply, effects: list[Effect]) -> bool:
        """Tell whether a reply refuses; end the session if it has no meaning here."""
        if reply.code // 100 in {4, 5}:
            return True
        effects += self._broken(f"unexpected reply {clean(f'{reply.code} {reply.text}')}")
        return False

    def _broken(self, what: str) -> list[Effect]:
        """The server does not keep to the protocol."""
        unknown = self.phase is Phase.DOT and not self._exchange.void
        return self._end(temporary("4.5.0", f"protocol error: {what}"), unknown=unknown)

    def _end(
        self, verdict: Outcome, *, unknown: bool = False, tls_failed: bool = False
    ) -> list[Effect]:
        """Close the session; open recipients get the verdict."""
        if self._phase is Phase.CLOSED:
            return []
        effects: list[Effect] = []
        if self._active:
            untouched = self._exchange.results.untouched
            self._exchange.results.settle(verdict)
            results = self._exchange.results.take()
            effects.append(
                Done(
                    results,
                    usable=False,
                    elsewhere=untouched,
                    unknown=unknown,
                    reason=verdict.text,
                    tls_failed=tls_failed,
                )
            )
            self._active = False
        self._phase = Phase.CLOSED
        self._ready = False
        self._sent.clear()
        effects.append(Close(verdict.text))
        return effects

    def _finish(self, effects: list[Effect]) -> None:
        """Every reply is in: report, and be ready for the next transaction."""
        self._exchange.results.settle(
            temporary("4.5.0", "protocol error: no reply for this recipient")
        )
        effects.append(Done(self._exchange.results.take(), usable=True))
        self._active = False

    # --- commands --------------------------------------------------------------------------

    def _advance(self, effects: list[Effect]) -> None:
        """Do what the replies so far allow: send more, or report the end."""
        now = self._exchange
        if not self._active or not self._ready or self._phase is not None:
            return
        if not now.begun:
            now.refuse(self.extensions)
        if not now.begun and (now.ta.policies or now.ta.login != self._plan.login):
            kept = self.transactions > 1
            verdict = now.admit(self._plan.login, self.secure, self._opening.why_clear, kept=kept)
            if verdict is not None:
                effects.append(Send(b"QUIT\r\n"))
                effects += self._end(verdict)
                return
        if now.more:
            self._pump(now, effects)
        if not self._sent and self._phase is None:
            self._finish(effects)

    def _pump(self, now: Exchange, effects: list[Effect]) -> None:
        """Send the commands that may be sent now, all in one write."""
        out = b""
        if not now.begun and self._dirty:
            self._dirty = False
            self._sent.append((Verb.RSET, 0))
            out = b"RSET\r\n"
        out += now.commands(self._sent, self._window, self.extensions, chunk=self._chunking)
        if out:
            self.steps += 1
            effects.append(Send(out))
        if now.chunk_due:
            now.chunk_due = False
            self._phase = Phase.CONTENT
            self.steps += 1
            effects.append(SendContent(chunk=True))

    _HANDLERS: ClassVar[dict[Verb, Callable[["Session", Reply, int, list[Effect]], None]]] = {
        Verb.RSET: _on_rset,
        Verb.MAIL: _on_mail,
        Verb.RCPT: _on_rcpt,
        Verb.DATA: _on_data,
        Verb.DOT: _on_dot,
        Verb.QUIT: _on_quit,
    }
