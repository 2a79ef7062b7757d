"""What a server says and counts in one SMTP conversation, whatever the command.

Kind: core.

Base of smtps/judge.py (verdicts) and smtps/dialogue.py (commands). Replies collect in ``out``,
effects in ``effects``; whoever drives the dialogue (smtps/session.py) takes both away.
Source: RFC 5321 3.3, 4.5.3; SPEC rows X364, X370, X372-X374; decisions D31, D32.
"""

from libsmx import reply
from libsmx.envelope import MAX_ADDRESS
from libsmx.logtab import Event
from libsmx.reply import Reply
from libsmx.wire import Facts, MailAsk, RcptAsk
from smtps import events
from smtps.effects import Abort, Discard, Effect, ForgetMessage, Record
from smtps.policy import Policy, is_over
from smtps.transaction import Counters, Item, Transaction
from smtps.xclient import Introduction

NO_FACTS = Facts()


class Conversation:
    """The state of one SMTP conversation.

    Args:
        policy: rules of the server.
        client: IP address of the client.
        session_id: for logs, Received: and qmgr.

    Attributes:
        origin: IP address of the client itself, where XCLIENT made client another one.
        reintroduction: what XCLIENT said, until the session has begun anew.
        secure: the connection is encrypted.
        helo: argument of EHLO or HELO, empty before.
        esmtp: EHLO was used.
        relay: the client may send to any domain.
        mark: what the access map says of the client: ok, relay, quick:ok, quick:relay or nothing.
        client_name: verified name of the client, where it was looked for.
        resolve: how the search for the name ended: ok, no, temp, forged; empty: no search.
        rejection: of the client, held back until RCPT (delay_checks).
        discard: all its mail is taken and dropped, as the access map says.
        auth: authenticated identity.
        issuer, subject: names in a verified client certificate.
        errors: error replies so far.
        ta: the open transaction.
        counters: what is used of the limits.
        disowned: qmgr does not know this session any more; it ends at the next MAIL.
        group: commands that wait for verdicts.
        group_closed: no command that comes now joins the group.
        heard: content filters have heard of the open transaction.
        questions: those to be asked for the group.
        out: encoded replies.
        effects: what the shell has to do.
        data_wanted: DATA or the first BDAT was accepted.
        chunk: size and whether it is the last of the chunk that follows its BDAT command.
        chunk_refusal: what to say after that chunk instead of taking it.
        closed: nothing more is said.
        left: we closed it, not the client.
        reason: why it closed, for the log.
    """

    def __init__(self, policy: Policy, client: str, session_id: str) -> None:
        self.policy = policy
        self.client = client
        self.origin = client
        self.session_id = session_id
        self.reintroduction: Introduction | None = None
        self.secure = False
        self.helo = ""
        self.esmtp = False
        self.relay = policy.may_relay(client)
        self.mark = "quick:relay" if self.relay else ""
        self.client_name = ""
        self.resolve = ""
        self.rejection: Reply | None = None
        self.discard = False
        self.auth = ""
        self.issuer = ""
        self.subject = ""
        self.errors = 0
        self.ta: Transaction | None = None
        self.counters = Counters()
        self.disowned = False
        self.group: list[Item] = []
        self.group_closed = False
        self.heard = False
        self.questions: list[MailAsk | RcptAsk] = []
        self.out: list[bytes] = []
        self.effects: list[Effect] = []
        self.data_wanted = False
        self.chunk: tuple[int, bool] | None = None
        self.chunk_refusal: Reply | None = None
        self.closed = False
        self.left = False
        self.reason = ""

    def introduce(self, said: Introduction) -> None:
        """Begin anew as a session of another client (PROXY protocol, XCLIENT)."""
        self.reset()
        self.reintroduction = None
        self.client = said.client or self.client
        self.client_name = said.name
        self.relay = self.policy.may_relay(self.client)
        self.mark = "quick:relay" if self.relay else ""
        self.rejection, self.discard = None, False
        self.resolve = ""
        self.auth = said.login
        self.helo = said.helo
        self.esmtp = said.esmtp

    # --- speaking ----------------------------------------------------------------------

    def say(self, given: Reply) -> None:
        """Queue a reply; soft_bounce is applied here and nowhere else (D32)."""
        if given.code >= 500 and self.policy.soft_bounce:
            given = given.soften()
        if given.code >= 400:
            self.errors += 1
        self.out.append(given.encode())

    def facts(self) -> Facts:
        """Return what the resolver needs to know besides addresses.

        Nothing, where the server asks for no check that depends on it.
        """
        ta, rules = self.ta, self.policy.rules
        if not rules:
            return NO_FACTS
        return Facts(
            client_name=self.client_name,
            resolve=self.resolve,
            helo=self.helo[:MAX_ADDRESS],
            mark=self.mark,
            auth=self.auth,
            issuer=self.issuer,
            subject=self.subject,
            delayed=self.rejection is not None or (ta is not None and ta.rejection is not None),
            session=self.session_id,
            smtputf8=ta is not None and ta.utf8,
            rules=rules,
        )

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
        self.forget()

    def forget(self) -> None:
        """Have the filters forget the transaction that they heard of."""
        if self.heard:
            self.heard = False
            self.effects.append(ForgetMessage())

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

    # --- counting ----------------------------------------------------------------------

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

    def refuse(self, line: bytes, refusal: Reply) -> None:
        """Refuse a command; it counts as one that does nothing."""
        if self.count_nop():
            self.record(
                events.COMMAND_REFUSED,
                command=line[:100].decode("ascii", "backslashreplace"),
                stat=f"{refusal.code} {refusal.text}",
            )
            self.say(refusal)

    def count_nop(self, *, in_ta: bool = True) -> bool:
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
