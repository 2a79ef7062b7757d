"""The SMTP client's process.

Kind: shell.

Runs as: smxc. Reads: smx.conf, the CDB. Writes: nothing. Untrusted input: replies of SMTP and
LMTP servers; the content of messages, which it does not look into.
Signals: those of the skeleton. Exit codes: EX_UNAVAILABLE where no queue manager appears
within wait_for_server.
Several processes may run side by side, each with its own number (-i); the queue manager
shares the work out by what each says that it can take.
Source: SPEC rows X017, X432-X436.
"""

import secrets

import trio

from libsmx.link import Link
from libsmx.opttab import SmtpcConf
from libsmx.process import Context, Daemon
from smtpc.dispatch import Dispatcher
from smtpc.job import Surroundings


def new_boundary() -> str:
    """Return a MIME boundary that no text contains by chance or by intent (RFC 2046 5.1.1)."""
    return f"=_{secrets.token_hex(16)}"


async def serve(ctx: Context, task_status: trio.TaskStatus[None]) -> None:
    """Deliver until the process is told to stop, then finish what is under way."""
    conf: SmtpcConf = ctx.conf
    around = Surroundings(
        helo=ctx.globals.hostname,
        lmtp_socket=conf.lmtp_socket,
        connect_timeout_s=conf.connect_timeout,
        io_timeout_s=conf.io_timeout,
        log=ctx.log,
        clock=ctx.clock,
    )
    async with trio.open_nursery() as nursery:
        dispatcher = Dispatcher(
            nursery, around, ctx.globals.cdb_base_directory, conf.max_sessions, new_boundary
        )
        link = Link(
            ctx.globals.smtpc_socket,
            "smtpc",
            "qmgr",
            log=ctx.log,
            id=ctx.id,
            capacity=conf.max_sessions,
            handler=dispatcher.handle,
            on_open=dispatcher.opened,
            on_close=dispatcher.lost,
            wait_s=conf.wait_for_server,
        )
        await nursery.start(link.run)
        task_status.started()
        await ctx.stop.wait()
        dispatcher.stop()
        with trio.move_on_after(conf.shutdown_timeout):
            await dispatcher.drained()
        # what was posted last leaves while the channel ends
        nursery.cancel_scope.cancel()


DAEMON = Daemon(
    name="smtpc",
    purpose="delivers mail by SMTP and LMTP on the queue manager's order",
    serve=serve,
)
