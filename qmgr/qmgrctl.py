"""qmgrctl: asks and steers the queue manager.

Kind: shell.

``qmgrctl [-f smx.conf] [-s socket] [--json] COMMAND``, see qmgr/ctlargs.py. The
control socket is that of the configuration file (default /etc/smx/smx.conf); a relative path
is taken from CDB_base_directory, which is the queue directory in every usual installation,
else from the current directory.
Exit codes: sysexits(3): EX_UNAVAILABLE where no queue manager answers, EX_NOPERM where the user
may not, EX_DATAERR where there is no such mail, EX_TEMPFAIL where it cannot be done now.
Source: SPEC rows X162, X477.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

import msgspec
import trio

from libsmx import wire, wire_control
from libsmx.config import load
from libsmx.errors import (
    EX_CONFIG,
    EX_DATAERR,
    EX_NOPERM,
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
from libsmx.opttab import QmgrConf
from libsmx.wire_control import REQUEUE, Select
from qmgr.ctlargs import is_selected, parse, selects
from qmgr.ctltext import (
    dest_lines,
    explain_lines,
    queue_lines,
    show_lines,
    status_lines,
    suspension_line,
)
from qmgr.statstext import described, stats_lines, sums
from qmgr.top import Unanswered, show_top

CONNECT_S = 1.0
ANSWER_S = 120.0
PAGE = 500
CHANGE_PAGE = 1000
DEST_PAGE = 50
_EXITS = {"5.7.1": EX_NOPERM, "5.1.0": EX_DATAERR, "5.5.4": EX_USAGE}


def socket_path(config: str) -> str:
    """Return the path of the control socket that a configuration names.

    Raises:
        ConfigError: the file cannot be used.
    """
    loaded = load(config, None, "qmgr")
    conf = loaded.conf
    path = conf.control_socket if isinstance(conf, QmgrConf) else ""
    return os.path.join(loaded.globals.cdb_base_directory, path)


class Client:
    """The commands, over one connection.

    Args:
        link: connected.
        as_json: print JSON, one object a line.
    """

    def __init__(self, link: Link, *, as_json: bool) -> None:
        self._link = link
        self._as_json = as_json

    async def _ask(self, message: object) -> object:
        return await self._link.call(message, ANSWER_S)

    def _print(self, value: object, lines: Sequence[str]) -> None:
        if self._as_json:
            lines = [msgspec.json.encode(value).decode()]
        sys.stdout.write("".join(f"{line}\n" for line in lines))

    async def status(self) -> int:
        """Print fill levels and counters."""
        answer = await self._ask(wire_control.StatusAsk())
        if not isinstance(answer, wire_control.StatusAnswer):
            return refused(answer)
        self._print(answer, status_lines(answer))
        return EX_OK

    async def numbers(self, args: argparse.Namespace) -> int:
        """Print the numbers of all daemons, summed over their processes or of each; or watch."""
        if args.command == "top":
            try:
                return await show_top(self._ask, args.interval, args.count)
            except Unanswered as error:
                return refused(error.answer)
        answer = await self._ask(wire_control.StatsAsk())
        if not isinstance(answer, wire_control.StatsAnswer):
            return refused(answer)
        rows = answer.rows if args.each else sums(answer.rows)
        lines = list(stats_lines(rows))
        if self._as_json:
            lines = [msgspec.json.encode(described(row)).decode() for row in rows]
        sys.stdout.write("".join(f"{line}\n" for line in lines))
        return EX_OK

    async def queue(self, select: Select) -> int:
        """Print the queue, page by page."""
        after, tas, rcpts = "", 0, 0
        while True:
            answer = await self._ask(wire_control.QueueAsk(after=after, limit=PAGE, select=select))
            if not isinstance(answer, wire_control.QueueAnswer):
                return refused(answer)
            for entry in answer.entries:
                self._print(entry, queue_lines(entry, time.time()))
                tas += 1
                rcpts += len(entry.rcpts)
            sys.stdout.flush()
            after = answer.next
            if not after:
                break
        if not self._as_json:
            none = "nothing is queued that fits" if select != Select() else "the queue is empty"
            print(f"{tas} transactions, {rcpts} recipients" if tas else none)
        return EX_OK

    async def show(self, ta_ids: Sequence[str], *, explain: bool) -> int:
        """Print all about transactions, or why they have not gone."""
        status = EX_OK
        for ta_id in ta_ids:
            answer = await self._ask(wire_control.ShowAsk(ta_id=ta_id))
            if not isinstance(answer, wire_control.ShowAnswer):
                status = refused(answer)
                continue
            lines = explain_lines(answer) if explain else show_lines(answer, time.time())
            self._print(answer, lines)
        return status

    async def destinations(self, match: str) -> int:
        """Print destinations with their hosts."""
        after = ""
        while True:
            answer = await self._ask(
                wire_control.DestinationsAsk(after=after, match=match, limit=DEST_PAGE)
            )
            if not isinstance(answer, wire_control.DestinationsAnswer):
                return refused(answer)
            for dest in answer.dests:
                self._print(dest, dest_lines(dest, time.time()))
            after = answer.next
            if not after:
                return EX_OK

    async def change(
        self, action: str, selects: Sequence[Select], *, address: str, dry_run: bool
    ) -> int:
        """Change recipients, page by page; print how many."""
        count = 0
        for select in selects:
            after = ""
            while True:
                answer = await self._ask(
                    wire_control.ChangeAsk(
                        action=action,
                        select=select,
                        address=address,
                        dry_run=dry_run,
                        after=after,
                        limit=CHANGE_PAGE,
                    )
                )
                if not isinstance(answer, wire_control.Done):
                    if count and not dry_run:
                        complain(f"{count} recipients were done before this")
                    return refused(answer)
                count += answer.count
                after = answer.next
                if not after:
                    break
        done = wire_control.Done(count=count)
        self._print(
            done, [f"{count} recipients" + (" would be" if dry_run else "") + f": {action}"]
        )
        return EX_OK

    async def suspensions(self) -> int:
        """Print what is suspended."""
        answer = await self._ask(wire_control.SuspensionsAsk())
        if not isinstance(answer, wire_control.SuspensionsAnswer):
            return refused(answer)
        for one in answer.suspensions:
            self._print(one, [suspension_line(one, time.time())])
        return EX_OK

    async def simple(self, request: object, text: str) -> int:
        """Make a request that is answered by a count, for which ``{}`` stands in the text."""
        answer = await self._ask(request)
        if not isinstance(answer, wire_control.Done):
            return refused(answer)
        self._print(answer, [text.format(answer.count)])
        return EX_OK

    async def run(self, args: argparse.Namespace) -> int:
        """Carry out the command of a command line."""
        match args.command:
            case "status":
                return await self.status()
            case "stats" | "top":
                return await self.numbers(args)
            case "queue":
                return await self.queue(selects(args)[0])
            case "show" | "explain":
                return await self.show(args.ids, explain=args.command == "explain")
            case "destinations":
                return await self.destinations(args.name)
            case "suspensions":
                return await self.suspensions()
            case "flush" if not is_selected(args):
                request = wire_control.FlushAsk(dest=args.dest)
                return await self.simple(request, "{} recipients are tried now")
            case "flush":
                chosen = selects(args)
                return await self.change(REQUEUE, chosen, address="", dry_run=args.dry_run)
            case "suspend":
                ask = wire_control.SuspendAsk(name=args.name, reason=args.reason, for_s=args.for_s)
                return await self.simple(ask, "suspended; {} waiting recipients were put back")
            case "resume":
                end = wire_control.ResumeAsk(name=args.name)
                return await self.simple(end, "resumed; {} recipients are tried now")
            case "loglevel":
                level = wire_control.LogLevelAsk(level=args.level)
                return await self.simple(level, "the log level was {}")
            case "reload":
                return await self.simple(wire_control.ReloadAsk(), "maps are read and logs opened")
            case "stop":
                return await self.simple(wire_control.StopAsk(), "the system stops")
            case _:
                chosen, address = selects(args), getattr(args, "address", "")
                return await self.change(
                    args.command, chosen, address=address, dry_run=args.dry_run
                )


def refused(answer: object) -> int:
    """Print why a request was not met; return the exit code."""
    if not isinstance(answer, wire.Refusal):
        complain("the queue manager gave an answer that is not understood")
        return EX_UNAVAILABLE
    complain(quote(answer.text).strip('"'))
    return _EXITS.get(answer.status, EX_TEMPFAIL)


def complain(text: str) -> None:
    """Print an error."""
    print(f"qmgrctl: {text}", file=sys.stderr)


async def talk(path: str, args: argparse.Namespace) -> int:
    """Connect, carry out the command, return the exit code."""
    link = Link(path, "qmgrctl", "qmgr", log=NullLog(), wait_s=CONNECT_S)
    status = EX_UNAVAILABLE
    async with trio.open_nursery() as nursery:
        await nursery.start(link.run)
        client = Client(link, as_json=args.json)
        try:
            status = await client.run(args)
        except PeerGone as error:
            complain(f"the queue manager went away: {error}")
        nursery.cancel_scope.cancel()
    return status


def verify(args: argparse.Namespace) -> NoReturn:
    """Become smxq-check, which reads the stores itself and needs no queue manager."""
    words = [sys.executable, "-I", "-m", "qmgr.smxqcheck", "-f", args.f]
    os.execv(sys.executable, [*words, "--json"] if args.json else words)  # noqa: S606 (no shell)


def run(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    args = parse(argv)
    if args.command == "verify":
        verify(args)
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


def main() -> NoReturn:
    """Run qmgrctl; does not return."""
    sys.exit(run())


if __name__ == "__main__":
    main()
