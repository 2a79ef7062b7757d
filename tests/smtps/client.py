"""Drives a Session without I/O: plays shell, smar, qmgr and disk."""

import attrs

from libsmx.opttab import SmtpsConf
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
from smtps.effects import (
    Abort,
    Answered,
    Ask,
    Close,
    Commit,
    CommitResult,
    Consult,
    Consulted,
    Delay,
    Discard,
    ForgetMessage,
    Inspect,
    Inspected,
    Introduce,
    Introduced,
    Open,
    Opened,
    Record,
    Said,
    Send,
    Write,
)
from smtps.policy import Policy
from smtps.session import Session

NOW_S = 1_700_000_000.0
LOCAL = "192.0.2.9"
"""A client that may not relay."""


def make_policy(**options):
    """Return a policy with defaults and these options."""
    options.setdefault("relay_clients", ())
    return Policy(attrs.evolve(SmtpsConf(), **options), "mx.test")


@attrs.define
class World:
    """The other side of the shell; change it to make things fail."""

    smar: bool = True
    room: object = attrs.Factory(TaOpened)
    disk: bool = True
    synced: bool = True
    commit: object = attrs.Factory(TaCommitted)
    mail: dict = attrs.Factory(dict)
    rcpt: dict = attrs.Factory(dict)
    conn: object = attrs.Factory(lambda: ConnVerdict(accept=True))
    steps: dict = attrs.Factory(dict)
    """(stage, first word) -> what the filters say."""
    inspected: object = attrs.Factory(lambda: Inspected(Said()))
    tls: object = None
    """What is known after a handshake."""
    prove: object = None
    """Answers questions of AUTH and of certificates."""


class Client:
    """A client in a session; ``talk`` sends bytes and returns what comes back."""

    def __init__(self, world=None, client=LOCAL, policy=None, granted=None, **options):
        self.world = world or World()
        self.policy = policy or make_policy(**options)
        self.session = Session(self.policy, client, "65538F00-1")
        self.sent = b""
        self.asks = []
        self.files = {}
        self.file = None
        self.envelopes = []
        self.aborted = []
        self.records = []
        self.closed = False
        self._ids = 0
        self.delays = []
        self.consulted = []
        self.forgotten = 0
        self.proofs = []
        self._perform(self.session.opened(granted or SessionGranted(), self.world.conn))
        self.greeting = self.take()

    def take(self):
        """Return what was sent since the last call."""
        sent, self.sent = self.sent, b""
        return sent.decode("ascii")

    def talk(self, data):
        """Send bytes; return the replies."""
        if isinstance(data, str):
            data = data.encode("ascii")
        if not self.closed:
            self._perform(self.session.receive(data))
        return self.take()

    def codes(self, data):
        """Send bytes; return the codes of the replies, one each, blanks between."""
        lines = self.talk(data).splitlines()
        return " ".join(line[:3] for line in lines if line[3:4] == " ")

    def begin(self, rcpts=1):
        """EHLO, MAIL and so many RCPT."""
        self.talk("EHLO c.test\r\nMAIL FROM:<s@a.test>\r\n")
        self.talk("".join(f"RCPT TO:<r{at}@b.test>\r\n" for at in range(rcpts)))

    def _perform(self, effects):
        while True:
            result = None
            for effect in effects:
                assert result is None, "nothing may follow an effect that waits"
                assert not self.closed, "nothing may follow Close"
                match effect:
                    case Send(data):
                        self.sent += data
                    case Ask():
                        result = self._ask(effect)
                    case Open(ta_id):
                        result = Opened(NOW_S if self.world.disk else None)
                        if self.world.disk:
                            assert ta_id not in self.files
                            self.file = ta_id
                            self.files[ta_id] = b""
                    case Write(data):
                        self.files[self.file] += data
                    case Commit(envelope):
                        result = self._commit(envelope)
                    case Discard():
                        del self.files[self.file]
                    case Abort(ta_id):
                        self.aborted.append(ta_id)
                    case Consult(steps):
                        self.consulted += steps
                        result = self._consult(steps)
                    case Inspect():
                        result = self.world.inspected
                    case StartTls():
                        result = Secured(self.world.tls)
                    case Prove(question):
                        self.proofs.append(question)
                        result = Proved(self.world.prove(question))
                    case Introduce():
                        result = Introduced(SessionGranted(), self.world.conn)
                    case Delay(seconds):
                        self.delays.append(seconds)
                    case ForgetMessage():
                        self.forgotten += 1
                    case Record(event, fields):
                        assert set(event.fields) == set(fields)
                        self.records.append((event.name, fields))
                    case Close():
                        self.closed = True
            if result is None:
                return
            effects = self.session.answer(result)

    def _ask(self, ask):
        self.asks.append(ask)
        answers = tuple(self._judge(question) for question in ask.questions)
        if not ask.reserve:
            return Answered(answers)
        self._ids += 1
        return Answered(answers, f"S{self._ids:016X}00", self.world.room)

    def _consult(self, steps):
        said = []
        for step in steps:
            said.append(self.world.steps.get((step.stage, *step.words[:1]), Said()))
            if step.stage == "mail" and said[-1].refusal is not None:
                break
        return Consulted(tuple(said))

    def _judge(self, question):
        if not self.world.smar:
            return None
        if isinstance(question, MailAsk):
            return self.world.mail.get(question.sender, Verdict(accept=True))
        assert isinstance(question, RcptAsk)
        return self.world.rcpt.get(question.rcpt, Verdict(accept=True))

    def _commit(self, envelope):
        assert len(self.files[envelope.cdb_id]) == envelope.size
        if not self.world.synced:
            return CommitResult(stored=False, answer=None)
        if isinstance(self.world.commit, TaCommitted):
            self.envelopes.append(envelope)
        return CommitResult(stored=True, answer=self.world.commit)


UNKNOWN_USER = Verdict(accept=False, code=550, status="5.1.1", text="no such user")
FULL = Refusal(code=452, status="4.3.1", text="queue is full")
