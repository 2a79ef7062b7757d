"""The log: one event a line, to a file, to stdout or to syslog.

Kind: shell.

A line is ``<time> <name>[<pid>]: <event> key=value ...``; syslog adds its own time and name.
Other styles, and the journal, stand in logstyle.py and logopen.py.
Values that hold anything but plain printable characters are quoted with escapes, so that no
text of a stranger can begin a line, forge a key or move a terminal's cursor. Lines are
collected and written at most a moment later by whoever owns the loop (``flush``), because a
write per line costs more than the line.
Source: SPEC rows X114 to X119.
"""

import json
import os
import re
import socket
import syslog
import time
from typing import Protocol

from libsmx.errors import StartError
from libsmx.logtab import Event
from libsmx.tally import Tally

Value = str | int | float | bytes | None

_PLAIN = re.compile(r"[!#-<>-\[\]-~]+")
_MAX_VALUE = 1000
_MAX_PENDING = 256 * 1024


def quote(value: Value) -> str:
    """Return a value as it stands in a line; property: no blank, control or quote gets out."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    elif not isinstance(value, str):
        return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
    if len(value) <= _MAX_VALUE:
        if _PLAIN.fullmatch(value):
            return value
        if value.isprintable() and '"' not in value and "\\" not in value:
            return f'"{value}"'
    out = []
    for char in value[:_MAX_VALUE]:
        if char in '"\\':
            out.append("\\" + char)
        elif char.isprintable():
            out.append(char)
        else:
            code = ord(char)
            out.append(f"\\x{code:02x}" if code < 256 else f"\\u{{{code:x}}}")
    tail = "..." if len(value) > _MAX_VALUE else ""
    return '"' + "".join(out) + tail + '"'


def format_event(event: Event, fields: dict[str, Value]) -> str:
    """Return the text of one event without time and name.

    Raises:
        ValueError: the fields are not those that the event declares.
    """
    if len(fields) != len(event.fields):
        raise ValueError(f"event {event.name}: fields {sorted(fields)} given, not {event.fields}")
    try:
        parts = [f"{key}={quote(fields[key])}" for key in event.fields]
    except KeyError as error:
        raise ValueError(f"event {event.name}: field {error} is missing") from error
    return " ".join([event.name, *parts])


class Sink(Protocol):
    """Where lines go."""

    def write(self, level: int, text: str, ident: str = "") -> None:
        """Take one line; ``ident`` is a name other than the sink's own."""

    def flush(self) -> None:
        """Hand over what is pending."""

    def reopen(self) -> None:
        """Open the file again (after rotation)."""


class FileSink:
    """Appends lines to a file; ``-`` is standard output.

    Args:
        path: opened with mode 0640, created if missing.
        ident: name in front of each line.
        style: see logstyle.py; of JSON texts the sink makes one object with time, name and pid.
    """

    def __init__(self, path: str, ident: str, style: str = "text") -> None:
        self._path = path
        self._style = style
        self._skip = 1 if style == "json" else 0  # the brace: the object begins with the time
        self._open_line = '{"time": "' if style == "json" else ""
        self._own = self._head(ident)
        self._heads: dict[str, str] = {}
        self._pending: list[bytes] = []
        self._size = 0
        self._second = 0
        self._stamp = ""
        self._fd = self._open()

    def _head(self, ident: str) -> str:
        """Return what stands between the time and the text."""
        if self._style == "json":
            return f'Z", "name": {json.dumps(ident)}, "pid": {os.getpid()}, '
        host = f" {socket.gethostname()}" if self._style == "postfix" else ""
        return f"Z{host} {ident}[{os.getpid()}]: "

    def _open(self) -> int:
        if self._path == "-":
            return os.dup(1)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(self._path, flags, 0o640)
        except OSError as error:
            raise StartError(
                f"log file {self._path}: {error.strerror}; check log.file and the directory's owner"
            ) from error

    def write(self, level: int, text: str, ident: str = "") -> None:
        """Take one line; it is written at the next flush or when much is pending."""
        head = self._own
        if ident:
            head = self._heads.get(ident) or self._heads.setdefault(ident, self._head(ident))
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second = second
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        at = f"{self._stamp}.{int((now - second) * 1000):03d}"
        line = f"{self._open_line}{at}{head}{text[self._skip :]}\n"
        data = line.encode("utf-8", "backslashreplace")
        self._pending.append(data)
        self._size += len(data)
        if self._size > _MAX_PENDING:
            self.flush()

    def flush(self) -> None:
        """Write what is pending; a full disk loses log lines, never mail."""
        if self._pending:
            data, self._pending, self._size = b"".join(self._pending), [], 0
            try:
                while data:
                    data = data[os.write(self._fd, data) :]
            except OSError:
                return

    def reopen(self) -> None:
        """Open the file under its name again."""
        self.flush()
        if self._path != "-":
            try:
                fresh = self._open()
            except StartError:
                return
            os.close(self._fd)
            self._fd = fresh


