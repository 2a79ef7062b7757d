"""The ESMTP server machine: bytes of a client in, effects out.

Kind: core.

All complete lines are handled in one call and their replies leave together. MAIL and RCPT
need answers of smar (and the first RCPT room in qmgr): consecutive ones form a group whose
questions travel at once; every other command waits until the group is resolved, so that
replies keep their order and counters are exact. While an answer is awaited, the shell gives
no input, hence a client that does not wait is held by its own socket.

States: GREETING -> COMMAND; COMMAND -> ASKING (group) -> COMMAND; COMMAND -> OPENING (DATA) ->
DATA -> COMMITTING -> COMMAND; any -> CLOSED. BDAT goes to CHUNK instead of DATA, and back to
COMMAND after each chunk. With content filters CONSULTING comes before the greeting and behind
ASKING, and INSPECTING before COMMITTING. XCLIENT goes back to GREETING. STARTTLS waits in
SECURING, AUTH in PROVING. What a command does stands in smtps/dialogue.py, what happens to
content in smtps/intake.py.
Limits: one line, one group of at most MAX_GROUP questions, what the options allow.
Source: RFC 5321 3.3, 4.1.1.4, 4.5.2, RFC 2920; SPEC rows X002, X003, X011, X378, X379.
"""

from libsmx import reply
from libsmx.errors import Bug
from libsmx.lines import LineError, LineFault, LineReader
from libsmx.reply import Reply
from libsmx.tlsfacts import TlsFacts
from libsmx.wire import ConnVerdict, Refusal, SessionGranted
from smtps import events
from smtps.authsteps import Prove, Proved, Secured, StartTls
from smtps.effects import (
    Answered,
    Ask,
    Close,
    CommitResult,
    Consult,
    Consulted,
    Delay,
    Effect,
    Inspected,
    Introduce,
    Introduced,
    Open,
    Opened,
    Result,
    Send,
)
from smtps.intake import BARE, Intake, State
from smtps.judge import reply_of
from smtps.policy import Policy
from smtps.steps import connect_step, steps_of, with_said
from smtps.transaction import RcptItem

__all__ = ["MAX_GROUP", "Session", "State"]

MAX_GROUP = 100
"""Most questions asked at once; a longer group is asked in parts."""

_SPEAKING = frozenset((State.COMMAND, State.DATA, State.CHUNK, State.CLOSED))
"""States in which replies leave; in the others they wait for those that are due with them."""


