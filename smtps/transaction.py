"""One mail transaction, and the counters that limits are set on.

Kind: core.
Source: RFC 5321 3.3; SPEC rows X370-X377, X381; decision D31.
"""

import attrs

from libsmx.envelope import MAX_RCPTS, Envelope, Recipient
from libsmx.reply import Reply
from smtps.arguments import RcptArgument
from smtps.content import Content
from smtps.effects import Inspected


@attrs.define
class Transaction:
    """MAIL to end of data.

    Attributes:
        sender: without brackets, empty for the null reverse-path.
        body8: BODY=8BITMIME was given.
        ret, envid: as MAIL said (RFC 3461).
        utf8: SMTPUTF8 was given (RFC 6531).
        rejection: of the sender, held back until RCPT (delay_checks).
        discard: the message is taken and dropped, as the access map says.
        dropped: recipients that were taken and dropped.
        greylisted: why DATA will be refused (delay_greylisting_error_until_DATA).
        ta_id: empty until qmgr has reserved room.
        rcpts: accepted recipients.
        weight: length of what is kept of them, characters.
        invalid: recipients refused for good.
        refused: recipients refused, for now or for good.
        bad: unknown commands since MAIL.
        nops: commands without effect since MAIL.
        content: from the moment that the client may send data.
        received_at: wall clock of that moment, seconds.
        head: bytes that we put before the content.
        words: parameters of MAIL as they came.
        hold: why the queue manager shall hold the message, empty: it shall not.
        stored: size of the content file where filters changed it, bytes.
    """

    sender: str
    body8: bool
    ret: str = ""
    envid: str = ""
    utf8: bool = False
    rejection: Reply | None = None
    discard: bool = False
    dropped: int = 0
    greylisted: Reply | None = None
    ta_id: str = ""
    rcpts: list[Recipient] = attrs.Factory(list)
    weight: int = 0
    invalid: int = 0
    refused: int = 0
    bad: int = 0
    nops: int = 0
    content: Content | None = None
    received_at: float = 0.0
    head: int = 0
    words: tuple[str, ...] = ()
    hold: str = ""
    stored: int = 0

    def add(self, said: RcptArgument) -> None:
        """Take a recipient."""
        self.rcpts.append(
            Recipient(
                idx=len(self.rcpts), address=said.address, notify=said.notify, orcpt=said.orcpt
            )
        )
        self.weight += len(said.address) + len(said.notify) + len(said.orcpt)

    def change(self, result: Inspected) -> None:
        """Carry out what content filters want changed in the envelope."""
        if result.sender is not None:
            self.sender = result.sender
        kept = [rcpt for rcpt in self.rcpts if rcpt.address not in result.deleted]
        known = {rcpt.address for rcpt in kept}
        addresses = [one for one in dict.fromkeys(result.added) if one not in known]
        # The envelope has room for so many; the filter is no reason to exceed it.
        added = [Recipient(idx=0, address=one) for one in addresses][: MAX_RCPTS - len(kept)]
        self.rcpts = [attrs.evolve(rcpt, idx=number) for number, rcpt in enumerate((*kept, *added))]
        self.hold = result.hold or self.hold

    @property
    def size(self) -> int:
        """Bytes of the content file."""
        if self.stored:
            return self.stored
        return self.head + (self.content.size if self.content is not None else 0)

    def envelope(self, client: str, session: str) -> Envelope:
        """Return what qmgr takes responsibility for."""
        return Envelope(
            ta_id=self.ta_id,
            cdb_id=self.ta_id,
            sender=self.sender,
            rcpts=list(self.rcpts),
            size=self.size,
            body8=self.body8,
            received_at=self.received_at,
            client=client,
            session=session,
            ret=self.ret,
            envid=self.envid,
            smtputf8=self.utf8,
            hold=self.hold,
        )


@attrs.define
class Counters:
    """What a session has used of its limits.

    Attributes:
        tas: transactions begun.
        accepted: messages taken.
        rcpts: recipients accepted.
        refused: recipients refused, for now or for good.
        invalid: recipients refused for good.
        bad: unknown commands.
        nops: commands without effect since the last accepted message.
    """

    tas: int = 0
    accepted: int = 0
    rcpts: int = 0
    refused: int = 0
    invalid: int = 0
    bad: int = 0
    nops: int = 0


@attrs.frozen
class HeloItem:
    """An EHLO or HELO command that waits for the filters."""

    reply: Reply
    asked: bool = False
    refusal: Reply | None = None
    discard: bool = False


@attrs.frozen
class MailItem:
    """A MAIL command that waits for its verdict, or at least for its turn.

    Attributes:
        asked: whether the resolver is asked.
        refusal: of a filter.
        discard: a filter wants the message dropped.
    """

    asked: bool = True
    refusal: Reply | None = None
    discard: bool = False


@attrs.frozen
class RcptItem:
    """A RCPT command that waits for its verdict, or at least for its turn.

    Attributes:
        said: what the command says; an empty address where it could not be read.
        refusal: what is wrong with it already, so that nobody is asked, or a filter's.
        asked: whether the resolver is asked.
        discard: a filter wants the message dropped.
    """

    said: RcptArgument
    refusal: Reply | None = None
    asked: bool = True
    discard: bool = False


@attrs.frozen
class DataItem:
    """DATA or the first BDAT that waits for the filters."""

    asked: bool = False
    refusal: Reply | None = None
    discard: bool = False


@attrs.frozen
class VrfyItem:
    """A VRFY command that waits for its verdict."""

    address: str
    asked: bool = True
    refusal: Reply | None = None
    discard: bool = False


Item = HeloItem | MailItem | RcptItem | DataItem | VrfyItem
