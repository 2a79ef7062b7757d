"""What becomes of MAIL and RCPT once the resolver has answered.

Kind: core.

Base of smtps/dialogue.py: commands put themselves into ``group``, ``resolve`` answers them in
their order and checks the limits there.
Source: SPEC rows X009, X371, X375-X377; decision D31.
"""

from libsmx import reply
from libsmx.envelope import MAX_RCPTS
from libsmx.reply import Reply
from libsmx.wire import Refusal, TaOpened, Verdict
from smtps import events
from smtps.conversation import Conversation
from smtps.effects import Answered
from smtps.policy import is_over
from smtps.transaction import MailItem, RcptItem, Transaction

MAX_WEIGHT = 4 << 20
"""Characters of all recipients of a transaction, so that its envelope fits one frame to qmgr."""


class Judge(Conversation):
    """A conversation that takes verdicts."""

    def resolve(self, result: Answered) -> None:
        """Answer the commands of the group in their order."""
        group, self.group = self.group, []
        self.questions = []
        answers = iter(result.answers)
        if self.ta is not None and isinstance(result.room, TaOpened):
            self.ta.ta_id = result.ta_id
        for item in group:
            if self.closed:
                return
            if isinstance(item, MailItem):
                self._resolve_mail(_refusal_of(next(answers)))
                continue
            refusal = item.refusal or _refusal_of(next(answers))
            if self.ta is None:
                self.say(reply.NEED_MAIL)
            else:
                self._resolve_rcpt(self.ta, item, refusal, result.room)

    def _resolve_mail(self, refusal: Reply | None) -> None:
        if refusal is None:
            self.mail_accepted()
            return
        sender = self.ta.sender if self.ta is not None else ""
        self.record(events.MAIL_REFUSED, mail=sender, stat=f"{refusal.code} {refusal.text}")
        self.reset()
        if self.count_nop():
            self.say(refusal)

    def _resolve_rcpt(
        self,
        ta: Transaction,
        item: RcptItem,
        refusal: Reply | None,
        room: TaOpened | Refusal | None,
    ) -> None:
        """Take a recipient or refuse it; a refusal for good counts (SPEC rows X371, X375)."""
        refusal = refusal or self.check_rcpt_limits(ta)
        if refusal is None and not ta.ta_id:
            refusal = reply_of(room) if isinstance(room, Refusal) else reply.TRY_LATER
        if refusal is None:
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


def reply_of(refusal: Refusal | Verdict) -> Reply:
    """Return what to tell the client; a refusal without an error code is made temporary."""
    if not 400 <= refusal.code <= 599:
        return reply.TRY_LATER
    return Reply(refusal.code, refusal.status, refusal.text)


def _refusal_of(answer: Verdict | Refusal | None) -> Reply | None:
    """Return the refusal in an answer of smar; none came: try later (SPEC row X009)."""
    if answer is None:
        return reply.TRY_LATER
    if isinstance(answer, Verdict) and answer.accept:
        return None
    return reply_of(answer)