class Session(Intake):
    """One SMTP session; parameters and attributes of Intake.

    Attributes:
        greeted: the client has been greeted.
    """

    def __init__(self, policy: Policy, client: str, session_id: str) -> None:
        super().__init__(policy, client, session_id)
        self._held: bytes | LineFault | None = None
        self.greeted = False
        self._errors = 0
        self._result: Answered | None = None
        self._asked: list[int] = []

    # --- what the shell calls ----------------------------------------------------------

    def opened(
        self,
        answer: SessionGranted | Refusal | None,
        verdict: ConnVerdict | Refusal | None = None,
    ) -> list[Effect]:
        """Greet the client, or turn it away.

        Args:
            answer: of qmgr, None if there is none.
            verdict: of smar on the client, which is asked for with the access map only.
        """
        dialogue = self.dialogue
        if answer is None:
            refusal: Reply | None = reply.NO_SERVICE.fill(self.policy.hostname)
        elif isinstance(answer, Refusal):
            refusal = reply_of(answer)
        else:
            refusal = dialogue.admit(verdict) if self.policy.access else None
        if refusal is not None:
            self._turn_away(refusal)
        elif self.policy.filtered:
            dialogue.effects.append(Consult((connect_step(dialogue),)))
            self.state = State.CONSULTING
        else:
            self._greet()
        return self._turn()

    def _greet(self) -> None:
        self.state = State.COMMAND
        self.greeted = True
        self.dialogue.say(self.policy.greeting)
        self._follow_up()

    def _turn_away(self, refusal: Reply) -> None:
        self.dialogue.close(refusal)
        self.dialogue.record(events.SESSION_REFUSED, stat=self.dialogue.reason)

    def spoke_early(self) -> list[Effect]:
        """Turn away a client that did not wait for the greeting."""
        self._turn_away(reply.EARLY_TALKER.fill(self.policy.hostname))
        return self._turn()

    def receive(self, data: bytes) -> list[Effect]:
        """Handle received bytes; never called while an answer is awaited."""
        if self.state is State.DATA:
            self.take_data(data)
        elif self.state is State.COMMAND:
            self.lines.feed(data)
        elif self.state is State.CHUNK:
            self.take_chunk(data)
        elif self.state is not State.CLOSED:
            raise Bug(f"input in state {self.state.name}")
        return self._turn()

    def answer(self, result: Result) -> list[Effect]:
        """Go on after an effect that waits."""
        match result:
            case Answered() if self.state is State.ASKING:
                self._answered(result)
            case Consulted() if self.state is State.CONSULTING:
                self._consulted(result)
            case Inspected() if self.state is State.INSPECTING:
                self.inspected(result)
            case Introduced() if self.state is State.GREETING:
                self.greeted = False
                return self.opened(result.answer, result.verdict)
            case Secured() if self.state is State.SECURING:
                self.state = State.COMMAND
                self.secured(result.facts)
                self._follow_up()
            case Proved() if self.state is State.PROVING:
                self.state = State.COMMAND
                self.dialogue.proved(result.answer)
                self._follow_up()
            case Opened() if self.state is State.OPENING:
                self.open_content(result.at_s)
            case CommitResult() if self.state is State.COMMITTING:
                self.committed(result)
            case _:
                raise Bug(f"{type(result).__name__} in state {self.state.name}")
        return self._turn()

    @property
    def idle(self) -> bool:
        """True between transactions with nothing under way: the session may be ended."""
        return self.state is State.COMMAND and self.dialogue.ta is None

    def stop(self) -> list[Effect]:
        """End the session because the server stops."""
        self.dialogue.leave(reply.SHUTTING_DOWN)
        return self._turn()

    def time_out(self) -> list[Effect]:
        """End the session because the client was silent for too long."""
        self.dialogue.leave(reply.TIMED_OUT)
        return self._turn()

    def too_slow(self) -> list[Effect]:
        """End the session because its content comes in too slowly."""
        self.dialogue.leave(reply.TOO_SLOW)
        return self._turn()

    def lost(self, reason: str) -> list[Effect]:
        """Clean up after the connection broke or its task was cancelled.

        The content of a commit under way stays: nobody can call the commit back. If qmgr did
        not take it, qmgr removes it after a grace period as content without an envelope.
        """
        self.dialogue.out.clear()
        self.dialogue.close(None, reason)
        return self._turn()

    # --- the turn ----------------------------------------------------------------------

    def _turn(self) -> list[Effect]:
        """Handle what can be handled and return everything that is to be done."""
        dialogue = self.dialogue
        while self.state is State.COMMAND and not dialogue.closed and self._step():
            pass
        closing = dialogue.closed and self.state is not State.CLOSED
        if closing:
            self.state = State.CLOSED
        effects, dialogue.effects = dialogue.effects, []
        if dialogue.out and self.state in _SPEAKING:
            errors, conf = dialogue.errors, self.policy.conf
            if errors > self._errors and conf.error_delay and errors > conf.errors_before_delay:
                effects.append(Delay(conf.error_delay))
            self._errors = errors
            effects.append(Send(b"".join(dialogue.out)))
            dialogue.out.clear()
        if closing:
            effects.append(Close())
        return effects

    def _step(self) -> bool:
        """Handle one line; return False when there is no more to do now."""
        dialogue = self.dialogue
        if dialogue.group and dialogue.group_closed:
            self._settle_group()
            return True
        line = self._next()
        if dialogue.group and not (
            isinstance(line, bytes)
            and line[:5].upper() == b"RCPT "
            and len(dialogue.group) < MAX_GROUP
        ):
            self._held = line
            self._settle_group()
            return True
        if line is None:
            return False
        if isinstance(line, LineFault):
            self._refuse_fault(line)
            return True
        if dialogue.exchange is not None:
            dialogue.auth_line(line)
        else:
            dialogue.command(line)
        self._follow_up()
        return True

    def _follow_up(self) -> None:
        """Begin what a command wants that is more than a reply."""
        dialogue = self.dialogue
        if dialogue.closed or dialogue.group:
            return
        if dialogue.wanted is not None:
            self._begin_wanted(dialogue.wanted)
        elif dialogue.data_wanted and dialogue.ta is not None:
            dialogue.data_wanted = False
            dialogue.effects.append(Open(dialogue.ta.ta_id))
            self.state = State.OPENING
        elif dialogue.chunk is not None:
            self.begin_chunk()
        elif dialogue.reintroduction is not None:
            dialogue.introduce(dialogue.reintroduction)
            dialogue.effects.append(Introduce())
            self.state = State.GREETING

    def _begin_wanted(self, wanted: StartTls | Prove) -> None:
        """Begin a handshake, or ask who the client is."""
        dialogue = self.dialogue
        dialogue.wanted = None
        if isinstance(wanted, Prove):
            dialogue.asked = wanted.question
            dialogue.effects.append(wanted)
            self.state = State.PROVING
        elif self.lines.take_rest():
            dialogue.injected()
        else:
            dialogue.say(reply.START_TLS)
            dialogue.effects += [Send(b"".join(dialogue.out)), wanted]
            dialogue.out.clear()
            self.state = State.SECURING

    def secured(self, facts: TlsFacts) -> None:
        """Note that the connection is encrypted, from its beginning or from now on."""
        self.lines = LineReader()
        self.dialogue.secured(facts)

    def _next(self) -> bytes | LineFault | None:
        """Return the line held back for a group's sake, else the next one."""
        held, self._held = self._held, None
        if held is not None:
            return held
        try:
            return self.lines.next_line()
        except LineError as error:
            return error.kind

    def _refuse_fault(self, fault: LineFault) -> None:
        """Refuse a line that cannot be read; after one too long the session may go on."""
        if fault is LineFault.TOO_LONG and self.dialogue.exchange is not None:
            self.dialogue.auth_over(reply.LINE_TOO_LONG)
            self._follow_up()
        elif fault is LineFault.TOO_LONG:
            self.dialogue.refuse_bad(reply.LINE_TOO_LONG)
        elif fault is LineFault.ENDLESS:
            self.dialogue.leave(reply.ENDLESS_LINE)
        else:
            self.dialogue.close(BARE[fault])

    def _settle_group(self) -> None:
        """Ask what the group needs, or resolve it at once if it needs nothing."""
        dialogue, ta = self.dialogue, self.dialogue.ta
        # Room is reserved once a transaction, together with the first recipient's verdict.
        reserve = (
            ta is not None
            and not ta.ta_id
            and isinstance(dialogue.group[-1], RcptItem)
            and any(isinstance(item, RcptItem) and item.refusal is None for item in dialogue.group)
        )
        if dialogue.questions or reserve:
            dialogue.effects.append(Ask(tuple(dialogue.questions), reserve))
            self.state = State.ASKING
        else:
            self._answered(Answered(()))

    def _answered(self, result: Answered) -> None:
        """Go on with the answers to the group: with the filters, or with its replies."""
        dialogue = self.dialogue
        steps = steps_of(dialogue, result) if self.policy.filtered else []
        if steps:
            dialogue.heard = dialogue.heard or any(step.stage == "mail" for _, step in steps)
            self._result, self._asked = result, [at for at, _ in steps]
            dialogue.effects.append(Consult(tuple(step for _, step in steps)))
            self.state = State.CONSULTING
            return
        self.state = State.COMMAND
        dialogue.resolve_group(result)
        self._follow_up()

    def _consulted(self, result: Consulted) -> None:
        """Go on with what the filters say of a client, or of a group of commands."""
        dialogue, answered = self.dialogue, self._result
        self._result = None
        if answered is None:
            refusal = result.said[0].refusal
            dialogue.discard = dialogue.discard or result.said[0].discard
            if refusal is not None:
                self._turn_away(refusal)
            else:
                self._greet()
            return
        dialogue.group = with_said(dialogue.group, self._asked, result.said)
        self.state = State.COMMAND
        dialogue.resolve_group(answered)
        self._follow_up()
