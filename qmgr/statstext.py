"""``qmgrctl stats`` as text: one line a number, summed over the processes of a daemon.

Kind: core.
"""

from collections.abc import Iterable, Iterator, Sequence

from libsmx.stattab import BY_NAME, GAUGE
from libsmx.wire_control import StatRow


def sums(rows: Iterable[StatRow]) -> list[StatRow]:
    """Return one row for each number of each daemon; the process is then ``all``."""
    total: dict[tuple[str, str], int] = {}
    for row in rows:
        key = (row.daemon, row.name)
        total[key] = total.get(key, 0) + row.value
    return [
        StatRow(daemon=daemon, process="all", name=name, value=value)
        for (daemon, name), value in total.items()
    ]


def described(row: StatRow) -> dict[str, object]:
    """Return a row with kind, unit and meaning from the table."""
    stat = BY_NAME.get((row.daemon, row.name))
    return {
        "daemon": row.daemon,
        "process": row.process,
        "name": row.name,
        "value": row.value,
        "unit": stat.unit if stat else "",
        "kind": stat.kind if stat else GAUGE,
        "meaning": stat.meaning if stat else "",
    }


def stats_lines(rows: Sequence[StatRow]) -> Iterator[str]:
    """Yield a line for each row, under a heading for each process."""
    where = ("", "")
    for row in rows:
        if (row.daemon, row.process) != where:
            where = (row.daemon, row.process)
            yield row.daemon if row.process == "all" else f"{row.daemon} {row.process}"
        facts = described(row)
        yield f"  {row.name:<24} {row.value:>14} {facts['unit']!s:<13} {facts['meaning']}".rstrip()
