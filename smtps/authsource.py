"""Who may log in: the credentials file or the authentication server, and the guard before both.

Kind: shell.

Slow derivations run in threads, few at a time, so that other sessions go on. The file is read
again when it changed, at the beginning of an AUTH; a broken one is logged and not used.
Limits: a file of MAX_FILE bytes.
Source: SPEC rows X348, X356, X357; D43.
"""

import os
import secrets
from collections.abc import Iterable

import trio

from libsmx.clock import Clock
from libsmx.errors import EX_CONFIG, StartError
from libsmx.log import Log
from libsmx.logtab import CONFIG_WARNING
from libsmx.opt_auth import SmtpsAuthConf
from libsmx.options import own_rows
from libsmx.sasl import TRAITS, SaslError, salt_password
from libsmx.saslkeys import KeyTable, UserKeys, read_keys
from libsmx.saslserver import Derive, Lookup
from smtps import authevents
from smtps.authdovecot import AuthServer, RemoteExchange
from smtps.authguard import Guard
from smtps.authsteps import (
    Begin,
    Begun,
    End,
    Ended,
    ProofAnswer,
    Question,
    Remote,
    RemoteCancel,
    RemoteReply,
)
from smtps.policy import Policy

MAX_FILE = 16 << 20
"""About 50,000 users; more belong into a database, behind the authentication server."""
CHECK_S = 5.0
_THREADS = 2
_NONCE_BYTES = 18


