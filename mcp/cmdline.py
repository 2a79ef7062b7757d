"""The command line of mcp.

Kind: core.
Source: SPEC rows X063-X066, X151, X153.
"""

import argparse
from typing import NoReturn

import attrs

from libsmx.errors import UsageError

DEFAULT_CONFIG = "/etc/smx/smx.conf"

DESCRIPTION = (
    "Master control program: starts the services that smx.conf names, watches over them and"
    " starts them again when they die. Signals: TERM and INT stop everything in order (a second"
    " one: at once), HUP makes everybody read and open files again."
)


@attrs.frozen
class Options:
    """What the command line says.

    Attributes:
        config: path of smx.conf.
        directory: queue directory to change to, "" to stay.
        pid_file: relative to the queue directory.
        log_file: "-" is standard output.
        background: return to the caller when the system is ready.
        version: number of -V options.
    """

    config: str
    directory: str
    pid_file: str
    log_file: str
    background: bool
    check: bool
    version: int


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"mcp: {message}; see mcp -h")


def parser() -> argparse.ArgumentParser:
    """Return the parser."""
    made = _Parser(prog="mcp", description=DESCRIPTION, allow_abbrev=False)
    made.add_argument(
        "-f", metavar="FILE", dest="config", default=DEFAULT_CONFIG,
        help="configuration file [%(default)s]",
    )  # fmt: skip
    made.add_argument(
        "-d", metavar="DIR", dest="directory", default="",
        help="queue directory in which everything runs [the current directory]",
    )  # fmt: skip
    made.add_argument(
        "-p", metavar="FILE", dest="pid_file", default="mcp.pid",
        help="pid file, relative to the queue directory [%(default)s]",
    )  # fmt: skip
    made.add_argument(
        "-l", metavar="FILE", dest="log_file", default="-",
        help="log file; - is standard output [%(default)s]",
    )  # fmt: skip
    made.add_argument(
        "-b", dest="background", action="store_true",
        help="go to the background; return when the system is ready or has failed",
    )  # fmt: skip
    made.add_argument(
        "-n", dest="check", action="store_true",
        help="check the configuration, say what would be started, start nothing",
    )  # fmt: skip
    made.add_argument(
        "-V", dest="version", action="count", default=0, help="show the version and end"
    )
    return made


def parse(argv: list[str]) -> Options:
    """Return the options.

    Raises:
        UsageError: the arguments are wrong.
        SystemExit: -h was given; the help has been printed.
    """
    return Options(**vars(parser().parse_args(argv)))
