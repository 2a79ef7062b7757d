"""What SMTP commands do: the conversation with one client apart from bytes and waiting.

Kind: core.

Replies collect in ``out``, effects in ``effects``; whoever drives the dialogue
(smtps/session.py) takes both away. MAIL and RCPT put themselves into ``group`` until
``resolve`` gets the verdicts; limits are checked there, in the order of the commands.
Source: RFC 5321 3.3, 4.1, 4.3.2, 4.5.3; SPEC rows X002, X009, X364, X365, X370-X377, X381,
X462, X467-X469; decisions D31, D32, D42, D52.
"""

from collections.abc import Callable
from typing import ClassVar

from libsmx import reply
from libsmx.address import AddressError, parse_domain
from libsmx.envelope import MAX_RCPTS
from libsmx.logtab import Event
from libsmx.reply import Reply
from libsmx.wire import MailAsk, RcptAsk, Refusal, TaOpened, Verdict
from smtps import events
from smtps.arguments import RcptArgument, read_mail, read_rcpt
from smtps.commands import (
    COMMANDS,
    FOREIGN,
    NOT_IMPLEMENTED,
    Argument,
    Verb,
    split_command,
)
from smtps.effects import Abort, Answered, Discard, Effect, Record
from smtps.policy import Policy, is_over
from smtps.transaction import Counters, MailItem, RcptItem, Transaction

MAX_WEIGHT = 4 << 20
"""Characters of all recipients of a transaction, so that its envelope fits one frame to qmgr."""


