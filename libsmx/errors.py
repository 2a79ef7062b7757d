"""The exception tree and the exit codes.

Kind: table.

Expected failures of a peer are values (replies, results); the classes here are for what ends
a unit of work early. Each is caught in one kind of place, named in its docstring.
Source: sysexits(3); SPEC rows X102, X157.
"""

import os
from collections.abc import Iterator

EX_OK = os.EX_OK
EX_USAGE = os.EX_USAGE
EX_DATAERR = os.EX_DATAERR
EX_UNAVAILABLE = os.EX_UNAVAILABLE
EX_SOFTWARE = os.EX_SOFTWARE
EX_OSERR = os.EX_OSERR
EX_CANTCREAT = os.EX_CANTCREAT
EX_IOERR = os.EX_IOERR
EX_TEMPFAIL = os.EX_TEMPFAIL
EX_NOPERM = os.EX_NOPERM
EX_CONFIG = os.EX_CONFIG
EX_STOP = 79
"""Not in sysexits: a service ends because its operator asked the whole system to stop."""


class SmxError(Exception):
    """Base of all errors that smx raises on purpose."""


class UsageError(SmxError):
    """Wrong command line; the process skeleton prints it and exits EX_USAGE."""


class ConfigError(SmxError):
    """One or more mistakes in a configuration file; printed whole, then exit EX_CONFIG.

    Attributes:
        problems: finished lines of the form ``file:line:column: what; remedy``.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class StartError(SmxError):
    """A daemon cannot start (socket in use, directory missing); exits with ``code``."""

    def __init__(self, text: str, code: int = EX_UNAVAILABLE) -> None:
        super().__init__(text)
        self.code = code


class PeerError(SmxError):
    """A sibling process sent rubbish or too much: its channel is closed, we go on."""


class PeerGone(SmxError):
    """The sibling process is not connected, did not answer in time or went away.

    Callers answer their own client with a temporary failure.
    """


class StoreError(SmxError):
    """A durable write is not certain: whoever waits for it gets a temporary failure."""


class Bug(SmxError):
    """An invariant of ours is false; nobody but the process skeleton catches it."""


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the single exceptions inside a group; trio's nurseries always raise groups."""
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from leaves(part)
    else:
        yield error
