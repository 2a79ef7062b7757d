"""Log events of the SMTP server.

Kind: table.
Source: SPEC rows X119, X480.
"""

from libsmx.logtab import event

SESSION_OPENED = event("session_opened", 11, "A client connected.", "ss_sess", "client")
SESSION_REFUSED = event(
    "session_refused", 8, "A client was turned away at once.", "ss_sess", "client", "stat"
)
SESSION_CLOSED = event(
    "session_closed", 9, "A session ended; its whole record.",
    "ss_sess", "client", "helo", "tas", "accepted", "rcpts", "refused", "bad", "secs", "reason",
)  # fmt: skip
PROXY_REFUSED = event(
    "proxy_refused", 6, "A load balancer did not begin with a PROXY header.", "client", "reason"
)
MAIL_REFUSED = event(
    "mail_refused", 9, "A sender was refused.", "ss_sess", "client", "mail", "stat"
)
RCPT_REFUSED = event(
    "rcpt_refused", 9, "A recipient was refused.", "ss_sess", "client", "mail", "rcpt", "stat"
)
TA_ACCEPTED = event(
    "ta_accepted", 9, "A message is safe on disk and its client was told so.",
    "ss_ta", "ss_sess", "client", "client_name", "mail", "rcpts", "size",
)  # fmt: skip
TA_REFUSED = event(
    "ta_refused", 9, "A message was refused after its data began.",
    "ss_ta", "ss_sess", "client", "mail", "rcpts", "size", "stat",
)  # fmt: skip
TA_DROPPED = event(
    "ta_dropped", 8, "A message was taken and dropped, as the access map or a filter wants.",
    "ss_ta", "ss_sess", "client", "mail", "size",
)  # fmt: skip
COMMAND_REFUSED = event(
    "command_refused", 12, "A command got an error reply.", "ss_sess", "client", "command", "stat"
)
COMMIT_UNKNOWN = event(
    "commit_unknown", 4,
    "The queue manager did not answer a commit; the client was told to try again.",
    "ss_ta", "ss_sess", "client",
)  # fmt: skip
FILTER_FAILED = event(
    "filter_failed", 4, "A content filter cannot be used for the rest of a session.",
    "ss_sess", "filter", "reason",
)  # fmt: skip
FILTER_ODD = event(
    "filter_odd", 6, "A content filter wants changes that are not allowed or make no sense.",
    "ss_sess", "filter", "changes",
)  # fmt: skip
LISTENING = event("listening", 8, "Connections are accepted on a socket.", "address", "port")
PASS_REFUSED = event(
    "pass_refused", 3, "What came over pass_fd_socket was not taken.", "path", "uid", "reason"
)
ACCEPT_FAILED = event("accept_failed", 4, "No connection can be accepted for now.", "reason")
TOO_MANY_SESSIONS = event(
    "too_many_sessions", 5, "Clients get 421 because max_sessions is reached.", "sessions"
)
THROTTLED = event("throttled", 5, "The queue manager takes no new mail for now.", "reason")
UNTHROTTLED = event("unthrottled", 5, "The queue manager takes mail again.")
CDB_GROUP_SKIPPED = event(
    "cdb_group_skipped", 4,
    "Content files keep the group of this process, because CDB_gid cannot be given.",
    "group", "reason",
)  # fmt: skip
