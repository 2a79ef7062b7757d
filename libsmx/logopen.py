"""Opening the log that a section asks for, in the style that smx.conf asks for.

Kind: shell.

Writes: the log file, syslog, or datagrams to the journal of systemd in its own protocol, which
keeps each value as a field. The journal is never waited for: what it does not take at once is
counted, and the count is its next line.
Source: SPEC rows X062, X114-X119; systemd.journal-fields(7),
https://systemd.io/JOURNAL_NATIVE_PROTOCOL.
"""

import os
import socket
import syslog
from collections.abc import Callable

from libsmx.log import FileSink, Log, Sink, SyslogSink, Value, format_event, priority_of
from libsmx.logstyle import (
    JSON,
    POSTFIX,
    journal_fields,
    json_object,
    postfix_ident,
    postfix_lines,
)
from libsmx.logtab import Event
from libsmx.opt_shared import LogConf

JOURNAL_SOCKET = "/run/systemd/journal/socket"


class JsonLog(Log):
    """Writes each event as a JSON object."""

    def _write(self, event: Event, fields: dict[str, Value]) -> None:
        _check(event, fields)
        self._sink.write(event.level, json_object(event, fields))


class PostfixLog(Log):
    """Writes events as Postfix would."""

    def _write(self, event: Event, fields: dict[str, Value]) -> None:
        _check(event, fields)
        for program, text in postfix_lines(event, fields):
            self._sink.write(event.level, text, postfix_ident(program) if program else "")


class JournalLog(Log):
    """Writes events to the journal, with their fields.

    Args:
        sink: the journal.
        level: events above it are dropped.
        render: makes MESSAGE of an event.
    """

    def __init__(
        self, sink: "JournalSink", level: int, render: Callable[[Event, dict[str, Value]], str]
    ) -> None:
        super().__init__(sink, level)
        self._journal = sink
        self._render = render

    def _write(self, event: Event, fields: dict[str, Value]) -> None:
        _check(event, fields)
        self._journal.send(
            event.level, self._render(event, fields), dict(journal_fields(event, fields))
        )


class JournalSink:
    """Sends lines to the journal.

    Args:
        ident: SYSLOG_IDENTIFIER of the lines.
        facility: as of syslog.
        path: of the journal's socket.
    """

    def __init__(self, ident: str, facility: str, path: str = JOURNAL_SOCKET) -> None:
        self._ident = ident
        number = getattr(syslog, f"LOG_{facility.upper()}", syslog.LOG_MAIL) >> 3
        self._common = {"SYSLOG_FACILITY": str(number), "SYSLOG_PID": str(os.getpid())}
        self._path = path
        self._lost = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)

    def send(self, level: int, text: str, fields: dict[str, str], ident: str = "") -> None:
        """Send one line with its fields."""
        if self._lost:
            lost, self._lost = self._lost, 0
            self.send(4, f"the journal did not take {lost} lines before this one", {})
            if self._lost:
                self._lost += lost
                return
        head = {"MESSAGE": text, "PRIORITY": str(priority_of(level))}
        head["SYSLOG_IDENTIFIER"] = ident or self._ident
        data = b"".join(
            _field(name, value) for name, value in (head | self._common | fields).items()
        )
        try:
            self._socket.sendto(data, self._path)
        except OSError:
            self._lost += 1

    def write(self, level: int, text: str, ident: str = "") -> None:
        """Take one line without fields."""
        self.send(level, text, {}, ident)

    def flush(self) -> None:
        """Nothing is pending."""

    def reopen(self) -> None:
        """Nothing to open: the journal is found by name for every line."""

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def _field(name: str, value: str) -> bytes:
    """Return a field; one that holds a line end says its length, so it cannot forge another."""
    data = value.encode("utf-8", "backslashreplace")
    if b"\n" in data:
        return name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"
    return name.encode() + b"=" + data + b"\n"


def _check(event: Event, fields: dict[str, Value]) -> None:
    """Raise ValueError unless the fields are those that the event declares."""
    if len(fields) != len(event.fields) or any(key not in fields for key in event.fields):
        raise ValueError(f"event {event.name}: fields {sorted(fields)} given, not {event.fields}")


def ident_of(name: str, style: str) -> str:
    """Return the name in front of a daemon's lines where the section sets none."""
    return postfix_ident(name) if style == POSTFIX else name


def styled_log(sink: Sink, level: int, style: str) -> Log:
    """Return a log of that style."""
    kinds: dict[str, type[Log]] = {JSON: JsonLog, POSTFIX: PostfixLog}
    return kinds.get(style, Log)(sink, level)


def open_log(
    conf: LogConf, level: int, name: str, style: str = "text", journal: str = JOURNAL_SOCKET
) -> Log:
    """Return the log that a section asks for.

    Args:
        conf: the section's ``log``.
        level: events above it are dropped.
        name: of the daemon.
        style: ``log_format``.
        journal: path of the journal's socket.

    Raises:
        StartError: the file cannot be opened.
    """
    ident = conf.ident or ident_of(name, style)
    if conf.file:
        return styled_log(FileSink(conf.file, ident, style), level, style)
    if conf.journal and os.path.exists(journal):
        sink = JournalSink(ident, conf.facility, journal)
        if style == POSTFIX:
            return styled_log(sink, level, style)
        return JournalLog(sink, level, json_object if style == JSON else format_event)
    return styled_log(SyslogSink(ident, conf.facility, conf.options), level, style)
