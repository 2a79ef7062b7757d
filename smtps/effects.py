"""What the session core asks its shell to do, and what the shell answers.

Kind: table.

Effects are carried out in order. One that has an answer comes last in its list: the session goes
on with Session.answer and never gets input before.
"""

import attrs

from libsmx.envelope import Envelope
from libsmx.logtab import Event
from libsmx.reply import Reply
from libsmx.wire import (
    ConnVerdict,
    MailAsk,
    RcptAsk,
    Refusal,
    SessionGranted,
    TaCommitted,
    TaOpened,
    Verdict,
)
from smtps.authsteps import Prove, Proved, Secured, StartTls


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
class Step:
    """One stage of the dialogue, as content filters are asked about it.

    Attributes:
        stage: connect, helo, mail, rcpt or data.
        words: of the command: the argument of HELO; address in brackets and parameters.
        macros: name and value of what filters may want to know at this stage.
    """

    stage: str
    words: tuple[str, ...] = ()
    macros: tuple[tuple[str, str], ...] = ()


@attrs.frozen
class Said:
    """What filters say of one step.

    Attributes:
        refusal: reply for the client; None: go on.
        discard: the message is taken and dropped.
    """

    refusal: Reply | None = None
    discard: bool = False


@attrs.frozen
class Consult:
    """Ask the content filters about steps that the client took, in their order."""

    steps: tuple[Step, ...]


@attrs.frozen
class Consulted:
    """Answers to Consult, in the order of the steps; those after a refused MAIL may miss."""

    said: tuple[Said, ...]


@attrs.frozen
class Inspect:
    """Show the content that was written to the filters, and carry out what they change.

    Attributes:
        head: bytes at its beginning that are ours and not shown.
        macros: as in Step.
        max_size: greatest size that the content may grow to, bytes; 0: any.
    """

    head: int
    macros: tuple[tuple[str, str], ...]
    max_size: int


@attrs.frozen
class Inspected:
    """What filters say of a message.

    Attributes:
        said: refuse, discard or take it.
        size: of the content file, where the content was changed; 0: it is as it was.
        sender: new sender without brackets, None: as it was.
        added: recipients without brackets, in the order of the requests.
        deleted: recipients without brackets.
        hold: why the message shall be held in the queue, empty: it shall not.
    """

    said: Said
    size: int = 0
    sender: str | None = None
    added: tuple[str, ...] = ()
    deleted: frozenset[str] = frozenset()
    hold: str = ""


@attrs.frozen
class Introduce:
    """The session begins anew for another client (XCLIENT): ask whether it may come in."""


@attrs.frozen
class Introduced:
    """Answers to Introduce.

    Attributes:
        answer: of qmgr.
        verdict: of smar.
    """

    answer: SessionGranted | Refusal | None
    verdict: ConnVerdict | Refusal | None


@attrs.frozen
class ForgetMessage:
    """Tell the filters that the transaction they heard of is over."""


@attrs.frozen
class Delay:
    """Wait before the next Send, as the client makes too many errors.

    Attributes:
        seconds: how long.
    """

    seconds: int


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


Waiting = Introduce | Ask | Consult | Inspect | Open | Commit | StartTls | Prove
"""Effects that have an answer."""
Effect = Send | Waiting | Write | Discard | Abort | ForgetMessage | Delay | Record | Close
Result = Introduced | Answered | Consulted | Inspected | Opened | CommitResult | Secured | Proved
