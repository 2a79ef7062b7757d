"""Logins: as whom we say hello to which next hop.

Kind: core.

A line of the credentials file is ``HOST USER PASSWORD`` or ``HOST/SENDER USER PASSWORD``, with
``mechanisms=NAME,NAME`` and ``clear`` behind it where they are wanted; words may stand in
quotes as in a shell. SENDER is an address or ``@domain``. A login belongs to a host, never to
a sender alone: what a sender writes must not decide to whom a password goes.
Limits: MAX_LOGINS lines.
Source: RFC 4954; SPEC row X017.
"""

import shlex
from collections.abc import Mapping

from smtpc.plan import Login

MAX_LOGINS = 10_000
MECHANISMS = ("SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5", "PLAIN", "LOGIN")


class LoginTable:
    """The logins of a file, by ``host`` and ``host/sender`` in lower case."""

    def __init__(self, logins: Mapping[str, Login] | None = None) -> None:
        self._logins = dict(logins or {})

    def __bool__(self) -> bool:
        return bool(self._logins)

    def find(self, host: str, sender: str) -> Login | None:
        """Return the login for mail of a sender at a host, None where there is none."""
        if not self._logins:
            return None
        host, sender = host.lower(), sender.lower()
        domain = sender.rpartition("@")[2]
        for key in (f"{host}/{sender}", f"{host}/@{domain}", host):
            found = self._logins.get(key)
            if found is not None:
                return found
        return None


def read_logins(text: str) -> tuple[dict[str, Login], list[str]]:
    """Return logins by key, and what is wrong with which line; no secret is repeated."""
    logins: dict[str, Login] = {}
    problems: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            words = shlex.split(line)
            key, login = _read(words)
        except ValueError as error:
            problems.append(f"line {number}: {error}")
            continue
        if key in logins:
            problems.append(f"line {number}: {key} stands there already")
        logins[key] = login
    if len(logins) > MAX_LOGINS:
        problems.append(f"more than {MAX_LOGINS} logins")
    return logins, problems


def _read(words: list[str]) -> tuple[str, Login]:
    if len(words) < 3:
        raise ValueError("HOST USER PASSWORD are wanted, HOST may be HOST/SENDER")
    key, user, password, *settings = words
    if not key.isascii() or key.startswith("/") or key.endswith("/"):
        raise ValueError(f"{key[:60]!r} is neither HOST nor HOST/SENDER")
    mechanisms: frozenset[str] = frozenset()
    clear = False
    for setting in settings:
        name, _, value = setting.partition("=")
        if setting == "clear":
            clear = True
        elif name == "mechanisms" and set(value.upper().split(",")) <= set(MECHANISMS):
            mechanisms = frozenset(value.upper().split(","))
        else:
            # not shown: it may be the rest of a password with a blank in it
            raise ValueError(
                f"behind the password stand mechanisms= with {', '.join(MECHANISMS)}, and clear"
            )
    return key.lower(), Login(user, password, mechanisms, clear)
