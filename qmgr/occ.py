"""Outgoing connection cache: what is known of each remote address.

Kind: core.

Every address (with its port) has a window, the number of sessions it may have at a time: it
begins at the initial value, grows by one with each success, is halved by a connection failure
and never falls below one. An address that could not be reached is remembered and not tried
before its retry time, whatever mail waits for it, unless somebody asks for a flush; then one
session probes it, and the others wait for what becomes of that.
Limits: ``max_entries`` addresses; the longest unused one without sessions is forgotten first.
Source: SPEC rows X080, X180, X187, X188, X195, X196, X199-X201, X205-X207; D13, D15.
"""

from collections import OrderedDict
from collections.abc import Iterator

from qmgr.overrides import NONE, Overrides
from qmgr.places import Host, HostKey
from qmgr.retry import Retry

FORGET_S = 3600.0
"""An address without sessions is forgotten this long after its last use, by default."""


PACE_MEMORY = 4
"""Weight of what was known of a host's pace against one transaction more."""


class Occ:
    """The cache.

    Args:
        initial: first window.
        maximum: widest window.
        max_entries: addresses remembered.
        retry: gives the time for which an address that failed is left alone.
    """

    def __init__(self, initial: int, maximum: int, max_entries: int, retry: Retry) -> None:
        self._initial = min(initial, maximum)
        self._maximum = maximum
        self._max_entries = max_entries
        self._retry = retry
        self._hosts: OrderedDict[HostKey, Host] = OrderedDict()
        self._flushed_at = 0.0
        self._overrides = NONE

    def __len__(self) -> int:
        return len(self._hosts)

    def use(self, overrides: Overrides) -> None:
        """Let these overrides hold from now on, also for addresses that are known."""
        self._overrides = overrides
        for host in self._hosts.values():
            untouched = host.window == host.initial
            host.initial, host.maximum = self._bounds(host.key)
            host.window = host.initial if untouched else min(host.window, host.maximum)

    @property
    def idle_s(self) -> float:
        """How long an address without sessions is remembered after its last use, seconds."""
        return FORGET_S if self._overrides.idle_s is None else self._overrides.idle_s

    def widest(self, key: HostKey) -> int:
        """Return the widest window that an address may have."""
        return self._bounds(key)[1]

    def _bounds(self, key: HostKey) -> tuple[int, int]:
        return self._overrides.outgoing(key[0], self._initial, self._maximum)

    def host(self, key: HostKey, now_s: float) -> Host:
        """Return what is known of an address, a fresh entry where nothing is."""
        host = self._hosts.get(key)
        if host is None:
            if len(self._hosts) >= self._max_entries:
                self._forget_one()
            initial, maximum = self._bounds(key)
            host = Host(key, initial, now_s, initial=initial, maximum=maximum)
            self._hosts[key] = host
        else:
            host.used_at = now_s
            self._hosts.move_to_end(key)
        return host

    def hosts(self) -> Iterator[Host]:
        """Yield what is known of each address, that unused for the longest time first."""
        return iter(self._hosts.values())

    def peek(self, key: HostKey) -> Host | None:
        """Return the entry of an address without counting it as used."""
        return self._hosts.get(key)

    def _forget_one(self) -> None:
        for key, host in self._hosts.items():
            if not host.open and not host.parked:
                del self._hosts[key]
                return

    def blocked(self, key: HostKey, now_s: float) -> Host | None:
        """Return the entry of an address that must not be tried now, None where it may."""
        host = self._hosts.get(key)
        if host is None or host.blocked_until <= now_s or host.blocked_at <= self._flushed_at:
            return None
        return host

    def succeeded(self, host: Host) -> None:
        """Note a transaction that the host took or judged."""
        host.failures = 0
        host.blocked_until = 0.0
        host.window = min(host.window + 1, host.maximum)

    def paced(self, host: Host, took_s: float) -> None:
        """Note how long a transaction took that went to this host first."""
        if host.pace_s:
            host.pace_s += (took_s - host.pace_s) / PACE_MEMORY
        else:
            host.pace_s = took_s

    def slowed(self, host: Host) -> None:
        """Note that the host asked to be left alone (421) in a session that stood."""
        host.window = max(host.window // 2, 1)

    def failed(self, host: Host, now_s: float, text: str, draw: float) -> bool:
        """Note a connection failure; tell whether the address is blocked now.

        A host that works in other sessions is not dead, it wants fewer of them: its window
        shrinks and it is not blocked. Failures of attempts that were under way when the first
        one blocked the address say nothing new: they do not prolong the pause.
        """
        host.error = text
        if host.blocked_until > now_s and host.blocked_at > self._flushed_at:
            return True
        host.window = max(host.window // 2, 1)
        if host.good:
            return False
        host.failures += 1
        host.blocked_at = now_s
        host.blocked_until = now_s + self._retry.delay_s(host.failures, draw)
        return True

    def flush(self, now_s: float) -> None:
        """Let every address be tried again once."""
        self._flushed_at = now_s

    def unblock(self, key: HostKey, flushed_at: float) -> None:
        """Let one address be tried again if it was blocked before ``flushed_at``."""
        host = self._hosts.get(key)
        if host is not None and host.blocked_at <= flushed_at:
            host.blocked_until = 0.0

    def expire(self, now_s: float) -> None:
        """Forget addresses that were not used for long; O(what is forgotten)."""
        idle_s = self.idle_s
        while self._hosts:
            host = next(iter(self._hosts.values()))
            if now_s - host.used_at < idle_s:
                return
            if host.open or host.parked or host.blocked_until > now_s:
                host.used_at = now_s
                self._hosts.move_to_end(host.key)
            else:
                del self._hosts[host.key]
