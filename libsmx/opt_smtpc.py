"""Options of the SMTP client.

Kind: table.

Source: SPEC rows X432-X436; D11.
"""
# ruff: noqa: RUF009 (option() and section() declare fields, they are no shared defaults)

import attrs

from libsmx.kinds import Count, Path
from libsmx.opt_shared import SECONDS, LogConf, ServiceConf, log_level, log_section
from libsmx.options import option, shared


@attrs.frozen
class SmtpcConf:
    """Options of section smtpc."""

    io_timeout: int = option(
        "IO_timeout",
        SECONDS,
        "10m",
        low="1s",
        high="1d",
        rows="X432",
        doc="Longest wait for any answer of a server; the times of RFC 5321 4.5.3.2 hold where "
        "they are shorter.",
    )
    connect_timeout: int = option(
        "connect_timeout",
        SECONDS,
        "30s",
        low="1s",
        high="10m",
        doc="How long to wait for a connection to one address.",
    )
    lmtp_socket: str = option(
        "LMTP_socket",
        Path(),
        "lmtpsock",
        rows="X433",
        doc="Unix socket of the LMTP server to which mailertable entries lmtp: lead.",
    )
    max_sessions: int = option(
        "max_sessions",
        Count("sessions"),
        "200",
        low="1",
        high="100000",
        doc="Greatest number of delivery sessions in one process.",
    )
    wait_for_server: int = option(
        "wait_for_server",
        SECONDS,
        "60s",
        low="1s",
        high="1h",
        rows="X435",
        doc="How long to wait for the queue manager before giving up.",
    )
    shutdown_timeout: int = option(
        "shutdown_timeout",
        SECONDS,
        "10s",
        low="1s",
        high="10m",
        doc="How long an orderly stop waits for deliveries that are under way.",
    )
    log_level: int = log_level()
    log: LogConf = log_section()
    service: ServiceConf = shared(ServiceConf)
