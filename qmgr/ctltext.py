"""Text of qmgrctl: answers of the queue manager for people.

Kind: core.

What comes from outside is quoted, so that no peer can forge a line.
Source: SPEC row X477.
"""

from libsmx.log import quote
from libsmx.wire_control import (
    DestState,
    HostState,
    QueueEntry,
    RcptDetail,
    ShowAnswer,
    StatusAnswer,
    Suspension,
)

_DAY_S = 86400
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def show_age(seconds: float) -> str:
    """Return a span of time for people: the two largest units."""
    left = max(int(seconds), 0)
    days, left = divmod(left, _DAY_S)
    hours, left = divmod(left, 3600)
    minutes, left = divmod(left, 60)
    if days:
        return f"{days}d{hours}h"
    if hours:
        return f"{hours}h{minutes}m"
    return f"{minutes}m{left}s" if minutes else f"{left}s"


def parse_age(text: str) -> float:
    """Return the seconds of a span such as ``90``, ``5m`` or ``1d12h``.

    Raises:
        ValueError: it is none.
    """
    seconds, number = 0.0, ""
    for char in text.strip():
        if char.isascii() and (char.isdigit() or char == "."):
            number += char
        else:
            seconds += float(number) * _UNITS.get(char, float("nan"))
            number = ""
    seconds += float(number) if number or not text.strip() else 0.0
    if not 0 <= seconds < 1e10:
        raise ValueError(f"{text!r} is no span of time")
    return seconds


def _words(text: str) -> str:
    """Return our own words, which may carry what a remote host said, without quotes around."""
    return quote(f"{text} ")[1:-2]


def _addr(text: str) -> str:
    return quote(text) if text else "<>"


def status_lines(answer: StatusAnswer) -> list[str]:
    """Return the status as text."""
    lines = [f"state: {answer.state}" + (f" ({quote(answer.reason)})" if answer.reason else "")]
    for row in answer.figures:
        limit = f" of {row.limit}" if row.limit else ""
        lines.append(f"{row.name:<24} {row.value:>10}{limit} {row.unit}")
    return lines


def queue_lines(entry: QueueEntry, now_s: float) -> list[str]:
    """Return one transaction of the queue as text."""
    age = show_age(now_s - entry.received_at)
    lines = [f"{entry.ta_id}  age {age}  size {entry.size}  from {_addr(entry.sender)}"]
    for rcpt in entry.rcpts:
        wait_s = rcpt.next_try_at - now_s
        when = f"  next try in {show_age(wait_s)}" if rcpt.next_try_at else ""
        tries = f"  tries {rcpt.tries}" if rcpt.tries else ""
        lines.append(f"    {rcpt.place:<9} {quote(rcpt.address)}{tries}{when}")
        if rcpt.error:
            lines.append(f"              {quote(rcpt.error)}")
    return lines


def _history_lines(rcpt: RcptDetail, now_s: float) -> list[str]:
    lines = []
    for past in rcpt.history:
        remote = f" {quote(past.remote)}" if past.remote else ""
        status = f" {quote(past.status)}" if past.status else ""
        age = show_age(now_s - past.at)
        lines.append(f"        {age} ago:{remote}{status} {quote(past.text)}")
    return lines


def show_lines(answer: ShowAnswer, now_s: float) -> list[str]:
    """Return all about one transaction as text."""
    envelope = answer.envelope
    lines = [
        f"transaction  {envelope.ta_id}",
        f"content      {envelope.cdb_id}, {envelope.size} bytes",
        f"from         {_addr(envelope.sender)}",
        f"received     {show_age(now_s - envelope.received_at)} ago"
        + (f" from {quote(envelope.client)}" if envelope.client else ""),
    ]
    if envelope.session:
        lines.append(f"session      {quote(envelope.session)}")
    if envelope.dsn is not None:
        lines.append(f"report on    {envelope.dsn.ta_id}")
    lines.append(f"recipients   {answer.total}, of these open:")
    for rcpt in answer.rcpts:
        dest = f"  to {quote(rcpt.dest)}" if rcpt.dest else ""
        lines.append(f"    {rcpt.place:<10} {quote(rcpt.address)}{dest}  tries {rcpt.tries}")
        lines += _history_lines(rcpt, now_s)
        lines.append(f"        next: {_words(rcpt.next)}")
    if answer.left_out:
        lines.append(f"    and {answer.left_out} more")
    return lines


def explain_lines(answer: ShowAnswer) -> list[str]:
    """Return why the recipients of a transaction have not gone, as text."""
    lines = []
    for rcpt in answer.rcpts:
        lines.append(f"{answer.envelope.ta_id}  {rcpt.place:<10} {quote(rcpt.address)}")
        lines += [f"    because {_words(text)}" for text in rcpt.why]
        lines.append(f"    next: {_words(rcpt.next)}")
    return lines


def _host_line(host: HostState, now_s: float) -> str:
    name = quote(host.host) + (f" [{host.address}]" if host.address else "") + f":{host.port}"
    line = f"    {name}  open {host.open} of {host.window}"
    if host.maximum:
        line += f" (at most {host.maximum})"
    if host.blocked_until > now_s:
        line += f"  left alone for {show_age(host.blocked_until - now_s)}"
    if host.error:
        line += f"  last error {quote(host.error)}"
    return line + (f"  {quote(host.suspended)}" if host.suspended else "")


def dest_lines(dest: DestState, now_s: float) -> list[str]:
    """Return one destination as text."""
    lines = []
    if dest.dest:
        lines.append(
            f"{quote(dest.dest)}  waiting {dest.waiting}  deferred {dest.deferred}"
            f"  sessions {dest.sessions} ({dest.idle} idle)"
            + (f"  {quote(dest.suspended)}" if dest.suspended else "")
        )
    elif dest.hosts:
        lines.append("other addresses")
    return lines + [_host_line(host, now_s) for host in dest.hosts]


def suspension_line(one: Suspension, now_s: float) -> str:
    """Return one suspension as text."""
    until = f"  for {show_age(one.until - now_s)} more" if one.until else ""
    reason = f"  {quote(one.reason)}" if one.reason else ""
    return (
        f"{quote(one.name)}  since {show_age(now_s - one.since)}  by uid {one.uid}{until}{reason}"
    )
