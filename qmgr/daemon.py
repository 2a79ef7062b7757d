"""The queue manager's process.

Kind: shell.

Runs as: smxq. Reads: smx.conf; never the content of a message. Writes: the IBDB (``ibdb/ibdb``
below the queue directory), the DEFEDB, its three sockets; removes content files. Untrusted
input: messages of smtps, smtpc, smar and qmgrctl. Messages: see CHANNELS in libsmx/wire.py.
Signals: those of the skeleton. Exit codes: sysexits(3), and EX_STOP after ``qmgrctl stop``,
which makes mcp stop the whole system.

Start: the log of accepted mail is read; then siblings are served, while the deferred queue is
opened, checked if the last stop was unclean, and given what was left open.
Source: SPEC rows X008, X012-X018, X160-X197; architecture.md.
"""

import random
from collections.abc import Awaitable, Callable

import trio

from libsmx.channel import Channel
from libsmx.errors import EX_IOERR, EX_STOP, StartError, StoreError
from libsmx.link import Link, Server
from libsmx.opttab import QmgrConf
from libsmx.process import Context, Daemon
from libsmx.wire import Stats
from qmgr import events
from qmgr.changes import Changes
from qmgr.confmap import load_overrides
from qmgr.core import QueueManager
from qmgr.deferred import Defedb
from qmgr.desk import Desk
from qmgr.disk import DiskGuard
from qmgr.engine import Engine
from qmgr.ibdblog import Ibdb
from qmgr.ibdbrecover import Recovery
from qmgr.limits import from_conf
from qmgr.recovery import merge
from qmgr.spool import DiskWatch, Orphans, Remover

IBDB_DIRECTORY = "ibdb/ibdb"
"""Below the queue directory; may be a symbolic link to another disk (SPEC row X174)."""
SOCKET_MODE = 0o660
MAX_WAITS = 2
"""Nothing is planned further ahead than this many times retry_max_delay."""
_STORE_RETRY_S = 30.0
_STOP_DELAY_S = 0.2
"""An operator's request to stop is answered before the stop begins."""


def first_bounce_id(wall_s: float, draw: int) -> int:
    """Return the first counter value of bounces: never the same in two runs.

    The time in seconds stands in the upper half; the lower half is random, for runs that begin
    in the same second of a clock that was set back.
    """
    return (int(wall_s) & 0xFFFFFFFF) << 32 | draw & 0x7FFFFFFF


