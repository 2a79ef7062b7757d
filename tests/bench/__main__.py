"""``make bench``: one table of ratios, smx against Postfix, measured in turn.

Each work is done by every server in turn, several times; a run in which other processes used
much of the machine is repeated. All sides must sync before they answer: strace counts.
"""

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path

from tests.bench.machine import journalled
from tests.bench.measure import RUNNERS, Tools, syncs
from tests.bench.report import compare, medians, replace, table
from tests.bench.rows import ROWS, quick_rows
from tests.bench.servers import ALL
from tests.conftest import find_program

NOISE = 0.4
"""Cores that strangers may use during a run before it is repeated."""
REPEATS = 3
"""So often a disturbed run is repeated; the quietest counts then."""


def one_run(server, work, tools, *, repeats=REPEATS, measure=None):
    """Return the figures of one undisturbed run, or of the quietest of several."""
    tried = []
    for _ in range(repeats):
        figures = (measure or RUNNERS[work.kind])(server, work, tools)
        tried.append(figures)
        if figures["noise"] < NOISE:
            break
    quietest = min(tried, key=lambda figures: figures["noise"])
    return quietest | {"disturbed": quietest["noise"] >= NOISE}


def run_work(work, servers, tools, *, runs, repeats=REPEATS, measure=None):
    """Return all runs of a work: name of the server -> list of figures."""
    figures = {server.name: [] for server in servers}
    for _ in range(runs):
        for server in servers:
            run = one_run(server, work, tools, repeats=repeats, measure=measure)
            figures[server.name].append(run)
    return figures


def check_durability(servers, tools, *, quick=False, count=syncs):
    """Return syncs a message of every server; a quick run looks at relayed mail only.

    Raises:
        SystemExit: a server answers before it syncs: its figures mean something else.
    """
    found = {}
    for server in servers:
        for accept_only in (False,) if quick else (False, True):
            per_message = count(server, tools, accept_only=accept_only)
            if per_message < 1:
                sys.exit(
                    f"{server.name} syncs {per_message:.2f} times a message"
                    f"{' that it only accepts' if accept_only else ''}: it answers before it "
                    "syncs, and its figures cannot be compared"
                )
            if not accept_only:
                found[server.name] = round(per_message, 2)
    return found


def parse(words=None):
    """Return the options."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="under two minutes: fewer rows and messages, one run"
    )
    parser.add_argument("--runs", type=int, default=0, help="runs of each row (default 5)")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--servers", default="", help="comma list: smx,postfix-default,...")
    parser.add_argument("--part", type=int, default=1, help="so many times fewer messages")
    parser.add_argument("--json", type=Path, help="write all figures of all runs to this file")
    parser.add_argument("--doc", type=Path, help="put the table between the marks in this file")
    parser.add_argument("--list", action="store_true", help="print the rows and end")
    options = parser.parse_args(words)
    options.runs = options.runs or (1 if options.quick else 5)
    options.repeats = 1 if options.quick else REPEATS
    if options.runs < 1 or options.part < 1:
        parser.error("--runs and --part must be 1 or more")
    options.rows = [
        row for row in (quick_rows() if options.quick else ROWS) if options.only in row.name
    ]
    if not options.rows:
        parser.error(f"no row has {options.only!r} in its name; --list prints them")
    known = {server.name for server in ALL}
    wanted = [name for name in options.servers.split(",") if name]
    if set(wanted) - known:
        parser.error(f"servers are {', '.join(sorted(known))}")
    options.wanted = wanted or (["smx", "postfix-tuned"] if options.quick else sorted(known))
    return options


def main():
    """Run the benchmark."""
    options = parse()
    if options.list:
        print("\n".join(row.name for row in options.rows))
        return
    tools = [find_program(name) for name in ("smtp-source", "smtp-sink", "strace")]
    if not tools[0] or not tools[1]:
        sys.exit("make bench needs smtp-source and smtp-sink (Debian package postfix)")
    servers = [
        server for server in ALL
        if server.name in options.wanted
        and (server.name == "smx" or (os.getuid() == 0 and find_program("postfix")))
    ]  # fmt: skip
    results = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.system()} {platform.release()}, {os.cpu_count()} processors, "
        f"Python {platform.python_version()}",
        "runs": options.runs,
        "syncs_per_message": {},
        "rows": [],
        "all": {},
    }
    with journalled() as (base, kind):
        results["file_system"] = kind
        tools = Tools(*tools, base)
        if tools.strace and os.getuid() == 0:
            results["syncs_per_message"] = check_durability(servers, tools, quick=options.quick)
            print("syncs a message, one client:", results["syncs_per_message"], flush=True)
        elif len(servers) > 1:
            sys.exit("make bench compares as root with strace only: durability must be counted")
        done = {}
        for row in options.rows:
            work = row.work.shorter(options.part) if options.part > 1 else row.work
            if work not in done:
                done[work] = run_work(
                    work, servers, tools, runs=options.runs, repeats=options.repeats
                )
            line = compare(row, {name: medians(runs) for name, runs in done[work].items()})
            results["rows"].append(line)
            results["all"][row.name] = done[work]
            for name, value in line["servers"].items():
                noisy = sum(run["disturbed"] for run in done[work][name])
                print(f"{row.name:50} {name:16} {value[row.figure]:9.2f} {row.unit:6} "
                      f"{value['cpu_ms']:.2f} ms CPU  {value['peak_mb']:.0f} MB"
                      f"{f'  {noisy} runs disturbed' if noisy else ''}", flush=True)  # fmt: skip
            if options.json:  # a long run that is stopped leaves what it has
                options.json.write_text(json.dumps(results, indent=1) + "\n")
    print("\n" + table(results))
    if options.doc:
        options.doc.write_text(replace(options.doc.read_text(), results))


if __name__ == "__main__":
    main()
