"""What the services do, as text for ``mcp.sh status``.

Kind: core.

mcp takes no requests: it has no socket for them and reads nothing. Instead it writes this text
beside its pid file whenever something changes.
Source: SPEC rows X153, X156, X157.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from mcp.copies import Copy, Phase

_HEAD = ("SERVICE", "STATE", "PID", "SINCE", "DIED", "REMARK")
_MAX_REMARK = 200


def status_text(copies: Sequence[Copy], now_s: float, wall_s: float) -> str:
    """Return a table, a line for each copy of each service.

    Args:
        copies: of the supervisor.
        now_s: monotonic time.
        wall_s: the same moment on the clock, seconds since 1970.
    """
    rows = [_HEAD, *(_row(copy, wall_s - now_s) for copy in copies)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD) - 1)]
    return "".join(
        " ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[-1]])
        + "\n"
        for row in rows
    )


def _row(copy: Copy, shift_s: float) -> tuple[str, ...]:
    since = _clock(copy.since_s + shift_s) if copy.pid else "-"
    pid = str(copy.pid) if copy.pid else "-"
    return str(copy.slot), _state(copy), pid, since, str(copy.ends), _remark(copy, shift_s)


def _state(copy: Copy) -> str:
    if copy.given_up:
        return "given-up"
    if copy.phase is Phase.WAITING and copy.ends:
        return "restarting"
    return "stopped" if copy.phase is Phase.OFF else copy.phase.value


def _remark(copy: Copy, shift_s: float) -> str:
    # What the kernel says of a program is no stranger's text, but it may be long.
    why = "".join(c if c.isprintable() else "?" for c in copy.last_end[:_MAX_REMARK])
    if copy.given_up:
        return f"{why}; a restart is useless: read the log, mend it, then mcp.sh restart"
    if copy.phase is Phase.WAITING and copy.leaders:
        return "waits for " + ", ".join(sorted(str(slot) for slot in copy.leaders))
    if copy.phase is Phase.WAITING and copy.ends:
        return f"{why}; next start at {_clock(copy.due_s + shift_s)}"
    return f"last end: {why}" if why else "-"


def _clock(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
