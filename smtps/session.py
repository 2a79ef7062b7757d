"""The ESMTP server machine: bytes of a client in, effects out.

Kind: core.

All complete lines are handled in one call and their replies leave together. MAIL and RCPT
need answers of smar (and the first RCPT room in qmgr): consecutive ones form a group whose
questions travel at once; every other command waits until the group is resolved, so that
replies keep their order and counters are exact. While an answer is awaited, the shell gives
no input, hence a client that does not wait is held by its own socket.

States: GREETING -> COMMAND; COMMAND -> ASKING (group) -> COMMAND; COMMAND -> OPENING (DATA) ->
DATA -> COMMITTING -> COMMAND; any -> CLOSED. What a command does stands in smtps/dialogue.py.
Limits: one line, one group of at most MAX_GROUP questions, what the options allow.
Source: RFC 5321 3.3, 4.1.1.4, 4.5.2, RFC 2920; SPEC rows X002, X003, X011, X378, X379.
"""

from libsmx import reply
from libsmx.errors import Bug
from libsmx.lines import LineError, LineFault
from libsmx.wire import RcptAsk, Refusal, SessionGranted
from smtps import events
from smtps.effects import Answered, Ask, Close, CommitResult, Effect, Open, Opened, Result, Send
from smtps.intake import BARE, Intake, State
from smtps.judge import reply_of
from smtps.policy import Policy

__all__ = ["MAX_GROUP", "Session", "State"]

MAX_GROUP = 100
"""Most questions asked at once; a longer group is asked in parts."""

_SPEAKING = frozenset((State.COMMAND, State.DATA, State.CLOSED))
"""States in which replies leave; in the others they wait for those that are due with them."""


class Session(Intake):
    """One SMTP session; parameters and attributes of Intake."""

    def __init__(self, policy: Policy, client: str, session_id: str) -> None:
        super().__init__(policy, client, session_id)
        self._held: bytes | LineFault | None = None

    # --- what the shell calls ----------------------------------------------------------

    def opened(self, answer: SessionGranted | Refusal | None) -> list[Effect]:
        """Greet the client, or turn it away; answer is qmgr's, None if there is none."""
        dialogue = self.dialogue
        if isinstance(answer, SessionGranted):
            self.state = State.COMMAND
            dialogue.say(reply.GREETING.fill(self.policy.hostname))
        else:
            if answer is None:
                dialogue.leave(reply.NO_SERVICE)
            else:
                dialogue.close(reply_of(answer))
            dialogue.record(events.SESSION_REFUSED, stat=dialogue.reason)
        return self._turn()

    def receive(self, data: bytes) -> list[Effect]:
        """Handle received bytes; never called while an answer is awaited."""
        if self.state is State.DATA:
            self.take_data(data)
        elif self.state is State.COMMAND:
            self.lines.feed(data)
        elif self.state is not State.CLOSED:
            raise Bug(f"input in state {self.state.name}")
        return self._turn()

    def answer(self, result: Result) -> list[Effect]:
        """Go on after Ask, Open or Commit."""
        match result:
            case Answered() if self.state is State.ASKING:
                self.state = State.COMMAND
                self.dialogue.resolve(result)
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
            effects.append(Send(b"".join(dialogue.out)))
            dialogue.out.clear()
        if closing:
            effects.append(Close())
        return effects

    def _step(self) -> bool:
        """Handle one line; return False when there is no more to do now."""
        dialogue = self.dialogue
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
        dialogue.command(line)
        if dialogue.data_wanted and dialogue.ta is not None:
            dialogue.data_wanted = False
            dialogue.effects.append(Open(dialogue.ta.ta_id))
            self.state = State.OPENING
        return True

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
        if fault is LineFault.TOO_LONG:
            self.dialogue.refuse_bad(reply.LINE_TOO_LONG)
        elif fault is LineFault.ENDLESS:
            self.dialogue.leave(reply.ENDLESS_LINE)
        else:
            self.dialogue.close(BARE[fault])

    def _settle_group(self) -> None:
        """Ask what the group needs, or resolve it at once if it needs nothing."""
        dialogue = self.dialogue
        if not dialogue.questions:
            dialogue.resolve(Answered(()))
            return
        ta, questions = dialogue.ta, tuple(dialogue.questions)
        # Room is reserved once a transaction, together with the first recipient's verdict.
        reserve = ta is not None and not ta.ta_id and isinstance(questions[-1], RcptAsk)
        dialogue.effects.append(Ask(questions, reserve))
        self.state = State.ASKING
