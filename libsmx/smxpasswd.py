"""smxpasswd: keeps the file of keys with which the SMTP server checks passwords.

Kind: shell.

``smxpasswd FILE USER`` adds a user or sets a new password, which is read from the terminal
twice, or from the standard input where that is no terminal. ``-d`` deletes the user, ``-l``
lists all, ``-v`` asks for the password and tells whether it is right (exit 1: it is not).
The file is replaced in one step, keeps mode and owner, and is locked meanwhile.
Exit codes: 0; 1: wrong password or no such user; EX_USAGE; EX_DATAERR: damaged file, unusable name
or password; EX_NOINPUT: no such file; EX_CANTCREAT.
Source: D43, RFC 5802, RFC 7677.
"""

import argparse
import fcntl
import getpass
import hmac
import os
import sys
from collections.abc import Sequence

import attrs

from libsmx.errors import EX_CANTCREAT, EX_DATAERR, EX_OK, EX_USAGE
from libsmx.sasl import HASHES, MAX_ITERATIONS, MIN_ITERATIONS, SaslError, prepare
from libsmx.saslkeys import (
    DEFAULT_ITERATIONS,
    SALT_SIZE,
    SECRET_SIZE,
    KeyTable,
    UserKeys,
    check_user,
    derive_cram,
    derive_scram,
    format_keys,
    read_keys,
)
from libsmx.version import PRODUCT

EX_NOINPUT = os.EX_NOINPUT
NO = 1
_MAX_PASSWORD = 1024


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit code."""
    try:
        args = _arguments().parse_args(argv)
    except SystemExit as stop:  # argparse prints and leaves with 2
        return EX_USAGE if stop.code else EX_OK
    if args.list != (args.user is None):
        print("smxpasswd: either -l or a USER is needed", file=sys.stderr)
        return EX_USAGE
    if args.rounds is not None and not MIN_ITERATIONS <= args.rounds <= MAX_ITERATIONS:
        text = f"-r {args.rounds}: from {MIN_ITERATIONS} to {MAX_ITERATIONS} rounds"
        print(f"smxpasswd: {text}", file=sys.stderr)
        return EX_USAGE
    try:
        return _run(args)
    except SaslError as error:
        print(f"smxpasswd: {args.file}: {error}", file=sys.stderr)
        return EX_DATAERR
    except FileNotFoundError as error:
        print(f"smxpasswd: {error.filename}: {error.strerror}", file=sys.stderr)
        return EX_NOINPUT
    except UnicodeDecodeError:
        print(f"smxpasswd: {args.file}: is no text", file=sys.stderr)
        return EX_DATAERR
    except OSError as error:
        print(f"smxpasswd: {error.filename or args.file}: {error.strerror}", file=sys.stderr)
        return EX_CANTCREAT


def _run(args: argparse.Namespace) -> int:
    if args.list:
        for name, keys in sorted(_load(args.file).users.items()):
            print(name, *sorted(keys.scram), *(["CRAM-MD5"] if keys.cram_md5 else []))
        return EX_OK
    user = check_user(args.user)
    if args.verify:
        return EX_OK if _is_right(_load(args.file), user, _ask(again=False)) else NO
    password = "" if args.delete else _ask(again=True)
    with open(f"{args.file}.lock", "w") as lock:  # the file itself is replaced, not written
        fcntl.flock(lock, fcntl.LOCK_EX)
        if args.delete:
            table = _load(args.file)
            if table.users.pop(user, None) is None:
                print(f"smxpasswd: {args.file} has no user {user}", file=sys.stderr)
                return NO
        else:
            table = _load_or_new(args.file, args.rounds)
            table.users[user] = _make(password, table.iterations, cram_md5=args.cram_md5)
        _save(args.file, table)
    return EX_OK


def _load(path: str) -> KeyTable:
    with open(path, encoding="utf-8") as file:
        return read_keys(file)


def _load_or_new(path: str, rounds: int | None) -> KeyTable:
    try:
        table = _load(path)
    except FileNotFoundError:
        return KeyTable(rounds or DEFAULT_ITERATIONS, os.urandom(SECRET_SIZE), {})
    return table if rounds is None else attrs.evolve(table, iterations=rounds)


def _make(password: str, rounds: int, *, cram_md5: bool) -> UserKeys:
    scram = {name: derive_scram(name, password, os.urandom(SALT_SIZE), rounds) for name in HASHES}
    return UserKeys(scram, derive_cram(password) if cram_md5 else b"")


def _is_right(table: KeyTable, user: str, password: str) -> bool:
    keys = table.find(user)
    name = max(keys.scram)
    key = keys.scram[name]
    made = derive_scram(name, password, key.salt, key.iterations)
    return hmac.compare_digest(made.stored, key.stored) and name not in keys.made_up


def _ask(*, again: bool) -> str:
    """Return a password in the form in which it is compared."""
    if not sys.stdin.isatty():
        return prepare(sys.stdin.readline(_MAX_PASSWORD).rstrip("\r\n"))
    password = prepare(getpass.getpass("password: "))
    if again and prepare(getpass.getpass("again: ")) != password:
        raise SaslError("the passwords differ; nothing was changed")
    return password


def _save(path: str, table: KeyTable) -> None:
    """Replace the file in one step."""
    made = f"{path}.{os.getpid()}"
    try:
        before = os.stat(path)
    except FileNotFoundError:
        before = None
    fd = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(fd, "w", encoding="utf-8") as file:
            file.write(format_keys(table))
            if before is not None:
                os.fchmod(fd, before.st_mode & 0o770)
                if os.geteuid() == 0:
                    os.fchown(fd, before.st_uid, before.st_gid)
            file.flush()
            os.fsync(fd)
        os.rename(made, path)
    except OSError:
        os.unlink(made)
        raise


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="smxpasswd", description="Keep the file of keys for AUTH of the SMTP server."
    )
    parser.add_argument("-V", action="version", version=f"smxpasswd {PRODUCT}")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("-d", dest="delete", action="store_true", help="delete the user")
    what.add_argument("-l", dest="list", action="store_true", help="list users and mechanisms")
    what.add_argument("-v", dest="verify", action="store_true", help="check a password")
    parser.add_argument(
        "-m", dest="cram_md5", action="store_true", help="make a key for CRAM-MD5 too"
    )
    parser.add_argument(
        "-r", dest="rounds", type=int, metavar="ROUNDS",
        help=f"rounds of the derivation (new files: {DEFAULT_ITERATIONS})",
    )  # fmt: skip
    parser.add_argument("file", metavar="FILE", help="the file, as smtps_passwd")
    parser.add_argument("user", metavar="USER", nargs="?", help="whose password")
    return parser


if __name__ == "__main__":
    sys.exit(main())
