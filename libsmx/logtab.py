"""Log events as rows: name, level, meaning, fields.

Kind: table.

Levels follow sendmail's scale: 0 to 4 an operator must act, 5 to 8 an operator may want to
know, 9 the normal record of the work done, 10 to 15 more and more detail. Every package keeps
its own rows in ``events.py``; the rows here are those of the shared parts.
Source: SPEC rows X119, X480.
"""

import sys

import attrs


@attrs.frozen
class Event:
    """One kind of log line."""

    name: str
    level: int
    meaning: str
    fields: tuple[str, ...]


EVENTS: dict[tuple[str, str], Event] = {}
"""Every event that was declared, by module and name; two daemons may use the same name."""

MAX_LEVEL = 15


def event(name: str, level: int, meaning: str, *fields: str) -> Event:
    """Declare an event.

    Args:
        name: unique in its module, lower case with underscores.
        level: 0 to 15.
        meaning: one sentence for the manual.
        fields: keys in the order in which they are printed.
    """
    module = str(sys._getframe(1).f_globals["__name__"])  # noqa: SLF001 - as namedtuple does
    if (module, name) in EVENTS or not 0 <= level <= MAX_LEVEL:
        raise ValueError(f"event {name}: declared twice, or level {level} out of range")
    row = EVENTS[module, name] = Event(name, level, meaning, fields)
    return row


STARTED = event("started", 5, "A process is ready.", "version", "pid")
STOPPING = event("stopping", 5, "A process was asked to stop and finishes its work.", "reason")
STOPPED = event("stopped", 5, "A process ends.", "status")
BUG = event("bug", 1, "A fault in smx itself; the process ends and is restarted.", "error", "trace")
CONFIG_WARNING = event("config_warning", 4, "An option cannot work as written.", "text")
CONFIG_UNREAD = event(
    "config_unread", 3, "At a reload smx.conf had mistakes; everything stays as it is.", "error"
)
CONFIG_TAKEN = event(
    "config_taken", 5, "Options of a changed smx.conf hold from now on.", "options"
)
RESTART_NEEDED = event(
    "restart_needed", 4, "These options have changed in smx.conf; they hold after a restart.",
    "options",
)  # fmt: skip
START_FAILED = event("start_failed", 2, "A process cannot start.", "error")
CHANNEL_OPENED = event(
    "channel_opened", 10, "A sibling process connected.", "peer", "peer_id", "uid", "pid"
)
CHANNEL_CLOSED = event(
    "channel_closed", 9, "The connection to a sibling process ended.", "peer", "peer_id", "reason"
)
PEER_REFUSED = event(
    "peer_refused", 3, "A process connected that must not, or said what it must not.",
    "path", "uid", "pid", "reason",
)  # fmt: skip
LINK_LOST = event(
    "link_lost", 6, "The connection to a server process was lost.", "server", "reason"
)
LINK_OPENED = event("link_opened", 8, "The connection to a server process stands.", "server")
CDB_FAILED = event("cdb_failed", 2, "A content file could not be written.", "ta", "error")
TLS_FILES_READ = event(
    "tls_files_read", 8, "Certificates were read, at the start or because they changed.",
    "cert", "ca",
)  # fmt: skip
TLS_FILES_BAD = event(
    "tls_files_bad", 2, "Changed certificates cannot be used; those read before stay in use.",
    "error",
)  # fmt: skip