class Qmgr:
    """All parts of the process.

    Args:
        ctx: of the skeleton.
    """

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._conf: QmgrConf = ctx.conf
        self._base = ctx.globals.cdb_base_directory
        conf, log = self._conf, ctx.log
        self._limits = from_conf(conf, ctx.globals.hostname)
        rng = random.SystemRandom()
        core = QueueManager(
            self._limits,
            first_id=first_bounce_id(ctx.clock.wall(), rng.getrandbits(31)),
            draw=random.random,
        )
        self._ibdb = Ibdb(
            IBDB_DIRECTORY,
            size=conf.ibdb.size,
            max_open_tas=conf.ibdb.max_open_tas,
            max_commit_delay_us=conf.ibdb.max_commit_delay,
            log=log,
            clock=ctx.clock,
        )
        self._defedb = Defedb(conf.defedb.base_directory, log, ctx.clock)
        self._remover = Remover(self._base, log)
        self._engine = Engine(core, self._ibdb, self._defedb, self._remover, log, ctx.clock)
        self._changes = Changes(
            self._engine, log, conf.defedb.base_directory, self._stop_all, self._reload
        )
        self._desk = Desk(self._engine, log, self._changes)
        self._stop_asked = trio.Event()
        self._reload_asked = trio.Event()
        self._seen: set[str] = set()
        self._defedb_begun = False

    async def serve(self, task_status: trio.TaskStatus[None]) -> None:
        """Run until told to stop, then finish what is under way."""
        recovery = await trio.to_thread.run_sync(self._ibdb.recover)
        try:
            await self._ibdb.start()
        except StoreError as error:
            raise StartError(f"IBDB: {error}", EX_IOERR) from error
        engine = self._engine
        await self._load_overrides()
        await self._changes.load()
        self._ctx.reload.append(self._ask_reload)
        async with trio.open_nursery() as stores:
            stores.start_soon(self._ibdb.run)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._run_defedb, recovery)
                nursery.start_soon(engine.run_turns)
                nursery.start_soon(engine.run_ticks)
                nursery.start_soon(self._remover.run)
                nursery.start_soon(self._desk.run)
                nursery.start_soon(self._changes.expire)
                nursery.start_soon(self._disk_watch().run)
                nursery.start_soon(self._await_stop_all)
                nursery.start_soon(self._await_reloads)
                nursery.start_soon(self._await_clients)
                await self._open_channels(nursery)
                task_status.started()
                await self._ctx.stop.wait()
                await engine.drain(self._conf.shutdown_timeout)
                nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await self._ibdb.close()
            stores.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await self._remover.flush()
            if self._defedb_begun:
                await self._defedb.close()

    # --- limits ----------------------------------------------------------------------------

    async def _load_overrides(self) -> None:
        """Let the map of limits hold, as far as it can be read."""
        overrides = await load_overrides(self._conf.conf, self._ctx.log)
        if overrides is not None:
            core = self._engine.core
            core.iqdb.clients.use(overrides)
            core.dispatch.occ.use(overrides)

    def _reload(self) -> None:
        """Do what SIGHUP does."""
        self._ctx.log.reopen()
        for function in self._ctx.reload:
            function()

    def _ask_reload(self) -> None:
        self._reload_asked.set()

    async def _await_reloads(self) -> None:
        while True:
            await self._reload_asked.wait()
            self._reload_asked = trio.Event()
            await self._load_overrides()

    # --- channels --------------------------------------------------------------------------

    async def _open_channels(self, nursery: trio.Nursery) -> None:
        """Listen for smtps, smtpc and qmgrctl, and begin to connect to smar."""
        engine, log, names = self._engine, self._ctx.log, self._ctx.globals

        stats = self._desk.stats

        def numbers(channel: Channel, message: Stats) -> None:
            stats.take((channel.peer, channel.peer_id), message.values)

        def smtps_closed(channel: Channel) -> None:
            stats.gone(("smtps", channel.peer_id))
            engine.smtps_closed(channel)

        def smtpc_closed(channel: Channel) -> None:
            stats.gone(("smtpc", channel.peer_id))
            engine.smtpc_closed(channel)

        def smar_closed(channel: Channel) -> None:
            stats.gone(("smar", channel.peer_id))
            engine.smar_closed(channel)

        def smtps_opened(channel: Channel) -> None:
            self._seen.add("smtps")
            engine.smtps_opened(channel)

        def smtpc_opened(channel: Channel) -> None:
            self._seen.add("smtpc")
            engine.smtpc_opened(channel)

        smtps = Server(
            names.smtps_socket,
            SOCKET_MODE,
            "qmgr",
            engine.smtps_message,
            clients={"smtps": self._ctx.uids["smtps"]},
            log=log,
            on_open=smtps_opened,
            on_close=smtps_closed,
            on_stats=numbers,
        )
        smtpc = Server(
            names.smtpc_socket,
            SOCKET_MODE,
            "qmgr",
            engine.smtpc_message,
            clients={"smtpc": self._ctx.uids["smtpc"]},
            log=log,
            on_open=smtpc_opened,
            on_close=smtpc_closed,
            on_stats=numbers,
        )
        control = Server(
            self._conf.control_socket,
            SOCKET_MODE,
            "qmgr",
            self._desk.handle,
            clients={"qmgrctl": None},
            log=log,
        )
        for server in (smtps, smtpc, control):
            await nursery.start(server.run)
        engine.smar = Link(
            names.smar_socket,
            "qmgr",
            "smar",
            log=log,
            on_open=engine.smar_opened,
            on_close=smar_closed,
            on_stats=numbers,
            wait_s=self._conf.wait_for_server,
        )
        nursery.start_soon(engine.smar.run)

    async def _await_clients(self) -> None:
        """Say it if smtps or smtpc does not appear; mail waits for them, we go on."""
        seconds = self._conf.wait_for_client
        await trio.sleep(seconds)
        for role in ("smtps", "smtpc"):
            if role not in self._seen:
                self._ctx.log.emit(events.NO_CLIENT, role=role, seconds=seconds)

    # --- stores ----------------------------------------------------------------------------

    async def _run_defedb(self, recovery: Recovery) -> None:
        """Open the deferred queue, give it what was left open, then keep it going."""
        await self._until_it_works(self._open_defedb)
        self._engine.defedb_open = True

        async def recover() -> None:
            await merge(
                recovery,
                self._ibdb,
                self._defedb,
                base=self._base,
                now_s=self._engine.now_s(),
                missing_s=self._limits.retry_max_s,
                log=self._ctx.log,
            )

        await self._until_it_works(recover)
        core = self._engine.core
        orphans = Orphans(
            self._base,
            lambda cdb_id: cdb_id in core.tas.contents or core.iqdb.is_reserved(cdb_id),
            self._defedb,
            self._remover,
            self._ctx.log,
            self._ctx.clock,
            keep=bool(recovery.damaged),
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(orphans.run)
            await self._engine.run_defedb()

    async def _open_defedb(self) -> None:
        self._defedb_begun = True
        await self._defedb.open()
        latest_s = self._engine.now_s() + MAX_WAITS * self._limits.retry_max_s
        clipped = await self._defedb.clip(latest_s)
        if clipped:
            self._ctx.log.emit(events.CLOCK_WENT_BACK, rcpts=clipped)

    async def _until_it_works(self, step: Callable[[], Awaitable[None]]) -> None:
        """Repeat a step that a failing disk stops; what needs it waits in bounded queues."""
        while True:
            try:
                await step()
            except StoreError as error:
                self._ctx.log.emit(events.DEFEDB_FAILED, error=str(error))
                await trio.sleep(_STORE_RETRY_S)
            else:
                return

    def _disk_watch(self) -> DiskWatch:
        conf, engine = self._conf, self._engine

        def report(problem: str) -> None:
            engine.core.disk(problem)
            engine.perform()

        paths = {
            "the content database": self._base or ".",
            "the IBDB": IBDB_DIRECTORY,
            "the DEFEDB": conf.defedb.base_directory,
        }
        return DiskWatch(DiskGuard(conf.min_disk_space, conf.ok_disk_space), paths, report)

    # --- stop ------------------------------------------------------------------------------

    def _stop_all(self) -> None:
        self._ctx.exit_code = EX_STOP
        self._stop_asked.set()

    async def _await_stop_all(self) -> None:
        await self._stop_asked.wait()
        await trio.sleep(_STOP_DELAY_S)
        self._ctx.stop.set()


async def serve(ctx: Context, task_status: trio.TaskStatus[None]) -> None:
    """Run the queue manager until it is told to stop."""
    await Qmgr(ctx).serve(task_status)


DAEMON = Daemon(
    name="qmgr",
    purpose="manages the queue: accepts, schedules, retries, returns and deletes mail",
    serve=serve,
    flags={
        "-C": ("qmgr", "smtpc", "max_connections"),
        "-c": ("qmgr", "smtpc", "initial_connections"),
        "-O R": ("qmgr", "smtps", "max_connection_rate"),
        "-O O": ("qmgr", "smtps", "max_connections"),
    },
)
