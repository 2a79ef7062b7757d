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
from smtps.effects import Abort, Commit, CommitResult, Discard, Inspect, Inspected, Write
from smtps.judge import reply_of
from smtps.policy import Policy
from smtps.received import format_received, protocol_name
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
    CHUNK = enum.auto()
    CONSULTING = enum.auto()
    INSPECTING = enum.auto()
    SECURING = enum.auto()
    PROVING = enum.auto()
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
            dialogue.reset()
            if dialogue.chunk is not None:
                dialogue.chunk_refusal = reply.CANNOT_STORE
                self.begin_chunk()
                return
            self.state = State.COMMAND
            dialogue.say(reply.CANNOT_STORE)
            return
        head = format_received(
            helo=dialogue.helo,
            client=dialogue.client,
            hostname=self.policy.hostname,
            protocol=protocol_name(
                esmtp=dialogue.esmtp,
                utf8=ta.utf8,
                tls=dialogue.secure,
                auth=bool(dialogue.auth),
                facts=dialogue.tls,
            ),
            ta_id=ta.ta_id,
            rcpt=ta.rcpts[0].address if len(ta.rcpts) == 1 else "",
            at_s=at_s,
            name=dialogue.client_name,
        )
        ta.content = Content(self.policy.max_size, self.policy.conf)
        ta.received_at = at_s
        ta.head = len(head)
        dialogue.effects.append(Write(head))
        if dialogue.chunk is not None:
            self.begin_chunk()
            return
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
        if content and not ta.discard:
            dialogue.effects.append(Write(content))
        if ta.content.endless:
            self._refuse_content(ta, reply.ENDLESS_DATA.fill(self.policy.hostname))
        elif done:
            self.lines.feed(rest)
            self._end_content(ta, ta.content)

    def begin_chunk(self) -> None:
        """Read what follows BDAT, as far as it is there; a chunk may be empty."""
        self.state = State.CHUNK
        self.take_chunk(self.lines.take_rest())

    def take_chunk(self, data: bytes) -> None:
        """Pass the bytes of a chunk on, or drop them; at its end answer it (RFC 3030 2)."""
        dialogue, ta = self.dialogue, self.dialogue.ta
        if dialogue.chunk is None:
            raise Bug("chunk data without BDAT")
        size, last = dialogue.chunk
        piece, rest = data[:size], data[size:]
        dialogue.chunk = (size - len(piece), last)
        refusal = dialogue.chunk_refusal
        if refusal is None and ta is not None and ta.content is not None:
            content = ta.content.feed_chunk(piece)
            if content and not ta.discard:
                dialogue.effects.append(Write(content))
            if ta.content.endless:
                self._refuse_content(ta, reply.ENDLESS_DATA.fill(self.policy.hostname))
                return
            refusal = ta.content.refusal
        if size > len(piece):
            return
        dialogue.chunk = dialogue.chunk_refusal = None
        self.lines.feed(rest)
        self.state = State.COMMAND
        if ta is None or ta.content is None or refusal is not None:
            self._refuse_chunk(ta, refusal or reply.NEED_MAIL)
        elif last:
            ta.content.end_chunks()
            self._end_content(ta, ta.content)
        else:
            dialogue.say(reply.CHUNK_TAKEN.fill(ta.content.size))

    def _refuse_chunk(self, ta: Transaction | None, refusal: Reply) -> None:
        """Refuse a chunk, and with it the message; without one the command was idle."""
        if ta is not None and ta.content is not None:
            self._refuse_content(ta, refusal, close=False)
        elif self.dialogue.count_nop():
            self.dialogue.say(refusal)

    def _end_content(self, ta: Transaction, content: Content) -> None:
        """Do with a whole message what has to be done."""
        dialogue = self.dialogue
        if content.refusal is not None:
            self._refuse_content(ta, content.refusal, close=False)
        elif ta.discard:
            self._drop(ta)
        elif self.policy.filtered:
            room = self.policy.max_size + ta.head if self.policy.max_size else 0
            macros = (("i", ta.ta_id),)
            dialogue.effects.append(Inspect(ta.head, macros, room))
            self.state = State.INSPECTING
        else:
            self._commit(ta)

    def _commit(self, ta: Transaction) -> None:
        dialogue = self.dialogue
        dialogue.forget()
        dialogue.effects.append(Commit(ta.envelope(dialogue.client, dialogue.session_id)))
        self.state = State.COMMITTING
        self._committing, dialogue.ta = ta, None

    def _drop(self, ta: Transaction) -> None:
        """Say that a message is taken which the administrator or a filter wants dropped."""
        dialogue = self.dialogue
        self.state = State.COMMAND
        dialogue.record(events.TA_DROPPED, ss_ta=ta.ta_id, mail=ta.sender, size=ta.size)
        dialogue.reset()
        dialogue.say(reply.ACCEPTED.fill(ta.ta_id))
        dialogue.counters.nops = 0

    def inspected(self, result: Inspected) -> None:
        """Go on with what the filters made of a message."""
        dialogue, ta = self.dialogue, self.dialogue.ta
        if ta is None:
            raise Bug("a message was inspected that is not there")
        # They have seen its end: nothing is left that they had to forget.
        dialogue.heard = False
        ta.stored = result.size
        if result.said.refusal is not None:
            refusal = result.said.refusal
            if refusal.code == reply.NO_SERVICE.code:
                self._refuse_content(ta, refusal)
            else:
                self._refuse_content(ta, refusal, close=False)
            return
        ta.change(result)
        if result.said.discard or not ta.rcpts:
            self._drop(ta)
        else:
            self._commit(ta)

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
                client_name=dialogue.client_name,
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
