"""The numbers that the daemons keep: name, kind, unit, meaning.

Kind: table.

A counter only grows while its process lives; a gauge is a value of the moment. Most counters
count a log event, whether its line is written or not, or add up one of its fields. The figures
of the queue manager are made where they are known (qmgr/control.py, qmgr/desk.py); their
meaning stands here. ``qmgrctl stats`` shows all of it; a service that offers the numbers to a
monitoring system reads the same table.
Source: SPEC row X477.
"""

import attrs

COUNTER, GAUGE = "counter", "gauge"


@attrs.frozen
class Stat:
    """One number.

    Attributes:
        name: unique in its daemon, lower case.
        unit: what is counted, plural.
        meaning: one sentence.
        kind: COUNTER or GAUGE.
        event: log event that is counted, "" for numbers made elsewhere.
        field: field of the event that is added up; "" counts the event itself.
    """

    name: str
    unit: str
    meaning: str
    kind: str = COUNTER
    event: str = ""
    field: str = ""


def _of(event: str, name: str, unit: str, meaning: str, field: str = "") -> Stat:
    return Stat(name, unit, meaning, COUNTER, event, field)


ALARMS = "alarms"
"""Counts events of level 0 to 4, whatever they are."""

EVERY: tuple[Stat, ...] = (
    Stat(ALARMS, "lines", "Log events of level 0 to 4, which an operator should read."),
    Stat("uptime", "seconds", "Time since the process was started.", GAUGE),
    Stat("cpu", "milliseconds", "Processor time that the process has used."),
    Stat("memory", "KB", "Memory that the process occupies (resident).", GAUGE),
    Stat("open_files", "descriptors", "Files and connections that the process has open.", GAUGE),
)
"""Numbers of each process."""

_SMTPS = (
    _of("session_opened", "sessions_opened", "sessions", "Clients that connected."),
    _of("session_closed", "sessions_closed", "sessions", "Sessions that ended."),
    _of("session_refused", "sessions_refused", "sessions", "Clients that were turned away."),
    _of("ta_accepted", "messages_accepted", "messages", "Messages that were answered with 250."),
    _of("ta_accepted", "recipients_accepted", "recipients", "Recipients of those.", "rcpts"),
    _of("ta_accepted", "bytes_accepted", "bytes", "Size of those messages.", "size"),
    _of("ta_refused", "messages_refused", "messages", "Messages refused after their data began."),
    _of("mail_refused", "senders_refused", "commands", "Senders that were refused."),
    _of("rcpt_refused", "recipients_refused", "commands", "Recipients that were refused."),
    _of("command_refused", "commands_refused", "commands", "Commands with an error reply."),
    _of("commit_unknown", "commits_unknown", "messages", "Messages of which qmgr told no result."),
)
_SMTPC = (
    _of("rcpt_delivered", "recipients_delivered", "recipients", "Taken by the next hop."),
    _of("rcpt_deferred", "attempts_deferred", "attempts", "Attempts that failed for now."),
    _of("rcpt_failed", "recipients_failed", "recipients", "Failed for good."),
    _of("da_session_opened", "sessions_opened", "sessions", "Delivery sessions that stood."),
    _of("da_session_closed", "sessions_closed", "sessions", "Delivery sessions that ended."),
    _of("connect_failed", "connects_failed", "attempts", "Addresses that could not be used."),
    _of("tls_started", "tls_sessions", "sessions", "Delivery sessions under TLS."),
    _of("tls_started", "tls_resumed", "sessions", "Those of them that resumed another.", "resumed"),
    _of("tls_failed", "tls_failed", "attempts", "TLS handshakes that failed."),
    _of("outcome_unknown", "outcomes_unknown", "transactions",
        "Connections that broke before the last reply: the mail may arrive twice."),
)  # fmt: skip
_SMAR = (
    _of("dns_failed", "lookups_failed", "lookups", "DNS lookups that failed for now."),
    _of("name_server_silent", "servers_silent", "times", "A name server stopped answering."),
    _of("sender_refused", "senders_refused", "questions", "Senders that were refused."),
    _of("rcpt_refused", "recipients_refused", "questions", "Recipients that were refused."),
    _of("no_route", "routes_missing", "recipients", "Recipients that have no route."),
    _of("resolver_overloaded", "overloads", "times", "Requests were put off."),
)
_QMGR = (
    Stat("sessions", "sessions", "Sessions of clients that are open now.", GAUGE),
    Stat("reserved_tas", "transactions", "Transactions that have room but are not committed.",
         GAUGE),
    Stat("iqdb_entries", "entries", "Entries of the queue of incoming mail.", GAUGE),
    Stat("iqdb_waiting", "recipients", "Accepted recipients that wait for the active queue.",
         GAUGE),
    Stat("aq_rcpts", "recipients", "Recipients in the active queue.", GAUGE),
    Stat("aq_from_defedb", "recipients", "Those of them that come from the deferred queue.",
         GAUGE),
    Stat("aq_unrouted", "recipients", "Those of them that wait for a route.", GAUGE),
    Stat("aq_waiting", "recipients", "Those of them that wait for a delivery session.", GAUGE),
    Stat("destinations", "destinations", "Destinations in the active queue.", GAUGE),
    Stat("occ_entries", "addresses", "Hosts whose behaviour is remembered.", GAUGE),
    Stat("smtpc_processes", "processes", "Connected smtpc processes.", GAUGE),
    Stat("delivery_sessions_busy", "sessions", "Delivery sessions at work.", GAUGE),
    Stat("delivery_sessions_idle", "sessions", "Delivery sessions kept open.", GAUGE),
    Stat("contents", "files", "Content files that the queue in memory refers to.", GAUGE),
    Stat("sessions_granted", "sessions", "Clients that were let in."),
    Stat("sessions_refused", "sessions", "Clients refused for a limit or for lack of room."),
    Stat("accepted", "transactions", "Messages taken into the queue."),
    Stat("delivered", "recipients", "Recipients delivered."),
    Stat("deferred", "attempts", "Attempts that failed for now."),
    Stat("failed", "recipients", "Recipients that failed for good."),
    Stat("bounces", "transactions", "Reports to senders."),
    Stat("suspensions", "names", "Suspended domains and hosts.", GAUGE),
    *(Stat(f"{name}_last_minute", unit, f"The counter {name} in the last minute.", GAUGE)
      for name, unit in (("accepted", "transactions"), ("delivered", "recipients"),
                         ("deferred", "attempts"), ("failed", "recipients"))),
    Stat("oldest_message", "seconds", "Age of the oldest message in the queue.", GAUGE),
    Stat("ibdb_open_tas", "transactions", "Transactions that the log of accepted mail holds.",
         GAUGE),
    Stat("ibdb_segments", "files", "Files of that log.", GAUGE),
    Stat("ibdb_bytes", "bytes", "Size of that log.", GAUGE),
    Stat("defedb_tas", "transactions", "Transactions in the deferred queue.", GAUGE),
    Stat("defedb_rcpts", "recipients", "Recipients in the deferred queue.", GAUGE),
    Stat("defedb_commits", "commits", "Writes to the deferred queue."),
)  # fmt: skip

STATS: dict[str, tuple[Stat, ...]] = {
    "smtps": (*_SMTPS, *EVERY),
    "smtpc": (*_SMTPC, *EVERY),
    "smar": (*_SMAR, *EVERY),
    "qmgr": (*_QMGR, *EVERY),
}
"""Daemon -> its numbers."""

BY_NAME: dict[tuple[str, str], Stat] = {
    (daemon, stat.name): stat for daemon, stats in STATS.items() for stat in stats
}
