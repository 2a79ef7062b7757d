"""Log events of the address resolver.

Kind: table.
"""

from libsmx.logtab import event

MAILERTABLE_READ = event(
    "mailertable_read", 9, "The mailertable was read.", "file", "entries"
)  # fmt: skip
NAME_SERVERS = event("name_servers", 9, "The name servers that will be asked.", "servers")
NAME_SERVER_SILENT = event(
    "name_server_silent", 6, "A name server does not answer and is asked last.", "server"
)
NAME_SERVER_BACK = event(
    "name_server_back", 6, "A name server that was silent answers again.", "server"
)
DNS_FAILED = event("dns_failed", 10, "A DNS lookup failed for now.", "name", "type", "reason")
SENDER_REFUSED = event(
    "sender_refused", 10, "A sender cannot be accepted.",
    "mail", "client", "code", "status", "text",
)  # fmt: skip
RCPT_REFUSED = event(
    "rcpt_refused", 10, "A recipient cannot be accepted.",
    "rcpt", "client", "code", "status", "text",
)  # fmt: skip
NO_ROUTE = event(
    "no_route", 10, "There is no way to a recipient.", "rcpt", "code", "status", "text"
)  # fmt: skip
OVERLOADED = event(
    "resolver_overloaded", 4, "Requests are put off, too many wait for the DNS.", "count"
)
GREYLIST_OPENED = event("greylist_opened", 9, "The greylist is in use.", "file", "entries")
GREYLIST_DAMAGED = event(
    "greylist_damaged", 4, "A database of the greylist was damaged and is begun anew.",
    "file", "kept", "error",
)  # fmt: skip
GREYLIST_FAILED = event(
    "greylist_failed", 4, "The greylist cannot be used; clients are let in meanwhile.", "error"
)
GREYLISTED = event("greylisted", 9, "A client has to come again.", "client", "rcpt", "session")
GREYLIST_CHANGED = event(
    "greylist_changed", 8, "An operator changed the greylist.", "action", "client", "count"
)
MAP_READ = event("map_read", 9, "A map is in use as its file is now.", "map", "file", "entries")
MAP_UNREAD = event(
    "map_unread", 4, "A map's file cannot be used; its old content stays in use.",
    "map", "file", "error",
)  # fmt: skip
MAP_GONE = event(
    "map_gone", 6, "A map's file is not there any more; its old content stays in use.",
    "map", "file",
)  # fmt: skip
MAP_FAILED = event("map_failed", 8, "A map could not be asked for now.", "map", "key", "reason")
RULE_ODD = event(
    "rule_odd", 6, "An entry of the access map cannot be obeyed and is skipped.",
    "key", "value", "reason",
)  # fmt: skip
CLIENT_REFUSED = event(
    "client_refused", 10, "A client may not connect.", "client", "code", "status", "text"
)  # fmt: skip
DECISION = event("decision", 14, "How a verdict was found, step by step.", "about", "trace")
NO_LOCAL_USERS = event(
    "no_local_users", 4,
    "Nobody but postmaster exists in the local domains: there is neither an aliases map nor a"
    " local_user_map.", "file",
)  # fmt: skip
