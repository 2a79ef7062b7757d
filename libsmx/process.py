"""The process skeleton: everything that all daemons do alike, written once.

Kind: shell.

A daemon is one Daemon declaration; ``run`` takes it through the same steps every time:
1 command line; 2 configuration, all errors at once; 3 refuse to be root; 4 log; 5 serve until
told to stop; 6 exit code. SIGTERM and SIGINT ask for an orderly stop, a second one ends the
process at once; SIGHUP opens the log file again and calls the daemon's reload functions.

This is the only place with signal handlers, ``sys.exit``, and a handler for every exception:
what arrives there is a fault of ours, is logged with its trace and ends the process with
EX_SOFTWARE; mcp starts it again.
Exit codes: sysexits(3); EX_CONFIG for a bad configuration, EX_USAGE for a bad command line or
a start as root, EX_UNAVAILABLE where a sibling is missing.
Source: SPEC rows X023, X070 to X077, X118; D50.
"""

import gc
import os
import platform
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NoReturn, Protocol

import attrs
import setproctitle
import trio

from libsmx.clock import Clock, SystemClock
from libsmx.cmdline import CommandLine, parse_command_line, usage_text
from libsmx.confdiff import RELOAD, changed_names, needs_of
from libsmx.config import load
from libsmx.confload import Loaded
from libsmx.confshow import version_text
from libsmx.errors import (
    EX_CONFIG,
    EX_OK,
    EX_SOFTWARE,
    EX_USAGE,
    ConfigError,
    StartError,
    UsageError,
    leaves,
)
from libsmx.log import Log
from libsmx.logopen import open_log
from libsmx.logtab import (
    BUG,
    CONFIG_TAKEN,
    CONFIG_UNREAD,
    CONFIG_WARNING,
    RESTART_NEEDED,
    START_FAILED,
    STARTED,
    STOPPED,
    STOPPING,
)
from libsmx.opttab import GlobalConf
from libsmx.siblings import sibling_uids
from libsmx.tally import Tally
from libsmx.version import PRODUCT

_MAX_FILES = 65_536

_FLUSH_S = 0.2
"""Longest time a log line waits to be written."""


@attrs.define
class Context:
    """What a daemon gets from the skeleton.

    Attributes:
        conf: the typed class of its own section.
        globals: options outside of sections; hostname is filled in.
        log: where events go.
        clock: wall and monotonic time.
        id: number of this process among those of its section (pass_id).
        name: program name.
        config_dir: directory of the configuration file.
        uids: user ids that may act in the role of each daemon.
        stop: set when an orderly stop is asked for.
        reload: called on SIGHUP.
        exit_code: what the process exits with after an orderly end.
    """

    conf: Any
    globals: GlobalConf
    log: Log
    clock: Clock
    id: int
    name: str
    config_dir: str
    stop: trio.Event
    uids: Mapping[str, frozenset[int]] = attrs.field(factory=lambda: sibling_uids(None))
    reload: list[Callable[[], None]] = attrs.field(factory=list)
    exit_code: int = EX_OK


class Serve(Protocol):
    """A daemon's work: set up, tell that it is ready, run until ctx.stop, finish, return."""

    def __call__(self, ctx: Context, task_status: trio.TaskStatus[None]) -> Awaitable[None]:
        """Run the daemon."""


@attrs.frozen
class Daemon:
    """A daemon as its ``daemon.py`` declares it."""

    name: str
    purpose: str
    serve: Serve
    flags: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    """Extra command line options -> path of the option that they set."""


def own_hostname(configured: str) -> str:
    """Return the name this system announces: the option, else what the system knows."""
    return configured or socket.getfqdn() or "localhost"


