"""Failures of AUTH, counted by address: who guesses passwords is slowed down, then shut out.

Kind: core.

Limits: MAX_ADDRESSES addresses; beyond that those that failed longest ago are forgotten.
"""

import ipaddress
from collections import OrderedDict

import attrs

MAX_ADDRESSES = 10_000
_MOST_TIMES = 8
"""Greatest multiple of the delay."""


@attrs.define
class _Count:
    failures: int
    since_s: float


def net_of(client: str) -> str:
    """Return what counts as one address: an IPv6 client has a /64 for itself."""
    address = ipaddress.ip_address(client)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False))
    return client


class Guard:
    """Counts failures.

    Args:
        most: failures in a window that are let pass, 0: any number.
        window_s: how long a failure counts, seconds.
        delay_s: unit of the delay.
    """

    def __init__(self, most: int, window_s: float, delay_s: int) -> None:
        self._most = most
        self._window_s = window_s
        self._delay_s = delay_s
        self._counts: OrderedDict[str, _Count] = OrderedDict()

    def is_blocked(self, client: str, now_s: float) -> bool:
        """Tell whether no attempt of this client is looked at now."""
        count = self._counts.get(net_of(client))
        if count is None or now_s - count.since_s >= self._window_s:
            return False
        return 0 < self._most <= count.failures

    def failed(self, client: str, now_s: float) -> tuple[int, bool]:
        """Count a failure.

        Returns:
            How long the client has to wait, seconds, and whether it is blocked from now on.
        """
        key = net_of(client)
        count = self._counts.pop(key, None)
        if count is None or now_s - count.since_s >= self._window_s:
            count = _Count(0, now_s)
        count.failures += 1
        self._counts[key] = count
        if len(self._counts) > MAX_ADDRESSES:
            self._counts.popitem(last=False)
        return self._delay_s * min(count.failures, _MOST_TIMES), count.failures == self._most
