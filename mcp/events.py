"""Log events of mcp.

Kind: table.
"""

from libsmx.logtab import event

MCP_STARTED = event(
    "mcp_started", 5, "mcp runs and begins to start the services.",
    "version", "pid", "config", "directory",
)  # fmt: skip
UNPRIVILEGED = event(
    "unprivileged", 5, "mcp was not started by root: every service runs as this user.", "user"
)
LIMITS_CUT = event(
    "limits_cut", 4,
    "mcp may not give a service as much as resource_limits says; it gets what mcp itself may use.",
    "service", "limits",
)  # fmt: skip
STATUS_UNWRITTEN = event(
    "status_unwritten", 4, "What mcp.sh status shows could not be written.", "path", "error"
)
LISTENING = event("listening", 5, "mcp has bound a listening socket.", "service", "address")
WAIT_LEFTOVERS = event(
    "wait_leftovers", 4, "Processes of a run that died are still ending; mcp waits.", "limit_s"
)
READY = event("ready", 5, "All services run and have their sockets.", "services")
CHILD_STARTED = event("child_started", 6, "A service process was started.", "service", "pid")
CHILD_STOP = event(
    "child_stop", 7, "A service process is told to end.", "service", "signal", "reason"
)
CHILD_STOPPED = event(
    "child_stopped", 6, "A service process ended as it was told to.", "service", "status"
)
CHILD_DIED = event(
    "child_died", 4, "A service process ended by itself and will be started again.",
    "service", "status", "ran_s", "restart_in_s",
)  # fmt: skip
CHILD_DONE = event(
    "child_done", 6,
    "A process that was started for a connection ended well; the next connection starts another.",
    "service", "ran_s",
)  # fmt: skip
CHILD_NOT_STARTED = event(
    "child_not_started", 3, "A service program could not be executed; mcp will try again.",
    "service", "error", "restart_in_s",
)  # fmt: skip
CHILD_GIVEN_UP = event(
    "child_given_up", 1,
    "A service ended with a code that says that starting it again is useless: mend it and"
    " restart smx.",
    "service", "status",
)  # fmt: skip
CHILD_ASKS_STOP = event(
    "child_asks_stop", 5, "A service asks to stop the whole system, as its operator told it.",
    "service",
)  # fmt: skip
CHILD_OUTPUT = event(
    "child_output", 5, "A service wrote a line to its standard output or error.",
    "service", "pid", "text",
)  # fmt: skip
OUTPUT_DROPPED = event(
    "output_dropped", 5, "A service wrote more than mcp logs; these lines were dropped.",
    "service", "pid", "lines",
)  # fmt: skip
SOCKETS_PASSED = event(
    "sockets_passed", 6, "A service took its listening sockets.", "service", "count"
)
PASS_REFUSED = event(
    "pass_refused", 3, "The sockets of a service were not handed over.", "service", "path", "reason"
)
PASS_LATE = event(
    "pass_late", 4, "A service has not asked for its sockets yet.", "service", "path", "waited_s"
)
RELOAD = event("reload", 5, "SIGHUP: log files are opened again, services told to reload.")
MCP_STOPPING = event("mcp_stopping", 5, "The whole system is being stopped.", "reason")
MCP_STOPPED = event("mcp_stopped", 5, "All services have ended; mcp ends.", "status")
