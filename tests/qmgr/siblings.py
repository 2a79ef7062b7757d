"""The real qmgr daemon in this process, between faked siblings on real sockets."""

from contextlib import asynccontextmanager
from pathlib import Path

import trio

from libsmx import wire, wire_control
from libsmx.cdb import DIRECTORIES
from libsmx.clock import SystemClock
from libsmx.confload import resolve_component
from libsmx.ids import content_path, format_ta_id
from libsmx.link import Link, Server
from libsmx.log import NullLog
from libsmx.process import Context
from qmgr.daemon import Qmgr
from tests.qmgr.world import DEAD, OK, envelope


class Spool:
    """A queue directory; the daemon's relative paths are made absolute through symlinks."""

    def __init__(self, path: Path):
        self.path = path
        for name in (*DIRECTORIES, "ibdb", "ibdb/ibdb", "defedb", "ctl"):
            (path / name).mkdir(exist_ok=True)
        self.number = 0

    def context(self, options=""):
        p = self.path
        text = f"""
            CDB_base_directory = "{p}/"; SMAR_socket = "{p}/smar";
            SMTPS_socket = "{p}/smtps"; SMTPC_socket = "{p}/smtpc"; hostname = "gw.example.org";
            qmgr {{ control_socket = "{p}/ctl/control"; min_disk_space = 0; ok_disk_space = 1;
                    DEFEDB {{ base_directory = "{p}/defedb"; }} {options} }}
        """
        loaded = resolve_component(text.encode(), "test", "qmgr", None)
        return Context(
            conf=loaded.conf,
            globals=loaded.globals,
            log=NullLog(),
            clock=SystemClock(),
            id=0,
            name="qmgr",
            config_dir=str(p),
            stop=trio.Event(),
        )

    def message(self, rcpts, sender="s@example.org", received_at=None):
        self.number += 1
        now = SystemClock().wall() if received_at is None else received_at
        env = envelope(self.number, rcpts, sender, now)
        (self.path / content_path(env.cdb_id)).write_bytes(b"Subject: x\r\n\r\nx\r\n")
        return env

    def contents(self):
        return sorted(p.name for d in DIRECTORIES for p in (self.path / d).iterdir())


class Siblings:
    """smar, smtps and smtpc as far as the queue manager can tell."""

    def __init__(self, spool, log):
        self.spool = spool
        self.log = log
        self.behaviour = {}
        self.delivered = []
        self.messages = []
        self.hold = False
        self.held = []
        self.pushed = []
        self.smtps = self.link("smtps")
        self.smtpc = self.link("smtpc", handler=self.deliver, capacity=10)
        self.control = Link(str(spool.path / "ctl/control"), "qmgrctl", "qmgr", log=log, wait_s=20)
        self.smar = Server(
            str(spool.path / "smar"), 0o660, "smar", self.route, clients={"qmgr": None}, log=log
        )

    def link(self, role, handler=None, **kwargs):
        path = str(self.spool.path / role)
        return Link(
            path, role, "qmgr", log=self.log, wait_s=20, handler=handler or self.push, **kwargs
        )

    def push(self, _channel, message, _rid):
        self.pushed.append(message)

    def route(self, channel, message, rid):
        routes = []
        for address in message.rcpts:
            domain = address.rpartition("@")[2]
            target = wire.Target(host=domain, address=f"ip-{domain}", port=25)
            routes.append(wire.Route(dest=domain, targets=[target]))
        channel.post(wire.RouteAnswer(routes=routes), rid)

    def deliver(self, channel, message, rid):
        if isinstance(message, wire.Deliver):
            if self.hold:
                self.held.append((channel, message, rid))
            else:
                self.finish(channel, message, rid)

    def finish(self, channel, message, rid):
        target = message.targets[0]
        what = self.behaviour.get(message.dest, OK)
        results, attempts = [], []
        if what == DEAD:
            attempts = [wire.Attempt(address=target.address, text="refused", refused=True)]
            what = (451, "4.4.1", "refused")
        for rcpt in message.envelope.rcpts:
            code, status, text = what
            results.append(wire.RcptResult(idx=rcpt.idx, code=code, status=status, text=text))
            if code == 250:
                self.delivered.append((message.envelope.ta_id, rcpt.address))
        self.messages.append(message)
        answer = wire.Delivered(
            da_sess=message.da_sess,
            da_ta=message.da_ta,
            open=not attempts,
            host=target.host,
            address="" if attempts else target.address,
            results=results,
            attempts=attempts,
        )
        channel.post(answer, rid)

    async def send(self, env, session="s"):
        """Commit a message as smtps does; return qmgr's last answer."""
        opened = await self.smtps.call(wire.TaOpen(ta_id=env.ta_id, session=session), 20)
        if not isinstance(opened, wire.TaOpened):
            return opened
        return await self.smtps.call(wire.TaCommit(envelope=env), 20)

    async def status(self):
        answer = await self.control.call(wire_control.StatusAsk(), 20)
        return {row.name: row.value for row in answer.figures}

    async def queue(self):
        entries, after = [], ""
        while True:
            answer = await self.control.call(wire_control.QueueAsk(after=after, limit=2), 20)
            if isinstance(answer, wire.Refusal):  # the DEFEDB is not open yet
                await trio.sleep(0.005)
                continue
            entries += answer.entries
            after = answer.next
            if not after:
                return entries

    async def until(self, condition):
        """Poll a fact; the test's own time-out is the only limit."""
        while not condition():
            await trio.sleep(0.005)


@asynccontextmanager
async def running(spool, options="", only=("smar", "smtps", "smtpc", "control")):
    """The daemon and its siblings; on exit the daemon has stopped in order."""
    ctx = spool.context(options)
    siblings = Siblings(spool, NullLog())
    async with trio.open_nursery() as outer:
        if "smar" in only:
            await outer.start(siblings.smar.run)
        async with trio.open_nursery() as daemon:
            await daemon.start(Qmgr(ctx).serve)
            for name in ("smtps", "smtpc", "control"):
                if name in only:
                    await outer.start(getattr(siblings, name).run)
            if "smtps" in only:
                ask = wire.SessionOpen(session="s", client="192.0.2.1")
                assert isinstance(await siblings.smtps.call(ask, 20), wire.SessionGranted)
            yield siblings, ctx
            ctx.stop.set()
        outer.cancel_scope.cancel()


def new_id(number):
    return format_ta_id(number, 0)
