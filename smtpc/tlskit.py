"""TLS of a process: contexts, and sessions that can be resumed.

Kind: shell.

The context of the options serves all policies but those that name CAs of their own, which get
one each, made from the same certificate. A session is resumed only at the same address, under
the same name and the same CAs. A host whose handshake failed is not asked for TLS again for a
while by mail that may go in clear text: each of its sessions would cost two connections.
Limits: MAX_SESSIONS sessions, MAX_CONTEXTS contexts of policies, MAX_FAILED hosts.
Source: RFC 5077, RFC 8446 2.2; SPEC rows X422-X426.
"""

from collections import OrderedDict

import attrs
import trio

from libsmx.tls import Resumption, TlsMachine
from libsmx.tlscontext import TlsContext
from libsmx.tlsfacts import TlsFileError
from libsmx.tlssource import TlsSource
from libsmx.wire import Target

MAX_SESSIONS = 2000
MAX_CONTEXTS = 100
MAX_FAILED = 2000
FAILED_S = 600.0
"""How long a failed handshake is remembered, seconds."""

Key = tuple[str, str, int, str]


class TlsKit:
    """What all connections of a process share.

    Args:
        source: of the context that the options make.
    """

    def __init__(self, source: TlsSource) -> None:
        self._source = source
        self._contexts: dict[str, tuple[TlsContext, TlsContext]] = {}
        self._sessions: OrderedDict[Key, Resumption] = OrderedDict()
        self._failed: OrderedDict[Key, float] = OrderedDict()

    def machine(self, target: Target, ca: str) -> TlsMachine:
        """Return a connection's TLS, which resumes the last session with this target.

        Args:
            target: of the connection.
            ca: file of the CAs that a policy wants; empty: those of the options.

        Raises:
            TlsFileError: the file of CAs cannot be used.
        """
        context = self._context(ca)
        # A TLS 1.3 ticket is used once (RFC 8446 C.4): the session ends with a new one.
        resume = self._sessions.pop(_key(target, ca), None)
        return TlsMachine(context, host=target.host, resume=resume)

    def keep(self, target: Target, ca: str, machine: TlsMachine) -> None:
        """Remember a session that comes to its end."""
        resumption = machine.resumption()
        if resumption is None:
            return
        self._sessions[_key(target, ca)] = resumption
        if len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)

    def note_failure(self, target: Target, now_s: float) -> None:
        """Remember that a handshake with a host failed, at this loop time."""
        self._failed[_key(target, "")] = now_s
        self._failed.move_to_end(_key(target, ""))
        if len(self._failed) > MAX_FAILED:
            self._failed.popitem(last=False)

    def failed_lately(self, target: Target, now_s: float) -> bool:
        """Tell whether a handshake with a host failed a short while ago."""
        if not self._failed:
            return False
        at_s = self._failed.get(_key(target, ""))
        return at_s is not None and now_s - at_s < FAILED_S

    def _context(self, ca: str) -> TlsContext:
        base = self._source.context(trio.current_time())
        if base is None:
            raise TlsFileError("there is no TLS context")
        if not ca:
            return base
        found = self._contexts.get(ca)
        if found is None or found[0] is not base:
            if len(self._contexts) >= MAX_CONTEXTS:
                self._contexts.clear()
            files = attrs.evolve(base.files, ca_file=ca, ca_dir="", system_cas=False)
            found = self._contexts[ca] = (base, TlsContext(files, server=False))
        return found[1]

    def reload(self) -> None:
        """Read the files again if they changed."""
        self._source.reload()
        self._contexts.clear()
        self._failed.clear()


def _key(target: Target, ca: str) -> Key:
    return target.host.lower(), target.address, target.port, ca
