"""What becomes of MAIL and RCPT once the resolver has answered.

Kind: core.

Base of smtps/dialogue.py: commands put themselves into ``group``, ``resolve_group`` answers
them in their order and checks the limits there.
Source: SPEC rows X009, X361, X371, X375-X377, X454-X473; decisions D25, D31, D51.
"""

from libsmx import reply
from libsmx.envelope import MAX_RCPTS
from libsmx.errors import Bug
from libsmx.reply import Reply
from libsmx.wire import ConnVerdict, Refusal, TaOpened, Verdict
from smtps import events
from smtps.conversation import Conversation
from smtps.effects import Answered
from smtps.policy import is_over
from smtps.transaction import (
    DataItem,
    HeloItem,
    MailItem,
    RcptItem,
    Transaction,
    VrfyItem,
)

MAX_WEIGHT = 4 << 20
"""Characters of all recipients of a transaction, so that its envelope fits one frame to qmgr."""


Answer = Verdict | Refusal | None
TAKEN = Verdict(accept=True)
"""Stands for the answer to a question that need not be asked."""


class Judge(Conversation):
    """A conversation that takes verdicts."""

    def admit(self, verdict: ConnVerdict | Refusal | None) -> Reply | None:
        """Take what the access map says of the client; return a reply that ends the session.

        A rejection waits for the recipients with delay_checks, unless its rule says quick.
        """
        if not isinstance(verdict, ConnVerdict):
            return reply.NO_SERVICE.fill(self.policy.hostname)
        self.client_name, self.resolve = verdict.name, verdict.resolve
        if not verdict.accept:
            refusal = reply_of(verdict)
            if not self.policy.delay_checks or verdict.mark == "quick":
                return refusal
            self.rejection = refusal
            return None
        self.mark = verdict.mark or self.mark
        self.relay = self.relay or verdict.mark in {"relay", "quick:relay"}
        self.discard = verdict.discard
        return None

    def resolve_group(self, result: Answered) -> None:
        """Answer the commands of the group in their order."""
        group, self.group, self.group_closed = self.group, [], False
        self.questions = []
        answers = iter(result.answers)
        if self.ta is not None and isinstance(result.room, TaOpened):
            self.ta.ta_id = result.ta_id
        for item in group:
            if self.closed:
                return
            answer = next(answers) if item.asked else TAKEN
            if item.discard and self.ta is not None:
                self.ta.discard = True
            if isinstance(item, HeloItem):
                self._resolve_helo(item)
            elif isinstance(item, DataItem):
                self._resolve_data(item)
            elif isinstance(item, MailItem):
                self._resolve_mail(answer, item.refusal)
            elif isinstance(item, VrfyItem):
                self._resolve_vrfy(item, answer)
            elif self.ta is None:
                self.say(reply.NEED_MAIL)
            else:
                self._resolve_rcpt(self.ta, item, answer, result.room)

    def _resolve_helo(self, item: HeloItem) -> None:
        if item.refusal is None:
            self.say(item.reply)
            return
        self.helo = ""
        self.say_or_leave(item.refusal)

    def _resolve_data(self, item: DataItem) -> None:
        """Let content come, or have a chunk that comes anyway dropped."""
        if item.refusal is None:
            self.data_wanted = True
            return
        self.reset()
        if self.chunk is not None:
            self.chunk_refusal = item.refusal
        else:
            self.say_or_leave(item.refusal)

    def _resolve_mail(self, answer: Answer, by_filter: Reply | None) -> None:
        ta, refusal = self.ta, _refusal_of(answer)
        if ta is None:
            raise Bug("a sender is judged without a transaction")
        if isinstance(answer, Verdict):
            ta.discard = ta.discard or (answer.accept and answer.discard)
            if refusal is not None and self.policy.delay_checks and answer.mark != "quick":
                ta.rejection = refusal
                refusal = None
        refusal = refusal or by_filter
        if refusal is None:
            self.mail_accepted()
            return
        self.record(events.MAIL_REFUSED, mail=ta.sender, stat=f"{refusal.code} {refusal.text}")
        self.reset()
        if self.count_nop():
            self.say_or_leave(refusal)

    def _resolve_rcpt(
        self, ta: Transaction, item: RcptItem, answer: Answer, room: TaOpened | Refusal | None
    ) -> None:
        """Take a recipient or refuse it; a refusal for good counts (SPEC rows X371, X375)."""
        refusal = item.refusal or self._settle_delayed(ta, answer) or self.check_rcpt_limits(ta)
        if refusal is None and not ta.ta_id:
            refusal = reply_of(room) if isinstance(room, Refusal) else reply.TRY_LATER
        if refusal is None:
            if isinstance(answer, Verdict) and answer.discard:
                ta.dropped += 1
                ta.discard = ta.discard or answer.mark == "quick"
            else:
                ta.add(item.said)
            self.counters.rcpts += 1
            self.say(reply.RCPT_OK)
            return
        ta.refused += 1
        self.counters.refused += 1
        stat = f"{refusal.code} {refusal.text}"
        self.record(events.RCPT_REFUSED, mail=ta.sender, rcpt=item.said.address, stat=stat)
        if refusal.code >= 500:
            ta.invalid += 1
            self.counters.invalid += 1
            conf = self.policy.conf
            if is_over(ta.invalid, conf.max_invalid_addresses_per_transaction) or is_over(
                self.counters.invalid, conf.max_invalid_addresses_per_session
            ):
                self.leave(reply.TOO_MANY_INVALID)
                return
        self.say_or_leave(refusal)

    def _settle_delayed(self, ta: Transaction, answer: Answer) -> Reply | None:
        """Return the refusal that a recipient gets: one that waits, or its own (X473)."""
        refusal = _refusal_of(answer)
        waiting = self.rejection or ta.rejection
        if waiting is not None and answer is not None:
            mark = answer.mark if isinstance(answer, Verdict) and answer.accept else ""
            return refusal if mark in {"quick:ok", "quick:relay"} else waiting
        if isinstance(answer, Verdict) and answer.greylisted and refusal is not None:
            # README 3.9.4: the session ends where the code is 421, or DATA gets the error.
            if not self.policy.delay_greylisting:
                return refusal
            ta.greylisted = refusal
            return None
        return refusal

    def _resolve_vrfy(self, item: VrfyItem, answer: Answer) -> None:
        """Tell whether mail to a mailbox would be taken (RFC 5321 3.5.3)."""
        refusal = _refusal_of(answer)
        if refusal is not None:
            self.say(refusal)
        elif isinstance(answer, Verdict) and answer.local:
            self.say(reply.VERIFIED.fill(item.address))
        else:
            self.say(reply.CANNOT_VERIFY)

    def say_or_leave(self, refusal: Reply) -> None:
        """Say a refusal; 421 ends the session (RFC 5321 3.8)."""
        if refusal.code == reply.NO_SERVICE.code:
            self.close(refusal)
        else:
            self.say(refusal)

    def mail_accepted(self) -> None:
        """Say that the sender is taken."""
        self.counters.tas += 1
        self.say(reply.SENDER_OK)

    def check_rcpt_limits(self, ta: Transaction) -> Reply | None:
        """Return the refusal of one more recipient (SPEC rows X376, X377)."""
        count, conf = len(ta.rcpts) + 1, self.policy.conf
        if (
            is_over(count, conf.max_recipients_per_transaction)
            or is_over(self.counters.rcpts + 1, conf.max_recipients_per_session)
            or count > MAX_RCPTS
            or ta.weight > MAX_WEIGHT
        ):
            return reply.TOO_MANY_RCPTS
        return None


def reply_of(refusal: Refusal | Verdict | ConnVerdict) -> Reply:
    """Return what to tell the client; a refusal without an error code is made temporary."""
    if not 400 <= refusal.code <= 599:
        return reply.TRY_LATER
    return Reply(refusal.code, refusal.status, refusal.text)


def _refusal_of(answer: Answer) -> Reply | None:
    """Return the refusal in an answer of smar; none came: try later (SPEC row X009)."""
    if answer is None:
        return reply.TRY_LATER
    if isinstance(answer, Verdict) and answer.accept:
        return None
    return reply_of(answer)
