"""What the session core asks its shell to do, and what the shell answers.

Kind: table.

Effects are carried out in order. Ask, Open and Commit come last in their list: the session
goes on with Session.answer and never gets input before.
"""

import attrs

from libsmx.envelope import Envelope
from libsmx.logtab import Event
from libsmx.wire import MailAsk, RcptAsk, Refusal, TaCommitted, TaOpened, Verdict


@attrs.frozen
class Send:
    """Send these bytes to the client."""

    data: bytes


@attrs.frozen
class Ask:
    """Ask smar all questions at once; with reserve take an id and ask qmgr for room as well."""

    questions: tuple[MailAsk | RcptAsk, ...]
    reserve: bool


@attrs.frozen
class Answered:
    """Answers to Ask; None stands for an answer that did not come.

    Attributes:
        answers: in the order of the questions.
        ta_id: id taken, empty without reserve.
        room: what qmgr said.
    """

    answers: tuple[Verdict | Refusal | None, ...]
    ta_id: str = ""
    room: TaOpened | Refusal | None = None


@attrs.frozen
class Open:
    """Begin the content file of this transaction."""

    ta_id: str


@attrs.frozen
class Opened:
    """The content file is there.

    Attributes:
        at_s: wall clock, seconds; None: it could not be made.
    """

    at_s: float | None


@attrs.frozen
class Write:
    """Append to the content file; a failure shows in the answer to Commit."""

    data: bytes


@attrs.frozen
class Commit:
    """Make the content durable, then hand the envelope to qmgr."""

    envelope: Envelope


@attrs.frozen
class CommitResult:
    """What became of a commit.

    Attributes:
        stored: the content is on disk.
        answer: of qmgr; None: not asked (stored is False), or asked and nothing came back.
    """

    stored: bool
    answer: TaCommitted | Refusal | None


@attrs.frozen
class Discard:
    """Remove the content file."""


@attrs.frozen
class Abort:
    """Tell qmgr that the transaction will not be committed."""

    ta_id: str


@attrs.frozen
class Record:
    """Log an event."""

    event: Event
    fields: dict[str, str | int | float | bytes | None]


@attrs.frozen
class Close:
    """Close the connection; everything was sent before."""


Effect = Send | Ask | Open | Write | Commit | Discard | Abort | Record | Close
Result = Answered | Opened | CommitResult
