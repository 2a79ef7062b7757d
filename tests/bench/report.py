"""Figures to text: medians of runs, the table, and the place in the documentation for it."""

import statistics

BEGIN = "<!-- figures of make bench: begin -->"
END = "<!-- figures of make bench: end -->"


def medians(runs):
    """Return the median of every figure over runs; of nested ones too."""
    found = {}
    for key in runs[0]:
        values = [run[key] for run in runs if key in run]
        if isinstance(values[0], dict):
            names = {name for value in values for name in value}
            found[key] = {
                name: statistics.median(value.get(name, 0.0) for value in values)
                for name in sorted(names)
            }
        else:
            found[key] = statistics.median(values)
    return found


def best(row, others):
    """Return the better Postfix of a row, None where there is none."""
    values = [value for value in others if row.figure in value]
    choose = min if row.lower else max
    return choose(values, key=lambda value: value[row.figure]) if values else None


def compare(row, servers):
    """Return one line of the result: figures, ratio, goal, and whether it is met.

    Args:
        row: of tests/bench/rows.py.
        servers: name -> figures (medians).
    """
    ours = servers.get("smx")
    peer = best(row, [value for name, value in servers.items() if name != "smx"])
    line = {"name": row.name, "figure": row.figure, "unit": row.unit, "goal": row.goal,
            "lower": row.lower, "servers": servers, "ratio": None, "met": None}  # fmt: skip
    if ours is not None and row.own:
        line["ratio"] = ours[row.figure]
    elif ours is not None and peer is not None and peer[row.figure]:
        line["ratio"] = ours[row.figure] / peer[row.figure]
    if line["ratio"] is not None:
        line["met"] = line["ratio"] <= row.goal if row.lower else line["ratio"] >= row.goal
    return line


def _number(value):
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(results):
    """Return the results as Markdown."""
    lines = [
        "| work | smx | best Postfix | ratio | goal | CPU ms smx / Postfix | MB smx / Postfix |",
        "|---|---|---|---|---|---|---|",
    ]
    for line in results["rows"]:
        others = [value for name, value in line["servers"].items() if name != "smx"]
        ours = line["servers"].get("smx", {})
        choose = min if line["lower"] else max
        figure = line["figure"]
        peer = choose(others, key=lambda value: value[figure]) if others else {}
        ratio = "-" if line["ratio"] is None else f"{line['ratio']:.2f}"
        goal = f"{'at most' if line['lower'] else 'at least'} {line['goal']:g}"
        met = {True: " (met)", False: "", None: ""}[line["met"]]
        unit = f" {line['unit']}" if line["unit"] else ""
        pairs = [
            " / ".join(_number(side.get(key)) for side in (ours, peer)) if figure == "rate" else ""
            for key in ("cpu_ms", "peak_mb")
        ]
        lines.append(
            f"| {line['name']} | {_number(ours.get(figure))}{unit} "
            f"| {_number(peer.get(figure))}{unit} | {ratio} | {goal}{met} "
            f"| {pairs[0]} | {pairs[1]} |"
        )
    return "\n".join(lines)


def by_process(results):
    """Return the processor time of each daemon of smx as Markdown."""
    rows = [
        (line["name"], line["servers"]["smx"]["cpu_by_process_ms"])
        for line in results["rows"]
        if line["figure"] == "rate" and "smx" in line["servers"]
    ]
    names = ("smtps", "qmgr", "smtpc", "smar")
    lines = [f"| ms CPU a message | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    for title, figures in rows:
        # a process's title has its arguments behind its name
        cells = (_number(figures.get(name, 0.0)) for name in names)
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def heading(results):
    """Return the sentence above the table."""
    syncs = ", ".join(f"{name} {count:g}" for name, count in results["syncs_per_message"].items())
    return (
        f"{results['date']}, {results['machine']}; {results['file_system']}; medians of "
        f"{results['runs']} runs in turn; syncs a message, one client: {syncs or 'not counted'}."
    )


def replace(text, results):
    """Return a document with the figures between its two marks replaced.

    Raises:
        ValueError: the document has no such place.
    """
    head, mark, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not mark or not end:
        raise ValueError(f"the document has no lines {BEGIN} and {END}")
    parts = (BEGIN, heading(results), table(results), by_process(results), END)
    return head + "\n\n".join(parts) + tail
