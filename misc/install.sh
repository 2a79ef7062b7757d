#!/bin/sh
# Install smx: programs, a private Python environment, manuals, configuration, queue.
# usage: [PREFIX=/usr/local] [DESTDIR=] [PYTHON=python3] [SENDMAIL=no] install.sh   (make install)
#
# Below PREFIX: lib/smx/venv, sbin, libexec/smx, share/man, share/smx, a unit and snippets for
# systemd in lib, completion for bash in share; the rest is made by
# sm.setup.sh, whose variables are taken from the environment as well. DESTDIR is for packages:
# nothing outside it is touched, and an ordinary user may do it.
set -u
top=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)
: "${PREFIX:=/usr/local}" "${DESTDIR:=}" "${PYTHON:=python3}"
. "$top/misc/sm.layout.sh"

fail() { code=$1; shift; echo "install.sh: $*" >&2; exit "$code"; }

case $PREFIX in
*[!A-Za-z0-9/._+-]*) fail 64 "PREFIX=$PREFIX: only letters, digits and / . _ + - are allowed" ;;
/*) ;;
*) fail 64 "PREFIX=$PREFIX is not an absolute path" ;;
esac
if [ "$(id -u)" -eq 0 ]; then
    missing=$(missing_accounts)
    [ -z "$missing" ] || fail 78 "create the accounts first (see the README):
$missing"
else
    [ -n "$DESTDIR" ] || fail 77 "must be run by root (or with DESTDIR=)"
fi
umask 022

venv=$PREFIX/lib/smx/venv
"$top/misc/setup-venv.sh" "$DESTDIR$venv" runtime "$PYTHON" || exit $?

# The environment was made to use the source tree; an installation has a copy of its own.
python=$DESTDIR$venv/bin/python
site=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))') || exit 70
work=$(mktemp -d) || exit 73
trap 'rm -rf "$work"' EXIT
for part in pyproject.toml README.md libsmx mcp qmgr smtps smtpc smar; do
    cp -R "$top/$part" "$work/" || exit 73
done
mkdir "$work/misc" && cp -R "$top/misc/smxtools" "$work/misc/" || exit 73
rm -f "$site/smx.pth"
for name in mcp qmgr smtps smtpc smar qmgrctl smxconf createmap smxpasswd smxq-check smxgrey smxtest smxmapd smxsink smxrun; do
    rm -f "$DESTDIR$venv/bin/$name"
done
"$python" -m pip install --disable-pip-version-check --no-input --quiet --no-deps --no-index \
    --no-build-isolation --force-reinstall "$work" >"$work/log" 2>&1 ||
    fail 70 "cannot install the packages: $(tail -n 1 "$work/log")"
"$python" -m compileall -q "$site" >/dev/null 2>&1 # no daemon may write there later

# The programs name the place where the environment will be, not where DESTDIR has it now.
sbin=$PREFIX/sbin libexec=$PREFIX/libexec/smx share=$PREFIX/share
"$top/misc/make-programs.sh" "$venv/bin/python" "$DESTDIR$sbin" mcp qmgrctl smxconf createmap smxpasswd smxq-check smxgrey smxtest smxmapd || exit $?
"$top/misc/make-programs.sh" "$venv/bin/python" "$DESTDIR$libexec" qmgr smtps smtpc smar sendmail || exit $?
# Under its usual names sendmail is put beside the others only when it is asked for: the machine
# may have another one.
for name in mailq newaliases; do
    ln -sfn sendmail "$DESTDIR$libexec/$name" || exit 73
done
if [ "${SENDMAIL:-no}" = yes ]; then
    for name in sendmail mailq newaliases; do
        ln -sfn "$libexec/sendmail" "$DESTDIR$sbin/$name" || exit 73
    done
fi
sed -e "s|:-/usr/local/sbin/mcp}|:-$sbin/mcp}|" -e "s|:-/var/spool/smx}|:-$SMXQDIR}|" \
    -e "s|:-/etc/smx/smx.conf}|:-$SMXCONFDIR/smx.conf}|" \
    -e "s|:-/var/log/smx/mcp.log}|:-$SMXLOGDIR/mcp.log}|" \
    "$top/misc/mcp.sh" >"$DESTDIR$sbin/mcp.sh.new" &&
    chmod 755 "$DESTDIR$sbin/mcp.sh.new" && mv "$DESTDIR$sbin/mcp.sh.new" "$DESTDIR$sbin/mcp.sh" ||
    exit 73
for page in "$top"/misc/man/*.[1-8]; do
    [ -e "$page" ] || continue
    section=$DESTDIR$share/man/man${page##*.}
    mkdir -p "$section" && cp "$page" "$section/" && chmod 644 "$section/${page##*/}" || exit 73
done
mkdir -p "$DESTDIR$share/smx" || exit 73
for file in misc/sm.layout.sh misc/sm.setup.sh misc/sm.check.sh conf/smx.conf conf/mt conf/aliases conf/access; do
    cp "$top/$file" "$DESTDIR$share/smx/" || exit 73
done
rm -rf "$DESTDIR$share/smx/examples" && cp -R "$top/conf/examples" "$DESTDIR$share/smx/" || exit 73

# For systemd, and for shells; nothing is enabled or run.
lib=$PREFIX/lib completions=$DESTDIR$share/bash-completion/completions
mkdir -p "$DESTDIR$lib/systemd/system" "$DESTDIR$lib/sysusers.d" "$DESTDIR$lib/tmpfiles.d" \
    "$completions" || exit 73
sed -e "s|/usr/local/sbin|$sbin|g" -e "s|/etc/smx/|$SMXCONFDIR/|g" \
    -e "s|/var/spool/smx|$SMXQDIR|g" -e "s|/var/log/smx|$SMXLOGDIR|g" \
    "$top/conf/smx.service" >"$DESTDIR$lib/systemd/system/smx.service" &&
    cp "$top/conf/smx.sysusers" "$DESTDIR$lib/sysusers.d/smx.conf" &&
    DESTDIR= "$top/misc/make-tmpfiles.sh" >"$DESTDIR$lib/tmpfiles.d/smx.conf" || exit 73
for name in qmgrctl smxconf mcp.sh; do
    cp "$top/conf/completion/smx.bash" "$completions/$name" || exit 73
done

SMXLIBEXEC=$libexec SMXCONFFILE=$top/conf/smx.conf "$top/misc/sm.setup.sh" || exit $?
if [ -z "$DESTDIR" ] && "$sbin/mcp.sh" status >/dev/null 2>&1; then
    echo "smx is upgraded; what runs is the old version until: $sbin/mcp.sh restart"
else
    echo "smx is installed: edit $SMXCONFDIR/smx.conf, then run: $sbin/mcp.sh start"
fi
