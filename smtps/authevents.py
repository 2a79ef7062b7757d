"""Log events of TLS and AUTH.

Kind: table.
Source: SPEC rows X119, X480.
"""

from libsmx.logtab import event

TLS_STARTED = event(
    "tls_started", 9, "A session goes on encrypted; what the client's certificate says.",
    "ss_sess", "client", "version", "cipher", "bits", "resumed", "sni", "verify", "why",
    "subject", "issuer",
)  # fmt: skip
TLS_FAILED = event("tls_failed", 8, "TLS with a client failed.", "ss_sess", "client", "error")
TLS_INJECTION = event(
    "tls_injection", 4, "A client sent more behind STARTTLS in clear text, and was left.",
    "ss_sess", "client",
)  # fmt: skip
CERT_RELAY = event(
    "cert_relay", 9, "Whether a verified certificate allows a session to relay.",
    "ss_sess", "client", "relay", "subject", "issuer",
)  # fmt: skip
AUTH_DONE = event(
    "auth_done", 8, "A client authenticated.", "ss_sess", "client", "user", "mech", "relay"
)
AUTH_FAILED = event(
    "auth_failed", 6, "A client failed to authenticate.",
    "ss_sess", "client", "user", "mech", "stat",
)  # fmt: skip
AUTH_BLOCKED = event(
    "auth_blocked", 5, "No more AUTH from an address for now: too many failures.", "client"
)
AUTH_FILE_READ = event("auth_file_read", 8, "The credentials file was read.", "file", "users")
AUTH_FILE_BAD = event(
    "auth_file_bad", 2, "A changed credentials file cannot be used; what was read before holds.",
    "file", "error",
)  # fmt: skip
AUTH_SERVER_LOST = event(
    "auth_server_lost", 3, "The authentication server is not there; clients are told to wait.",
    "path", "error",
)  # fmt: skip
AUTH_SERVER_READY = event(
    "auth_server_ready", 8, "The authentication server is there.", "path", "mechs"
)
MECH_UNKNOWN = event(
    "mech_unknown", 4, "A mechanism in the configuration is not available.", "option", "mech"
)
