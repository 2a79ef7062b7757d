"""The address resolver's process.

Kind: shell.

Runs as: smxm. Reads: smx.conf, the mailertable, resolv.conf. Writes: its socket. Untrusted
input: DNS answers; addresses, which smtps checked and which are parsed again here.
Signals: those of the skeleton; SIGHUP reads nothing anew, the text mailertable is read at
start only (SPEC row X245). Exit codes: EX_CONFIG for a mailertable that is missing or wrong.
Source: SPEC rows X009, X248, X250; decision D53.
"""

import trio

from libsmx.errors import EX_CONFIG, ConfigError, StartError
from libsmx.link import Server
from libsmx.opttab import SmarConf
from libsmx.process import Context, Daemon
from smar.desk import Desk
from smar.events import MAILERTABLE_READ
from smar.greydoor import open_door
from smar.mailertable import Mailertable, read_mailertable
from smar.nameservice import start_flights, this_site
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
    async with trio.open_nursery() as nursery:
        flights = start_flights(nursery, ctx)
        router = Router(table, this_site(ctx))
        door = await open_door(ctx, nursery)
        desk = Desk(Checks(table, hostname), router, flights, log, ctx.clock, door)
        server = Server(
            ctx.globals.smar_socket,
            SOCKET_MODE,
            "smar",
            desk.handle,
            clients={
                "smtps": ctx.uids["smtps"],
                "qmgr": ctx.uids["qmgr"],
                "smxgrey": ctx.uids["smar"] | {0},
            },
            log=log,
        )
        await nursery.start(server.run)
        task_status.started()
        await ctx.stop.wait()
        with trio.move_on_after(conf.shutdown_timeout):
            await flights.drained()
        if door.greylist is not None:
            await door.greylist.close()
        nursery.cancel_scope.cancel()


DAEMON = Daemon(
    name="smar",
    purpose="resolves addresses: mailertable and DNS, for smtps and qmgr",
    serve=serve,
)
