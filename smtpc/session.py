"""The client side of SMTP and LMTP as a machine: bytes and orders in, effects out.

Kind: core.

One ``Session`` is one connection; it carries transactions one after the other. The shell feeds
it what arrives and obeys the effects it returns:

* ``Send``: write these bytes;
* ``SendContent``: write the content, dot-stuffed, with the final dot, then call
  ``content_sent``;
* ``Done``: the transaction is over, with one result for every recipient;
* ``Close``: close the connection.

With PIPELINING, MAIL, the RCPTs and DATA travel in one write; without it the same machine
sends one command at a time. Every reply is matched to the command it answers: a reply too many,
a malformed one or one of a class that has no meaning there ends the session, and whoever has no
result yet gets a temporary failure. Nothing a server sends raises.

``Done.elsewhere`` tells whether the failure is one of the host and not of the message, with
nothing promised by the host yet: another address may then be tried.
Source: RFC 5321, RFC 2033 (LMTP), RFC 2920 (PIPELINING), RFC 1870 (SIZE), RFC 6152 (8BITMIME);
SPEC rows X006, X017, decision D49.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import ClassVar

from libsmx.envelope import Recipient
from libsmx.reply import Reply, ReplyError, ReplyParser
from smtpc.commands import (
    mail_command,
    parse_extensions,
    rcpt_command,
    refuse_rcpt,
    refuse_transaction,
)
from smtpc.effects import Close, Done, Effect, Send, SendContent, Transaction
from smtpc.phases import PHASE_OF, TIMEOUT_S, Phase, Verb
from smtpc.result import Outcome, Results, clean, from_reply, temporary

PIPELINE_WINDOW = 100
"""Most commands without a reply: their replies must fit into our receive buffer, or both sides
wait for each other (RFC 2920 3.1)."""


class Session:
    """One delivery session.

    Args:
        helo: our host name.
        lmtp: speak LMTP: LHLO, and after the final dot one reply for each accepted recipient.

    Attributes:
        steps: rises whenever a wait begins anew; the shell then sets its deadline again.
        transactions: transactions begun.
        greeted: the server was ready for mail at least once.
        extensions: EHLO keywords in upper case with their arguments.
    """

    def __init__(self, helo: str, *, lmtp: bool = False) -> None:
        self.steps = 0
        self.transactions = 0
        self.greeted = False
        self.extensions: dict[str, str] = {}
        self._helo = helo
        self._lmtp = lmtp
        self._parser = ReplyParser()
        self._sent: deque[tuple[Verb, int]] = deque([(Verb.GREETING, 0)])
        self._phase: Phase | None = None  # overrides what the oldest command says
        self._window = 1
        self._ready = False
        self._dirty = False  # the server holds a transaction that was not ended by a dot
        self._ta: Transaction | None = None
        self._begin(())

    def _begin(self, rcpts: Sequence[Recipient]) -> None:
        """Forget the last transaction's state."""
        self._results = Results(rcpts)
        self._next = -1  # what to send next: -1 MAIL, then recipients by position, then DATA
        self._mail_refused = False
        self._void = False  # a lone dot was sent only to get out of DATA

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
        return TIMEOUT_S[self.phase]

    @property
    def idle(self) -> bool:
        """True while the session can take a transaction."""
        return self._ready and self._ta is None and self._phase is None

    # --- orders ----------------------------------------------------------------------------

    def start(self, ta: Transaction) -> list[Effect]:
        """Begin a transaction; before the greeting is in, it waits for that."""
        self._ta = ta
        self._begin(ta.rcpts)
        self.transactions += 1
        effects: list[Effect] = []
        self._advance(effects)
        return effects

    def content_sent(self) -> None:
        """Note that the content and the final dot are on their way."""
        if self._phase is Phase.CONTENT:
            self._phase = None
            # RFC 2033 4.2: one reply for each accepted recipient, in the order of RCPT
            waits = self._results.accepted if self._lmtp else self._results.accepted[:1]
            self._sent.extend((Verb.DOT, position) for position in waits)
            self.steps += 1

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
        if self.phase is Phase.DOT:
            # RFC 5321 4.5.3.2.6: the server may have taken the message; all we can do is to
            # send it again.
            return self._end(
                temporary("4.4.2", f"{what} after end of data, before its reply"), unknown=True
            )
        return self._end(temporary("4.4.2", f"{what} while waiting for {self.phase.value}"))

    def timed_out(self) -> list[Effect]:
        """The time of the present phase is over."""
        if self._ta is None and self.phase in {Phase.IDLE, Phase.QUIT}:
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
            effects += (
                self._goodbye(reply) if reply.code == 421 else self._broken("unsolicited reply")
            )
        elif reply.code == 421 and self._sent[0][0] not in {Verb.GREETING, Verb.QUIT}:
            effects += self._goodbye(reply)
        else:
            verb, position = self._sent.popleft()
            self._HANDLERS[verb](self, reply, position, effects)

    def _on_greeting(self, reply: Reply, _position: int, effects: list[Effect]) -> None:
        if reply.code == 220:
            verb = b"LHLO" if self._lmtp else b"EHLO"
            self._say(Verb.EHLO, verb, effects)
        else:
            self._no_service(reply, effects)

    def _on_ehlo(self, reply: Reply, _position: int, effects: list[Effect]) -> None:
        if reply.code // 100 == 2:
            self.extensions = parse_extensions(reply.text)
            self._window = PIPELINE_WINDOW if "PIPELINING" in self.extensions else 1
            self._ready = self.greeted = True
        elif reply.code // 100 == 5 and not self._lmtp:
            self._say(Verb.HELO, b"HELO", effects)  # RFC 5321 3.2: an old server
        else:
            self._no_service(reply, effects)

    def _on_helo(self, reply: Reply, _position: int, effects: list[Effect]) -> None:
        if reply.code // 100 == 2:
            self._ready = self.greeted = True
        else:
            self._no_service(reply, effects)

    def _say(self, verb: Verb, word: bytes, effects: list[Effect]) -> None:
        self._sent.append((verb, 0))
        effects.append(Send(b"%s %s\r\n" % (word, self._helo.encode("ascii", "replace"))))

    def _no_service(self, reply: Reply, effects: list[Effect]) -> None:
        """The host does not want to talk: RFC 5321 5.1 goes on with the next address."""
        if reply.code // 100 not in {4, 5}:
            effects += self._broken(f"unexpected reply {clean(f'{reply.code} {reply.text}')}")
            return
        effects.append(Send(b"QUIT\r\n"))
        effects += self._end(from_reply(reply))

    def _on_rset(self, reply: Reply, _position: int, effects: list[Effect]) -> None:
        if reply.code // 100 != 2:
            effects += self._broken(f"RSET was refused: {clean(f'{reply.code} {reply.text}')}")

    def _on_mail(self, reply: Reply, _position: int, effects: list[Effect]) -> None:
        if reply.code // 100 == 2:
            self._dirty = True
        elif self._verdict(reply, effects):
            self._mail_refused = True
            self._results.settle(from_reply(reply))

    def _on_rcpt(self, reply: Reply, position: int, effects: list[Effect]) -> None:
        if reply.code // 100 == 2:
            self._results.accepted.append(position)
        elif not self._mail_refused and self._verdict(reply, effects):
            outcome = from_reply(reply)
            if reply.code == 552 and self._results.accepted and reply.status in {"", "5.5.3"}:
                # RFC 5321 4.5.3.1.10: the RFC 821 way to say "too many recipients" (452)
                outcome = Outcome(452, "4.5.3", outcome.text)
            self._results.set(position, outcome)

    def _on_data(self, reply: Reply, _position: int, effects: list[Effect]) -> None:
        if reply.code != 354:
            if self._verdict(reply, effects):
                self._results.settle(from_reply(reply))
                self._results.accepted = []
        elif self._mail_refused and self._results.accepted:
            effects += self._broken("MAIL was refused, and RCPT and DATA were accepted")
        elif self._results.accepted:
            self._phase = Phase.CONTENT
            effects.append(SendContent())
        elif self._lmtp:
            # RFC 2033 4.2: DATA must fail then; what a dot would be answered with is unknown
            effects += self._broken("DATA was accepted without a recipient")
        else:
            # RFC 2920 3.1: all recipients were refused, end the empty message at once
            self._void = True
            self._sent.append((Verb.DOT, 0))
            effects.append(Send(b".\r\n"))

    def _on_dot(self, reply: Reply, position: int, effects: list[Effect]) -> None:
        self._dirty = False
        if self._void:
            return
        if reply.code // 100 != 2 and not self._verdict(reply, effects):
            return
        if self._lmtp:
            self._results.set(position, from_reply(reply))
        else:
            self._results.settle(from_reply(reply))

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

    def _goodbye(self, reply: Reply) -> list[Effect]:
        """421: the server ends the session, whatever it was asked (RFC 5321 3.8)."""
        return self._end(from_reply(reply))

    def _broken(self, what: str) -> list[Effect]:
        """The server does not keep to the protocol."""
        unknown = self.phase is Phase.DOT and not self._void
        return self._end(temporary("4.5.0", f"protocol error: {what}"), unknown=unknown)

    def _end(self, verdict: Outcome, *, unknown: bool = False) -> list[Effect]:
        """Close the session; open recipients get the verdict."""
        if self._phase is Phase.CLOSED:
            return []
        effects: list[Effect] = []
        if self._ta is not None:
            untouched = self._results.untouched
            self._results.settle(verdict)
            results = self._results.take()
            effects.append(
                Done(
                    results, usable=False, elsewhere=untouched, unknown=unknown, reason=verdict.text
                )
            )
            self._ta = None
        self._phase = Phase.CLOSED
        self._ready = False
        self._sent.clear()
        effects.append(Close(verdict.text))
        return effects

    def _finish(self, effects: list[Effect]) -> None:
        """Every reply is in: report, and be ready for the next transaction."""
        self._results.settle(temporary("4.5.0", "protocol error: no reply for this recipient"))
        effects.append(Done(self._results.take(), usable=True))
        self._ta = None

    # --- commands --------------------------------------------------------------------------

    def _advance(self, effects: list[Effect]) -> None:
        """Do what the replies so far allow: send more, or report the end."""
        ta = self._ta
        if ta is None or not self._ready or self._phase is not None:
            return
        if self._next < 0:
            refusal = refuse_transaction(ta, self.extensions)
            if refusal is not None:
                self._results.settle(refusal)
                self._next = len(ta.rcpts) + 1
        if self._next <= len(ta.rcpts):
            self._pump(ta, effects)
        if not self._sent:
            self._finish(effects)

    def _pump(self, ta: Transaction, effects: list[Effect]) -> None:
        """Send the commands that may be sent now, all in one write."""
        out: list[bytes] = []
        if self._next < 0 and self._dirty:
            self._dirty = False
            self._sent.append((Verb.RSET, 0))
            out.append(b"RSET\r\n")
        while len(self._sent) < self._window and self._next <= len(ta.rcpts):
            if self._next < 0:
                self._sent.append((Verb.MAIL, 0))
                out.append(mail_command(ta, self.extensions))
            elif self._mail_refused:
                self._next = len(ta.rcpts)
            elif self._next < len(ta.rcpts):
                self._pump_rcpt(ta.rcpts[self._next], out)
            elif self._results.accepted or self._sent:
                self._sent.append((Verb.DATA, 0))
                out.append(b"DATA\r\n")
            self._next += 1
        if out:
            self.steps += 1
            effects.append(Send(b"".join(out)))

    def _pump_rcpt(self, rcpt: Recipient, out: list[bytes]) -> None:
        refusal = refuse_rcpt(rcpt)
        if refusal is not None:
            self._results.set(self._next, refusal)
            return
        self._sent.append((Verb.RCPT, self._next))
        out.append(rcpt_command(rcpt, self.extensions))

    _HANDLERS: ClassVar[dict[Verb, Callable[["Session", Reply, int, list[Effect]], None]]] = {
        Verb.GREETING: _on_greeting,
        Verb.EHLO: _on_ehlo,
        Verb.HELO: _on_helo,
        Verb.RSET: _on_rset,
        Verb.MAIL: _on_mail,
        Verb.RCPT: _on_rcpt,
        Verb.DATA: _on_data,
        Verb.DOT: _on_dot,
        Verb.QUIT: _on_quit,
    }
