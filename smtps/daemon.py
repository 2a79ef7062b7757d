"""The SMTP server process.

Kind: shell.

Runs as: its own user (smxs), in the groups of content (smxc) and resolver (smxm).
Reads: smx.conf. Writes: content files (CDB), the lease of message numbers beside the
pass_fd_socket.
Untrusted input: everything that SMTP clients send.
Messages: smtps -> qmgr, smtps -> smar in libsmx/wire.py.
Signals, exit codes: libsmx/process.py.
Source: SPEC rows X007, X358, X367, X369, X428; decision D46.
"""

import grp
import itertools
import os
import socket

import trio

from libsmx.cdb import CdbWriter
from libsmx.channel import Channel
from libsmx.errors import EX_CONFIG, StartError
from libsmx.ids import MAX_SERVER_ID
from libsmx.link import Link
from libsmx.log import Log
from libsmx.opttab import SmtpsConf
from libsmx.process import Context, Daemon
from libsmx.reply import TOO_BUSY
from libsmx.tlsfacts import TlsFileError
from libsmx.tlssource import TlsSource
from libsmx.wire import Throttle
from smtps import events
from smtps.authsource import AuthSource
from smtps.conn import Connection, Surroundings
from smtps.listen import Listeners, bind_listeners, serve_passed
from smtps.milterio import filters_of
from smtps.policy import Policy, plain_address

_GRACE_S = 2.0
"""Time for last words after sessions were cancelled."""


class Server:
    """All connections of one process.

    Args:
        around: what they share.
        server_id: of this process.
        start_s: wall clock of the start, seconds; makes session ids unique.
        nursery: runs the connections.
    """

    def __init__(
        self, around: Surroundings, server_id: int, start_s: float, nursery: trio.Nursery
    ) -> None:
        self._around = around
        self._nursery = nursery
        self._open: set[Connection] = set()
        self._prefix = f"{int(start_s):08X}{server_id:02X}-"
        self._numbers = itertools.count(1)
        self._full = False
        self._empty = trio.Event()

    def take(self, sock: socket.socket, address: str) -> None:
        """Serve a new client, or tell it that there are too many."""
        policy = self._around.policy
        if len(self._open) >= policy.conf.max_sessions or policy.stopping:
            self._turn_away(sock)
            return
        self._full = False
        try:
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        except OSError:
            sock.close()  # gone already
            return
        session_id = f"{self._prefix}{next(self._numbers)}"
        connection = Connection(self._around, sock, plain_address(address), session_id)
        self._open.add(connection)
        self._nursery.start_soon(self._run, connection)

    def _turn_away(self, sock: socket.socket) -> None:
        if not self._full:
            # Once, not for each client: a flood of connections must not flood the log.
            self._full = True
            self._around.log.emit(events.TOO_MANY_SESSIONS, sessions=len(self._open))
        try:
            sock.setblocking(False)
            sock.send(TOO_BUSY.fill(self._around.policy.hostname).encode())
        except OSError:
            pass  # it does not listen; there is nobody to tell
        finally:
            sock.close()

    async def _run(self, connection: Connection) -> None:
        try:
            await connection.run()
        finally:
            self._open.discard(connection)
            if not self._open:
                self._empty.set()

    def qmgr_lost(self, _channel: Channel) -> None:
        """Note for every session that the queue manager has forgotten it."""
        for connection in self._open:
            connection.qmgr_lost()

    async def drain(self, timeout_s: float) -> None:
        """End idle sessions now, the others after their transaction or after timeout_s."""
        self._around.policy.stopping = True
        for connection in list(self._open):
            connection.wake()
        with trio.move_on_after(timeout_s):
            await self._until_empty()
        for connection in list(self._open):
            connection.cancel()
        with trio.move_on_after(_GRACE_S):
            await self._until_empty()

    async def _until_empty(self) -> None:
        while self._open:
            self._empty = trio.Event()
            await self._empty.wait()


def find_group(name: str, log: Log) -> int | None:
    """Return the id of the group that content files get; None to leave them as they are.

    A system that runs as one user (tests, quick start) has no such group and needs none.
    """
    try:
        gid = int(name) if name.isdigit() else grp.getgrnam(name).gr_gid
    except KeyError:
        log.emit(events.CDB_GROUP_SKIPPED, group=name, reason="there is no such group")
        return None
    if gid != os.getegid() and gid not in os.getgroups():
        log.emit(events.CDB_GROUP_SKIPPED, group=name, reason="this process is no member")
        return None
    return gid


