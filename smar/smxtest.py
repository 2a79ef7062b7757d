"""smxtest: asks beforehand what the address resolver would decide, and why.

Kind: shell.

Without ``-f`` the running resolver answers, from its maps and its cache. With ``-f FILE`` the maps
and options of a configuration are used in this process, before it is installed; nothing of a
running system is touched.
Exit codes: 0: there is a route, it would be accepted, the key is there; 1: it is not so;
sysexits(3): EX_UNAVAILABLE where no resolver answers, EX_USAGE, EX_CONFIG.
Source: SPEC rows X437, X454.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import attrs
import trio

from libsmx.clock import SystemClock
from libsmx.config import DEFAULT_FILE, load
from libsmx.errors import (
    EX_CONFIG,
    EX_OK,
    EX_UNAVAILABLE,
    EX_USAGE,
    ConfigError,
    PeerGone,
    StartError,
    UsageError,
    leaves,
)
from libsmx.link import Link
from libsmx.log import NullLog
from libsmx.opttab import SmarConf, SmtpsConf
from libsmx.process import Context, own_hostname
from libsmx.version import PRODUCT
from libsmx.wire import Refusal
from libsmx.wire_try import TryAnswer, TryAsk
from smar.assembly import assemble, open_tables
from smar.smxgrey import socket_path
from smar.tryout import TryError

NOT_SO = 1
CONNECT_S = 1.0
ANSWER_S = 120.0
_FLAGS = ("access", "greylisting", "lmtp_does_not_imply_relaying")


def complain(text: str) -> None:
    """Print an error."""
    print(f"smxtest: {text}", file=sys.stderr)


def rules_in(config: str, server: str | None) -> str:
    """Return the words that a server of a configuration would send with its questions.

    Raises:
        ConfigError: the file cannot be used.
        UsageError: there are several servers.
    """
    conf = load(config, None, "smtps", server).conf
    if not isinstance(conf, SmtpsConf):
        return "access"
    words = [flag for flag in _FLAGS if flag in conf.flags]
    for section in conf.protected_recipients:
        words += sorted("allow_by_" + word.removeprefix("allow_by_") for word in section.allow_by)
        if section.match_type != "exact":
            words.append(section.match_type)
    return " ".join(words)


def words_of(args: argparse.Namespace) -> list[str]:
    """Return the words of the request."""
    if args.command == "route":
        return ["route", args.address]
    if args.command == "rcpt":
        if args.rules is not None:
            rules = args.rules
        elif args.f or os.path.exists(DEFAULT_FILE):
            rules = rules_in(args.f or DEFAULT_FILE, args.server)
        else:
            rules = "access"
        return [
            "rcpt", args.client, args.helo, args.sender.strip("<>"), args.to.strip("<>"), rules,
            *(["relay"] if args.relay else []),
        ]  # fmt: skip
    if args.command == "map":
        order = [args.order] if args.order else []
        return ["map", args.name, *order, args.key]
    return ["dns", args.name, *([args.type] if args.type else [])]


def show(answer: TryAnswer) -> int:
    """Print the answer; return the exit code."""
    for line in answer.lines:
        print("".join(char if char.isprintable() else "?" for char in line))
    return EX_OK if answer.found else NOT_SO


async def ask_running(path: str, words: list[str]) -> int:
    """Ask the running resolver; return the exit code."""
    link = Link(path, "smxtest", "smar", log=NullLog(), wait_s=CONNECT_S)
    status = EX_UNAVAILABLE
    async with trio.open_nursery() as nursery:
        await nursery.start(link.run)
        try:
            answer = await link.call(TryAsk(words=words), ANSWER_S)
            if isinstance(answer, TryAnswer):
                status = show(answer)
            else:
                complain(answer.text if isinstance(answer, Refusal) else "no answer")
                status = EX_USAGE
        except PeerGone as error:
            complain(f"the address resolver does not answer: {error}")
        nursery.cancel_scope.cancel()
    return status


async def ask_offline(config: str, words: list[str]) -> int:
    """Decide in this process by a configuration; return the exit code."""
    loaded = load(config, None, "smar")
    if not isinstance(loaded.conf, SmarConf):
        raise ConfigError([f"{config}: there is no section smar"])
    ctx = Context(
        conf=loaded.conf,
        globals=attrs.evolve(loaded.globals, hostname=own_hostname(loaded.globals.hostname)),
        log=NullLog(),
        clock=SystemClock(),
        id=0,
        name="smxtest",
        config_dir=loaded.config_dir,
        stop=trio.Event(),
    )
    tables = open_tables(ctx)
    status = EX_UNAVAILABLE
    async with trio.open_nursery() as nursery:
        parts = assemble(ctx, nursery, tables)
        done = trio.Event()

        def finished(answer: TryAnswer) -> None:
            nonlocal status
            status = show(answer)
            done.set()

        try:
            parts.flights.decide(parts.tryout.run(words), finished)
            await done.wait()
        except TryError as error:
            complain(str(error))
            status = EX_USAGE
        nursery.cancel_scope.cancel()
    return status


def run(argv: Sequence[str] | None = None) -> int:
    """Run the tool; return the exit code."""
    try:
        args = _arguments().parse_args(argv)
    except SystemExit as stop:  # argparse prints and leaves with 2
        return EX_USAGE if stop.code else EX_OK
    try:
        words = words_of(args)
        if args.f:
            return trio.run(ask_offline, args.f, words)
        return trio.run(ask_running, args.s or socket_path(DEFAULT_FILE), words)
    except (UsageError, StartError) as error:
        complain(str(error))
        return EX_USAGE if isinstance(error, UsageError) else error.code
    except ConfigError as error:
        for problem in error.problems:
            complain(problem)
        return EX_CONFIG
    except BaseExceptionGroup as group:
        first = next(leaves(group))
        if isinstance(first, StartError):
            complain(str(first))
            return first.code
        if isinstance(first, BrokenPipeError | KeyboardInterrupt):
            return EX_OK
        raise


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="smxtest", description="Ask what the address resolver would decide, and why."
    )
    parser.add_argument("-V", action="version", version=f"smxtest {PRODUCT}")
    parser.add_argument(
        "-f", metavar="FILE", default="", help="decide by this configuration, not the running one"
    )
    parser.add_argument("-s", metavar="SOCKET", default="", help="socket of the running resolver")
    commands = parser.add_subparsers(dest="command", required=True)
    route = commands.add_parser("route", help="where would mail for an address go?")
    route.add_argument("address", metavar="ADDRESS")
    rcpt = commands.add_parser("rcpt", help="would a server accept this recipient?")
    rcpt.add_argument("--client", default="127.0.0.1", metavar="IP", help="default: 127.0.0.1")
    rcpt.add_argument("--helo", default="", metavar="NAME", help="what it says in EHLO")
    rcpt.add_argument("--from", dest="sender", default="", metavar="ADDRESS", help="default: <>")
    rcpt.add_argument("--to", required=True, metavar="ADDRESS")
    rcpt.add_argument("--relay", action="store_true", help="the session may relay (as after AUTH)")
    rcpt.add_argument("--server", metavar="NAME", help="section smtps NAME asks")
    rcpt.add_argument("--rules", metavar="WORDS", help="flags of the server, instead of a section")
    one = commands.add_parser("map", help="what does a map say of a key?")
    one.add_argument(
        "--as", dest="order", choices=("address", "domain", "client"), help="use its lookup order"
    )
    one.add_argument("name", metavar="NAME", help="a declared map, or access")
    one.add_argument("key", metavar="KEY")
    dns = commands.add_parser("dns", help="what does the DNS say?")
    dns.add_argument("name", metavar="NAME")
    dns.add_argument("type", metavar="TYPE", nargs="?", help="MX (default), A, AAAA, PTR")
    return parser


def main() -> NoReturn:
    """Run smxtest; does not return."""
    sys.exit(run())


if __name__ == "__main__":
    main()
