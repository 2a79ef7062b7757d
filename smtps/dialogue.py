"""What SMTP commands do: the conversation with one client apart from bytes and waiting.

Kind: core.

MAIL and RCPT put themselves into ``group`` until ``resolve_group`` (smtps/judge.py) gets the
verdicts; limits are checked there, in the order of the commands. So do EHLO and DATA where
content filters are asked about them.
Source: RFC 5321 3.3, 4.1, 4.3.2, 4.5.3, RFC 3030; SPEC rows X002, X009, X364, X365,
X370-X377, X381, X462, X467-X469; decisions D31, D32, D42, D52.
"""

import re
from collections.abc import Callable
from typing import ClassVar

import attrs

from libsmx import reply
from libsmx.address import AddressError, parse_domain
from libsmx.reply import Reply
from libsmx.wire import MailAsk, RcptAsk
from smtps.arguments import RcptArgument, read_mail, read_rcpt
from smtps.authtalk import AuthTalk
from smtps.commands import (
    COMMANDS,
    FOREIGN,
    NOT_IMPLEMENTED,
    Argument,
    Verb,
    split_command,
)
from smtps.content import DRAIN
from smtps.policy import is_over
from smtps.transaction import (
    DataItem,
    HeloItem,
    Item,
    MailItem,
    RcptItem,
    Transaction,
    VrfyItem,
)
from smtps.xclient import XCLIENT_OFFER, read_xclient

_BDAT_RE = re.compile(rb"([0-9]{1,20})( +[Ll][Aa][Ss][Tt])?")
_NO_BDAT = reply.NOT_IMPLEMENTED.fill("BDAT")


