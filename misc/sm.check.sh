#!/bin/sh
# Check an installation.
# usage: sm.check.sh -p      the users, groups and memberships exist
#        sm.check.sh -P      directories and files have their owners and modes (as root)
# Names and places can be overridden from the environment, see sm.layout.sh.
# Exit code 0: all is well; 1: one line for each thing that is not.
set -u
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
. "$here/sm.layout.sh"

check_layout() {
    layout | while read -r kind owner group mode path; do
        path=$DESTDIR$path
        # -L: a directory may be a link to another disk.
        if ! found=$(stat -L -c '%U %G %a %F' "$path" 2>/dev/null); then
            echo "$path is missing"
            continue
        fi
        set -- $found
        [ "$1" = "$owner" ] || echo "$path belongs to user $1 instead of $owner"
        case $kind:$4 in dir:directory | conf:regular | map:regular | log:regular) ;;
        *) echo "$path is a $4" ;;
        esac
        case $kind in
        dir)
            [ "$2" = "$group" ] || echo "$path belongs to group $2 instead of $group"
            [ "$3" = "$mode" ] || echo "$path has mode $3 instead of $mode"
            ;;
        conf | map)
            case $3 in *[2367]? | *[2367]) echo "$path has mode $3: others may write it" ;; esac
            ;;
        esac
    done
    maps | while read -r owner path; do
        path=$DESTDIR$path
        [ -e "$path" ] || continue
        found=$(stat -L -c %U "$path")
        [ "$found" = "$owner" ] || echo "$path belongs to user $found instead of $owner"
    done
}

case ${1-} in
-p) problems=$(missing_accounts) ;;
-P)
    [ "$(id -u)" -eq 0 ] || { echo "sm.check.sh: -P must be run by root" >&2; exit 77; }
    problems=$(missing_accounts; check_layout)
    ;;
*)
    echo "usage: sm.check.sh -p | -P" >&2
    exit 64
    ;;
esac
[ -z "$problems" ] && exit 0
printf '%s\n' "$problems"
exit 1
