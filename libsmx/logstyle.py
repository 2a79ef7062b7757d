"""The styles of a log line besides ``key=value``: JSON, the journal's fields, Postfix's words.

Kind: core.

JSON: an object a line, whose keys are those of the event. Journal: the same values as fields
``SMX_<KEY>`` beside MESSAGE. Postfix: the lines that tools for Postfix's logs know (pflogsumm
with ``--syslog-name=smx``): ``client=``, ``from=<>, size=``, ``to=<>, relay=, delay=, dsn=,
status=``, ``reject:``; every other event is written as name and fields, with the word warning,
fatal or panic before it where its level asks for it.
No text of a stranger can begin a line, end a pair of angle brackets or move a cursor: what is
not printable is written as an escape (JSON, journal) or as a question mark (Postfix).
Source: SPEC rows X114-X119; pflogsumm(1); systemd.journal-fields(7).
"""

import json
from collections.abc import Callable, Iterator, Mapping

from libsmx.logtab import Event

Value = str | int | float | bytes | None
Fields = Mapping[str, Value]

TEXT, JSON, POSTFIX = "text", "json", "postfix"
STYLES = (TEXT, JSON, POSTFIX)

MAX_VALUE = 1000
"""Characters of a value in a line; what is longer is cut."""

PROGRAMS = {"smtps": "smtpd", "smtpc": "smtp", "mcp": "master"}
"""Name of a daemon -> what Postfix calls such a program; the others keep their names."""


def postfix_ident(name: str) -> str:
    """Return the name in front of a daemon's lines in the style of Postfix: ``smx/smtpd``."""
    return f"smx/{PROGRAMS.get(name, name)}"


def plain(value: Value) -> str:
    """Return a value as text, at most MAX_VALUE characters."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    elif isinstance(value, float):
        value = f"{value:.3f}"
    text = str(value)
    return text if len(text) <= MAX_VALUE else text[:MAX_VALUE] + "..."


def json_object(event: Event, fields: Fields) -> str:
    """Return an event as a JSON object; numbers stay numbers."""
    row: dict[str, object] = {"event": event.name, "level": event.level}
    for key in event.fields:
        value = fields[key]
        if isinstance(value, float):
            value = round(value, 3)
        # An event's own key must not hide the two above.
        name = f"_{key}" if key in row else key
        row[name] = value if value is None or isinstance(value, int | float) else plain(value)
    return json.dumps(row)


def journal_fields(event: Event, fields: Fields) -> Iterator[tuple[str, str]]:
    """Yield the fields of an event for the journal; names are upper case (no stranger's)."""
    yield "SMX_EVENT", event.name
    for key in event.fields:
        yield f"SMX_{key.upper()}", plain(fields[key])


Line = tuple[str, str]
"""Program, "" for one's own, and text."""


def postfix_lines(event: Event, fields: Fields) -> list[Line]:
    """Return an event as lines that tools for Postfix's logs read."""
    make = _MAKERS.get(event.name)
    if make is not None:
        made = make(fields)
        if made:
            return made
    word = "panic: " if event.level <= 1 else "fatal: " if event.level == 2 else ""
    if event.level in (3, 4):
        word = "warning: "
    told = [event.name, *(f"{key}={_safe(fields[key])}" for key in event.fields)]
    return [("", word + " ".join(told))]


def _safe(value: Value) -> str:
    return "".join(char if char.isprintable() else "?" for char in plain(value))


def _address(value: Value) -> str:
    """Return a mail address for a pair of angle brackets, without those it came with."""
    text = _safe(value)
    if text.startswith("<") and text.endswith(">"):
        text = text[1:-1]
    return text.replace("<", "?").replace(">", "?")


def _client(fields: Fields) -> str:
    name = _address(fields.get("client_name") or "unknown").replace("[", "?").replace(" ", "?")
    return f"{name}[{_address(fields.get('client', ''))}]"


def _accepted(fields: Fields) -> list[Line]:
    if "ss_ta" not in fields:
        return []
    ta, extra = _safe(fields["ss_ta"]), ""
    if login := fields.get("login"):
        extra = f", sasl_username={_address(login)}"
    size, count = _safe(fields.get("size", 0)), _safe(fields.get("rcpts", 1))
    sender = _address(fields.get("mail", ""))
    return [
        ("", f"{ta}: client={_client(fields)}{extra}"),
        ("qmgr", f"{ta}: from=<{sender}>, size={size}, nrcpt={count} (queue active)"),
    ]


def _rejected(stage: str) -> Callable[[Fields], list[Line]]:
    def make(fields: Fields) -> list[Line]:
        if "ss_sess" not in fields:  # smar has events of the same names
            return []
        ta = _safe(fields["ss_ta"]) if "ss_ta" in fields else "NOQUEUE"
        parts = [f"{_safe(fields.get('stat', ''))}; from=<{_address(fields.get('mail', ''))}>"]
        if "rcpt" in fields:
            parts.append(f"to=<{_address(fields['rcpt'])}>")
        parts.append("proto=ESMTP")
        return [("", f"{ta}: reject: {stage} from {_client(fields)}: {' '.join(parts)}")]

    return make


def _result(status: str) -> Callable[[Fields], list[Line]]:
    def make(fields: Fields) -> list[Line]:
        address = _address(fields.get("address", ""))
        host = _address(fields.get("host", "")) or "none"
        relay = f"{host}[{address}]".replace(",", "?") if address else host.replace(",", "?")
        text = _safe(fields.get("text", ""))
        code = _safe(fields.get("code", ""))
        if not text.startswith(code):
            text = f"{code} {text}"
        delay = fields.get("delay", 0)
        took = f"{delay:.2f}" if isinstance(delay, float) else _safe(delay)
        ta, rcpt = _safe(fields.get("ta", "")), _address(fields.get("rcpt", ""))
        told = f"dsn={_safe(fields.get('status', ''))}, status={status} ({text})"
        return [("", f"{ta}: to=<{rcpt}>, relay={relay}, delay={took}, {told}")]

    return make


def _connected(word: str) -> Callable[[Fields], list[Line]]:
    return lambda fields: [("", f"{word} from {_client(fields)}")]


def _notified(fields: Fields) -> list[Line]:
    kind = "delivery status" if fields.get("action") != "failed" else "non-delivery"
    ta, about = _safe(fields.get("ta", "")), _safe(fields.get("about", ""))
    return [("bounce", f"{about}: sender {kind} notification: {ta}")]


_MAKERS: Mapping[str, Callable[[Fields], list[Line]]] = {
    "session_opened": _connected("connect"),
    "session_closed": _connected("disconnect"),
    "session_refused": _rejected("CONNECT"),
    "mail_refused": _rejected("MAIL"),
    "rcpt_refused": _rejected("RCPT"),
    "ta_refused": _rejected("END-OF-MESSAGE"),
    "ta_accepted": _accepted,
    "rcpt_delivered": _result("sent"),
    "rcpt_deferred": _result("deferred"),
    "rcpt_failed": _result("bounced"),
    "bounce_queued": _notified,
}
