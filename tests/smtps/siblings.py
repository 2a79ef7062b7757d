"""A queue manager and an address resolver on real sockets, for tests of the shells."""

import contextlib

import attrs
import trio

from libsmx.cdb import DIRECTORIES, CdbWriter
from libsmx.clock import SystemClock
from libsmx.link import Link, Server
from libsmx.log import NullLog
from libsmx.opttab import SmtpsConf
from libsmx.wire import (
    MailAsk,
    RcptAsk,
    SessionClose,
    SessionGranted,
    SessionOpen,
    TaAbort,
    TaCommit,
    TaCommitted,
    TaOpen,
    TaOpened,
    Verdict,
)
from smtps.conn import Surroundings
from smtps.milterio import filters_of
from smtps.policy import Policy

SILENT = object()
"""An answer that never comes."""


class Siblings:
    """Both fakes; ``answers`` says what they answer to a message class."""

    def __init__(self, directory):
        self.directory = directory
        self.qmgr_path = str(directory / "q")
        self.smar_path = str(directory / "a")
        self.seen = []
        self.channels = []
        self.log = NullLog()
        self.answers = {
            SessionOpen: SessionGranted(),
            TaOpen: TaOpened(),
            TaCommit: TaCommitted(),
            MailAsk: Verdict(accept=True),
            RcptAsk: Verdict(accept=True),
        }
        self.on_seen = {}
        """Message class -> function called before the answer."""

    def handle(self, channel, message, rid):
        """Answer one message."""
        self.seen.append(message)
        kind = type(message)
        if kind in self.on_seen:
            self.on_seen[kind](channel, message)
        answer = self.answers.get(kind, SILENT)
        if rid and answer is not SILENT:
            channel.post(answer, rid)

    def got(self, kind):
        """Return the messages of a class that came so far."""
        return [message for message in self.seen if type(message) is kind]

    async def until(self, kind, count=1):
        """Wait until so many messages of a class came."""
        while len(self.got(kind)) < count:
            await trio.sleep(0.001)

    @contextlib.asynccontextmanager
    async def running(self):
        """Listen on both sockets."""
        async with trio.open_nursery() as nursery:
            for path, role in ((self.qmgr_path, "qmgr"), (self.smar_path, "smar")):
                server = Server(
                    path, 0o600, role, self.handle, clients={"smtps": None}, log=self.log,
                    on_open=self.channels.append,
                )  # fmt: skip
                await nursery.start(server.run)
            yield self
            nursery.cancel_scope.cancel()

    @contextlib.asynccontextmanager
    async def surroundings(self, **options):
        """Run both fakes and the links to them; give what connections share."""
        options.setdefault("relay_clients", ())
        for name in DIRECTORIES:
            (self.directory / name).mkdir()
        clock = SystemClock()
        cdb = CdbWriter(f"{self.directory}/", 7, None, str(self.directory / "lease"), clock)
        async with self.running(), trio.open_nursery() as nursery:
            await cdb.start()
            try:
                qmgr = Link(self.qmgr_path, "smtps", "qmgr", log=self.log)
                smar = Link(self.smar_path, "smtps", "smar", log=self.log)
                await nursery.start(qmgr.run)
                await nursery.start(smar.run)
                policy = Policy(attrs.evolve(SmtpsConf(), **options), "mx.test")
                filters = filters_of(policy.conf.policy_milter, policy.conf.milter)
                yield Surroundings(policy, qmgr, smar, cdb, self.log, clock, filters=filters)
                nursery.cancel_scope.cancel()
            finally:
                cdb.stop()

    def contents(self):
        """Return the content files, by id."""
        return {path.name: path.read_bytes() for path in self.directory.glob("?/S*")}


__all__ = ["SILENT", "SessionClose", "Siblings", "TaAbort"]
