"""What SMTP commands do: the conversation with one client apart from bytes and waiting.

Kind: core.

MAIL and RCPT put themselves into ``group`` until ``resolve`` (smtps/judge.py) gets the
verdicts; limits are checked there, in the order of the commands.
Source: RFC 5321 3.3, 4.1, 4.3.2, 4.5.3; SPEC rows X002, X009, X364, X365, X370-X377, X381,
X462, X467-X469; decisions D31, D32, D42, D52.
"""

from collections.abc import Callable
from typing import ClassVar

from libsmx import reply
from libsmx.address import AddressError, parse_domain
from libsmx.reply import Reply
from libsmx.wire import MailAsk, RcptAsk
from smtps.arguments import RcptArgument, read_mail, read_rcpt
from smtps.commands import (
    COMMANDS,
    FOREIGN,
    NOT_IMPLEMENTED,
    Argument,
    Verb,
    split_command,
)
from smtps.judge import Judge
from smtps.policy import is_over
from smtps.transaction import MailItem, RcptItem, Transaction


class Dialogue(Judge):
    """The commands of one SMTP conversation; parameters and attributes of Conversation."""

    def command(self, line: bytes) -> None:
        """Handle one command line; while a group waits, only one that joins it."""
        verb, arg = split_command(line)
        row = COMMANDS.get(verb)
        if self.policy.stopping and not (row is not None and row.verb is Verb.QUIT):
            self.leave(reply.SHUTTING_DOWN)
        elif row is None:
            self._unknown(verb)
        elif arg and row.argument is Argument.NONE:
            self.refuse(line, reply.NO_ARGUMENT.fill(row.verb.value))
        elif not arg and row.argument is Argument.NEEDED:
            self.refuse(line, reply.NEEDS_ARGUMENT.fill(row.verb.value))
        else:
            refusal = self._handlers[row.verb](self, arg)
            if refusal is not None:
                self.refuse(line, refusal)

    def _unknown(self, verb: bytes) -> None:
        """Refuse what is no command of ours."""
        if verb in FOREIGN:
            self.leave(reply.NO_SMTP)
        elif verb in NOT_IMPLEMENTED:
            self.refuse_bad(reply.NOT_IMPLEMENTED.fill(verb.decode("ascii")))
        else:
            self.refuse_bad(reply.UNKNOWN_COMMAND)

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
        if self.helo and not self.count_nop(in_ta=False):
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
            self.mail_accepted()
        else:
            self.group.append(MailItem())
            self.questions.append(MailAsk(sender=said.sender, client=self.client))
        return None

    def _rcpt(self, arg: bytes) -> Reply | None:
        ta = self.ta
        if ta is None:
            return reply.NEED_MAIL if self.helo else reply.SAY_HELLO
        said = read_rcpt(arg)
        if isinstance(said, Reply):
            self.group.append(RcptItem(RcptArgument(""), said))
            return None
        refusal = self.check_rcpt_limits(ta)
        self.group.append(RcptItem(said, refusal))
        if refusal is None:
            self.questions.append(RcptAsk(rcpt=said.address, client=self.client, relay=self.relay))
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
        if self.count_nop(in_ta=False):
            self.reset()
            self.say(reply.OK)
        return None

    def _noop(self, _arg: bytes) -> Reply | None:
        if self.count_nop():
            self.say(reply.OK)
        return None

    def _vrfy(self, _arg: bytes) -> Reply | None:
        if self.count_nop():
            self.say(reply.CANNOT_VERIFY)
        return None

    def _help(self, _arg: bytes) -> Reply | None:
        if self.count_nop():
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
