"""createmap: makes a map file from text, and shows what is in one.

Kind: shell.

``createmap MAP < TEXT`` or ``createmap MAP TEXT`` replaces MAP in one step; nothing is changed
when a single line is wrong. What the right-hand sides may be is told by ``-t``, else by the
map's name: aliases.db holds aliases in the form of sendmail X, with ``-t aliases`` the text is
that of sendmail 8. ``-q KEY`` prints one value (exit 1 where there is none), ``-s`` prints all
entries as text that createmap reads.
Exit codes: 0; 1: no such key; EX_USAGE; EX_DATAERR: bad lines, all told with their numbers, or a
damaged map; EX_NOINPUT: no such file; EX_CANTCREAT.
Source: SPEC rows X329, X476, decisions D19, D54, D55.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from libsmx.accessrhs import check_entry
from libsmx.aliastext import check_alias, read_aliases
from libsmx.errors import EX_CANTCREAT, EX_DATAERR, EX_OK, EX_USAGE, StoreError
from libsmx.mapfile import MapFile, write_map
from libsmx.maptext import MapText, fold, read_map_text
from libsmx.version import PRODUCT

EX_NOINPUT = os.EX_NOINPUT
NO_KEY = 1

MAX_INCLUDE = 1 << 20
"""Most bytes read of a file that aliases include; the list in it must be shorter still."""


def _include(path: str) -> Iterable[bytes]:
    with open(path, "rb") as file:
        return file.read(MAX_INCLUDE).splitlines()


Reader = Callable[..., MapText]
"""(lines, keep_case=, progress=) -> what was read."""
READERS: dict[str, Reader] = {
    "plain": read_map_text,
    "access": partial(read_map_text, check=check_entry),
    "aliases": partial(read_aliases, include=_include),
}
"""Readers by the words of -t."""
BY_NAME: dict[str, Reader] = {
    "access": READERS["access"],
    "aliases": partial(read_map_text, check=check_alias, colon=True),
}
"""Readers by the name of the map's file, for a call without -t."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit code."""
    try:
        args = _arguments().parse_args(argv)
    except SystemExit as stop:  # argparse prints and leaves with 2
        return EX_USAGE if stop.code else EX_OK
    if args.text and (args.show or args.key is not None):
        print("createmap: -q and -s read a map, no text", file=sys.stderr)
        return EX_USAGE
    try:
        if args.show or args.key is not None:
            return _show(args.map, args.key, keep_case=args.keep_case)
        reader = READERS[args.kind] if args.kind else reader_for(args.map)
        return _make(args.map, args.text, reader, keep_case=args.keep_case)
    except FileNotFoundError as error:
        print(f"createmap: {error.filename}: {error.strerror}", file=sys.stderr)
        return EX_NOINPUT
    except (OSError, StoreError) as error:
        print(f"createmap: {error}", file=sys.stderr)
        return EX_DATAERR


def reader_for(path: str) -> Reader:
    """Return the reader that a map's file name asks for: ``access.db`` holds access rules."""
    stem = os.path.splitext(os.path.basename(path))[0].lower()
    return BY_NAME.get(stem, READERS["plain"])


def _show(path: str, key: str | None, *, keep_case: bool) -> int:
    with MapFile(path) as found:
        if key is None:
            for name, value in found.items():
                sys.stdout.write(f"{name}\t{value}\n")
            return EX_OK
        answer = found.get(key if keep_case else fold(key))
    if answer is None:
        return NO_KEY
    print(answer)
    return EX_OK


def _make(path: str, text: str, reader: Reader, *, keep_case: bool) -> int:
    source = text or "stdin"

    def read(lines: Iterable[bytes]) -> MapText:
        return reader(lines, keep_case=keep_case, progress=_progress)

    if text:
        with open(text, "rb") as file:
            found = read(file)
    else:
        found = read(sys.stdin.buffer)
    for warning in found.warnings:
        print(f"createmap: warning: {source}: {warning}", file=sys.stderr)
    if found.problems:
        for problem in found.problems:
            print(f"createmap: {source}: {problem}", file=sys.stderr)
        return EX_DATAERR
    try:
        write_map(path, found.entries, source=source, made_at=time.time())
    except StoreError as error:
        print(f"createmap: {error}", file=sys.stderr)
        return EX_CANTCREAT
    return EX_OK


def _progress(lines: int) -> None:
    print(f"createmap: {lines} lines", file=sys.stderr)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="createmap", description="Make a map file from text, or show what is in one."
    )
    parser.add_argument("-V", action="version", version=f"createmap {PRODUCT}")
    parser.add_argument("-f", dest="keep_case", action="store_true", help="keep the case of keys")
    parser.add_argument(
        "-t", dest="kind", choices=READERS, help="what the text holds; default: by MAP's name"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("-q", dest="key", metavar="KEY", help="print the value of a key")
    what.add_argument("-s", dest="show", action="store_true", help="print all entries")
    parser.add_argument("map", metavar="MAP", help="the map file, as aliases.db")
    parser.add_argument("text", metavar="TEXT", nargs="?", default="", help="default: stdin")
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokenPipeError:  # as in "createmap -s MAP | head"
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(EX_OK)
