"""The users that sibling processes run as, told from the configuration file.

Kind: shell (asks the user database).

A server process lets a client act in a role only under a user that the sections of that role
name. Sections without a user, and systems that run as one ordinary user, leave our own.
Source: SPEC rows X037, X140.
"""

import os
import pwd

from libsmx.config import load_file
from libsmx.errors import ConfigError

ROLES = ("qmgr", "smar", "smtps", "smtpc")


def sibling_uids(path: str | None) -> dict[str, frozenset[int]]:
    """Return the user ids that may act in each role; our own is always among them.

    Args:
        path: the configuration file; None where there is none. A mistake in a section that is
            not ours is no concern here (D59): its users are then not known.
    """
    uids = {role: {os.getuid()} for role in ROLES}
    if path is not None:
        try:
            sections = load_file(path).sections
        except ConfigError:
            sections = ()
        for section in sections:
            uid = _uid(section.service.user)
            if section.keyword in uids and uid is not None:
                uids[section.keyword].add(uid)
    return {role: frozenset(found) for role, found in uids.items()}


def _uid(user: str) -> int | None:
    """Return the id of a user given by name or number."""
    if user.isdigit():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid if user else None
    except KeyError:
        return None
