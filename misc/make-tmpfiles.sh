#!/bin/sh
# Print the directories of an installation for systemd-tmpfiles(8): it makes those that are gone
# after a disk was replaced, with their owners and modes, and removes nothing.
# usage: make-tmpfiles.sh      (names and places from the environment, see sm.layout.sh)
set -u
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
. "$here/sm.layout.sh"
echo "# Directories of smx; made by misc/make-tmpfiles.sh. Nothing in them is ever cleaned up."
layout | while read -r kind owner group mode path; do
    [ "$kind" = dir ] && echo "d $path 0$mode $owner $group -"
done
exit 0
