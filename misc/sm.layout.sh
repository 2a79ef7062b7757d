# The accounts, directories and files of an installation; read by sm.setup.sh and sm.check.sh.
# Every name can be overridden from the environment.
# Source: README of sendmail X, "Directories, Files, and Permissions"; SPEC rows X034-X062.

: "${SMXSUSER:=smxs}" "${SMXSGROUP:=smxs}" # smtps: SMTP server
: "${SMXQUSER:=smxq}" "${SMXQGROUP:=smxq}" # qmgr: queue manager
: "${SMXCUSER:=smxc}" "${SMXCGROUP:=smxc}" # smtpc: SMTP client
: "${SMXMUSER:=smxm}" "${SMXMGROUP:=smxm}" # smar: address resolver
: "${SMXUSER:=smx}" "${SMXGROUP:=smx}"     # owner of smx.conf, operators of qmgrctl; optional
: "${SMXLOGGROUP:=operator}"               # may read the logs; optional
: "${SMXQDIR:=/var/spool/smx}"             # main queue directory
: "${SMXCONFDIR:=/etc/smx}"                # configuration directory
: "${SMXLOGDIR:=/var/log/smx}"             # logs
: "${DESTDIR:=}"                           # put in front of all of them, for packages

# The last, and the group of the log readers, need not exist.
getent passwd "$SMXUSER" >/dev/null || SMXUSER=root
getent group "$SMXGROUP" >/dev/null && CTLGROUP=$SMXGROUP || { SMXGROUP=root CTLGROUP=$SMXQGROUP; }

log_group() { getent group "$SMXLOGGROUP" >/dev/null && echo "$SMXLOGGROUP" || echo "$1"; }

# Print "kind owner group mode path" for everything that there has to be, parents first.
# Kinds: dir, conf (the shipped smx.conf, filled in), map (the shipped mt, which routes nothing),
# log (empty; who may read it is the site's business).
layout() {
    echo "dir root root 755 $SMXQDIR"
    for digit in 0 1 2 3 4 5 6 7 8 9 A B C D E F; do
        echo "dir $SMXSUSER $SMXQGROUP 771 $SMXQDIR/$digit"
    done
    echo "dir $SMXQUSER $SMXQGROUP 700 $SMXQDIR/defedb"
    echo "dir $SMXQUSER $SMXQGROUP 700 $SMXQDIR/ibdb"
    echo "dir $SMXQUSER $SMXQGROUP 700 $SMXQDIR/ibdb/ibdb"
    echo "dir $SMXQUSER $SMXMGROUP 2770 $SMXQDIR/qmsmar"
    echo "dir $SMXMUSER $SMXMGROUP 700 $SMXQDIR/smar"
    echo "dir $SMXQUSER $SMXCGROUP 2770 $SMXQDIR/qmsmtpc"
    echo "dir $SMXQUSER $SMXSGROUP 2770 $SMXQDIR/qmsmtps"
    echo "dir $SMXSUSER $SMXSGROUP 750 $SMXQDIR/smtps"
    # With the group bit the control socket gets the operators' group, so they can connect.
    echo "dir $SMXQUSER $CTLGROUP 2750 $SMXQDIR/qmgrctl"
    echo "dir root root 755 $SMXCONFDIR"
    echo "conf $SMXUSER $SMXGROUP 644 $SMXCONFDIR/smx.conf"
    echo "map $SMXMUSER $SMXMGROUP 644 $SMXCONFDIR/mt"
    echo "dir root root 755 $SMXLOGDIR"
    echo "log root $(log_group root) 640 $SMXLOGDIR/mcp.log"
    echo "log $SMXQUSER $(log_group "$SMXQGROUP") 640 $SMXLOGDIR/qmgr.log"
    echo "log $SMXMUSER $(log_group "$SMXMGROUP") 640 $SMXLOGDIR/smar.log"
    echo "log $SMXCUSER $(log_group "$SMXCGROUP") 640 $SMXLOGDIR/smtpc.log"
    echo "log $SMXSUSER $(log_group "$SMXSGROUP") 640 $SMXLOGDIR/smtps.log"
}

# Print "owner path" for maps that need not exist: each belongs to the program that reads it.
maps() {
    echo "$SMXQUSER $SMXCONFDIR/qmgr_conf.db"
    echo "$SMXMUSER $SMXCONFDIR/access.db"
    echo "$SMXMUSER $SMXCONFDIR/aliases.db"
}

# Print one line for each account or membership that is missing.
missing_accounts() {
    for user in "$SMXSUSER" "$SMXQUSER" "$SMXCUSER" "$SMXMUSER"; do
        getent passwd "$user" >/dev/null || echo "user $user does not exist"
    done
    for group in "$SMXSGROUP" "$SMXQGROUP" "$SMXCGROUP" "$SMXMGROUP"; do
        getent group "$group" >/dev/null || echo "group $group does not exist"
    done
    for pair in "$SMXSUSER:$SMXCGROUP" "$SMXSUSER:$SMXMGROUP" "$SMXQUSER:$SMXMGROUP"; do
        user=${pair%:*} group=${pair#*:}
        getent passwd "$user" >/dev/null && getent group "$group" >/dev/null || continue
        case " $(id -Gn "$user") " in
        *" $group "*) ;;
        *) echo "user $user is not a member of group $group" ;;
        esac
    done
}
