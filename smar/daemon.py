"""The address resolver's process.

Kind: shell.

Runs as: smxm. Reads: smx.conf, the mailertable, resolv.conf. Writes: its socket. Untrusted
input: DNS answers; addresses, which smtps checked and which are parsed again here.
Signals: those of the skeleton; SIGHUP reads nothing anew, the text mailertable is read at
start only (SPEC row X245). Exit codes: EX_CONFIG for a mailertable that is missing or wrong.
Source: SPEC rows X009, X248, X250; decision D53.
"""

import random

import trio

from libsmx.errors import EX_CONFIG, ConfigError, StartError
from libsmx.link import Server
from libsmx.opttab import SmarConf
from libsmx.process import Context, Daemon
from smar.cache import Cache
from smar.desk import Desk
from smar.dnsio import Resolver, read_resolv_conf
from smar.events import (
    DNS_FAILED,
    MAILERTABLE_READ,
    NAME_SERVER_BACK,
    NAME_SERVER_SILENT,
    NAME_SERVERS,
)
from smar.flights import Flights
from smar.mailertable import Mailertable, read_mailertable
from smar.records import Question
from smar.route import Router
from smar.verdict import Checks

SOCKET_MODE = 0o660
MAX_TABLE = 64 << 20
"""Largest mailertable read, bytes."""


def load_mailertable(path: str) -> Mailertable:
    """Read the mailertable; it must exist, though it may be empty (SPEC row X250).

    Raises:
        StartError: it cannot be read, or lines of it are wrong; EX_CONFIG.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_TABLE + 1)
    except OSError as error:
        text = f"{path}: {error.strerror}; smar needs this mailertable, even if it is empty"
        raise StartError(text, EX_CONFIG) from error
    if len(data) > MAX_TABLE:
        raise StartError(f"{path}: longer than {MAX_TABLE} bytes, which is the limit", EX_CONFIG)
    try:
        return read_mailertable(data.decode("utf-8", "backslashreplace"), path)
    except ConfigError as error:
        raise StartError(str(error), EX_CONFIG) from error


async def serve(ctx: Context, task_status: trio.TaskStatus[None]) -> None:
    """Answer questions until the process is told to stop, then finish those under way."""
    conf: SmarConf = ctx.conf
    log, hostname = ctx.log, ctx.globals.hostname.lower()
    table = load_mailertable(conf.mailertable.file)
    log.emit(MAILERTABLE_READ, file=conf.mailertable.file, entries=len(table))
    servers = [(place.address, place.port) for place in conf.nameserver] or read_resolv_conf()
    log.emit(NAME_SERVERS, servers=" ".join(f"{address}:{port}" for address, port in servers))

    def on_server(server: str, alive: bool) -> None:  # noqa: FBT001 - the callback's signature
        log.emit(NAME_SERVER_BACK if alive else NAME_SERVER_SILENT, server=server)

    def on_failure(question: Question, reason: str) -> None:
        log.emit(DNS_FAILED, name=question.name, type=question.kind, reason=reason)

    async with trio.open_nursery() as nursery:
        flights = Flights(
            nursery,
            Resolver(servers, conf.dns_timeout, on_server).ask,
            Cache(conf.cache_max_entries),
            ctx.clock,
            conf.dns_timeout,
            on_failure,
        )
        router = Router(table, hostname, random.SystemRandom().shuffle)
        desk = Desk(Checks(table, hostname), router, flights, log, ctx.clock)
        server = Server(
            ctx.globals.smar_socket,
            SOCKET_MODE,
            "smar",
            desk.handle,
            clients={"smtps": ctx.uids["smtps"], "qmgr": ctx.uids["qmgr"]},
            log=log,
        )
        await nursery.start(server.run)
        task_status.started()
        await ctx.stop.wait()
        with trio.move_on_after(conf.shutdown_timeout):
            await flights.drained()
        nursery.cancel_scope.cancel()


DAEMON = Daemon(
    name="smar",
    purpose="resolves addresses: mailertable and DNS, for smtps and qmgr",
    serve=serve,
)
