#!/bin/sh
# Remove what install.sh has put below PREFIX; configuration, queue, logs and accounts stay.
# usage: [PREFIX=/usr/local] [DESTDIR=] uninstall.sh     (make uninstall)
set -u
top=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)
: "${PREFIX:=/usr/local}" "${DESTDIR:=}"
. "$top/misc/sm.layout.sh"

fail() { code=$1; shift; echo "uninstall.sh: $*" >&2; exit "$code"; }

case $PREFIX in
*[!A-Za-z0-9/._+-]*) fail 64 "PREFIX=$PREFIX: only letters, digits and / . _ + - are allowed" ;;
/*) ;;
*) fail 64 "PREFIX=$PREFIX is not an absolute path" ;;
esac
[ "$(id -u)" -eq 0 ] || [ -n "$DESTDIR" ] || fail 77 "must be run by root (or with DESTDIR=)"
base=$DESTDIR$PREFIX
[ -e "$base/share/smx" ] || fail 66 "there is no installation below $base"
if [ -z "$DESTDIR" ] && "$base/sbin/mcp.sh" status >/dev/null 2>&1; then
    fail 75 "smx runs; stop it first: $PREFIX/sbin/mcp.sh stop"
fi
for file in "$base"/sbin/*; do # ours are scripts that name the private environment
    [ -f "$file" ] && grep -q "^exec \"$PREFIX/lib/smx/venv/bin/python\"" "$file" && rm -f "$file"
done
rm -f "$base/sbin/mcp.sh"
for name in sendmail mailq newaliases; do # only where they are ours
    case $(readlink "$base/sbin/$name") in *libexec/smx/sendmail) rm -f "$base/sbin/$name" ;; esac
done
for page in "$top"/misc/man/*.[1-8]; do
    rm -f "$base/share/man/man${page##*.}/${page##*/}"
done
for name in qmgrctl smxconf mcp.sh; do
    rm -f "$base/share/bash-completion/completions/$name"
done
rm -f "$base/lib/systemd/system/smx.service" "$base/lib/sysusers.d/smx.conf" "$base/lib/tmpfiles.d/smx.conf"
rm -rf "$base/lib/smx" "$base/libexec/smx" "$base/share/smx"
echo "smx is removed; $SMXCONFDIR, $SMXQDIR, $SMXLOGDIR and the accounts are left"
