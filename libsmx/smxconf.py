"""The operator's tool for smx.conf: check, show, compare, manual, sample.

Kind: shell.

Exit codes: 0, EX_USAGE, EX_CONFIG (the file has mistakes, all of them are printed); diff: 0
where nothing differs, else 1.
Source: SPEC rows X102, X104, X105; D59.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence

from libsmx.confdiff import RELOAD, RESTART, differences
from libsmx.config import DEFAULT_FILE, WholeFile, load, load_file
from libsmx.confsample import sample
from libsmx.confshow import dump
from libsmx.errors import EX_CONFIG, EX_OK, EX_USAGE, ConfigError
from libsmx.man import man_page
from libsmx.options import walk
from libsmx.opttab import COMPONENTS
from libsmx.version import PRODUCT

DIFFERENT = 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit code."""
    parser = _arguments()
    try:
        args = parser.parse_args(argv)
    except SystemExit as stop:  # argparse prints and leaves with 2
        return EX_USAGE if stop.code else EX_OK
    if args.command == "man":
        sys.stdout.write(man_page())
        return EX_OK
    if args.command == "sample":
        sys.stdout.write(sample())
        return EX_OK
    if args.command == "diff":
        return _diff(args.old, args.new)
    try:
        whole = load_file(args.file)
    except ConfigError as error:
        sys.stderr.write("".join(f"{line}\n" for line in error.problems))
        return EX_CONFIG
    for warning in whole.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    if args.command == "check":
        labels = ", ".join(facts.label for facts in whole.sections) or "no section"
        sys.stdout.write(f"{args.file}: ok ({labels})\n")
    else:
        sys.stdout.write(
            "".join(f"{line}\n" for line in _effective(whole, args.file, changed_only=args.changed))
        )
    return EX_OK


def _diff(old: str, new: str) -> int:
    """Print what differs between two files, and what it needs to take effect."""
    files = []
    problems: list[str] = []
    for path in (old, new):
        try:
            files.append(load_file(path))
        except ConfigError as error:
            problems += error.problems
    if problems:
        sys.stderr.write("".join(f"{line}\n" for line in problems))
        return EX_CONFIG
    needs = ""
    for change in differences(*files):
        for sign, value in (("-", change.old), ("+", change.new)):
            if value is not None:
                sys.stdout.write(f"{sign}{change.name} = {value}\n")
        needs = RESTART if RESTART in (needs, change.needs) else RELOAD
    if needs:
        sys.stdout.write(f"# to make this effective: {needs}\n")
    return DIFFERENT if needs else EX_OK


def _effective(whole: WholeFile, path: str, *, changed_only: bool) -> Iterator[str]:
    """Yield the options of all sections."""
    baseline: dict[str, object] | None = {} if changed_only else None
    yield from dump(whole.globals, "", "", baseline)
    for facts in whole.sections:
        prefix = f"{facts.label}."
        if changed_only and facts.keyword in COMPONENTS:
            untouched = load(path, b"", facts.keyword).conf
            baseline = {name: value for name, _row, value in walk(untouched, prefix)}
        yield from dump(facts.conf, prefix, "", baseline)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="smxconf", description="Check and show the configuration of smx."
    )
    parser.add_argument("-V", action="version", version=f"smxconf {PRODUCT}")
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="print all mistakes of a file")
    show = commands.add_parser("show", help="print the effective value of every option")
    show.add_argument(
        "-n", dest="changed", action="store_true", help="only those that differ from the default"
    )
    for command in (check, show):
        command.add_argument(
            "-f", dest="file", metavar="FILE", default=DEFAULT_FILE, help="default: %(default)s"
        )
    diff = commands.add_parser("diff", help="print the options whose values differ")
    diff.add_argument("old", metavar="OLD")
    diff.add_argument("new", metavar="NEW")
    commands.add_parser("man", help="print the manual smx.conf(5)")
    commands.add_parser("sample", help="print a commented configuration")
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokenPipeError:  # as in "smxconf man | head"
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(EX_OK)
