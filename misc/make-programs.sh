#!/bin/sh
# Write the start-up files of all programs: PYTHON runs them isolated (-I), so that neither the
# current directory nor the caller's environment decides which code a root process loads.
# usage: make-programs.sh PYTHON DIR [NAME...]
set -u
python=$1 dir=$2
shift 2
[ $# -gt 0 ] || set -- mcp qmgr smtps smtpc smar qmgrctl smxconf createmap smxpasswd smxq-check smxgrey smxtest smxmapd sendmail smxsink smxrun
mkdir -p "$dir" || exit 73
for name; do
    case $name in
    mcp | qmgr | smtps | smtpc | smar) module=$name ;;
    qmgrctl) module=qmgr.qmgrctl ;;
    smxconf) module=libsmx.smxconf ;;
    smxq-check) module=qmgr.smxqcheck ;;
    createmap) module=libsmx.createmap ;;
    smxgrey) module=smar.smxgrey ;;
    smxtest) module=smar.smxtest ;;
    smxmapd) module=smar.smxmapd ;;
    smxpasswd) module=libsmx.smxpasswd ;;
    smxsink) module=smxtools.sink ;;
    smxrun) module=smxtools.quickstart ;;
    # Links to it are mailq and newaliases: it looks at the name under which it is called.
    sendmail) module='libsmx.sendmail --as="${0##*/}"' ;;
    *) echo "make-programs.sh: no such program: $name" >&2; exit 64 ;;
    esac
    printf '#!/bin/sh\nexec "%s" -I -m %s "$@"\n' "$python" "$module" >"$dir/$name.new" &&
        chmod 755 "$dir/$name.new" && mv "$dir/$name.new" "$dir/$name" || exit 73
done
