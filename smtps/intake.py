"""Content of a message: from DATA to the answer after its end.

Kind: core.

Base of smtps/session.py, which reads commands and keeps the order of replies.
Source: RFC 5321 4.1.1.4, 4.5.2, 6.1; SPEC rows X001, X002, X011, X378, X379.
"""

import enum

from libsmx import reply
from libsmx.errors import Bug
from libsmx.lines import LineError, LineFault, LineReader
from libsmx.reply import Reply
from libsmx.wire import TaCommitted
from smtps import events
from smtps.content import Content
from smtps.dialogue import Dialogue
from smtps.effects import Abort, Commit, CommitResult, Discard, Write
from smtps.judge import reply_of
from smtps.policy import Policy
from smtps.received import format_received
from smtps.transaction import Transaction

BARE = {LineFault.BARE_CR: reply.BARE_CR, LineFault.BARE_LF: reply.BARE_LF}
"""Replies to line ends that are none; the session ends with them."""


class State(enum.Enum):
    """Where a session stands."""

    GREETING = enum.auto()
    COMMAND = enum.auto()
    ASKING = enum.auto()
    OPENING = enum.auto()
    DATA = enum.auto()
    COMMITTING = enum.auto()
    CLOSED = enum.auto()


class Intake:
    """One SMTP session, as far as content is concerned.

    Args:
        policy: rules of the server.
        client: IP address of the client.
        session_id: for logs, Received: and qmgr.

    Attributes:
        dialogue: what was said so far.
        state: where the session stands.
        policy: rules of the server.
        lines: what was received and not handled yet.
    """

    def __init__(self, policy: Policy, client: str, session_id: str) -> None:
        self.dialogue = Dialogue(policy, client, session_id)
        self.state = State.GREETING
        self.policy = policy
        self.lines = LineReader()
        self._committing: Transaction | None = None

    # --- content -----------------------------------------------------------------------

    def open_content(self, at_s: float | None) -> None:
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
            hostname=self.policy.hostname,
            esmtp=dialogue.esmtp,
            ta_id=ta.ta_id,
            rcpt=ta.rcpts[0].address if len(ta.rcpts) == 1 else "",
            at_s=at_s,
        )
        ta.content = Content(self.policy.max_size, self.policy.conf.max_hops)
        ta.received_at = at_s
        ta.head = len(head)
        dialogue.effects.append(Write(head))
        dialogue.say(reply.START_MAIL)
        self.state = State.DATA
        rest = self.lines.take_rest()
        if rest:
            self.take_data(rest)

    def take_data(self, data: bytes) -> None:
        """Pass content on; at its end commit it, or tell why it is refused."""
        dialogue, ta = self.dialogue, self.dialogue.ta
        if ta is None or ta.content is None:
            raise Bug("data without a transaction")
        try:
            content, done, rest = ta.content.feed(data)
        except LineError as error:
            self._refuse_content(ta, BARE[error.kind])
            return
        if content:
            dialogue.effects.append(Write(content))
        if ta.content.endless:
            self._refuse_content(ta, reply.ENDLESS_DATA.fill(self.policy.hostname))
        elif done:
            self.lines.feed(rest)
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

    def committed(self, result: CommitResult) -> None:
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
