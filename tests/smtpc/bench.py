"""The client's dispatcher with a spool and a stand-in for the queue manager."""

import os
import socket

import attrs
import trio

from libsmx.clock import FakeClock
from libsmx.envelope import Envelope, Recipient
from libsmx.ids import content_path, format_ta_id
from libsmx.log import NullLog
from libsmx.opt_smtpc import TimeoutsConf
from libsmx.opt_tls import SmtpcTlsConf
from libsmx.tlssource import TlsSource
from libsmx.wire import Deliver, Delivered, Target
from smtpc.dispatch import Dispatcher
from smtpc.job import Surroundings
from smtpc.rules import Rules, read_timeouts
from smtpc.sources import SourceTable
from smtpc.tlskit import TlsKit


class Qmgr:
    """Stands for the channel to the queue manager; keeps what is posted."""

    def __init__(self):
        self.closed = False
        self.posted = []
        self._news = trio.Event()

    def post(self, message, rid=0):
        self.posted.append((message, rid))
        self._news.set()
        self._news = trio.Event()

    async def next(self):
        while not self.posted:
            await self._news.wait()
        return self.posted.pop(0)[0]


@attrs.define
class Bench:
    """A dispatcher with a spool and a fake queue manager."""

    base: str
    qmgr: Qmgr
    dispatcher: Dispatcher
    log: NullLog
    nursery: trio.Nursery
    rid: int = 0
    number: int = 0

    def write(self, data):
        self.number += 1
        ta_id = format_ta_id(self.number, 0)
        path = self.base + content_path(ta_id)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)
        return ta_id

    def envelope(self, data=b"Subject: x\r\n\r\nhello\r\n", rcpts=("a",), **kwargs):
        ta_id = self.write(data)
        return Envelope(
            ta_id=ta_id, cdb_id=ta_id, sender="s@example.org", size=len(data),
            rcpts=[Recipient(idx=i, address=f"{n}@example.net") for i, n in enumerate(rcpts)],
            received_at=FakeClock().wall() - 2, **kwargs,
        )  # fmt: skip

    def order(self, targets, envelope=None, da_sess=1, lmtp=False):
        self.rid += 1
        deliver = Deliver(
            da_sess=da_sess, da_ta=self.rid, lmtp=lmtp, dest="example.net",
            targets=[t if isinstance(t, Target) else target(t) for t in targets],
            envelope=envelope or self.envelope(),
        )  # fmt: skip
        self.dispatcher.handle(self.qmgr, deliver, self.rid)

    async def deliver(self, *args, **kwargs):
        self.order(*args, **kwargs)
        answer = await self.qmgr.next()
        assert isinstance(answer, Delivered), answer
        return answer

    def events(self):
        return [event.name for event, _ in self.log.records]


def target(peer):
    if isinstance(peer.address, tuple):
        return Target(host="peer.example", address=peer.address[0], port=peer.address[1])
    return Target(host="", address="", port=0)


def closed_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return Target(host="dead.example", address="127.0.0.1", port=sock.getsockname()[1])


def outcomes(delivered):
    return [(r.idx, r.code, r.status) for r in delivered.results]


class Start:
    """``async with Start(tmp_path) as bench``; further words are fields of the rules."""

    def __init__(self, tmp_path, capacity=10, io_timeout_s=600.0, tls=None, **rules):
        self._path, self._capacity, self._tls = tmp_path, capacity, tls
        waits = read_timeouts(TimeoutsConf(), io_timeout_s, lmtp=False)
        self._rules = Rules(
            sources=SourceTable((), "client.example"), timeouts=waits, lmtp_timeouts=waits,
            connect_s=5.0, connect_first_s=5.0,
        )  # fmt: skip
        self._rules = attrs.evolve(self._rules, **rules)

    async def __aenter__(self):
        self._manager = trio.open_nursery()
        nursery = await self._manager.__aenter__()
        log = NullLog()
        source = TlsSource(self._tls or SmtpcTlsConf(), "", log)
        around = Surroundings(
            rules=self._rules, lmtp_socket=str(self._path / "lmtp"), tls=TlsKit(source),
            log=log, clock=FakeClock(), nonce=lambda: "fresh-nonce-of-this-test",
        )  # fmt: skip
        qmgr = Qmgr()
        base = f"{self._path}/"
        dispatcher = Dispatcher(nursery, around, base, self._capacity, lambda: "=_boundary")
        dispatcher.opened(qmgr)
        self._bench = Bench(base, qmgr, dispatcher, log, nursery)
        return self._bench

    async def __aexit__(self, *exc):
        self._bench.nursery.cancel_scope.cancel()
        return await self._manager.__aexit__(*exc)
