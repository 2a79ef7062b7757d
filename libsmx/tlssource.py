"""Where TLS contexts come from: the files of the configuration, read again when they change.

Kind: shell.

Default names may be missing, which means "not configured"; a name that somebody wrote must
exist. At the start a broken file ends the process with a clear text; later it is logged, and
what was read before stays in use, so that a certificate can be replaced file by file.
Limits: files are looked at once in CHECK_S at most, when a connection wants TLS.
Source: SPEC rows X409-X412, X422-X425, X427; D05.
"""

import os
from collections.abc import Sequence

import attrs

from libsmx.log import Log
from libsmx.logtab import TLS_FILES_BAD, TLS_FILES_READ
from libsmx.opt_tls import SmtpcTlsConf, SmtpsTlsConf
from libsmx.options import own_rows
from libsmx.tlscontext import TlsContext, TlsFiles
from libsmx.tlsfacts import TlsFileError

CHECK_S = 5.0

Stamp = tuple[tuple[int, int, int] | None, ...]


def find_files(conf: SmtpsTlsConf | SmtpcTlsConf, config_dir: str) -> TlsFiles:
    """Return the files of a section; default names that do not exist are left out.

    Args:
        conf: the section.
        config_dir: directory of the configuration file, where default names lie.
    """
    rows = own_rows(type(conf))

    def pick(attribute: str) -> str:
        path = str(getattr(conf, attribute))
        is_default = path == os.path.join(config_dir, rows[attribute].text[0])  # type: ignore[union-attr]
        return "" if is_default and not os.path.exists(path) else path

    cert = pick("cert_file")
    return TlsFiles(
        cert=cert,
        key=conf.key_file if cert else "",
        ca_file=pick("cacert_file"),
        ca_dir=pick("cacert_directory"),
        system_cas=isinstance(conf, SmtpcTlsConf),
        min_version=conf.min_protocol,
        ciphers=conf.ciphers,
    )


class TlsSource:
    """The context of one process's side, always made from the files as they are.

    Args:
        conf: its section.
        config_dir: directory of the configuration file.
        log: gets what was read and what was wrong.

    Raises:
        TlsFileError: a file cannot be used.
    """

    def __init__(self, conf: SmtpsTlsConf | SmtpcTlsConf, config_dir: str, log: Log) -> None:
        self._conf = conf
        self._dir = config_dir
        self._log = log
        self._checked_s = 0.0
        self._stamp: Stamp = ()
        self._context: TlsContext | None = None
        self._load()

    @property
    def ready(self) -> bool:
        """Whether there is a context: a client always has one, a server with a certificate."""
        return self._context is not None

    def context(self, now_s: float) -> TlsContext | None:
        """Return the context for a new connection; looks at the files from time to time.

        Args:
            now_s: monotonic clock, seconds.
        """
        if now_s - self._checked_s >= CHECK_S:
            self._checked_s = now_s
            self.reload()
        return self._context

    def reload(self) -> None:
        """Read the files again if they changed; broken ones are logged and not used."""
        stamp = self._now()
        if self._stamp == stamp:
            return
        try:
            self._load()
        except TlsFileError as error:
            # The same fault is told once. The stamp is that of before the reading: what was
            # written meanwhile is another change.
            self._stamp = stamp
            self._log.emit(TLS_FILES_BAD, error=str(error))

    def _load(self) -> None:
        stamp, files = self._now(), find_files(self._conf, self._dir)
        if isinstance(self._conf, SmtpcTlsConf):
            context: TlsContext | None = TlsContext(files, server=False)
        else:
            context = _server_context(files, self._conf)
        if context is not None:
            self._log.emit(TLS_FILES_READ, cert=files.cert, ca=files.ca_file or files.ca_dir)
        self._context, self._stamp = context, stamp

    def _now(self) -> Stamp:
        """Return what changes when a file does."""
        conf = self._conf
        paths = [conf.cert_file, conf.key_file, conf.cacert_file, conf.cacert_directory]
        if isinstance(conf, SmtpsTlsConf):
            paths += [path for one in conf.sni for path in (one.cert_file, one.key_file)]
        return _stamps(paths)


def _server_context(files: TlsFiles, conf: SmtpsTlsConf) -> TlsContext | None:
    """Return the server's context with those of other names; None without a certificate."""
    if not files.cert:
        if conf.sni:
            raise TlsFileError(f"{conf.cert_file}: sni needs a certificate for all other names")
        return None
    context = TlsContext(files, server=True)
    for one in conf.sni:
        if not (one.names and one.cert_file and one.key_file):
            raise TlsFileError("tls.sni: names, cert_file and key_file are all required")
        other = TlsContext(attrs.evolve(files, cert=one.cert_file, key=one.key_file), server=True)
        for name in one.names:
            context.add_name(name, other)
    return context


def _stamps(paths: Sequence[str]) -> Stamp:
    found: list[tuple[int, int, int] | None] = []
    for path in paths:
        try:
            info = os.stat(path)
        except OSError:
            found.append(None)
        else:
            found.append((info.st_mtime_ns, info.st_ino, info.st_size))
    return tuple(found)
