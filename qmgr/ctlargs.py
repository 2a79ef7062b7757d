"""Command line of qmgrctl.

Kind: table.

Options may stand before and behind the command. Recipients are selected by transaction ids or
by what they have in common; a change needs one or the other, ``--all`` is for everything.
Source: SPEC row X477.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

from libsmx.config import DEFAULT_FILE
from libsmx.errors import EX_USAGE
from libsmx.wire_control import ACTIONS, REDIRECT, STATES, Select
from qmgr.ctltext import parse_age

_TA_ID = re.compile(r"[SQ][0-9A-F]{18}")
_HELP = {
    "hold": "keep recipients in the queue until they are released",
    "release": "let held recipients be tried again",
    "remove": "forget recipients; nobody is told",
    "bounce": "return recipients to their senders",
    "requeue": "try deferred recipients now, as if they were new",
    "redirect": "send recipients to another address",
}


class Parser(argparse.ArgumentParser):
    """Exits with EX_USAGE."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and exit."""
        self.print_usage(sys.stderr)
        self.exit(EX_USAGE, f"{self.prog}: {message}\n")


def _id(text: str) -> str:
    if not _TA_ID.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no transaction id")
    return text


def _age(text: str) -> float:
    try:
        return parse_age(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no span of time, such as 90, 5m or 1d12h"
        ) from None


def _level(text: str) -> int:
    if not text.isdecimal() or int(text) > 100:
        raise argparse.ArgumentTypeError("a log level is 0 to 100")
    return int(text)


def _interval(text: str) -> float:
    seconds = _age(text)
    if not 0.2 <= seconds <= 3600:
        raise argparse.ArgumentTypeError("an interval is 0.2 to 3600 seconds")
    return seconds


def _selection(command: argparse.ArgumentParser) -> None:
    """Add the selectors."""
    group = command.add_argument_group("which recipients (* stands for any text)")
    group.add_argument("--to", metavar="ADDRESS", default="", help="recipient")
    group.add_argument("--from", metavar="ADDRESS", default="", dest="sender",
                       help="sender; <> is the null sender")  # fmt: skip
    group.add_argument("--domain", default="", help="recipient's domain or destination")
    group.add_argument("--state", default="", choices=STATES)
    group.add_argument("--older", metavar="SPAN", default=0.0, type=_age, dest="older_s",
                       help="in the queue for longer than 90, 5m, 1d12h ...")  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """Return the command line's description."""
    # The same options before and behind the command: SUPPRESS lets the latter not reset the former.
    options = Parser(add_help=False, argument_default=argparse.SUPPRESS)
    options.add_argument("-f", metavar="FILE", help=f"configuration file [{DEFAULT_FILE}]")
    options.add_argument("-s", metavar="SOCKET", help="control socket, not the configured one")
    options.add_argument("--json", action="store_true", help="print JSON, one object a line")
    top = Parser(prog="qmgrctl", description="Shows and steers the mail queue.", parents=[options])
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text, parents=[options])

    add("status", "state, fill levels with their limits, rates of the last minute, counters")
    _selection(add("queue", "queued mail with its last errors"))
    for name, text in (
        ("show", "all about transactions: envelope, recipients, last attempts"),
        ("explain", "why recipients have not gone, and what happens next"),
    ):
        add(name, text).add_argument("ids", nargs="+", type=_id, metavar="ID")
    command = add("destinations", "destinations and hosts: sessions, backlog, last errors")
    command.add_argument("name", nargs="?", default="", help="only this destination or host")
    for action in ACTIONS:
        command = add(action, _HELP[action])
        if action == REDIRECT:
            command.add_argument("address", help="the new recipient")
        command.add_argument("ids", nargs="*", type=_id, metavar="ID")
        _selection(command)
        command.add_argument("--all", action="store_true", help="everything in the queue")
        command.add_argument("--dry-run", action="store_true", help="only count")
    command = add("flush", "try deferred mail now")
    command.add_argument("dest", nargs="?", default="", help="only this destination or domain")
    _selection(command)
    command.add_argument("--dry-run", action="store_true", help="only count; needs a selection")
    command = add("suspend", "deliver nothing to a domain, destination, host or address")
    command.add_argument("name", metavar="DOMAIN|HOST")
    command.add_argument("--reason", default="", help="shown wherever the suspension shows")
    command.add_argument("--for", default=0.0, type=_age, dest="for_s", metavar="SPAN",
                         help="it ends by itself after 30m, 2h ...")  # fmt: skip
    add("resume", "end a suspension").add_argument("name", metavar="DOMAIN|HOST")
    add("suspensions", "what is suspended, since when, by whom, and why")
    command = add("loglevel", "change the log level of the queue manager until its next start")
    command.add_argument("level", type=_level)
    command = add("stats", "counters and gauges of every daemon, with unit and meaning")
    command.add_argument("--each", action="store_true", help="each process by itself, not the sum")
    command = add("top", "the state of the system on the terminal, again and again")
    command.add_argument("-i", "--interval", type=_interval, default=2.0, metavar="SECONDS",
                         help="between two pictures [2]")  # fmt: skip
    command.add_argument("-n", "--count", type=int, default=0, metavar="N",
                         help="so many pictures and no more")  # fmt: skip
    add("reload", "read maps and open logs again, as SIGHUP does")
    add("verify", "whether the stores fit together: runs smxq-check, as root or qmgr's user")
    add("stop", "stop the whole system in order")
    return top


def is_selected(args: argparse.Namespace) -> bool:
    """Tell whether a command line has a selector."""
    return bool(args.to or args.sender or args.domain or args.state or args.older_s)


def selects(args: argparse.Namespace) -> list[Select]:
    """Return what a command line selects, for each id one."""
    ids: Sequence[str] = getattr(args, "ids", None) or [""]
    domain = args.domain or getattr(args, "dest", "")
    return [
        Select(
            ta_id=ta_id,
            to=args.to,
            sender=args.sender,
            domain=domain,
            state=args.state,
            older_s=args.older_s,
        )
        for ta_id in dict.fromkeys(ids)
    ]


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return what a command line asks for; exits with a usage message where it is wrong."""
    top = parser()
    args = top.parse_args(argv, argparse.Namespace(f=DEFAULT_FILE, s=None, json=False))
    if args.command in ACTIONS:
        chosen = bool(args.ids) or is_selected(args)
        if chosen == args.all:
            top.error(
                f"{args.command}: name ids or a selection, or say --all"
                if not chosen
                else f"{args.command}: --all goes with no id and no selection"
            )
    if args.command == "flush" and args.dry_run and not is_selected(args):
        top.error("flush: --dry-run needs a selection such as --domain")
    return args
