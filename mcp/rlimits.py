"""Resource limits of a service: what the kernel lets its processes use.

Kind: shell.

A process may always lower its limits; only root with CAP_SYS_RESOURCE may raise the hard ones.
What mcp itself may not have cannot be given to a child: the limit is then mcp's own, and mcp
says so once at the start.
Source: getrlimit(2); README of sendmail X, 4.10.1 "Resource Problems" (SPEC row X479).
"""

import resource

import attrs

from libsmx.opt_shared import LimitsConf

UNLIMITED = resource.RLIM_INFINITY


@attrs.frozen
class Limit:
    """One limit as it will be set in a child.

    Attributes:
        name: of the option.
        number: of the resource, see resource(3).
        value: soft and hard limit, in the kernel's unit.
    """

    name: str
    number: int
    value: int


MAX_FILES = 65536
"""Open files of a process where smx.conf says nothing, if mcp may have so many."""


def _wanted(conf: LimitsConf) -> list[Limit]:
    files = conf.open_files
    if not files:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        files = MAX_FILES if hard == UNLIMITED else min(hard, MAX_FILES)
    rows = [
        Limit("open_files", resource.RLIMIT_NOFILE, files),
        Limit("core_size", resource.RLIMIT_CORE, conf.core_size * 1024),
    ]
    if conf.memory:
        rows.append(Limit("memory", resource.RLIMIT_DATA, conf.memory * 1024))
    return rows


def find_limits(conf: LimitsConf) -> tuple[list[Limit], list[str]]:
    """Return the limits that a service's processes get, and the names of those cut to mcp's own.

    Args:
        conf: what smx.conf wants; 0 for memory leaves it unlimited.
    """
    found, cut = [], []
    for limit in _wanted(conf):
        hard = resource.getrlimit(limit.number)[1]
        if hard != UNLIMITED and limit.value > hard and not _may_raise(limit):
            cut.append(f"{limit.name} {limit.value} to {hard}")
            limit = attrs.evolve(limit, value=hard)  # noqa: PLW2901 (the same limit, cut)
        found.append(limit)
    return found, cut


def _may_raise(limit: Limit) -> bool:
    """Tell whether mcp may raise this hard limit, by raising its own: children start from it."""
    soft, _hard = resource.getrlimit(limit.number)
    try:
        resource.setrlimit(limit.number, (soft, limit.value))
    except (OSError, ValueError):
        return False
    return True


def apply(limits: list[Limit]) -> None:
    """Set the limits of this process, in a child between fork and exec.

    Raises:
        OSError, ValueError: the kernel refuses.
    """
    for limit in limits:
        resource.setrlimit(limit.number, (limit.value, limit.value))
