"""The picture that ``qmgrctl top`` shows.

Kind: core.

Two looks at the system, some seconds apart, give the rates between them.
"""

from collections.abc import Iterator, Sequence

import attrs

from libsmx.log import quote
from libsmx.wire_control import DestState, StatRow, StatusAnswer
from qmgr.ctltext import show_age
from qmgr.statstext import sums

_LEVELS = (
    ("incoming", "iqdb_entries"),
    ("active", "aq_rcpts"),
    ("deferred", "defedb_rcpts"),
    ("clients", "sessions"),
    ("deliveries", "delivery_sessions_busy"),
)
_RATES = (
    ("accepted", "smtps", "messages_accepted"),
    ("delivered", "smtpc", "recipients_delivered"),
    ("deferred", "smtpc", "attempts_deferred"),
    ("failed", "smtpc", "recipients_failed"),
    ("refused", "smtps", "recipients_refused"),
)
_MIN_S = 0.001


@attrs.frozen
class Look:
    """The system at one moment.

    Attributes:
        at_s: monotonic time.
        status: fill levels.
        rows: numbers of all processes.
        dests: destinations in memory.
    """

    at_s: float
    status: StatusAnswer
    rows: Sequence[StatRow]
    dests: Sequence[DestState]


def picture(now: Look, before: Look | None, width: int, height: int) -> list[str]:
    """Return the lines of a picture.

    Args:
        now: what is shown.
        before: an earlier look, for rates; None at first.
        width: columns; longer lines are cut.
        height: lines; 0 for no bound.
    """
    lines = list(_lines(now, before))
    lines = [line[:width] if width else line for line in lines]
    return lines[:height] if height else lines


def _lines(now: Look, before: Look | None) -> Iterator[str]:
    figures = {figure.name: figure for figure in now.status.figures}
    reason = f" ({quote(now.status.reason)})" if now.status.reason else ""
    oldest = figures["oldest_message"].value if "oldest_message" in figures else 0
    yield f"smx: {now.status.state}{reason}, oldest message {show_age(oldest)}"
    shown = []
    for title, name in _LEVELS:
        if name in figures:
            limit = f"/{figures[name].limit}" if figures[name].limit else ""
            shown.append(f"{title} {figures[name].value}{limit}")
    yield "  ".join(shown)
    yield "per second: " + "  ".join(
        f"{title} {_rate(now, before, daemon, name)}" for title, daemon, name in _RATES
    )
    yield ""
    yield f"{'PROCESS':<12} {'CPU%':>6} {'MEMORY':>9} {'FILES':>6} {'ALARMS':>7} {'UP':>8}"
    yield from _processes(now, before)
    yield ""
    yield f"{'DESTINATION':<40} {'WAITING':>8} {'DEFERRED':>8} {'SESSIONS':>8}"
    for dest in sorted(now.dests, key=lambda d: (-d.waiting - d.deferred, d.dest)):
        if dest.dest:
            note = f"  {quote(dest.suspended)}" if dest.suspended else _trouble(dest)
            yield (
                f"{quote(dest.dest):<40} {dest.waiting:>8} {dest.deferred:>8}"
                f" {dest.sessions:>8}{note}"
            )


def _trouble(dest: DestState) -> str:
    errors = [host.error for host in dest.hosts if host.error]
    return f"  {quote(errors[0])}" if errors else ""


def _value(look: Look, daemon: str, name: str) -> int:
    return sum(r.value for r in sums(look.rows) if (r.daemon, r.name) == (daemon, name))


def _rate(now: Look, before: Look | None, daemon: str, name: str) -> str:
    if before is None:
        return "-"
    grown = max(_value(now, daemon, name) - _value(before, daemon, name), 0)
    return f"{grown / max(now.at_s - before.at_s, _MIN_S):.1f}"


def _processes(now: Look, before: Look | None) -> Iterator[str]:
    values: dict[tuple[str, str], dict[str, int]] = {}
    for row in now.rows:
        values.setdefault((row.daemon, row.process), {})[row.name] = row.value
    old: dict[tuple[str, str], int] = {}
    if before is not None:
        old = {(r.daemon, r.process): r.value for r in before.rows if r.name == "cpu"}
    for (daemon, process), found in values.items():
        if "uptime" not in found:  # what ended processes have counted
            continue
        share = "-"
        if before is not None and (daemon, process) in old:
            used_s = max(found.get("cpu", 0) - old[daemon, process], 0) / 1000
            share = f"{100 * used_s / max(now.at_s - before.at_s, _MIN_S):.1f}"
        yield (
            f"{daemon + '/' + process:<12} {share:>6} {found.get('memory', 0) // 1024:>7}MB"
            f" {found.get('open_files', 0):>6} {found.get('alarms', 0):>7}"
            f" {show_age(found['uptime']):>8}"
        )