class AuthSource:
    """Answers the questions of all sessions' AUTH.

    Args:
        policy: gets the mechanisms that can be offered.
        config_dir: directory of the configuration file.
        log: gets what was read and what failed.
        clock: for failures and for changes of files.

    Raises:
        StartError: a file that was named cannot be used.
    """

    def __init__(self, policy: Policy, config_dir: str, log: Log, clock: Clock) -> None:
        self._policy = policy
        self._conf = conf = policy.conf.auth
        self._log = log
        self._clock = clock
        self._guard = Guard(conf.max_failures_per_address, conf.failure_window, conf.failure_delay)
        self._limiter = trio.CapacityLimiter(_THREADS)
        self._allowed = self._read_mech_list(config_dir)
        self._table: KeyTable | None = None
        self._stamp: tuple[int, int, int] | None = None
        self._checked_s = clock.mono()
        self._server: AuthServer | None = None
        rows = own_rows(SmtpsAuthConf)
        default = os.path.join(config_dir, rows["credentials_file"].text[0])  # type: ignore[union-attr]
        self._named = conf.credentials_file != default
        if conf.dovecot_socket:
            policy.auth_remote = True
            self._server = AuthServer(conf.dovecot_socket, log, self._offer)
        else:
            self._load(at_start=True)
            if conf.trusted_mechs and not policy.auth_mechanisms:
                text = f"there is no {conf.credentials_file}: AUTH is not offered"
                log.emit(CONFIG_WARNING, text=f"auth.trusted_mechs: {text}")
        for name in conf.trusted_mechs:
            self._warn_unknown("trusted_mechs", name)

    @property
    def server(self) -> AuthServer | None:
        """The authentication server, whose ``run`` must run; None with a file."""
        return self._server

    def exchange(self, client: str) -> "ClientAuth":
        """Return what answers one session's questions."""
        remote = self._server.exchange(client) if self._server is not None else None
        return ClientAuth(self, client, remote)

    def reload(self) -> None:
        """Read a changed credentials file, now."""
        if self._server is None:
            self._load(at_start=False)

    def _load(self, *, at_start: bool) -> None:
        path = self._conf.credentials_file
        try:
            info = os.stat(path)
            stamp = (info.st_mtime_ns, info.st_ino, info.st_size)
        except OSError as error:
            if at_start and (self._named or not isinstance(error, FileNotFoundError)):
                raise StartError(
                    f"auth.credentials_file: {path}: {error.strerror}; make it with smxpasswd",
                    EX_CONFIG,
                ) from error
            stamp = None
        if stamp == self._stamp:
            return
        self._stamp = stamp
        if stamp is None:
            self._log.emit(authevents.AUTH_FILE_BAD, file=path, error="it is not there any more")
            return
        try:
            table = _read_file(path, stamp[2])
        except (OSError, SaslError, UnicodeDecodeError) as error:
            text = getattr(error, "strerror", None) or str(error)
            if at_start:
                raise StartError(f"auth.credentials_file: {path}: {text}", EX_CONFIG) from error
            self._log.emit(authevents.AUTH_FILE_BAD, file=path, error=text)
            return
        self._table = table
        self._log.emit(authevents.AUTH_FILE_READ, file=path, users=len(table.users))
        self._offer(table.mechanisms)

    def _offer(self, mechanisms: Iterable[str]) -> None:
        names = [name for name in (*mechanisms, "EXTERNAL") if name in TRAITS]
        if self._allowed is not None:
            names = [name for name in names if name in self._allowed]
        self._policy.auth_mechanisms = tuple(dict.fromkeys(names))

    def _read_mech_list(self, config_dir: str) -> frozenset[str] | None:
        """Return what the SASL configuration file allows, None for everything (row X357)."""
        path = self._conf.sasl_conf
        default = os.path.join(config_dir, own_rows(SmtpsAuthConf)["sasl_conf"].text[0])  # type: ignore[union-attr]
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read(1 << 16)
        except FileNotFoundError as error:
            if path in ("", default):
                return None
            raise StartError(f"auth.sasl_conf: {path}: {error.strerror}", EX_CONFIG) from error
        except (OSError, UnicodeDecodeError) as error:
            raise StartError(f"auth.sasl_conf: {path}: cannot be read", EX_CONFIG) from error
        allowed = None
        for line in text.splitlines():
            key, separator, value = line.partition(":")
            if separator and key.strip() == "mech_list":
                allowed = frozenset(value.upper().split())
        for name in sorted(allowed or ()):
            self._warn_unknown("mech_list", name)
        return allowed

    def _warn_unknown(self, option: str, name: str) -> None:
        if name.upper() not in TRAITS:
            self._log.emit(authevents.MECH_UNKNOWN, option=option, mech=name)

    # --- questions ---------------------------------------------------------------------

    def begin(self, client: str) -> Begun:
        """Let a client try, or not; look whether the file has changed."""
        now_s = self._clock.mono()
        if now_s - self._checked_s >= CHECK_S:
            self._checked_s = now_s
            self.reload()
        blocked = self._guard.is_blocked(client, now_s)
        return Begun(secrets.token_urlsafe(_NONCE_BYTES), blocked)

    def end(self, client: str, *, success: bool) -> Ended:
        """Count a failure; a success takes none back, lest one account hide the guessing."""
        if success:
            return Ended()
        delay_s, blocked = self._guard.failed(client, self._clock.mono())
        if blocked:
            self._log.emit(authevents.AUTH_BLOCKED, client=client)
        return Ended(delay_s)

    def look_up(self, user: str) -> UserKeys | None:
        """Return a user's keys, made-up ones if there is no such user."""
        return self._table.find(user) if self._table is not None else None

    async def derive(self, asked: Derive) -> bytes:
        """Derive a key in a thread."""
        return await trio.to_thread.run_sync(
            salt_password,
            asked.hash_name,
            asked.password,
            asked.salt,
            asked.iterations,
            limiter=self._limiter,
        )


def _read_file(path: str, size: int) -> KeyTable:
    if size > MAX_FILE:
        raise SaslError(f"larger than {MAX_FILE} bytes")
    with open(path, encoding="utf-8") as file:
        mode = os.fstat(file.fileno()).st_mode
        if mode & 0o007:
            raise SaslError(f"everybody may read it: chmod o= {path}")
        return read_keys(file)


class ClientAuth:
    """Answers one session's questions.

    Attributes:
        client: IP address for which failures count.
    """

    def __init__(self, source: AuthSource, client: str, remote: RemoteExchange | None) -> None:
        self.client = client
        self._source = source
        self._remote = remote

    async def answer(self, question: Question) -> ProofAnswer | None:
        """Return the answer to a question, None where none can be had now."""
        source, remote = self._source, self._remote
        match question:
            case Begin():
                return source.begin(self.client)
            case Lookup(user):
                return source.look_up(user)
            case Derive():
                return await source.derive(question)
            case End(success):
                return source.end(self.client, success=success)
            case Remote() if remote is not None:
                return await remote.begin(question)
            case RemoteReply(data) if remote is not None:
                return await remote.reply(data)
            case RemoteCancel() if remote is not None:
                await remote.cancel()
        return None