def pick_server_id(conf: SmtpsConf, process_id: int) -> int:
    """Return the id in transaction ids: that of the section plus that of the process.

    Raises:
        StartError: it does not fit two hexadecimal digits.
    """
    server_id = conf.id + process_id
    if server_id > MAX_SERVER_ID:
        raise StartError(
            f"smtps id {conf.id} and process number {process_id} give {server_id}, "
            f"more than {MAX_SERVER_ID}; set a smaller id",
            EX_CONFIG,
        )
    return server_id


def pass_path(conf: SmtpsConf, process_id: int) -> str:
    """Return where this process takes its listening sockets; empty: nowhere."""
    path = conf.service.pass_fd_socket
    return f"{path}.{process_id}" if path and conf.service.pass_id else path


def open_tls(policy: Policy, ctx: Context) -> TlsSource:
    """Read the certificates, now and at each SIGHUP.

    Raises:
        StartError: a file that the configuration names cannot be used.
    """
    try:
        source = TlsSource(policy.conf.tls, ctx.config_dir, ctx.log)
    except TlsFileError as error:
        raise StartError(f"tls: {error}", EX_CONFIG) from error
    policy.tls_ready = source.ready

    def reload() -> None:
        source.reload()
        policy.tls_ready = source.ready

    ctx.reload.append(reload)
    return source


async def serve(
    ctx: Context, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Run the SMTP server until ctx.stop is set."""
    conf: SmtpsConf = ctx.conf
    server_id = pick_server_id(conf, ctx.id)
    policy = Policy(conf, ctx.globals.hostname)
    tls = open_tls(policy, ctx)
    auth = AuthSource(policy, ctx.config_dir, ctx.log, ctx.clock)
    ctx.reload.append(auth.reload)
    # One thread leads the syncs, one writes leases, the others sync side by side.
    trio.to_thread.current_default_thread_limiter().total_tokens = 1
    directory = os.path.dirname(conf.service.pass_fd_socket) or "smtps"
    cdb = CdbWriter(
        ctx.globals.cdb_base_directory,
        server_id,
        find_group(conf.cdb_gid, ctx.log),
        os.path.join(directory, f"lease.{server_id:02X}"),
        ctx.clock,
        conf.max_threads - 2,
    )
    await cdb.start()

    def throttle(_channel: Channel, message: object, _rid: int) -> None:
        if isinstance(message, Throttle) and message.stop != policy.throttled:
            policy.throttled = message.stop
            if message.stop:
                ctx.log.emit(events.THROTTLED, reason=message.reason)
            else:
                ctx.log.emit(events.UNTHROTTLED)

    def qmgr_opened(_channel: Channel) -> None:
        # A new queue manager says so itself if it takes no mail.
        policy.throttled = False

    def qmgr_closed(channel: Channel) -> None:
        server.qmgr_lost(channel)

    qmgr = Link(
        ctx.globals.smtps_socket,
        "smtps",
        "qmgr",
        log=ctx.log,
        id=server_id,
        handler=throttle,
        on_open=qmgr_opened,
        on_close=qmgr_closed,
        wait_s=conf.wait_for_server,
    )
    smar = Link(
        ctx.globals.smar_socket,
        "smtps",
        "smar",
        log=ctx.log,
        id=server_id,
        wait_s=conf.wait_for_server,
    )
    try:
        async with trio.open_nursery() as background, trio.open_nursery() as clients:
            filters = filters_of(conf.policy_milter, conf.milter)
            around = Surroundings(policy, qmgr, smar, cdb, ctx.log, ctx.clock, tls, auth, filters)
            server = Server(around, server_id, ctx.clock.wall(), clients)
            await background.start(qmgr.run)
            await background.start(smar.run)
            if auth.server is not None:
                await background.start(auth.server.run)
            listeners = Listeners(server.take, ctx.log)
            path = pass_path(conf, ctx.id)
            if path:
                await background.start(serve_passed, path, listeners, background, ctx.log)
            else:
                listeners.use(bind_listeners(conf.service.listen_socket), background)
            task_status.started()
            await ctx.stop.wait()
            listeners.stop()
            await server.drain(conf.shutdown_timeout)
            background.cancel_scope.cancel()
    finally:
        cdb.stop()


DAEMON = Daemon(
    name="smtps",
    purpose="SMTP server: accepts mail and hands it to the queue manager",
    serve=serve,
)
