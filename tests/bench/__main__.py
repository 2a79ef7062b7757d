"""``make bench``: one table of ratios, smx against Postfix, measured in turn.

Each row is run for every server in turn, several times; a run in which other processes used
much of the machine is repeated. Both sides must sync before they answer: strace counts.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import attrs

from tests.bench.machine import Memory, cpu_s, journalled, machine_cpu_s, tree
from tests.bench.rows import ROWS, Row, load
from tests.bench.servers import ALL, CountingSink
from tests.conftest import find_program

NOISE = 0.4
"""Cores that strangers may use during a run before it is repeated."""


def measure(server_class, row, base, source, sink_program):
    """Run one row on one server; return its figures."""
    sink = CountingSink(sink_program)
    server = server_class(base, sink.port, accept_only=row.accept_only)
    try:
        warm = attrs.evolve(row, messages=max(50, 4 * row.sessions))
        load(source, server.port, warm)
        if not row.accept_only:
            sink.wait_for(warm.messages)
        before = cpu_s(tree(server.pid))
        sink_before = cpu_s([sink.process.pid])
        mine = os.times()
        machine = machine_cpu_s()
        memory = Memory(server.pid)
        memory.start()
        begin = time.monotonic()
        seconds = load(source, server.port, row)
        if not row.accept_only:
            sink.wait_for(row.messages)
            seconds = time.monotonic() - begin
        after = cpu_s(tree(server.pid))
        busy = machine_cpu_s() - machine
        memory.stop()
        cpu = {name: after[name] - before.get(name, 0.0) for name in after}
        now = os.times()
        ours = sum(cpu.values()) + sum(now[:4]) - sum(mine[:4])
        ours += sum(cpu_s([sink.process.pid]).values()) - sum(sink_before.values())
        return {
            "rate": row.messages / seconds,
            "cpu_ms": 1000 * sum(cpu.values()) / row.messages,
            "cpu_by_process_ms": {
                name: round(1000 * value / row.messages, 3) for name, value in cpu.items() if value
            },
            "peak_mb": memory.peak / 1e6,
            "processes": memory.processes,
            "noise": max(0.0, (busy - ours) / seconds),
        }
    finally:
        server.stop()
        sink.stop()


def syncs(server_class, base, source, sink_program, messages=40):
    """Count how often a server syncs for each message that it accepts from one client."""
    sink = CountingSink(sink_program)
    server = server_class(base, sink.port)
    try:
        log = Path(base) / "strace.out"
        tracer = subprocess.Popen(
            [find_program("strace"), "-f", "-qq", "-e", "trace=fsync,fdatasync,syncfs", "-o", log,
             *[word for pid in tree(server.pid) for word in ("-p", str(pid))]],
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(1)
        load(source, server.port, Row("", 1, messages))
        sink.wait_for(messages)
        tracer.terminate()
        tracer.wait()
        text = log.read_text()
        log.unlink()
        return sum(text.count(name) for name in ("fsync(", "fdatasync(", "syncfs(")) / messages
    finally:
        server.stop()
        sink.stop()


def table(results):
    """Return the results as Markdown."""
    lines = [
        "| work | smx msg/s | best Postfix | ratio | CPU ms smx / Postfix | MB smx / Postfix |",
        "|---|---|---|---|---|---|",
    ]
    for row in results["rows"]:
        smx = row["servers"]["smx"]
        others = [value for name, value in row["servers"].items() if name != "smx"]
        if not others:
            lines.append(
                f"| {row['name']} | {smx['rate']:.0f} | - | - | {smx['cpu_ms']:.2f} / - "
                f"| {smx['peak_mb']:.0f} / - |"
            )
            continue
        best = max(others, key=lambda value: value["rate"])
        lines.append(
            f"| {row['name']} | {smx['rate']:.0f} | {best['rate']:.0f} "
            f"| {smx['rate'] / best['rate']:.2f} | {smx['cpu_ms']:.2f} / {best['cpu_ms']:.2f} "
            f"| {smx['peak_mb']:.0f} / {best['peak_mb']:.0f} |"
        )
    return "\n".join(lines)


def main():
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rows and messages, one run")
    parser.add_argument("--runs", type=int, default=5, help="runs of each row (default 5)")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--servers", default="", help="comma list: smx,postfix-default,...")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    source, sink_program = find_program("smtp-source"), find_program("smtp-sink")
    if not source or not sink_program:
        sys.exit("make bench needs smtp-source and smtp-sink (Debian package postfix)")
    servers = [
        server for server in ALL
        if (not options.servers or server.name in options.servers.split(","))
        and (server.name == "smx" or (os.getuid() == 0 and find_program("postfix")))
    ]  # fmt: skip
    rows = [row for row in ROWS if options.only in row.name]
    runs = options.runs
    if options.quick:
        rows = [
            attrs.evolve(row, messages=row.messages // 4) for row in rows
            if row.reuse and row.size == 4096 and row.sessions <= 50
        ]  # fmt: skip
        runs = 1
    results = {
        "machine": f"{platform.system()} {platform.release()}, {os.cpu_count()} processors, "
        f"Python {platform.python_version()}",
        "rows": [],
    }
    with journalled() as (base, kind):
        results["file_system"] = kind
        if find_program("strace") and os.getuid() == 0:
            results["syncs_per_message"] = {
                server.name: round(syncs(server, base, source, sink_program), 2)
                for server in servers
            }
            print("syncs a message, one client:", results["syncs_per_message"], flush=True)
            if min(results["syncs_per_message"].values()) < 1:
                sys.exit("a server answers before it syncs: its rate cannot be compared")
        for row in rows:
            figures = {server.name: [] for server in servers}
            for _ in range(runs):
                for server in servers:
                    for _ in range(3):
                        figure = measure(server, row, base, source, sink_program)
                        if figure["noise"] < NOISE:
                            break
                    figures[server.name].append(figure)
            medians = {
                name: {
                    key: statistics.median(figure[key] for figure in found)
                    for key in ("rate", "cpu_ms", "peak_mb", "processes", "noise")
                }
                | {"cpu_by_process_ms": found[-1]["cpu_by_process_ms"]}
                for name, found in figures.items()
            }
            results["rows"].append({"name": row.name, "servers": medians})
            for name, value in medians.items():
                print(f"{row.name:45} {name:16} {value['rate']:7.0f} msg/s  "
                      f"{value['cpu_ms']:.2f} ms CPU  {value['peak_mb']:.0f} MB  "
                      f"{value['cpu_by_process_ms']}", flush=True)  # fmt: skip
    print("\n" + table(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