class Dialogue(AuthTalk):
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
        answer = self.ehlo_reply() if self.esmtp else self.policy.helo
        if self.policy.filtered:
            self._join(HeloItem(answer), last=True)
        else:
            self.say(answer)
        return None

    def ehlo_reply(self) -> Reply:
        """Return the answer to EHLO: what all clients are offered, and what this one is."""
        own = self.own_extensions()
        if self.policy.may_xclient(self.origin):
            own += f"\n{XCLIENT_OFFER}"
        if not own:
            return self.policy.ehlo
        return attrs.evolve(self.policy.ehlo, text=self.policy.ehlo.text + own)

    def _join(self, item: Item, question: MailAsk | RcptAsk | None = None, *, last: bool) -> None:
        """Add a command to the group; last: nothing that comes now may join it."""
        self.group.append(item)
        if question is not None:
            self.questions.append(question)
        self.group_closed = last

    def _mail(self, arg: bytes) -> Reply | None:
        policy = self.policy
        if not self.helo:
            return reply.SAY_HELLO
        if self.ta is not None:
            return reply.NESTED_MAIL
        if self.disowned:
            self.leave(reply.NO_SERVICE)
            return None
        if policy.require_tls and not self.secure:
            return reply.NEED_TLS
        if policy.require_auth and not self.auth:
            return reply.NEED_AUTH
        said = read_mail(arg, policy)
        if isinstance(said, Reply):
            return said
        if policy.throttled:
            return reply.THROTTLED
        if is_over(self.counters.tas + 1, policy.conf.max_transactions):
            self.leave(reply.TOO_MANY_TAS)
            return None
        self.ta = Transaction(said.sender, said.body8, said.ret, said.envid, utf8=said.utf8)
        self.ta.words = said.words
        self.ta.discard = self.discard
        if self.mark.startswith("quick:") or not said.sender or self.discard or self.rejection:
            # SPEC row X462: neither the null sender nor a client that passes quickly is checked;
            # nor is one whose mail is dropped (D51) or whose recipients are refused anyway.
            if policy.filtered:
                self._join(MailItem(asked=False), last=False)
            else:
                self.mail_accepted()
        else:
            # With the access map the verdict counts in the questions about the recipients.
            ask = MailAsk(sender=said.sender, client=self.client, facts=self.facts())
            self._join(MailItem(), ask, last=bool(policy.rules))
        return None

    def _rcpt(self, arg: bytes) -> Reply | None:
        ta = self.ta
        if ta is None:
            return reply.NEED_MAIL if self.helo else reply.SAY_HELLO
        if ta.content is not None:
            return reply.IN_CHUNKS
        said = read_rcpt(arg, self.policy, utf8=ta.utf8)
        if isinstance(said, Reply):
            self._join(RcptItem(RcptArgument(""), said, asked=False), last=False)
            return None
        refusal = self.check_rcpt_limits(ta)
        if refusal is not None or ta.discard:
            self._join(RcptItem(said, refusal, asked=False), last=False)
            return None
        ask = RcptAsk(
            rcpt=said.address,
            client=self.client,
            relay=self.relay,
            facts=self.facts(),
            sender=ta.sender,
            first=not ta.rcpts,
        )
        self._join(RcptItem(said), ask, last=False)
        return None

    def _ready(self) -> Reply | None:
        """Return why no content may come now."""
        ta = self.ta
        if ta is None:
            return reply.NEED_MAIL if self.helo else reply.SAY_HELLO
        if not ta.rcpts and not ta.dropped:
            return reply.NO_VALID_RCPTS if ta.refused else reply.NEED_RCPT
        if ta.greylisted is not None:
            refusal = ta.greylisted
            self.reset()
            return refusal
        ta.discard = ta.discard or not ta.rcpts
        return None

    def _want_content(self) -> None:
        if self.policy.filtered:
            self._join(DataItem(), last=True)
        else:
            self.data_wanted = True

    def _data(self, _arg: bytes) -> Reply | None:
        if self.ta is not None and self.ta.content is not None:
            return reply.IN_CHUNKS
        refusal = self._ready()
        if refusal is None:
            self._want_content()
        return refusal

    def _bdat(self, arg: bytes) -> Reply | None:
        """Take a chunk of content, or read it away: its bytes are no commands, whatever comes.

        Where its size cannot be known the session has to end.
        """
        found = _BDAT_RE.fullmatch(arg)
        if found is None or not self.policy.chunking:
            self.close(reply.BAD_BDAT if self.policy.chunking else _NO_BDAT)
            return None
        size = int(found[1])
        if is_over(size, DRAIN * self.policy.max_size):
            self.leave(reply.ENDLESS_DATA)
            return None
        self.chunk = (size, found[2] is not None)
        if self.ta is None or self.ta.content is None:
            self.chunk_refusal = self._ready()
            if self.chunk_refusal is None:
                self._want_content()
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

    def _vrfy(self, arg: bytes) -> Reply | None:
        if not self.count_nop():
            return None
        if "vrfy" not in self.policy.conf.commands:
            self.say(reply.CANNOT_VERIFY)
            return None
        said = read_rcpt(b"TO:<" + arg.strip(b"<>") + b">", self.policy)
        if isinstance(said, Reply):
            self.say(said)
            return None
        ask = RcptAsk(rcpt=said.address, client=self.client, relay=True, facts=self.facts())
        self._join(VrfyItem(said.address), ask, last=True)
        return None

    def _help(self, _arg: bytes) -> Reply | None:
        if "help" not in self.policy.conf.commands:
            return reply.NOT_IMPLEMENTED.fill("HELP")
        if self.count_nop():
            self.say(reply.HELP)
        return None

    def _xclient(self, arg: bytes) -> Reply | None:
        """Take the words of a trusted client for those of another one."""
        if not self.policy.may_xclient(self.origin):
            return reply.NO_XCLIENT
        if self.ta is not None:
            return reply.NESTED_MAIL
        said = read_xclient(arg)
        if said is None:
            return reply.BAD_XCLIENT
        if self.count_nop():
            self.reintroduction = said
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
        Verb.BDAT: _bdat,
        Verb.XCLIENT: _xclient,
        Verb.STARTTLS: AuthTalk.starttls,
        Verb.AUTH: AuthTalk.auth_command,
        Verb.RSET: _rset,
        Verb.NOOP: _noop,
        Verb.QUIT: _quit,
        Verb.VRFY: _vrfy,
        Verb.HELP: _help,
    }
