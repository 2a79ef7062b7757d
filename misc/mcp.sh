#!/bin/sh
# Start and stop smx.
# usage: mcp.sh start | stop | restart | reload | status
# Exit codes are those of sysexits(3); status: 0 all services run, 3 smx does not run, 4 it runs,
# but a service is given up or waits for its next start after it died.
#
# The first lines are set by make install; the environment goes before them.
mcp=${SMXMCP:-/usr/local/sbin/mcp}
qdir=${SMXQDIR:-/var/spool/smx}
conf=${SMXCONF:-/etc/smx/smx.conf}
log=${SMXLOG:-/var/log/smx/mcp.log}
pid_file=${SMXPIDFILE:-$qdir/mcp.pid}
stop_wait=${SMXSTOPWAIT:-300}
set -u

fail() { code=$1; shift; echo "mcp.sh: $*" >&2; exit "$code"; }

# Print the process id of the running mcp, if it runs. A number that a crash has left in the
# file may be another program's by now.
running() {
    pid=$(cat "$pid_file" 2>/dev/null) || return 1
    case $pid in '' | *[!0-9]*) return 1 ;; esac
    case $(ps -o args= -p "$pid" 2>/dev/null) in *"-m mcp "*) echo "$pid" ;; *) return 1 ;; esac
}

start() {
    [ -x "$mcp" ] || fail 69 "$mcp is not installed"
    # Returns when all services are ready, or with the code and the reason of the failure;
    # refuses when smx runs already.
    "$mcp" -b -f "$conf" -d "$qdir" -p "$pid_file" -l "$log"
}

# mcp ends after all its services.
stop() {
    pid=$(running) || { echo "smx does not run"; return 0; }
    kill -TERM "$pid" || fail 77 "cannot stop process $pid"
    waited=0
    while running >/dev/null; do
        [ "$waited" -lt $((stop_wait * 5)) ] || fail 75 "process $pid does not end; see $log"
        waited=$((waited + 1))
        sleep 0.2
    done
}

case ${1-} in
start) start ;;
stop) stop ;;
restart) stop && start ;;
reload)
    pid=$(running) || fail 69 "smx does not run"
    # A file with mistakes would be of no use to anybody; all of them are printed.
    "$mcp" -n -f "$conf" -d "$qdir" >/dev/null || fail 78 "$conf has mistakes; nothing was reloaded"
    kill -HUP "$pid" || fail 77 "cannot signal process $pid"
    echo "maps, certificates and log files are read or opened again, and log_level holds;"
    echo "other changes of $conf hold after a restart: see restart_needed in the logs"
    ;;
status)
    pid=$(running) || { echo "smx does not run"; exit 3; }
    echo "smx runs, mcp has process id $pid"
    # mcp writes it whenever something changes; the columns are explained in mcp(8).
    cat "$pid_file.status" 2>/dev/null
    echo
    ps -o pid=,user=,args= --ppid "$pid"
    # What is given up or dies again and again is for an operator (and for monitoring) to see.
    awk '$2 == "given-up" || $2 == "restarting" { bad = 1 } END { exit bad }' \
        "$pid_file.status" 2>/dev/null || exit 4
    exit 0
    ;;
*)
    echo "usage: mcp.sh start | stop | restart | reload | status" >&2
    exit 64
    ;;
esac
