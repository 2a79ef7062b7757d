"""A view of the file system in which an account can enter what it needs.

Kind: shell.

Root's own directories are closed to others: a checkout below /root or below a fresh temporary
directory cannot be entered by the account that the services run as, although nothing in it is
secret. Rather than open those directories, mcp is started in a mount namespace of its own, in
which each closed directory is hidden behind an empty, open one that holds just what is needed.
Nothing changes for anybody else, and the view ends with the processes.
"""

import grp
import os
import pwd
import shutil
import stat

_SCRIPT = """\
set -eu
umask 022
stage=$(mktemp -d) && chmod 755 "$stage"
count=$1; shift
n=0
for root; do
    n=$((n + 1))
    [ "$n" -le "$count" ] || break
    mkdir "$stage/$n"
    mount --bind "$root" "$stage/$n"
done
n=0
while [ "$n" -lt "$count" ]; do
    n=$((n + 1))
    eval "root$n=\\$1"
    shift
done
while [ "$1" != -- ]; do
    mount -t tmpfs -o mode=755,size=64k tmpfs "$1"
    shift
done
shift
n=0
while [ "$n" -lt "$count" ]; do
    n=$((n + 1))
    eval "root=\\$root$n"
    mkdir -p "$root"
    mount --bind "$stage/$n" "$root"
    umount "$stage/$n"
    rmdir "$stage/$n"
done
rmdir "$stage"
exec "$@"
"""


def may_enter(directory: str, account: pwd.struct_passwd) -> bool:
    """Tell whether an account may enter a directory, by its owner, groups and mode."""
    found = os.stat(directory)
    if found.st_uid == account.pw_uid:
        return bool(found.st_mode & stat.S_IXUSR)
    groups = {account.pw_gid, *(g.gr_gid for g in grp.getgrall() if account.pw_name in g.gr_mem)}
    if found.st_gid in groups:
        return bool(found.st_mode & stat.S_IXGRP)
    return bool(found.st_mode & stat.S_IXOTH)


def closed_parent(path: str, account: pwd.struct_passwd) -> str:
    """Return the first directory above path that the account cannot enter, or nothing."""
    parents: list[str] = []
    at = os.path.dirname(os.path.realpath(path))
    while at not in parents:
        parents.append(at)
        at = os.path.dirname(at)
    for directory in reversed(parents):
        if not os.path.isdir(directory):
            break  # it will be made, with the right mode
        if not may_enter(directory, account):
            return directory
    return ""


def wrap(command: list[str], needed: list[str], account: pwd.struct_passwd) -> list[str] | None:
    """Return a command that runs the given one where the account can enter what is needed.

    Args:
        command: program and arguments, absolute.
        needed: existing directories that the account must be able to enter.
        account: the account.

    Returns:
        The command itself where nothing is in the way; None where this system has no means to
        make the view (util-linux's unshare and mount, and the right to use them).
    """
    roots: list[str] = []
    for path in sorted({os.path.realpath(path) for path in needed}):
        if not any(path == root or path.startswith(root + "/") for root in roots):
            roots.append(path)
    blocked = [(root, closed_parent(root, account)) for root in roots]
    blocked = [(root, parent) for root, parent in blocked if parent]
    if not blocked:
        return command
    unshare = shutil.which("unshare")
    if unshare is None or shutil.which("mount") is None:
        return None
    inside = [root for root, _ in blocked]
    return [
        *(unshare, "--mount", "--propagation", "private", "--", "/bin/sh", "-c", _SCRIPT, "smxrun"),
        *(str(len(inside)), *inside, *sorted({parent for _, parent in blocked}), "--", *command),
    ]
