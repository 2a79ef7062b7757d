#!/bin/sh
# Make the directories and files of an installation with their owners and modes.
# usage: sm.setup.sh        (as root; called by make install)
#
# Names and places can be overridden from the environment, see sm.layout.sh; further:
#   SMXLIBEXEC   where the programs are [/usr/local/libexec/smx]
#   SMXCONFFILE  the smx.conf to install, with mt beside it [the shipped one]
# The users and groups must exist before. Whatever exists already is left as it is, so this is
# no way to change owners or modes of an installation.
set -u
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
. "$here/sm.layout.sh"
: "${SMXLIBEXEC:=/usr/local/libexec/smx}"
# Installed, the shipped smx.conf stands beside this script.
[ -e "$here/smx.conf" ] && default=$here/smx.conf || default=$here/../conf/smx.conf
: "${SMXCONFFILE:=$default}"

fail() { code=$1; shift; echo "sm.setup.sh: $*" >&2; exit "$code"; }

[ $# -eq 0 ] || fail 64 "takes no arguments; see the comments in $0"
for place in "$SMXQDIR" "$SMXCONFDIR" "$SMXLOGDIR"; do
    case $place in
    *[!A-Za-z0-9/._+-]*) fail 64 "$place: only letters, digits and / . _ + - are allowed" ;;
    /*) ;;
    *) fail 64 "$place is not an absolute path" ;;
    esac
done
owners=yes
if [ "$(id -u)" -ne 0 ]; then
    [ -n "$DESTDIR" ] || fail 77 "must be run by root"
    owners=no # the package's own installation sets them
else
    missing=$(missing_accounts)
    [ -z "$missing" ] || fail 78 "create the accounts first:
$missing"
fi
for file in "$SMXCONFFILE" "$(dirname -- "$SMXCONFFILE")/mt"; do
    [ -r "$file" ] || fail 66 "cannot read $file"
done
umask 077 # nothing is open for a moment before it gets its mode

write_conf() {
    sed -e "s|@LIBEXEC@|$SMXLIBEXEC|g" -e "s|@SYSCONFDIR@|$SMXCONFDIR|g" \
        -e "s|@SPOOL@|$SMXQDIR|g" -e "s|@LOGDIR@|$SMXLOGDIR|g" \
        -e "s|^\( *user = \)smxs;|\1$SMXSUSER;|" -e "s|^\( *user = \)smxq;|\1$SMXQUSER;|" \
        -e "s|^\( *user = \)smxc;|\1$SMXCUSER;|" -e "s|^\( *user = \)smxm;|\1$SMXMUSER;|" \
        -e "s|#\(CDB_gid = \)smxc;|$([ "$SMXCGROUP" = smxc ] && echo '#')\1$SMXCGROUP;|" \
        "$SMXCONFFILE"
}

layout | while read -r kind owner group mode path; do
    path=$DESTDIR$path
    [ ! -e "$path" ] || continue
    (umask 022 && mkdir -p "$(dirname "$path")") || exit 73 # parents that are not ours
    if [ "$kind" = dir ]; then
        mkdir "$path"
    elif [ "$kind" = conf ]; then
        write_conf >"$path"
    elif [ "$kind" = map ]; then
        cat -- "$(dirname -- "$SMXCONFFILE")/mt" >"$path"
    else
        : >"$path"
    fi || exit 73
    if [ "$owners" = yes ]; then
        chown "$owner:$group" "$path" || exit 77
    fi
    chmod "$mode" "$path" || exit 77 # after chown, which clears the group bit
done || fail $? "stopped; see above"
