"""Log events of the SMTP client.

Kind: table.

One canonical line per recipient and attempt; everything else is detail above level 9.
Source: SPEC rows X017, X434, X480.
"""

from libsmx.logtab import event

_RCPT = (
    "ta", "rcpt", "host", "address", "code", "status", "delay", "tls", "took", "text",
)  # fmt: skip

RCPT_DELIVERED = event(
    "rcpt_delivered", 8, "The next hop took responsibility for a recipient.", *_RCPT
)
RCPT_DEFERRED = event(
    "rcpt_deferred", 8, "An attempt failed for now; the queue manager tries again.", *_RCPT
)
RCPT_FAILED = event(
    "rcpt_failed", 6, "A recipient failed for good; the sender is told by a bounce.", *_RCPT
)
DA_OPENED = event(
    "da_session_opened", 10, "A delivery session stands.", "da_sess", "host", "address", "port"
)
DA_CLOSED = event(
    "da_session_closed", 9, "A delivery session ended.",
    "da_sess", "host", "address", "transactions", "reason",
)  # fmt: skip
CONNECT_FAILED = event(
    "connect_failed", 7, "An address could not be used; the next one is tried, if there is one.",
    "da_sess", "host", "address", "port", "reason",
)  # fmt: skip
TLS_STARTED = event(
    "tls_started", 9, "A delivery session is under TLS; verify is OK for a certificate that leads "
    "to a CA that we trust, FAIL for any other; name tells whether it is one of the host.",
    "da_sess", "host", "address", "version", "cipher", "bits", "verify", "name", "why", "resumed",
    "subject", "issuer", "fingerprint",
)  # fmt: skip
TLS_FAILED = event(
    "tls_failed", 6, "A TLS handshake failed.", "da_sess", "host", "address", "reason", "next"
)
DA_STALE = event(
    "da_session_stale", 10, "A kept session was dead; the transaction starts again on a new one.",
    "da_sess", "ta", "reason",
)  # fmt: skip
OUTCOME_UNKNOWN = event(
    "outcome_unknown", 5,
    "The connection broke after the whole message was sent and before its reply: the next hop "
    "may have it, and will get it again.",
    "ta", "da_sess", "host", "address", "reason",
)  # fmt: skip
CONTENT_BAD = event(
    "content_bad", 2, "A content file is missing, shorter than its envelope says or unreadable.",
    "ta", "cdb", "error",
)  # fmt: skip
RESULT_DROPPED = event(
    "result_dropped", 4,
    "The queue manager went away before it could be told of a result; it will try again.",
    "ta", "da_sess", "delivered", "other",
)  # fmt: skip
RULES_READ = event("rules_read", 8, "A file of policies or logins was read.", "file", "entries")
RULES_BAD = event(
    "rules_bad", 3, "A file of policies or logins cannot be used; what was read before holds.",
    "file", "error",
)  # fmt: skip
POLICY_BAD = event(
    "policy_bad", 3, "A TLS policy cannot be understood; mail that it is about waits.",
    "file", "key", "error",
)  # fmt: skip
DELIVERY_REFUSED = event(
    "delivery_refused", 5, "An order of the queue manager could not be taken.",
    "da_sess", "ta", "reason",
)  # fmt: skip
