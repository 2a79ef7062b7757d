#!/bin/sh
# Make or complete the private Python environment of smx.
# usage: setup-venv.sh DIR runtime|dev [PYTHON]
# Exit codes are those of sysexits(3).
set -u
top=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)
venv=$1 kind=$2 python=${3:-python3}
case $venv in /*) ;; *) venv=$(pwd)/$venv ;; esac

fail() { code=$1; shift; echo "smx: $*" >&2; exit "$code"; }

# Tell whether every user can run the interpreter: daemons do not run as root.
reachable() {
    path=$(readlink -f -- "$("$1" -c 'import sys; print(sys.executable)' 2>/dev/null)") || return 1
    while path=$(dirname -- "$path"); do
        case $(stat -L -c %A "$path") in *[xt]) ;; *) return 1 ;; esac
        [ "$path" = / ] && return 0
    done
}
if [ "$(id -u)" -eq 0 ] && [ "$python" = python3 ] && ! reachable python3 &&
    /usr/bin/python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    python=/usr/bin/python3
fi

command -v "$python" >/dev/null 2>&1 || fail 69 "$python is not installed; install Python 3.11 or newer, or name one: PYTHON=/path/to/python3"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail 69 "$("$python" -V 2>&1) is too old; smx needs Python 3.11 or newer: PYTHON=/path/to/python3"

stamp=$venv/.smx-$kind-$(cat "$top/misc/lock/$kind.txt" "$top/misc/setup-venv.sh" "$top/misc/make-programs.sh" | cksum | tr ' ' -)
[ -e "$stamp" ] && exit 0

parent=$(dirname -- "$venv")
mkdir -p "$parent" 2>/dev/null && [ -w "$parent" ] || fail 73 "cannot write in $parent; choose a writable directory"
if [ ! -x "$venv/bin/python" ]; then
    log=$("$python" -m venv "$venv" 2>&1) || {
        rm -rf "$venv"
        case $log in
        *ensurepip*) fail 69 "$python cannot make environments; install its venv package (Debian: python3-venv)" ;;
        *) fail 73 "cannot make the environment $venv: $(printf %s "$log" | tail -n 1)" ;;
        esac
    }
fi
log=$venv/setup.log
echo "smx: installing the locked $kind packages into $venv" >&2
for lock in build "$kind"; do
    "$venv/bin/python" -m pip install --disable-pip-version-check --no-input --quiet \
        --require-hashes -r "$top/misc/lock/$lock.txt" >"$log" 2>&1 || {
        if grep -qiE 'command .*(gcc|cc|cargo).* failed|unable to execute|No such file or directory: .*(gcc|cc)|Failed building wheel' "$log"; then
            fail 69 "a package has no ready-made build for this machine and there is no compiler; install gcc and the Python headers (Debian: build-essential python3-dev); details in $log"
        fi
        fail 69 "packages could not be installed: $(grep -v '^ *$' "$log" | tail -n 1); details in $log"
    }
done
# The packages of smx itself are used from the source tree: one line tells Python where it is.
site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
printf '%s\n%s\n' "$top" "$top/misc" >"$site/smx.pth"
"$top/misc/make-programs.sh" "$venv/bin/python" "$venv/bin" || exit $?
: >"$stamp"
