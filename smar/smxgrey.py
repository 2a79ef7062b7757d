"""smxgrey: shows and changes the greylist of the running address resolver.

Kind: shell.

``smxgrey [-f smx.conf] [-s socket] [--json] list | show ADDRESS | remove ADDRESS | expire``. The
socket is that of the configuration file; a relative path is taken from CDB_base_directory,
which is the queue directory in every usual installation, else from the current directory.
Exit codes: sysexits(3): EX_UNAVAILABLE where no resolver answers, EX_NOPERM where the user may
not, EX_DATAERR where the client is not known, EX_TEMPFAIL where it cannot be done now.
Source: README 3.9.4; SPEC rows X252 to X272.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

import msgspec
import trio

from libsmx import wire, wire_grey
from libsmx.config import DEFAULT_FILE, load
from libsmx.errors import (
    EX_CONFIG,
    EX_DATAERR,
    EX_OK,
    EX_TEMPFAIL,
    EX_UNAVAILABLE,
    EX_USAGE,
    ConfigError,
    PeerGone,
    StartError,
    leaves,
)
from libsmx.link import Link
from libsmx.log import NullLog, quote
from libsmx.version import PRODUCT

CONNECT_S = 1.0
ANSWER_S = 120.0
_EXITS = {"5.1.0": EX_DATAERR, "5.5.4": EX_USAGE}


def socket_path(config: str) -> str:
    """Return the path of the resolver's socket that a configuration names.

    Raises:
        ConfigError: the file cannot be used.
    """
    loaded = load(config, None, "smar")
    return os.path.join(loaded.globals.cdb_base_directory, loaded.globals.smar_socket)


async def carry_out(link: Link, args: argparse.Namespace) -> int:
    """Carry out the command; return the exit code."""
    after = ""
    while True:
        ask = wire_grey.GreyAsk(
            action=args.command, client=getattr(args, "address", ""), after=after
        )
        answer = await link.call(ask, ANSWER_S)
        if not isinstance(answer, wire_grey.GreyAnswer):
            return refused(answer)
        for client in answer.clients:
            print(msgspec.json.encode(client).decode() if args.json else line_of(client))
        after = answer.next
        if not after:
            break
    if not args.json:
        tail = {"list": f"{answer.count} clients", "expire": f"{answer.count} clients removed"}
        if args.command in tail:
            print(tail[args.command])
    return EX_OK


def line_of(client: wire_grey.GreyClient) -> str:
    """Return one line about a client; times are those of this machine."""
    first, last = (
        time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))
        for when in (client.first, client.last)
    )
    return f"{client.client:<39} {client.state:<10} {first} {last} {client.mails:>8}"


def refused(answer: object) -> int:
    """Print why a request was not met; return the exit code."""
    if not isinstance(answer, wire.Refusal):
        complain("the address resolver gave an answer that is not understood")
        return EX_UNAVAILABLE
    complain(quote(answer.text).strip('"'))
    return _EXITS.get(answer.status, EX_TEMPFAIL)


def complain(text: str) -> None:
    """Print an error."""
    print(f"smxgrey: {text}", file=sys.stderr)


async def talk(path: str, args: argparse.Namespace) -> int:
    """Connect, carry out the command, return the exit code."""
    link = Link(path, "smxgrey", "smar", log=NullLog(), wait_s=CONNECT_S)
    status = EX_UNAVAILABLE
    async with trio.open_nursery() as nursery:
        await nursery.start(link.run)
        try:
            status = await carry_out(link, args)
        except PeerGone as error:
            complain(f"the address resolver went away: {error}")
        nursery.cancel_scope.cancel()
    return status


def run(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    try:
        args = _arguments().parse_args(argv)
    except SystemExit as stop:  # argparse prints and leaves with 2
        return EX_USAGE if stop.code else EX_OK
    try:
        path = args.s or socket_path(args.f)
    except ConfigError as error:
        for problem in error.problems:
            complain(problem)
        return EX_CONFIG
    try:
        return trio.run(talk, path, args)
    except BaseExceptionGroup as group:
        first = next(leaves(group))
        if isinstance(first, StartError):
            complain(str(first))
            return first.code
        if isinstance(first, BrokenPipeError | KeyboardInterrupt):
            return EX_OK
        raise


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="smxgrey", description="Show and change the greylist.")
    parser.add_argument("-V", action="version", version=f"smxgrey {PRODUCT}")
    parser.add_argument("-f", metavar="FILE", default=DEFAULT_FILE, help="default: %(default)s")
    parser.add_argument("-s", metavar="SOCKET", default="", help="default: that of the file")
    parser.add_argument("--json", action="store_true", help="one JSON object for each client")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="all clients, in the order of their addresses")
    for name, text in (("show", "what is known of a client"), ("remove", "forget a client")):
        commands.add_parser(name, help=text).add_argument("address", metavar="ADDRESS")
    commands.add_parser("expire", help="remove all entries that have expired")
    return parser


def main() -> NoReturn:
    """Run smxgrey; does not return."""
    sys.exit(run())


if __name__ == "__main__":
    main()
