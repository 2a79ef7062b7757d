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

import enum

from libsmx import reply
from libsmx.errors import Bug
from libsmx.lines import LineError, LineFault, LineReader
from libsmx.reply import Reply
from libsmx.wire import RcptAsk, Refusal, SessionGranted, TaCommitted
from smtps import events
from smtps.content import Content
from smtps.dialogue import Dialogue, reply_of
from smtps.effects import (
    Abort,
    Answered,
    Ask,
    Close,
    Commit,
    CommitResult,
    Discard,
    Effect,
    Open,
    Opened,
    Result,
    Send,
    Write,
)
from smtps.policy import Policy
from smtps.received import format_received
from smtps.transaction import Transaction

MAX_GROUP = 100
"""Most questions asked at once; a longer group is asked in parts."""

_BARE = {LineFault.BARE_CR: reply.BARE_CR, LineFault.BARE_LF: reply.BARE_LF}


class State(enum.Enum):
    """Where a session stands."""

    GREETING = enum.auto()
    COMMAND = enum.auto()
    ASKING = enum.auto()
    OPENING = enum.auto()
    DATA = enum.auto()
    COMMITTING = enum.auto()
    CLOSED = enum.auto()


_SPEAKING = frozenset((State.COMMAND, State.DATA, State.CLOSED))
"""States in which replies leave; in the others they wait for those that are due with them."""


class Session:
    """One SMTP session.

    Args:
        policy: rules of the server.
        client: IP address of the client.
        session_id: for logs, Received: and qmgr.

    Attributes:
        dialogue: what was said so far.
        state: where the session stands.
    """

    def __init__(self, policy: Policy, client: str, session_id: str) -> None:
        self.dialogue = Dialogue(policy, client, session_id)
        self.state = State.GREETING
        self._policy = policy
        self._lines = LineReader()
        self._held: bytes | LineFault | None = None
        self._committing: Transaction | None = None

    # --- what the shell calls ----------------------------------------------------------

    def opened(self, answer: SessionGranted | Refusal | None) -> list[Effect]:
        """Greet the client, or turn it away; answer is qmgr's, None if there is none."""
        dialogue = self.dialogue
        if isinstance(answer, SessionGranted):
            self.state = State.COMMAND
            dialogue.say(reply.GREETING.fill(self._policy.hostname))
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
            self._take_data(data)
        elif self.state is State.COMMAND:
            self._lines.feed(data)
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
                self._opened(result.at_s)
            case CommitResult() if self.state is State.COMMITTING:
                self._committed(result)
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
            return self._lines.next_line()
        except LineError as error:
            return error.kind

    def _refuse_fault(self, fault: LineFault) -> None:
        """Refuse a line that cannot be read; after one too long the session may go on."""
        if fault is LineFault.TOO_LONG:
            self.dialogue.refuse_bad(reply.LINE_TOO_LONG)
        elif fault is LineFault.ENDLESS:
            self.dialogue.leave(reply.ENDLESS_LINE)
        else:
            self.dialogue.close(_BARE[fault])

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

    # --- content -----------------------------------------------------------------------

    def _opened(self, at_s: float | None) -> None:
        """Let the client send the content, behind our Received: field."""
        dialogue, ta = self.dialogue, self.dialogue.ta
        if ta is None:
            raise Bug("content without a transaction")
        if at_s is None:
            self.state = State.COMMAND
            dialogue.reset()
            dialogue.say(reply.CANNOT_STORE)
            return
        head = format_received(
            helo=dialogue.helo,
            client=dialogue.client,
            hostname=self._policy.hostname,
            esmtp=dialogue.esmtp,
            ta_id=ta.ta_id,
            rcpt=ta.rcpts[0].address if len(ta.rcpts) == 1 else "",
            at_s=at_s,
        )
        ta.content = Content(self._policy.max_size, self._policy.conf.max_hops)
        ta.received_at = at_s
        ta.head = len(head)
        dialogue.effects.append(Write(head))
        dialogue.say(reply.START_MAIL)
        self.state = State.DATA
        rest = self._lines.take_rest()
        if rest:
            self._take_data(rest)

    def _take_data(self, data: bytes) -> None:
        """Pass content on; at its end commit it, or tell why it is refused."""
        dialogue, ta = self.dialogue, self.dialogue.ta
        if ta is None or ta.content is None:
            raise Bug("data without a transaction")
        try:
            content, done, rest = ta.content.feed(data)
        except LineError as error:
            self._refuse_content(ta, _BARE[error.kind])
            return
        if content:
            dialogue.effects.append(Write(content))
        if ta.content.endless:
            self._refuse_content(ta, reply.ENDLESS_DATA.fill(self._policy.hostname))
        elif done:
            self._lines.feed(rest)
            if ta.content.refusal is not None:
                self._refuse_content(ta, ta.content.refusal, close=False)
                return
            dialogue.effects.append(Commit(ta.envelope(dialogue.client, dialogue.session_id)))
            self.state = State.COMMITTING
            self._committing, dialogue.ta = ta, None

    def _refuse_content(self, ta: Transaction, refusal: Reply, *, close: bool = True) -> None:
        """Refuse a message; after content that is no clean SMTP nothing more is believed."""
        dialogue = self.dialogue
        self._record_refusal(ta, refusal)
        if close:
            dialogue.close(refusal)
        else:
            self.state = State.COMMAND
            dialogue.reset()
            dialogue.say(refusal)

    def _committed(self, result: CommitResult) -> None:
        """Tell the client what became of its message."""
        dialogue, ta, answer = self.dialogue, self._committing, result.answer
        if ta is None:
            raise Bug("a commit ended that was not begun")
        self._committing = None
        self.state = State.COMMAND
        if isinstance(answer, TaCommitted):
            # The only place that says 250 to the end of data. Here content and envelope are
            # on disk, each confirmed by whoever synced it, and from here on we must not lose
            # the message (RFC 5321 4.2.5, 6.1).
            dialogue.say(reply.ACCEPTED.fill(ta.ta_id))
            dialogue.counters.accepted += 1
            dialogue.counters.nops = 0
            dialogue.record(
                events.TA_ACCEPTED,
                ss_ta=ta.ta_id,
                mail=ta.sender,
                rcpts=len(ta.rcpts),
                size=ta.size,
            )
            return
        refusal = reply.CANNOT_STORE if answer is None else reply_of(answer)
        self._record_refusal(ta, refusal)
        if result.stored and answer is None:
            # qmgr may have taken the message and died before it could say so: it is not ours
            # to remove, and the client, told 4yz, may send it twice but will not lose it.
            dialogue.record(events.COMMIT_UNKNOWN, ss_ta=ta.ta_id)
        else:
            dialogue.effects.append(Discard())
            if answer is None:
                dialogue.effects.append(Abort(ta.ta_id))
        dialogue.say(refusal)

    def _record_refusal(self, ta: Transaction, refusal: Reply) -> None:
        self.dialogue.record(
            events.TA_REFUSED,
            ss_ta=ta.ta_id,
            mail=ta.sender,
            rcpts=len(ta.rcpts),
            size=ta.size,
            stat=f"{refusal.code} {refusal.text}",
        )
