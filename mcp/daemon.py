"""mcp's own start: command line, configuration, locks, sockets, then the master loop.

Kind: shell.

Runs as: root, or whoever starts it; then every service runs as that user too (D50).
Reads: smx.conf, the user database, one byte counts from nobody: mcp has no message protocol;
NOTIFY_SOCKET and WATCHDOG_USEC of systemd.
Writes: pid file, its lock, the status file beside it, its log, words to systemd.
Untrusted input: the output lines of its children (bounded, quoted in the log).
Signals: TERM, INT orderly stop, a second time at once; HUP reload; CHLD.
Exit codes: 0 after an orderly stop, EX_USAGE, EX_CONFIG before anything is started,
EX_NOPERM or EX_UNAVAILABLE when a port cannot be bound, EX_TEMPFAIL when it runs already,
a service's own code when that service could not run at the start.
Source: SPEC rows X010, X151-X158; D50.
"""

import os
import pwd
import sys

import trio

from libsmx.config import load_services
from libsmx.errors import EX_CONFIG, EX_OK, EX_USAGE, ConfigError, StartError, UsageError
from libsmx.log import FileSink
from libsmx.logopen import ident_of, styled_log
from libsmx.version import VERSION
from mcp import background, cmdline, events, lock, notify, rlimits, statusfile
from mcp.identity import find_identities
from mcp.master import Master, Plan, ReadySignal
from mcp.services import Service, make_services

LOG_LEVEL = 9
CONSOLE_LEVEL = 5


class _Sink:
    """The log file, and the console for what matters while there is one."""

    def __init__(self, path: str, style: str) -> None:
        self._file = FileSink(path, ident_of("mcp", style), style)
        self._console = path != "-"

    def write(self, level: int, text: str, ident: str = "") -> None:
        """Take one line."""
        self._file.write(level, text, ident)
        if self._console and level <= CONSOLE_LEVEL:
            print(f"mcp: {text}", file=sys.stderr, flush=True)

    def flush(self) -> None:
        """Write what is pending."""
        self._file.flush()

    def reopen(self) -> None:
        """Open the file again."""
        self._file.reopen()


class _Foreground:
    """Nobody waits for us to be ready."""

    def ready(self) -> None:
        """Do nothing."""


def read_services(path: str) -> tuple[list[Service], str]:
    """Return the services of a configuration, wholly validated, in start order, and log_format.

    Raises:
        ConfigError: with everything that is wrong.
    """
    names, sections = load_services(path)
    try:
        services = make_services((s.keyword, s.name, s.conf) for s in sections)
    except ConfigError as error:
        raise ConfigError([f"{path}: {problem}" for problem in error.problems]) from error
    return services, names.log_format


def make_plan(services: list[Service], leash: int, status_path: str = "") -> Plan:
    """Return who runs as whom; the current directory is the queue directory.

    Raises:
        ConfigError: accounts or programs that do not exist.
    """
    identities, problems = find_identities(services)
    for service in services:
        if not os.path.isfile(service.path):
            problems.append(f"{service.label}.path: there is no file {service.path}")
        elif not os.access(service.path, os.X_OK):
            problems.append(f"{service.label}.path: {service.path} is not executable")
    if problems:
        raise ConfigError(problems)
    return Plan(services, identities, os.geteuid(), leash, status_path)


def main() -> int:
    """Run mcp; return its exit code."""
    try:
        options = cmdline.parse(sys.argv[1:])
        if options.version:
            print(f"mcp of smx {VERSION}")
            return EX_OK
        if options.background and not options.check:
            forked = background.fork()
            return forked if isinstance(forked, int) else _start(options, forked)
        return _start(options, _Foreground())
    except UsageError as error:
        print(error, file=sys.stderr)
        return EX_USAGE
    except ConfigError as error:
        for problem in error.problems:
            print(f"mcp: {problem}", file=sys.stderr)
        return EX_CONFIG
    except StartError as error:
        print(f"mcp: {error}", file=sys.stderr)
        return error.code


def _start(options: cmdline.Options, starter: ReadySignal) -> int:
    config = os.path.abspath(options.config)
    services, style = read_services(config)
    log_file = options.log_file if options.log_file == "-" else os.path.abspath(options.log_file)
    if options.directory:
        try:
            os.chdir(options.directory)
        except OSError as error:
            raise StartError(
                f"cannot enter the queue directory {options.directory}: {error.strerror}",
                EX_CONFIG,
            ) from error
    os.umask(0o022)
    make_plan(services, -1)  # every mistake is found before anything is opened
    if options.check:
        for service in services:
            most = service.copies + service.reserve
            count = f"{service.copies} to {most}" if service.reserve else str(most)
            print(f"{service.label}: {count} x {service.path}")
        return EX_OK
    log = styled_log(_Sink(log_file, style), LOG_LEVEL, style)

    def on_wait(limit_s: float) -> None:
        log.emit(events.WAIT_LEFTOVERS, limit_s=limit_s)
        log.flush()

    held = lock.acquire(os.path.abspath(options.pid_file), on_wait)
    try:
        notifier = notify.from_environment(os.environ, os.getpid())
        plan = make_plan(services, held.leash, held.path + statusfile.SUFFIX)
        master = Master(plan, log, starter, notifier)
        log.emit(
            events.MCP_STARTED,
            version=VERSION,
            pid=os.getpid(),
            config=config,
            directory=os.getcwd(),
        )
        if os.geteuid() != 0:
            log.emit(events.UNPRIVILEGED, user=_user_name())
        for service in services:
            if cut := rlimits.find_limits(service.limits)[1]:
                log.emit(events.LIMITS_CUT, service=service.label, limits=", ".join(cut))
        master.bind_all()
        return trio.run(master.run)
    finally:
        log.flush()
        held.release()


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
