"""Identities: the user, group and supplementary groups of each service.

Kind: shell. Reads the user database once, before anything is started, so that a missing
account is a configuration error and not a restart loop.
Source: SPEC rows X140-X142, X152; D50.
"""

import grp
import os
import pwd

import attrs

from mcp.services import Service


@attrs.frozen
class Identity:
    """Ids of a process; None as a whole means: stay who you are."""

    uid: int
    gid: int
    groups: tuple[int, ...]


def find_uid(name: str) -> int:
    """Return the uid of a user name or number; raises ValueError with a text for the operator."""
    if name.isdecimal():
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise ValueError(f"there is no user {name}; create it first") from None


def find_gid(name: str) -> int:
    """Return the gid of a group name or number; raises ValueError with a text."""
    if name.isdecimal():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise ValueError(f"there is no group {name}; create it first") from None


def find_identity(service: Service) -> Identity:
    """Return who a service runs as when mcp is root.

    Supplementary groups are those of the user database, which is how smtps becomes a member
    of smxc and smxm.

    Raises:
        ValueError: no such account, or the account is root's.
    """
    if not service.user:
        raise ValueError("user is required when mcp runs as root; only mcp itself is ever root")
    uid = find_uid(service.user)
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise ValueError(f"there is no user with number {uid}; create it first") from None
    gid = find_gid(service.group) if service.group else entry.pw_gid
    if uid == 0 or gid == 0:
        raise ValueError(f"user {service.user} is root or in root's group; use one without rights")
    groups = {group for group in os.getgrouplist(entry.pw_name, gid) if group != 0}
    return Identity(uid, gid, tuple(sorted(groups)))


def find_identities(services: list[Service]) -> tuple[dict[str, Identity | None], list[str]]:
    """Return the identity of each service by label, and what is wrong.

    Without root there is nothing to switch to: every identity is None (X151).
    """
    if os.geteuid() != 0:
        return {service.label: None for service in services}, []
    found: dict[str, Identity | None] = {}
    problems = []
    for service in services:
        try:
            found[service.label] = find_identity(service)
        except ValueError as error:
            problems.append(f"{service.label}: {error}")
    return found, problems
