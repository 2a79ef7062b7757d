"""``make profile``: where each daemon's processor time goes while mail is relayed.

The daemons run under cProfile, which makes them about twice as slow and charges small
functions too much: read the shares, not the seconds. ``make bench`` has the seconds.
"""

import argparse
import pstats
import shutil
import sys
from pathlib import Path

from tests.bench.machine import journalled
from tests.bench.rows import Work, load
from tests.bench.servers import CountingSink, Smx
from tests.conftest import find_program
from tests.system import reachable_dir

DAEMONS = ("smtps", "qmgr", "smtpc", "smar")
WRAPPER = """#!/bin/sh
exec "{python}" -I -c '
import cProfile, os, sys
from {name}.daemon import DAEMON
from libsmx.process import run
sys.argv[0] = "{name}"
profile = cProfile.Profile()
profile.enable()
try:
    run(DAEMON)
finally:
    profile.disable()
    profile.dump_stats("{out}/{name}.%d.prof" % os.getpid())
' "$@"
"""


def make_programs(place):
    """Make a directory of programs whose daemons are profiled."""
    out = place / "out"
    out.mkdir()
    out.chmod(0o777)
    bin_dir = Path(sys.executable).parent
    for name in DAEMONS:
        program = place / name
        program.write_text(WRAPPER.format(python=sys.executable, name=name, out=out))
        program.chmod(0o755)
    for name in ("mcp", "qmgrctl"):
        (place / name).symlink_to(bin_dir / name)
    return out


def main():
    """Profile one row."""
    parser = argparse.ArgumentParser(prog="make profile", description=__doc__)
    parser.add_argument("--sessions", type=int, default=10)
    parser.add_argument("--messages", type=int, default=3000)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--new", action="store_true", help="one message a connection")
    parser.add_argument("--sort", default="tottime", choices=("tottime", "cumtime", "ncalls"))
    parser.add_argument("--lines", type=int, default=25)
    parser.add_argument("--callers", default="", help="show who calls functions of this name")
    options = parser.parse_args()
    row = Work("load", options.sessions, options.messages, options.size, reuse=not options.new)
    source, sink_program = find_program("smtp-source"), find_program("smtp-sink")
    if not source or not sink_program:
        sys.exit("make profile needs smtp-source and smtp-sink (Debian package postfix)")
    place = reachable_dir("smx-profile-")
    out = make_programs(place)
    try:
        with journalled() as (base, _):
            sink = CountingSink(sink_program)
            server = Smx(base, sink.port, programs=place)
            try:
                load(source, server.port, row)
                sink.wait_for(row.messages)
            finally:
                server.stop()
                sink.stop()
        for name in DAEMONS:
            for path in out.glob(f"{name}.*.prof"):
                stats = pstats.Stats(str(path)).strip_dirs().sort_stats(options.sort)
                calls = stats.total_calls / row.messages
                print(f"\n=== {name}: {calls:.0f} calls a message")
                if options.callers:
                    stats.print_callers(options.callers)
                else:
                    stats.print_stats(options.lines)
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
