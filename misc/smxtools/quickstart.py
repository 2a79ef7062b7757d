"""smxrun: a mail system of one's own in one directory, for trying smx out ("make run").

Kind: shell. Makes the instance directory, says what to do with it, and becomes mcp. Started by
root it gives everything to an account without rights, as nothing but mcp may run as root.
Source: SPEC rows X047, X151; D50.
"""

import argparse
import os
import pwd
import socket
import sys
from typing import NoReturn

import libsmx
from libsmx.errors import (
    EX_CANTCREAT,
    EX_NOPERM,
    EX_UNAVAILABLE,
    EX_USAGE,
    StartError,
    UsageError,
)
from smxtools import instance, reach
from smxtools.instance import Settings, read_host_port

ACCOUNTS = ("smx", "nobody")
"""Who runs the services when root starts them: the first that exists."""

EPILOG = (
    "Each option is also taken from the environment: RUN_DIR, SMTP_PORT, NEXTHOP, DNS;"
    " so is what stands after make run."
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see smxrun -h")


def parse(argv: list[str], env: dict[str, str]) -> argparse.Namespace:
    """Return run_dir, port, next_hop and dns as texts; "" is not given."""
    parser = _Parser(
        prog="smxrun", description="Run a mail system of its own in one directory.", epilog=EPILOG
    )

    def add(flag: str, dest: str, variable: str, default: str, text: str) -> None:
        value = env.get(variable) or default
        parser.add_argument(flag, dest=dest, metavar=variable, default=value, help=text)

    add("-d", "run_dir", "RUN_DIR", "run", "instance directory [./run]")
    add("-p", "port", "SMTP_PORT", "", "port of the SMTP server on 127.0.0.1 [2525]")
    add("-n", "next_hop", "NEXTHOP", "", "host:port to which all mail goes [a Maildir]")
    add("-r", "dns", "DNS", "", "host:port of the name server [those of the system]")
    return parser.parse_args(argv)


def make_settings(options: argparse.Namespace) -> Settings:
    """Return the settings; raises UsageError, StartError."""
    port = options.port or "2525"
    if not (port.isdecimal() and 0 < int(port) < 65536):
        raise UsageError(f"SMTP_PORT={port} is not a port from 1 to 65535")
    user, group = "", os.getegid()
    if os.geteuid() == 0:
        account = find_account()
        user, group = account.pw_name, account.pw_gid
    return Settings(
        run_dir=os.path.abspath(options.run_dir),
        bin_dir=os.path.dirname(sys.executable),
        port=int(port),
        next_hop=known_address(*read_host_port(options.next_hop, "NEXTHOP"))
        if options.next_hop
        else None,
        dns=read_host_port(options.dns, "DNS") if options.dns else None,
        user=user,
        group=group,
    )


def known_address(host: str, port: int) -> tuple[str, int]:
    """Return the address of a name that this machine knows by itself, as localhost.

    smar asks name servers only; a name that just they know stays a name.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return host, port
    return str(found[0][4][0]), port


def find_account() -> pwd.struct_passwd:
    """Return the account that root gives the services to; raises StartError."""
    for name in ACCOUNTS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise StartError(
        f"there is none of the users {', '.join(ACCOUNTS)}; start it as an ordinary user", EX_NOPERM
    )


def with_access(settings: Settings, command: list[str]) -> list[str]:
    """Return the command so that the account can run the programs and enter the instance.

    Raises:
        StartError: with the directory that is in the way and the remedy.
    """
    account = pwd.getpwnam(settings.user)
    needed = [
        os.path.dirname(os.path.dirname(libsmx.__file__)),
        os.path.dirname(settings.bin_dir),
        sys.base_prefix,
        settings.run_dir,
    ]
    wrapped = reach.wrap(command, needed, account)
    if wrapped is None:
        where = next(filter(None, (reach.closed_parent(path, account) for path in needed)))
        raise StartError(
            f"user {account.pw_name} cannot enter {where}; start it as an ordinary user, or put"
            " the source tree and RUN_DIR where everybody may go, as /var/tmp/smx",
            EX_NOPERM,
        )
    return wrapped


def make_directories(settings: Settings) -> None:
    """Make the directories of the instance; existing ones are kept. Raises OSError."""
    if not os.path.isdir(settings.run_dir):
        os.makedirs(settings.run_dir)
        os.chmod(settings.run_dir, 0o755)  # noqa: S103 (what is secret in it has its own mode)
    for name in ("spool", "log", *(f"spool/{sub}" for sub in instance.SPOOL_DIRECTORIES)):
        os.makedirs(f"{settings.run_dir}/{name}", mode=0o750, exist_ok=True)
    os.makedirs(f"{settings.run_dir}/maildir", mode=0o750, exist_ok=True)


def give_away(settings: Settings) -> None:
    """Give what the services write to their account. Raises OSError."""
    account = pwd.getpwnam(settings.user)
    for top in ("spool", "log", "maildir"):
        for directory, _subdirectories, files in os.walk(f"{settings.run_dir}/{top}"):
            for path in (directory, *(f"{directory}/{name}" for name in files)):
                if os.lstat(path).st_uid != account.pw_uid:
                    os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)


def write_generated(path: str, text: str) -> bool:
    """Write a file unless somebody has edited it; return whether it now holds the text.

    Raises:
        OSError: it cannot be written.
    """
    wanted = instance.sealed(text)
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            found = file.read()
    except FileNotFoundError:
        found = None
    if found == wanted:
        return True
    if found is not None and not instance.is_untouched(found):
        return False
    with open(path + ".new", "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(wanted)
    os.chmod(path + ".new", 0o644)
    os.rename(path + ".new", path)
    return True


def write_files(settings: Settings) -> bool:
    """Write smx.conf and mt; return whether both hold the settings. Raises StartError."""
    try:
        make_directories(settings)
        fresh = [
            write_generated(f"{settings.run_dir}/smx.conf", instance.configuration(settings)),
            write_generated(f"{settings.run_dir}/mt", instance.mailertable(settings)),
        ]
        if settings.user:
            give_away(settings)
    except OSError as error:
        raise StartError(
            f"cannot write {error.filename or settings.run_dir}: {error.strerror};"
            " choose a writable directory with RUN_DIR=",
            EX_CANTCREAT,
        ) from error
    return all(fresh)


def check_programs(settings: Settings) -> None:
    """Raise StartError when a program is missing."""
    missing = [
        name for name in instance.PROGRAMS if not os.access(f"{settings.bin_dir}/{name}", os.X_OK)
    ]
    if missing:
        raise StartError(
            f"{settings.bin_dir} has no {', '.join(missing)}; run: make run", EX_UNAVAILABLE
        )


def check_port(port: int, what: str) -> None:
    """Raise StartError when somebody listens on a port of loopback."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except PermissionError as error:
            raise StartError(
                f"port {port} is privileged; choose SMTP_PORT=1024 or more", EX_NOPERM
            ) from error
        except OSError as error:
            raise StartError(
                f"127.0.0.1:{port}, for {what}, is in use by another program;"
                " choose another SMTP_PORT=",
                EX_UNAVAILABLE,
            ) from error


def introduction(settings: Settings) -> str:
    """Return what the user should know before the system starts."""
    run, port = settings.run_dir, settings.port
    if settings.next_hop:
        where = f"it goes to {settings.next_hop[0]}:{settings.next_hop[1]}"
    else:
        where = f"it will be a file in {run}/maildir/new"
    one_liner = (
        f"{settings.bin_dir}/python -c \"import smtplib; smtplib.SMTP('127.0.0.1', {port})"
        ".sendmail('me@example.org', ['you@example.org'], 'Subject: hello\\n\\nhello')\""
    )
    as_whom = f" as user {settings.user}" if settings.user else ""
    return f"""\
smx: starting mcp, which runs qmgr, smar, smtps and smtpc{as_whom}, below {run}
  listens    127.0.0.1:{port}; clients on this machine may send to anybody, nobody else may
  send       swaks --server 127.0.0.1:{port} --to you@example.org
  or         {one_liner}
  then       {where}
  queue      {settings.bin_dir}/qmgrctl -f {run}/smx.conf status
  settings   {run}/smx.conf, {run}/mt
  logs       {run}/log
  stop       Ctrl-C, or kill $(cat {run}/mcp.pid); the queue is kept"""


def prepare(argv: list[str], env: dict[str, str]) -> tuple[Settings, list[str]]:
    """Make the instance; return its settings and the command that starts it.

    Raises:
        UsageError, StartError: with one line for the user.
    """
    options = parse(argv, env)
    settings = make_settings(options)
    check_programs(settings)
    fresh = write_files(settings)
    if not fresh and (options.port or options.next_hop or options.dns):
        print(
            f"smx: {settings.run_dir}/smx.conf or mt was edited, so it is used as it is; if port,"
            " next hop or name server are to be others, change them there",
            file=sys.stderr,
        )
    if fresh:
        check_port(settings.port, "the SMTP server")
        if settings.next_hop is None:
            check_port(settings.sink_port, "the sink")
    run = settings.run_dir
    command = [f"{settings.bin_dir}/mcp", "-f", f"{run}/smx.conf", "-d", f"{run}/spool"]
    command += ["-p", f"{run}/mcp.pid", "-l", f"{run}/log/mcp.log"]
    return settings, with_access(settings, command) if settings.user else command


def main() -> int:
    """Prepare and become mcp; returns only when that fails."""
    try:
        settings, command = prepare(sys.argv[1:], dict(os.environ))
    except UsageError as error:
        print(f"smx: {error}", file=sys.stderr)
        return EX_USAGE
    except StartError as error:
        print(f"smx: {error}", file=sys.stderr)
        return error.code
    print(introduction(settings), flush=True)
    try:
        os.execv(command[0], command)  # noqa: S606 (no shell on purpose)
    except OSError as error:
        print(f"smx: {command[0]}: {error.strerror}", file=sys.stderr)
    return EX_UNAVAILABLE


if __name__ == "__main__":
    raise SystemExit(main())
