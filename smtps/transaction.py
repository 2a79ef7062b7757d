"""One mail transaction, and the counters that limits are set on.

Kind: core.
Source: RFC 5321 3.3; SPEC rows X370-X377, X381; decision D31.
"""

import attrs

from libsmx.envelope import Envelope, Recipient
from libsmx.reply import Reply
from smtps.arguments import RcptArgument
from smtps.content import Content


@attrs.define
class Transaction:
    """MAIL to end of data.

    Attributes:
        sender: without brackets, empty for the null reverse-path.
        body8: BODY=8BITMIME was given.
        ret, envid: as MAIL said (RFC 3461).
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
    """

    sender: str
    body8: bool
    ret: str = ""
    envid: str = ""
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

    def add(self, said: RcptArgument) -> None:
        """Take a recipient."""
        self.rcpts.append(
            Recipient(
                idx=len(self.rcpts), address=said.address, notify=said.notify, orcpt=said.orcpt
            )
        )
        self.weight += len(said.address) + len(said.notify) + len(said.orcpt)

    @property
    def size(self) -> int:
        """Bytes of the content file."""
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
class MailItem:
    """A MAIL command that waits for its verdict."""


@attrs.frozen
class RcptItem:
    """A RCPT command that waits for its verdict, or at least for its turn.

    Attributes:
        said: what the command says; an empty address where it could not be read.
        refusal: what is wrong with it already; no verdict is asked then.
    """

    said: RcptArgument
    refusal: Reply | None = None
