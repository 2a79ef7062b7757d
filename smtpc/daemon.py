"""The SMTP client's process.

Kind: shell.

Runs as: smxc. Reads: smx.conf, the CDB, certificates, the map of TLS policies, the file of
logins. Writes: nothing. Untrusted input: replies and certificates of SMTP and LMTP servers; the
content of messages, which it does not look into.
Signals: those of the skeleton; SIGHUP reads policies, logins and certificates again as well.
Exit codes: EX_UNAVAILABLE where no queue manager appears within wait_for_server; EX_CONFIG
where one of these files cannot be used.
Several processes may run side by side, each with its own number (-i); the queue manager
shares the work out by what each says that it can take.
Source: SPEC rows X017, X432-X436.
"""

import secrets

import trio

from libsmx.errors import EX_CONFIG, StartError
from libsmx.link import Link
from libsmx.opttab import SmtpcConf
from libsmx.process import Context, Daemon
from libsmx.tlsfacts import TlsFileError
from libsmx.tlssource import TlsSource
from smtpc.dispatch import Dispatcher
from smtpc.job import Surroundings
from smtpc.rulefiles import load_rules, reload_rules
from smtpc.tlskit import TlsKit


def new_boundary() -> str:
    """Return a MIME boundary that no text contains by chance or by intent (RFC 2046 5.1.1)."""
    return f"=_{secrets.token_hex(16)}"


def new_nonce() -> str:
    """Return what makes an authentication unlike any other (RFC 5802 5.1)."""
    return secrets.token_urlsafe(24)


async def serve(ctx: Context, task_status: trio.TaskStatus[None]) -> None:
    """Deliver until the process is told to stop, then finish what is under way."""
    conf: SmtpcConf = ctx.conf
    try:
        tls = TlsKit(TlsSource(conf.tls, ctx.config_dir, ctx.log))
    except TlsFileError as error:
        raise StartError(f"TLS: {error}", EX_CONFIG) from error
    around = Surroundings(
        rules=await load_rules(conf, ctx.globals.hostname, ctx.log),
        lmtp_socket=conf.lmtp_socket,
        tls=tls,
        log=ctx.log,
        clock=ctx.clock,
        nonce=new_nonce,
    )
    news = trio.Event()

    def changed() -> None:
        tls.reload()
        news.set()

    async def watch() -> None:
        nonlocal news
        while True:
            await news.wait()
            news = trio.Event()
            around.rules = await reload_rules(around.rules, conf, ctx.log)

    ctx.reload.append(changed)
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
        nursery.start_soon(watch)
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
