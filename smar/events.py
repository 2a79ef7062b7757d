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
