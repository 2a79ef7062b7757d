"""Log events of the queue manager.

Kind: table.

Attempts are logged by smtpc, acceptance by smtps; here stands what only the queue knows.
Source: SPEC rows X177, X480.
"""

from libsmx.logtab import event

TA_QUEUED = event(
    "ta_queued", 10, "A transaction is on disk and in the queue.", "ta", "rcpts", "size"
)
TA_REFUSED = event(
    "ta_refused", 6, "A transaction could not be taken.", "ta", "code", "status", "text"
)
COMMIT_FAILED = event(
    "commit_failed", 2, "A transaction could not be written to disk; it was refused.", "ta", "error"
)
NOTE_FAILED = event(
    "note_failed", 2,
    "The end of recipients could not be written to disk; it is written again in a moment.",
    "rcpts", "error",
)  # fmt: skip
RCPT_RETURNED = event(
    "rcpt_returned", 7, "A recipient failed for good or expired; the sender gets a bounce.",
    "ta", "rcpt", "status", "text",
)  # fmt: skip
BOUNCE_QUEUED = event(
    "bounce_queued", 8, "A report to a sender was made.", "ta", "about", "rcpt", "action", "count"
)
RCPT_EXPANDED = event(
    "rcpt_expanded", 8,
    "A recipient stands for others, who take its place in transactions of their own; into is "
    "the first of them.",
    "ta", "rcpt", "into", "tas", "members", "sender",
)  # fmt: skip
TA_HELD = event(
    "ta_held", 6, "A transaction was accepted and waits until it is released.", "ta", "reason"
)
RCPT_UNREPORTED = event(
    "rcpt_unreported", 7, "A recipient failed for good; its sender wanted no report (NOTIFY).",
    "ta", "rcpt", "status", "text",
)  # fmt: skip
DOUBLE_BOUNCE = event(
    "double_bounce", 5, "Mail with the null sender failed; nobody is told.",
    "ta", "rcpt", "status", "text",
)  # fmt: skip
RCPT_POSTPONED = event(
    "rcpt_postponed", 10, "A recipient goes to the deferred queue.",
    "ta", "rcpt", "next", "text",
)  # fmt: skip
HOST_BLOCKED = event(
    "host_blocked", 7, "An address cannot be reached and is left alone for a while.",
    "address", "port", "seconds", "text",
)  # fmt: skip
RESULT_ODD = event(
    "result_odd", 3, "A result of smtpc does not fit what it was asked.", "da_ta", "problem"
)
DELIVERIES_LOST = event(
    "deliveries_lost", 4, "A smtpc process went away; its deliveries are done again.", "count"
)
SPILLED = event(
    "spilled", 6, "The queues in memory are full: accepted mail goes to the deferred queue.",
    "rcpts",
)  # fmt: skip
ROLLED_FORWARD = event(
    "rolled_forward", 7,
    "Recipients that hold old log segments go to the deferred queue; those under delivery are "
    "written again at the end of the log.",
    "rcpts", "again",
)  # fmt: skip
DEFEDB_FAILED = event(
    "defedb_failed", 2, "The deferred queue could not be written or read; tried again.", "error"
)
CLOCK_WENT_BACK = event(
    "clock_went_back", 4,
    "Recipients were due so late that the clock must have gone back since; they are due sooner.",
    "rcpts",
)  # fmt: skip
RECOVERED = event(
    "recovered", 5, "What was open at the last stop is in the deferred queue.",
    "rcpts", "known", "segments",
)  # fmt: skip
RECOVERY_PROBLEM = event("recovery_problem", 2, "The log of accepted mail is not whole.", "problem")
CONTENT_MISSING = event(
    "content_missing", 2, "An envelope has no content file; it stays in the queue.", "ta", "cdb"
)
ORPHANS_REMOVED = event(
    "orphans_removed", 6, "Content files that no envelope names were removed.", "count"
)
ORPHANS_KEPT = event(
    "orphans_kept", 4, "Content files without envelope stay, because the log was not whole.",
    "count",
)  # fmt: skip
CONTENT_STAYS = event(
    "content_stays", 4, "A content file could not be removed; tried again later.", "count"
)
DISK_LOW = event("disk_low", 3, "Too little disk space, no mail is accepted.", "reason")
DISK_OK = event("disk_ok", 5, "Disk space suffices again.")
RCPT_REMOVED = event(
    "rcpt_removed", 6, "A recipient was removed by hand; nobody is told.", "ta", "rcpt"
)
QUEUE_CHANGED = event(
    "queue_changed", 5, "An operator changed recipients; action says how, select which.",
    "uid", "action", "select", "address", "rcpts",
)  # fmt: skip
SUSPENDED = event(
    "suspended", 5, "An operator stopped deliveries to a domain, destination or host.",
    "uid", "name", "seconds", "reason",
)  # fmt: skip
RESUMED = event(
    "resumed", 5, "A suspension ended: by an operator, or by time (uid -1).", "uid", "name"
)
SUSPENSIONS_BAD = event(
    "suspensions_bad", 2, "The file of suspensions cannot be read; none is in force.", "error"
)
LOG_LEVEL_SET = event("log_level_set", 5, "An operator changed the log level.", "uid", "level")
RELOAD_ASKED = event("reload_asked", 5, "An operator had maps read and logs opened anew.", "uid")
FLUSHED = event("flushed", 5, "Deferred recipients were made due by hand.", "uid", "match", "rcpts")
CONTROL_REFUSED = event("control_refused", 5, "A user may not change the queue.", "uid", "request")
STOP_ASKED = event("stop_asked", 5, "An operator stops the whole system.", "uid")
NO_CLIENT = event("no_client", 4, "No process of this kind has connected.", "role", "seconds")
MAP_READ = event("map_read", 9, "The map of limits was read.", "file", "entries")
MAP_UNREAD = event(
    "map_unread", 3, "The map of limits cannot be read; limits stay as they are.", "file", "error"
)
MAP_ENTRY_BAD = event(
    "map_entry_bad", 4, "An entry of the map of limits is wrong and left out.",
    "file", "key", "error",
)  # fmt: skip
QUEUE_LEVEL = event(
    "queue_level", 5, "The queue is normal, slow or stopped from now on (qmgr/levels.py).",
    "level", "reason",
)  # fmt: skip
