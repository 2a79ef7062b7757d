"""Options of the SMTP server.

Kind: table.

A limit of N allows N, the next one exceeds it; 0 is no limit (D31).
Source: SPEC rows X358-X383, X428; D11, D31, D52.
"""
# ruff: noqa: RUF009 (option() and section() declare fields, they are no shared defaults)

import attrs

from libsmx.kinds import SIZE_UNITS, Count, Flags, ListOf, Quantity
from libsmx.netkinds import IpNetwork, Network
from libsmx.opt_shared import ACCOUNT, SECONDS, LogConf, ServiceConf, log_level, log_section
from libsmx.options import option, shared

COMMANDS = Count("commands")
ADDRESSES = Count("addresses")
RECIPIENTS = Count("recipients")
MAX_COUNT = "1000000000"


@attrs.frozen
class SmtpsConf:
    """Options of section smtps."""

    flags: frozenset[str] = option(
        "flags",
        Flags(
            {
                "8bitmime": "offer 8BITMIME; content is never converted",
                "soft_bounce": "turn permanent rejections into temporary ones",
                "strict_ehlo_checks": "refuse EHLO and HELO whose argument is not well formed",
            }
        ),
        ("8bitmime",),
        rows="X359 X364 X365",
        doc="Behaviour of the server.",
    )
    relay_clients: tuple[Network, ...] = option(
        "relay_clients",
        ListOf(IpNetwork(), 1000),
        ("127.0.0.0/8", "::1"),
        doc="Clients that may send to any domain.",
    )
    id: int = option(
        "id",
        Count(),
        "0",
        low="0",
        high="255",
        rows="X367 X428",
        doc="Number of this server in transaction ids. The processes of a server use id and the "
        "numbers above it, so two servers must lie far enough apart.",
    )
    cdb_gid: str = option(
        "CDB_gid",
        ACCOUNT,
        "smxc",
        rows="X358",
        doc="Group, by name or number, that content files get so that smtpc can read them.",
    )
    io_timeout: int = option(
        "IO_timeout",
        SECONDS,
        "5m",
        low="1s",
        high="1d",
        rows="X368",
        doc="How long to wait for the client.",
    )
    max_message_size: int = option(
        "max_message_size",
        Quantity("size", SIZE_UNITS, "KB"),
        "32MB",
        low="1",
        high="2GB",
        rows="X101 X379",
        doc="Greatest size of a message, offered as SIZE.",
    )
    max_hops: int = option(
        "max_hops",
        Count("fields"),
        "25",
        low="1",
        high="1000",
        rows="X378",
        doc="A message with more Received: fields is refused as one that loops.",
    )
    max_sessions: int = option(
        "max_sessions",
        Count("sessions"),
        "1000",
        low="1",
        high="100000",
        doc="Greatest number of sessions in one process; the next client gets 421.",
    )
    max_transactions: int = option(
        "max_transactions",
        Count("transactions"),
        "0",
        high=MAX_COUNT,
        rows="X381",
        doc="Transactions in one session; the next MAIL gets 421.",
    )
    max_recipients_per_session: int = option(
        "max_recipients_per_session",
        RECIPIENTS,
        "0",
        high=MAX_COUNT,
        rows="X376",
        doc="Recipients in one session; the next RCPT gets 452.",
    )
    max_recipients_per_transaction: int = option(
        "max_recipients_per_transaction",
        RECIPIENTS,
        "1000",
        high="100000",
        rows="X377",
        doc="Recipients in one transaction; the next RCPT gets 452.",
    )
    max_bad_commands_per_session: int = option(
        "max_bad_commands_per_session",
        COMMANDS,
        "10",
        high=MAX_COUNT,
        rows="X370",
        doc="Unknown commands in one session; the next one gets 421.",
    )
    max_bad_commands_per_transaction: int = option(
        "max_bad_commands_per_transaction",
        COMMANDS,
        "10",
        high=MAX_COUNT,
        rows="X373",
        doc="Unknown commands in one transaction; the next one gets 421.",
    )
    max_invalid_addresses_per_session: int = option(
        "max_invalid_addresses_per_session",
        ADDRESSES,
        "20",
        high=MAX_COUNT,
        rows="X371",
        doc="Refused recipients in one session; the next one gets 421.",
    )
    max_invalid_addresses_per_transaction: int = option(
        "max_invalid_addresses_per_transaction",
        ADDRESSES,
        "20",
        high=MAX_COUNT,
        rows="X375",
        doc="Refused recipients in one transaction; the next one gets 421.",
    )
    max_nop_commands_between_transactions: int = option(
        "max_nop_commands_between_transactions",
        COMMANDS,
        "50",
        high=MAX_COUNT,
        rows="X372",
        doc="NOOP, RSET and the like between two transactions; the next one gets 421.",
    )
    max_nop_commands_in_transaction: int = option(
        "max_nop_commands_in_transaction",
        COMMANDS,
        "50",
        high=MAX_COUNT,
        rows="X374",
        doc="NOOP and the like in one transaction; the next one gets 421.",
    )
    wait_for_server: int = option(
        "wait_for_server",
        SECONDS,
        "60s",
        low="1s",
        high="1h",
        doc="How long to wait for the queue manager and the address resolver before giving up.",
    )
    shutdown_timeout: int = option(
        "shutdown_timeout",
        SECONDS,
        "10s",
        low="1s",
        high="10m",
        doc="How long an orderly stop waits for messages that are just coming in.",
    )
    log_level: int = log_level()
    log: LogConf = log_section()
    service: ServiceConf = shared(ServiceConf)
