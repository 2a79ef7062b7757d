"""smxmapd: lets other programs ask our maps, in the protocol of socket maps.

Kind: shell.

``smxmapd -f FILE (-l PATH | -p PORT [-a ADDRESS]) [-m NAME]... [-u USER]`` serves the maps that the
section smar declares, until SIGTERM; a service section of smx.conf can start it. Changed map
files are noticed. Started by root it needs ``-u``, because it reads what strangers send.
Exit codes: sysexits(3): EX_USAGE, EX_CONFIG for a map that is missing or wrong, EX_NOUSER,
EX_UNAVAILABLE where the socket cannot be had.
Source: SPEC row X211; decision D20.
"""

import argparse
import ipaddress
import os
import pwd
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

import trio

from libsmx.config import load
from libsmx.errors import (
    EX_CONFIG,
    EX_OK,
    EX_UNAVAILABLE,
    EX_USAGE,
    ConfigError,
    StartError,
    UsageError,
    leaves,
)
from libsmx.log import FileSink, Log
from libsmx.opttab import SmarConf
from libsmx.unixsock import bind_unix, inode_of, remove_socket
from libsmx.version import PRODUCT
from smar.mapbook import MapBook
from smar.mapserver import MapServer

SOCKET_MODE = 0o660


async def listen(args: argparse.Namespace) -> trio.SocketListener:
    """Return the listening socket that the arguments name.

    Raises:
        StartError: it cannot be had.
    """
    if args.path:
        return trio.SocketListener(
            trio.socket.from_stdlib_socket(bind_unix(args.path, SOCKET_MODE))
        )
    try:
        (listener,) = await trio.open_tcp_listeners(args.port, host=args.address)
    except OSError as error:
        where = f"{args.address} port {args.port}"
        raise StartError(f"{where}: {error.strerror or error}", EX_UNAVAILABLE) from error
    return listener


def become(user: str) -> None:
    """Go on as another user, for good.

    Raises:
        StartError: there is none of this name.
    """
    try:
        found = pwd.getpwnam(user)
    except KeyError:
        raise StartError(f"-u {user}: no such user", os.EX_NOUSER) from None
    os.initgroups(user, found.pw_gid)
    os.setresgid(found.pw_gid, found.pw_gid, found.pw_gid)
    os.setresuid(found.pw_uid, found.pw_uid, found.pw_uid)


async def serve(
    args: argparse.Namespace, conf: SmarConf, log: Log, task_status: trio.TaskStatus[None]
) -> None:
    """Serve until SIGTERM or SIGINT."""
    book = MapBook(log)
    book.declare(conf.map)
    names = frozenset(args.map or (one.name for one in conf.map))
    for name in names:
        if book.find(name) is None:
            raise StartError(f"-m {name}: the configuration declares no such map", EX_USAGE)
    listener = await listen(args)
    inode = inode_of(args.path) if args.path else None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(book.watch)
            nursery.start_soon(trio.serve_listeners, MapServer(book, names).serve, [listener])
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                task_status.started()
                log.flush()
                async for _ in signals:
                    break
            nursery.cancel_scope.cancel()
    finally:
        if inode is not None:
            remove_socket(args.path, inode)
        log.flush()


def run(argv: Sequence[str] | None = None) -> int:
    """Run the server; return the exit code."""
    try:
        args = _arguments().parse_args(argv)
    except SystemExit as stop:  # argparse prints and leaves with 2
        return EX_USAGE if stop.code else EX_OK
    try:
        conf = load(args.f, None, "smar").conf
        if args.u:
            become(args.u)
        if os.geteuid() == 0:
            raise UsageError("does not run as root; name a user with -u")
        if isinstance(conf, SmarConf):
            log = Log(FileSink("-", "smxmapd"), conf.log_level)
            trio.run(serve, args, conf, log, trio.TASK_STATUS_IGNORED)
    except ConfigError as error:
        for problem in error.problems:
            complain(problem)
        return EX_CONFIG
    except UsageError as error:
        complain(str(error))
        return EX_USAGE
    except (StartError, BaseExceptionGroup) as error:
        first = next(leaves(error))
        if not isinstance(first, StartError):
            raise
        complain(str(first))
        return first.code
    return EX_OK


def complain(text: str) -> None:
    """Print an error."""
    print(f"smxmapd: {text}", file=sys.stderr)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="smxmapd", description="Let other programs ask the maps of smx (socketmap protocol)."
    )
    parser.add_argument("-V", action="version", version=f"smxmapd {PRODUCT}")
    parser.add_argument("-f", metavar="FILE", required=True, help="its section smar declares maps")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("-l", dest="path", metavar="PATH", default="", help="Unix domain socket")
    where.add_argument("-p", dest="port", metavar="PORT", type=_port, help="TCP port")
    parser.add_argument(
        "-a",
        dest="address",
        metavar="ADDRESS",
        type=_address,
        default="127.0.0.1",
        help="default: %(default)s",
    )
    parser.add_argument(
        "-m", dest="map", metavar="NAME", action="append", help="serve this map only; repeatable"
    )
    parser.add_argument("-u", metavar="USER", default="", help="run as this user")
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text} is no port")
    return int(text)


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is no IP address") from None


def main() -> NoReturn:
    """Run smxmapd; does not return."""
    sys.exit(run())


if __name__ == "__main__":
    main()