class Dialogue:
    """The state of one SMTP conversation.

    Args:
        policy: rules of the server.
        client: IP address of the client.
        session_id: for logs, Received: and qmgr.

    Attributes:
        helo: argument of EHLO or HELO, empty before.
        esmtp: EHLO was used.
        relay: the client may send to any domain.
        ta: the open transaction.
        counters: what is used of the limits.
        disowned: qmgr does not know this session any more; it ends at the next MAIL.
        group: MAIL and RCPT commands that wait for verdicts.
        questions: those to be asked for the group.
        out: encoded replies.
        effects: what the shell has to do.
        data_wanted: DATA was accepted.
        closed: nothing more is said.
        left: we closed it, not the client.
        reason: why it closed, for the log.
    """

    def __init__(self, policy: Policy, client: str, session_id: str) -> None:
        self.policy = policy
        self.client = client
        self.session_id = session_id
        self.helo = ""
        self.esmtp = False
        self.relay = policy.may_relay(client)
        self.ta: Transaction | None = None
        self.counters = Counters()
        self.disowned = False
        self.group: list[MailItem | RcptItem] = []
        self.questions: list[MailAsk | RcptAsk] = []
        self.out: list[bytes] = []
        self.effects: list[Effect] = []
        self.data_wanted = False
        self.closed = False
        self.left = False
        self.reason = ""

    # --- speaking ----------------------------------------------------------------------

    def say(self, given: Reply) -> None:
        """Queue a reply; soft_bounce is applied here and nowhere else (D32)."""
        if given.code >= 500 and self.policy.soft_bounce:
            given = given.soften()
        self.out.append(given.encode())

    def record(self, event: Event, **fields: str | int) -> None:
        """Log an event of this session."""
        self.effects.append(
            Record(event, {"ss_sess": self.session_id, "client": self.client, **fields})
        )

    def reset(self) -> None:
        """Forget the open transaction and its content."""
        ta, self.ta = self.ta, None
        if ta is None:
            return
        if ta.content is not None:
            self.effects.append(Discard())
        if ta.ta_id:
            self.effects.append(Abort(ta.ta_id))

    def close(self, last: Reply | None, reason: str = "") -> None:
        """End the conversation, with a last reply if the client is still there."""
        if self.closed:
            return
        if last is not None:
            self.say(last)
            self.left = last.code != reply.BYE.code
            reason = reason or f"{last.code} {last.text}"
        self.reset()
        self.reason = reason
        self.closed = True

    def leave(self, last: Reply, reason: str = "") -> None:
        """End the conversation with a reply of ours that names this host."""
        self.close(last.fill(self.policy.hostname), reason)

    # --- commands ----------------------------------------------------------------------

    def command(self, line: bytes) -> None:
        """Handle one command line; while a group waits, only one that joins it."""
        verb, arg = split_command(line)
        row = COMMANDS.get(verb)
        if self.policy.stopping and not (row is not None and row.verb is Verb.QUIT):
            self.leave(reply.SHUTTING_DOWN)
        elif row is None:
            self._unknown(verb)
        elif arg and row.argument is Argument.NONE:
            self._refuse(line, reply.NO_ARGUMENT.fill(row.verb.value))
        elif not arg and row.argument is Argument.NEEDED:
            self._refuse(line, reply.NEEDS_ARGUMENT.fill(row.verb.value))
        else:
            refusal = self._handlers[row.verb](self, arg)
            if refusal is not None:
                self._refuse(line, refusal)

    def _unknown(self, verb: bytes) -> None:
        """Refuse what is no command of ours."""
        if verb in FOREIGN:
            self.leave(reply.NO_SMTP)
        elif verb in NOT_IMPLEMENTED:
            self.refuse_bad(reply.NOT_IMPLEMENTED.fill(verb.decode("ascii")))
        else:
            self.refuse_bad(reply.UNKNOWN_COMMAND)

    def refuse_bad(self, refusal: Reply) -> None:
        """Refuse a bad command and count it (SPEC rows X370, X373)."""
        conf, counters, ta = self.policy.conf, self.counters, self.ta
        counters.bad += 1
        over = is_over(counters.bad, conf.max_bad_commands_per_session)
        if ta is not None:
            ta.bad += 1
            over = over or is_over(ta.bad, conf.max_bad_commands_per_transaction)
        if over:
            self.leave(reply.TOO_MANY_BAD)
        else:
            self.say(refusal)

    def _refuse(self, line: bytes, refusal: Reply) -> None:
        """Refuse a command; it counts as one that does nothing."""
        if self._count_nop():
            self.record(
                events.COMMAND_REFUSED,
                command=line[:100].decode("ascii", "backslashreplace"),
                stat=f"{refusal.code} {refusal.text}",
            )
            self.say(refusal)

    def _count_nop(self, *, in_ta: bool = True) -> bool:
        """Count a command without effect; False: that was one too many and all is over.

        Within a transaction its own limit holds, except for what ends the transaction, which
        counts as done between transactions (SPEC rows X372, X374).
        """
        conf, ta = self.policy.conf, self.ta
        if ta is not None and in_ta:
            ta.nops += 1
            over = is_over(ta.nops, conf.max_nop_commands_in_transaction)
        else:
            self.counters.nops += 1
            over = is_over(self.counters.nops, conf.max_nop_commands_between_transactions)
        if over:
            self.leave(reply.TOO_MANY_NOPS)
        return not over

    def _ehlo(self, arg: bytes) -> Reply | None:
        return self._hello("EHLO", arg)

    def _helo(self, arg: bytes) -> Reply | None:
        return self._hello("HELO", arg)

    def _hello(self, verb: str, arg: bytes) -> Reply | None:
        """Begin, or begin anew: RFC 5321 4.1.4 makes EHLO reset everything."""
        name = arg.decode("ascii", "replace")
        if self.policy.strict_ehlo:
            try:
                parse_domain(name)
            except AddressError:
                return reply.BAD_HELO.fill(verb)
        # The first greeting is what every client does and is no idle command.
        if self.helo and not self._count_nop(in_ta=False):
            return None
        self.reset()
        self.helo = name
        self.esmtp = verb == "EHLO"
        self.say(self.policy.ehlo if self.esmtp else self.policy.helo)
        return None

    def _mail(self, arg: bytes) -> Reply | None:
        if not self.helo:
            return reply.SAY_HELLO
        if self.ta is not None:
            return reply.NESTED_MAIL
        if self.disowned:
            self.leave(reply.NO_SERVICE)
            return None
        said = read_mail(arg, self.policy)
        if isinstance(said, Reply):
            return said
        if self.policy.throttled:
            return reply.THROTTLED
        if is_over(self.counters.tas + 1, self.policy.conf.max_transactions):
            self.leave(reply.TOO_MANY_TAS)
            return None
        self.ta = Transaction(said.sender, said.body8, said.ret, said.envid)
        if self.relay or not said.sender:
            # SPEC row X462: neither the null sender nor a client that may relay is checked.
            self._mail_accepted()
        else:
            self.group.append(MailItem())
            self.questions.append(MailAsk(sender=said.sender, client=self.client))
        return None

    def _mail_accepted(self) -> None:
        self.counters.tas += 1
        self.say(reply.SENDER_OK)

    def _rcpt(self, arg: bytes) -> Reply | None:
        ta = self.ta
        if ta is None:
            return reply.NEED_MAIL if self.helo else reply.SAY_HELLO
        said = read_rcpt(arg)
        if isinstance(said, Reply):
            self.group.append(RcptItem(RcptArgument(""), said))
            return None
        refusal = self._check_rcpt_limits(ta)
        self.group.append(RcptItem(said, refusal))
        if refusal is None:
            self.questions.append(RcptAsk(rcpt=said.address, client=self.client, relay=self.relay))
        return None

    def _check_rcpt_limits(self, ta: Transaction) -> Reply | None:
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

    def _data(self, _arg: bytes) -> Reply | None:
        ta = self.ta
        if ta is None:
            return reply.NEED_MAIL if self.helo else reply.SAY_HELLO
        if not ta.rcpts:
            return reply.NO_VALID_RCPTS if ta.refused else reply.NEED_RCPT
        self.data_wanted = True
        return None

    def _rset(self, _arg: bytes) -> Reply | None:
        if self._count_nop(in_ta=False):
            self.reset()
            self.say(reply.OK)
        return None

    def _noop(self, _arg: bytes) -> Reply | None:
        if self._count_nop():
            self.say(reply.OK)
        return None

    def _vrfy(self, _arg: bytes) -> Reply | None:
        if self._count_nop():
            self.say(reply.CANNOT_VERIFY)
        return None

    def _help(self, _arg: bytes) -> Reply | None:
        if self._count_nop():
            self.say(reply.HELP)
        return None

    def _quit(self, _arg: bytes) -> Reply | None:
        self.leave(reply.BYE, "quit")
        return None

    _handlers: ClassVar[dict[Verb, Callable[["Dialogue", bytes], Reply | None]]] = {
        Verb.EHLO: _ehlo,
        Verb.HELO: _helo,
        Verb.MAIL: _mail,
        Verb.RCPT: _rcpt,
        Verb.DATA: _data,
        Verb.RSET: _rset,
        Verb.NOOP: _noop,
        Verb.QUIT: _quit,
        Verb.VRFY: _vrfy,
        Verb.HELP: _help,
    }

    # --- verdicts ----------------------------------------------------------------------

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
            self._mail_accepted()
            return
        sender = self.ta.sender if self.ta is not None else ""
        self.record(events.MAIL_REFUSED, mail=sender, stat=f"{refusal.code} {refusal.text}")
        self.reset()
        if self._count_nop():
            self.say(refusal)

    def _resolve_rcpt(
        self,
        ta: Transaction,
        item: RcptItem,
        refusal: Reply | None,
        room: TaOpened | Refusal | None,
    ) -> None:
        """Take a recipient or refuse it; a refusal for good counts (SPEC rows X371, X375)."""
        refusal = refusal or self._check_rcpt_limits(ta)
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
