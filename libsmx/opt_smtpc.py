"""Options of the SMTP client.

Kind: table.

Source: SPEC rows X432-X436; D11.
"""
# ruff: noqa: RUF009 (option() and section() declare fields, they are no shared defaults)

import attrs

from libsmx.kinds import Boolean, Choice, Count, ListOf, Path, String
from libsmx.netkinds import IpAddress
from libsmx.opt_shared import SECONDS, LogConf, ServiceConf, log_level, log_section
from libsmx.opt_tls import SmtpcTlsConf
from libsmx.options import option, section, shared


def _wait(name: str, default: str, doc: str, rows: str = "") -> int:
    """Declare one of the waits of a delivery session."""
    wait: int = option(name, SECONDS, default, low="1s", high="1d", doc=doc, rows=rows)
    return wait


@attrs.frozen
class TimeoutsConf:
    """How long each phase of a delivery session may last; the names are those of sendmail 8."""

    iconnect: int = _wait(
        "iconnect", "30s", "Connection to the first address of a delivery; connect_timeout holds "
        "for the others."
    )  # fmt: skip
    aconnect: int = _wait(
        "aconnect", "10m", "No further address of a delivery is tried after this long; the rest "
        "waits for the next attempt."
    )  # fmt: skip
    initial: int = _wait("initial", "5m", "The greeting of the server.")
    helo: int = _wait("helo", "5m", "The reply to EHLO or HELO.")
    lhlo: int = _wait("lhlo", "2m", "The reply to LHLO.")
    starttls: int = _wait("starttls", "5m", "The reply to STARTTLS, and the handshake after it.")
    auth: int = _wait("auth", "5m", "Each reply to AUTH.")
    mail: int = _wait("mail", "5m", "The reply to MAIL.")
    rcpt: int = _wait("rcpt", "5m", "The reply to RCPT, for each recipient.")
    datainit: int = _wait("datainit", "2m", "The reply to DATA.")
    datablock: int = _wait("datablock", "3m", "The server to take a block of the message.")
    datafinal: int = _wait("datafinal", "10m", "The reply to the end of the message.")
    rset: int = _wait("rset", "5m", "The reply to RSET.")
    quit: int = _wait("quit", "5s", "The reply to QUIT, on which nothing depends.")


@attrs.frozen
class SourceConf:
    """Where connections come from."""

    next_hop: tuple[str, ...] = option(
        "next_hop",
        ListOf(
            String("host", r"\.?[A-Za-z0-9_.:-]{1,255}", "a host name, .domain or address"), 100
        ),
        (),
        doc="Next hops for which this holds: host names as the route has them, or .domain for "
        "all hosts below it, or addresses. The first section that fits is used; one without "
        "next_hop fits all.",
    )
    address: str = option(
        "address", IpAddress(4), "", doc="Own IPv4 address for IPv4 connections. Empty: any."
    )
    address6: str = option(
        "address6", IpAddress(6), "", doc="Own IPv6 address for IPv6 connections. Empty: any."
    )
    helo: str = option(
        "helo",
        String("host name", r"[A-Za-z0-9]([A-Za-z0-9.-]{0,253}[A-Za-z0-9])?", "as mx.example.org"),
        "",
        doc="Name for EHLO, which should be that of the address in DNS. Empty: hostname.",
    )


@attrs.frozen
class AuthConf:
    """Authentication at next hops."""

    credentials_file: str = option(
        "credentials_file",
        Path(),
        "",
        doc="Text file of logins, of which nobody but the client's user may have any right. A line "
        "is HOST USER PASSWORD, or HOST/SENDER USER PASSWORD where SENDER is an address or "
        "@domain; words may stand in quotes. Behind them may stand mechanisms=NAME,NAME and "
        "clear, which allows PLAIN and LOGIN without TLS. Empty: nobody logs in.",
    )


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
    timeouts: TimeoutsConf = section(
        "timeouts", TimeoutsConf, doc="How long each phase of a delivery may last."
    )
    max_session_time: int = option(
        "max_session_time",
        SECONDS,
        "5m",
        low="1s",
        high="1d",
        doc="A delivery session that stands for this long takes no further transaction. How many "
        "it takes and how long it may be idle is set in the section smtpc of qmgr.",
    )
    prefer_family: str = option(
        "prefer_family",
        Choice("any", "inet", "inet6"),
        "any",
        doc="Which addresses of a host are tried first; the others follow before the next host.",
    )
    source: tuple[SourceConf, ...] = section(
        "source", SourceConf, repeat=True, doc="Own addresses and names; may be repeated."
    )
    chunking: bool = option(
        "chunking",
        Boolean(),
        "true",
        doc="Send messages with BDAT to servers that offer CHUNKING.",
    )
    auth: AuthConf = section("auth", AuthConf, doc="Authentication at next hops.")
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
    tls: SmtpcTlsConf = section(
        "tls",
        SmtpcTlsConf,
        doc="TLS with servers.",
    )
    log_level: int = log_level()
    log: LogConf = log_section()
    service: ServiceConf = shared(ServiceConf)
