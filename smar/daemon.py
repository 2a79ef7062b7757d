"""The address resolver's process.

Kind: shell.

Runs as: smxm. Reads: smx.conf, the mailertable, maps, resolv.conf. Writes: its socket, copies
of map files in the temporary directory. Untrusted input: DNS answers; addresses, which smtps
checked and which are parsed again here.
Signals: those of the skeleton; SIGHUP looks for changed map files at once, else they are
noticed within seconds; the text mailertable is read at start only (SPEC row X245). Exit codes:
EX_CONFIG for a mailertable or map that is missing or wrong.
Source: SPEC rows X009, X248, X250; decision D53.
"""

import trio

from libsmx.link import Server
from libsmx.opttab import SmarConf
from libsmx.process import Context, Daemon
from smar.assembly import assemble, open_tables
from smar.desk import Desk
from smar.greydoor import open_door

SOCKET_MODE = 0o660


async def serve(ctx: Context, task_status: trio.TaskStatus[None]) -> None:
    """Answer questions until the process is told to stop, then finish those under way."""
    conf: SmarConf = ctx.conf
    tables = open_tables(ctx)
    async with trio.open_nursery() as nursery:
        parts = assemble(ctx, nursery, tables)
        nursery.start_soon(parts.book.watch)
        ctx.reload.append(parts.book.look_now)
        door = await open_door(ctx, nursery)
        desk = Desk(
            parts.checks,
            parts.router,
            parts.flights,
            ctx.log,
            ctx.clock,
            door,
            parts.connect,
            parts.tryout,
        )
        server = Server(
            ctx.globals.smar_socket,
            SOCKET_MODE,
            "smar",
            desk.handle,
            clients={
                "smtps": ctx.uids["smtps"],
                "qmgr": ctx.uids["qmgr"],
                "smxgrey": ctx.uids["smar"] | {0},
                "smxtest": ctx.uids["smar"] | {0},
            },
            log=ctx.log,
        )
        await nursery.start(server.run)
        task_status.started()
        await ctx.stop.wait()
        with trio.move_on_after(conf.shutdown_timeout):
            await parts.flights.drained()
        if door.greylist is not None:
            await door.greylist.close()
        nursery.cancel_scope.cancel()


DAEMON = Daemon(
    name="smar",
    purpose="resolves addresses: mailertable and DNS, for smtps and qmgr",
    serve=serve,
)
