"""The files of TLS policies and of logins: read at the start and when asked to.

Kind: shell.

A map of policies is read by a child, because a map that was cut short kills the process that
maps it. The file of logins is refused if anybody but its owner has a right to it. At the start
a file that cannot be used ends the process; later it is logged, and what was read before holds.
Limits: MAX_MAP and MAX_LOGIN_BYTES bytes.
Source: SPEC rows X329, X426.
"""

import os
import stat
import subprocess
import sys

import attrs
import trio

from libsmx.errors import EX_CONFIG, SmxError, StartError
from libsmx.log import Log
from libsmx.opttab import SmtpcConf
from smtpc.events import POLICY_BAD, RULES_BAD, RULES_READ
from smtpc.logins import LoginTable, read_logins
from smtpc.rules import Rules, read_timeouts
from smtpc.sources import SourceTable
from smtpc.tlspolicy import Level, PolicyTable, TlsPolicy, read_policies

MAX_MAP = 64 << 20
MAX_LOGIN_BYTES = 4 << 20
_TIMEOUT_S = 60.0


class RuleFileError(SmxError):
    """A file cannot be used; the text names it and says what to do."""


async def load_rules(conf: SmtpcConf, hostname: str, log: Log) -> Rules:
    """Return the rules of a configuration.

    Raises:
        StartError: a file cannot be used.
    """
    rules = Rules(
        sources=SourceTable(conf.source, hostname),
        policies=PolicyTable(_default(conf)),
        prefer=conf.prefer_family,
        chunking=conf.chunking,
        timeouts=read_timeouts(conf.timeouts, conf.io_timeout, lmtp=False),
        lmtp_timeouts=read_timeouts(conf.timeouts, conf.io_timeout, lmtp=True),
        connect_first_s=min(conf.timeouts.iconnect, conf.connect_timeout),
        connect_s=conf.connect_timeout,
        all_connects_s=conf.timeouts.aconnect,
        longest_session_s=conf.max_session_time,
    )
    try:
        return await _with_files(rules, conf, log)
    except RuleFileError as error:
        raise StartError(str(error), EX_CONFIG) from error


async def reload_rules(rules: Rules, conf: SmtpcConf, log: Log) -> Rules:
    """Return the rules with the files as they are now, or as they were if they are bad."""
    try:
        return await _with_files(rules, conf, log)
    except RuleFileError as error:
        log.emit(RULES_BAD, file=str(error).partition(":")[0], error=str(error))
        return rules


def _default(conf: SmtpcConf) -> TlsPolicy:
    return TlsPolicy(Level[conf.tls.level.upper()])


async def _with_files(rules: Rules, conf: SmtpcConf, log: Log) -> Rules:
    if conf.tls.policy_map:
        policies = await _read_policies(conf.tls.policy_map, log)
        rules = attrs.evolve(rules, policies=PolicyTable(_default(conf), policies))
    if conf.auth.credentials_file:
        logins = _read_logins(conf.auth.credentials_file, log)
        rules = attrs.evolve(rules, logins=logins)
    return rules


async def _read_policies(path: str, log: Log) -> dict[str, TlsPolicy]:
    try:
        size = os.stat(path).st_size
    except OSError as error:
        raise RuleFileError(f"{path}: {error.strerror}; make it with createmap") from error
    if size > MAX_MAP:
        raise RuleFileError(f"{path}: larger than {MAX_MAP} bytes")
    done = None
    with trio.move_on_after(_TIMEOUT_S):
        done = await trio.run_process(
            [sys.executable, "-I", "-m", "libsmx.createmap", "-s", path],
            capture_stdout=True,
            capture_stderr=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    if done is None or done.returncode:
        why = "reading takes too long" if done is None else done.stderr.decode("utf-8", "replace")
        raise RuleFileError(f"{path}: no map: {why.strip()[-300:]}; make it with createmap")
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    entries = [(key, value) for key, _, value in (line.partition("\t") for line in lines)]
    policies, problems = read_policies(entries, os.path.basename(path))
    for key, text in problems:
        log.emit(POLICY_BAD, file=path, key=key, error=text)
    log.emit(RULES_READ, file=path, entries=len(policies) - len(problems))
    return policies


def _read_logins(path: str, log: Log) -> LoginTable:
    try:
        with open(path, "rb") as file:
            info = os.fstat(file.fileno())
            if info.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                mode = stat.S_IMODE(info.st_mode)
                raise RuleFileError(
                    f"{path}: others have rights to these passwords (mode {mode:04o}): "
                    f"chmod 600 {path}"
                )
            data = file.read(MAX_LOGIN_BYTES + 1)
    except OSError as error:
        raise RuleFileError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > MAX_LOGIN_BYTES:
        raise RuleFileError(f"{path}: larger than {MAX_LOGIN_BYTES} bytes")
    try:
        logins, problems = read_logins(data.decode())
    except UnicodeDecodeError as error:
        raise RuleFileError(f"{path}: it is not UTF-8") from error
    if problems:
        raise RuleFileError(f"{path}: {'; '.join(problems[:5])}")
    log.emit(RULES_READ, file=path, entries=len(logins))
    return LoginTable(logins)