_SYSLOG_LEVELS = (
    (1, syslog.LOG_CRIT),
    (3, syslog.LOG_ERR),
    (4, syslog.LOG_WARNING),
    (6, syslog.LOG_NOTICE),
    (9, syslog.LOG_INFO),
)


def priority_of(level: int) -> int:
    """Return the syslog priority of a log level."""
    fits = (priority for top, priority in _SYSLOG_LEVELS if level <= top)
    return next(fits, syslog.LOG_DEBUG)


class SyslogSink:
    """Sends lines to syslog(3).

    Args:
        ident: program name in syslog.
        facility: ``mail``, ``daemon``, ``local0`` ...
        options: names of openlog(3) without ``LOG_``, any case.
    """

    def __init__(self, ident: str, facility: str, options: frozenset[str]) -> None:
        number = getattr(syslog, f"LOG_{facility.upper()}", None)
        if number is None:
            raise StartError(f"log.facility: syslog has no facility named {facility}")
        flags = 0
        for name in options:
            flags |= getattr(syslog, f"LOG_{name.upper()}", 0)
        self._ident = self._current = ident
        self._flags, self._facility = flags, number
        syslog.openlog(ident, flags, number)

    def write(self, level: int, text: str, ident: str = "") -> None:
        """Send one line."""
        wanted = ident or self._ident
        if wanted != self._current:
            self._current = wanted
            syslog.openlog(wanted, self._flags, self._facility)
        syslog.syslog(priority_of(level), text)

    def flush(self) -> None:
        """Nothing is pending."""

    def reopen(self) -> None:
        """Nothing to open."""


class Log:
    """Filters events by level and writes them.

    Args:
        sink: where lines go.
        level: events above it are dropped.

    Attributes:
        tally: counts every event, also those that are dropped.
    """

    tally: Tally | None = None

    def __init__(self, sink: Sink, level: int) -> None:
        self._sink = sink
        self.level = level

    def emit(self, event: Event, **fields: Value) -> None:
        """Write one event; the fields are exactly those that the event declares."""
        if self.tally is not None:
            self.tally.add(event, fields)
        if event.level <= self.level:
            self._write(event, fields)

    def _write(self, event: Event, fields: dict[str, Value]) -> None:
        self._sink.write(event.level, format_event(event, fields))

    def flush(self) -> None:
        """Hand pending lines over."""
        self._sink.flush()

    def reopen(self) -> None:
        """Open the log file again (SIGHUP)."""
        self._sink.reopen()


class NullLog(Log):
    """Keeps events in ``records``, for tests; checks the fields of every event."""

    def __init__(self) -> None:
        self.records: list[tuple[Event, dict[str, Value]]] = []
        self.level = 15

    def emit(self, event: Event, **fields: Value) -> None:
        """Keep the event."""
        format_event(event, fields)
        self.records.append((event, fields))

    def flush(self) -> None:
        """Nothing is pending."""

    def reopen(self) -> None:
        """Nothing to open."""
