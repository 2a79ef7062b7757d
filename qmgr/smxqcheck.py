"""smxq-check: tells whether the stores of a queue fit together, and repairs them.

Kind: shell.

Looks at any time, repairs only while no queue manager runs. Repairing never deletes mail.
Exit codes: 0 where everything fits or was put right, EX_DATAERR where something does not,
EX_TEMPFAIL where -r was given and a queue manager runs, EX_NOINPUT, EX_NOPERM, EX_CONFIG.
Source: SPEC rows X013, X015, X052.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence

import attrs
import trio

from libsmx.config import DEFAULT_FILE, load
from libsmx.errors import (
    EX_CONFIG,
    EX_DATAERR,
    EX_IOERR,
    EX_NOPERM,
    EX_OK,
    EX_TEMPFAIL,
    EX_USAGE,
    ConfigError,
    StartError,
    StoreError,
)
from libsmx.opttab import QmgrConf
from libsmx.version import PRODUCT
from qmgr.inspect_spool import Places, Report, inspect, is_running
from qmgr.repair import LOST, LostAndFound, repair

IBDB_DIRECTORY = "ibdb/ibdb"
LEASES = "smtps"
MAX_PASSES = 4
"""What one repair uncovers, the next puts right."""


def places_of(config: str) -> Places:
    """Return where a configuration puts the stores, relative to the queue directory.

    Raises:
        ConfigError: the file cannot be used.
    """
    loaded = load(config, None, "qmgr")
    conf = loaded.conf
    directory = conf.defedb.base_directory if isinstance(conf, QmgrConf) else ""
    return Places(loaded.globals.cdb_base_directory, IBDB_DIRECTORY, directory, LEASES)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit code."""
    try:
        args = _arguments().parse_args(argv)
    except SystemExit as stop:  # argparse prints and leaves with 2
        return EX_USAGE if stop.code else EX_OK
    try:
        places = places_of(args.file)
        os.chdir(args.directory or places.base or ".")
        return _run(places, args)
    except ConfigError as error:
        sys.stderr.write("".join(f"{line}\n" for line in error.problems))
        return EX_CONFIG
    except PermissionError as error:
        sys.stderr.write(f"smxq-check: {error}\n")
        return EX_NOPERM
    except (OSError, StoreError) as error:
        sys.stderr.write(f"smxq-check: {error}\n")
        return EX_IOERR
    except StartError as error:
        sys.stderr.write(f"smxq-check: {error}\n")
        return error.code


def _run(places: Places, args: argparse.Namespace) -> int:
    live = is_running(places.ibdb)
    if args.repair and live:
        sys.stderr.write("smxq-check: a queue manager runs; stop it before a repair\n")
        return EX_TEMPFAIL
    report = inspect(places, live=live)
    _show(report, as_json=args.json)
    if not report.bad:
        return EX_OK
    if not args.repair:
        return EX_DATAERR
    lost = LostAndFound(LOST)
    for _ in range(MAX_PASSES):
        trio.run(repair, places, report, lost)
        report = inspect(places, live=False)
        if not report.bad:
            break
    sys.stdout.write(f"repaired; {lost.moved} moved to {LOST}\n")
    _show(report, as_json=args.json)
    return EX_DATAERR if report.bad else EX_OK


def _show(report: Report, *, as_json: bool) -> None:
    for finding in report.findings:
        line = json.dumps(attrs.asdict(finding)) if as_json else str(finding)
        sys.stdout.write(line + "\n")
    if not as_json:
        notes = len(report.findings) - len(report.bad)
        sys.stdout.write(f"{len(report.bad)} inconsistencies, {notes} notes\n")


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="smxq-check", description="Check whether the stores of a queue fit together."
    )
    parser.add_argument("-V", action="version", version=f"smxq-check {PRODUCT}")
    parser.add_argument(
        "-f", dest="file", metavar="FILE", default=DEFAULT_FILE, help="default: %(default)s"
    )
    parser.add_argument(
        "-d", dest="directory", metavar="DIR", default="",
        help="queue directory; default: CDB_base_directory, else the current one",
    )  # fmt: skip
    parser.add_argument(
        "-r", dest="repair", action="store_true",
        help="repair, with no queue manager running; nothing is deleted",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    return parser


if __name__ == "__main__":
    sys.exit(main())
