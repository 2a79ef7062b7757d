"""Where a connection comes from, and in which order the addresses of a host are tried.

Kind: core.

Source: RFC 5321 4.1.1.1, RFC 8305 (why one family may be preferred); SPEC row X017.
"""

from collections.abc import Sequence
from itertools import groupby

import attrs

from libsmx.opt_smtpc import SourceConf
from libsmx.wire import Target


@attrs.frozen
class Source:
    """Our side of a connection.

    Attributes:
        address: own address, empty for any.
        helo: name for EHLO.
    """

    address: str
    helo: str


class SourceTable:
    """The sections ``source``, in their order.

    Args:
        confs: the sections.
        hostname: the name where they say none.
    """

    def __init__(self, confs: Sequence[SourceConf], hostname: str) -> None:
        self._confs = confs
        self._hostname = hostname
        self._plain = Source("", hostname)

    def find(self, target: Target) -> Source:
        """Return our side for a target; the first section that fits holds."""
        for conf in self._confs:
            if not conf.next_hop or any(_fits(name, target) for name in conf.next_hop):
                own = conf.address6 if is_ipv6(target.address) else conf.address
                return Source(own, conf.helo or self._hostname)
        return self._plain


def _fits(name: str, target: Target) -> bool:
    name, host = name.lower(), target.host.lower()
    if name.startswith("."):
        return host.endswith(name)
    return name in {host, target.address}


def is_ipv6(address: str) -> bool:
    """Tell whether an address in text form is one of IPv6."""
    return ":" in address


def in_order(targets: Sequence[Target], prefer: str) -> list[Target]:
    """Return targets with the preferred family first within each host, else as they came.

    Args:
        targets: in the order in which the route gave them; those of a host side by side.
        prefer: ``any``, ``inet`` or ``inet6``.
    """
    if prefer == "any":
        return list(targets)
    wanted = prefer == "inet6"
    ordered: list[Target] = []
    for _, group in groupby(targets, key=lambda target: (target.host, target.port)):
        ordered += sorted(group, key=lambda target: is_ipv6(target.address) is not wanted)
    return ordered