def run(daemon: Daemon, argv: Sequence[str] | None = None) -> NoReturn:
    """Run a daemon and exit with its code; never returns."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        request = parse_command_line(words, daemon.flags)
        if request.action == "help":
            print(usage_text(daemon.name, daemon.purpose, daemon.flags), end="", file=sys.stderr)
            sys.exit(EX_OK)
        loaded = _load(daemon, request)
        if request.action == "version":
            print(_version(daemon, request, loaded), end="")
            sys.exit(EX_OK)
        if os.geteuid() == 0:
            raise UsageError(
                f"{daemon.name} does not run as root; let mcp start it under its own user"
            )
    except UsageError as error:
        _die(daemon.name, str(error), EX_USAGE)
    except ConfigError as error:
        _die(daemon.name, str(error), EX_CONFIG)
    setproctitle.setproctitle(" ".join([daemon.name, *words]))
    os.umask(0o027)
    _raise_file_limit()
    try:
        log = open_log(
            loaded.conf.log, loaded.conf.log_level, daemon.name, loaded.globals.log_format
        )
    except StartError as error:
        _die(daemon.name, str(error), error.code)
    log.tally = Tally(daemon.name)
    running = loaded  # what holds; a reload changes some of it
    ctx = Context(
        conf=loaded.conf,
        globals=attrs.evolve(loaded.globals, hostname=own_hostname(loaded.globals.hostname)),
        log=log,
        clock=SystemClock(),
        id=request.id,
        name=daemon.name,
        config_dir=loaded.config_dir,
        uids=sibling_uids(request.config),
        stop=trio.Event(),
    )

    def take_changes() -> None:
        nonlocal running
        running = _take_changes(daemon, request, running, log)

    ctx.reload.append(take_changes)
    for warning in loaded.warnings:
        log.emit(CONFIG_WARNING, text=warning)
    sys.exit(_supervised(daemon, ctx))


def _load(daemon: Daemon, request: CommandLine) -> Loaded:
    return load(request.config, None, daemon.name, request.section, request.overrides)


def _take_changes(daemon: Daemon, request: CommandLine, running: Loaded, log: Log) -> Loaded:
    """Read smx.conf again; let hold what can, and say what needs a restart."""
    try:
        fresh = _load(daemon, request)
    except (ConfigError, UsageError) as error:
        log.emit(CONFIG_UNREAD, error=str(error))
        return running
    names = changed_names(running.globals, fresh.globals, "")
    names += changed_names(running.conf, fresh.conf, f"{daemon.name}.")
    taken = [name for name in names if needs_of(name) == RELOAD]
    rest = [name for name in names if name not in taken]
    if taken:
        log.level = fresh.conf.log_level
        log.emit(CONFIG_TAKEN, options=", ".join(taken))
    if rest:
        log.emit(RESTART_NEEDED, options=", ".join(rest))
    return attrs.evolve(running, conf=attrs.evolve(running.conf, log_level=fresh.conf.log_level))


def _version(daemon: Daemon, request: CommandLine, loaded: Loaded) -> str:
    facts = [
        (2, daemon.purpose),
        (3, f"Python {platform.python_version()}, trio {trio.__version__}"),
        (4, f"{platform.system()} {platform.release()} {platform.machine()}"),
    ]
    return version_text(request.version_level, daemon.name, facts, loaded, os.getcwd())


def _die(name: str, text: str, code: int) -> NoReturn:
    for line in text.splitlines():
        print(f"{name}: {line}", file=sys.stderr)
    sys.exit(code)


def _raise_file_limit() -> None:
    """Use as many descriptors as the system lets us: each session needs one or two."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_FILES)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _supervised(daemon: Daemon, ctx: Context) -> int:
    """Run the trio part and turn whatever ends it into an exit code."""
    status = EX_SOFTWARE
    try:
        trio.run(_main, daemon, ctx)
        status = ctx.exit_code
    except BaseException as error:  # noqa: BLE001 - the one place where everything ends
        errors = list(leaves(error))
        starts = [leaf for leaf in errors if isinstance(leaf, StartError)]
        if starts:
            status = starts[0].code
            ctx.log.emit(START_FAILED, error=str(starts[0]))
            print(f"{daemon.name}: {starts[0]}", file=sys.stderr)
        elif not all(isinstance(leaf, KeyboardInterrupt) for leaf in errors):
            trace = "".join(traceback.format_exception(error))
            ctx.log.emit(BUG, error=repr(errors[0]), trace=trace[-900:])
            print(trace, file=sys.stderr)
    ctx.log.emit(STOPPED, status=status)
    ctx.log.flush()
    return status


async def _main(daemon: Daemon, ctx: Context) -> None:
    # Objects of the set-up live for ever: the collector need not look at them again.
    gc.collect()
    gc.freeze()
    async with trio.open_nursery() as nursery:
        await nursery.start(_watch_signals, ctx)
        nursery.start_soon(_flush_log, ctx.log)
        async with trio.open_nursery() as work:
            with trio.CancelScope() as starting:
                nursery.start_soon(_cancel_at_stop, ctx, starting)
                await work.start(daemon.serve, ctx)
                ctx.log.emit(STARTED, version=PRODUCT, pid=os.getpid())
                ctx.log.flush()
        if not ctx.stop.is_set() and ctx.exit_code == EX_OK:
            raise StartError(f"{daemon.name} ended without being told to", EX_SOFTWARE)
        nursery.cancel_scope.cancel()


async def _cancel_at_stop(ctx: Context, starting: trio.CancelScope) -> None:
    """A daemon that is not ready yet has nothing to finish."""
    await ctx.stop.wait()
    starting.cancel()


async def _watch_signals(
    ctx: Context, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        task_status.started()
        async for number in signals:
            if number == signal.SIGHUP:
                ctx.log.reopen()
                for function in ctx.reload:
                    function()
                ctx.log.flush()
            elif ctx.stop.is_set():
                ctx.log.emit(STOPPED, status=EX_OK)
                ctx.log.flush()
                os._exit(EX_OK)  # the operator insists: what is on disk is complete anyway
            else:
                ctx.log.emit(STOPPING, reason=signal.Signals(number).name)
                ctx.stop.set()


async def _flush_log(log: Log) -> None:
    while True:
        await trio.sleep(_FLUSH_S)
        log.flush()
