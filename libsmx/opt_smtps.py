"""Options of the SMTP server.

Kind: table.

A limit of N allows N, the next one exceeds it; 0 is no limit (D31).
Source: SPEC rows X358-X383, X428; D11, D31, D52.
"""
# ruff: noqa: RUF009 (option() and section() declare fields, they are no shared defaults)

import attrs

from libsmx.kinds import SIZE_UNITS, Count, Flags, ListOf, Quantity, String
from libsmx.netkinds import IpNetwork, Network
from libsmx.opt_auth import SmtpsAuthConf
from libsmx.opt_shared import ACCOUNT, SECONDS, LogConf, ServiceConf, log_level, log_section
from libsmx.opt_smtps_parts import MilterConf, PolicyMilterConf, ProtectedConf
from libsmx.opt_tls import SmtpsTlsConf
from libsmx.options import option, section, shared

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
                "access": "use the access map, the client's name and DNS lists",
                "delay_checks": "hold rejections of clients and senders until RCPT",
                "delay_greylisting_error_until_data": "refuse greylisted recipients at DATA",
                "greylisting": "use greylisting, which must be on in smar as well",
                "lmtp_does_not_imply_relaying": "an lmtp: entry of the mailertable makes no "
                "domain local, so that everybody needs permission to relay",
                "require_auth": "take mail from authenticated clients only",
                "require_tls": "take mail over TLS only",
                "soft_bounce": "turn permanent rejections into temporary ones",
                "strict_ehlo_checks": "refuse EHLO and HELO whose argument is not well formed",
            }
        ),
        ("8bitmime",),
        rows="X359 X360 X361 X362 X363 X364 X365 X366",
        doc="Behaviour of the server.",
    )
    relay_clients: tuple[Network, ...] = option(
        "relay_clients",
        ListOf(IpNetwork(), 1000),
        ("127.0.0.0/8", "::1"),
        doc="Clients that may send to any domain.",
    )
    extensions_hidden: frozenset[str] = option(
        "extensions_hidden",
        Flags(
            {
                "pipelining": "PIPELINING; commands that come in groups are handled all the same",
                "size": "SIZE",
                "smtputf8": "SMTPUTF8, which is offered with 8BITMIME only",
                "chunking": "CHUNKING",
                "dsn": "DSN",
                "enhancedstatuscodes": "ENHANCEDSTATUSCODES; replies hold the codes all the same",
                "starttls": "STARTTLS",
                "auth": "AUTH",
            }
        ),
        (),
        doc="Extensions that are not offered; their commands and parameters are refused.",
    )
    commands: frozenset[str] = option(
        "commands",
        Flags(
            {
                "vrfy": "VRFY tells whether mail to an address of ours would be taken",
                "help": "HELP lists the commands",
            }
        ),
        ("help",),
        doc="Commands that tell something. Without vrfy, VRFY gets 252; without help, HELP gets "
        "502. EXPN and ETRN always get 502.",
    )
    banner: str = option(
        "banner",
        String("banner", r"[ -~]{1,200}", "at most 200 printable characters"),
        "",
        doc="Text behind the host name and ESMTP in the greeting. Empty: name and version.",
    )
    proxy_clients: tuple[Network, ...] = option(
        "proxy_clients",
        ListOf(IpNetwork(), 1000),
        (),
        doc="Load balancers: every connection from these must begin with a header of the PROXY "
        "protocol, version 1 or 2, which tells the client.",
    )
    xclient_clients: tuple[Network, ...] = option(
        "xclient_clients",
        ListOf(IpNetwork(), 1000),
        (),
        doc="Clients that may say with XCLIENT on whose behalf they speak.",
    )
    id: int = option(
        "id",
        Count(),
        "0",
        low="0",
        high="255",
        rows="X367 X428",
        doc="Number of this server in transaction ids. The processes of a server use id and the "
        "numbers above it, so two servers must lie far enough apart. A section without an id "
        "gets the first numbers that no other section uses, in the order of the file.",
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
    transaction_timeout: int = option(
        "transaction_timeout",
        SECONDS,
        "2h",
        low="1s",
        high="7d",
        doc="Longest time from MAIL to the end of the data, however busy the client is.",
    )
    min_data_rate: int = option(
        "min_data_rate",
        Count("bytes a second"),
        "64",
        low="0",
        high="1000000",
        doc="A client that sends content slower than this, on average and after the first "
        "minute, is cut off. 0: no such rate.",
    )
    greeting_delay: int = option(
        "greeting_delay",
        SECONDS,
        "0",
        low="0",
        high="5m",
        doc="How long the greeting is held back to see whether the client speaks too early, "
        "which ends the session. 0: not at all.",
    )
    error_delay: int = option(
        "error_delay",
        SECONDS,
        "1s",
        low="0",
        high="1m",
        doc="How long replies wait that tell errors, once the session has had more than "
        "errors_before_delay. At most a tenth of max_sessions wait so at a time.",
    )
    errors_before_delay: int = option(
        "errors_before_delay",
        Count("errors"),
        "20",
        low="0",
        high=MAX_COUNT,
        doc="Error replies that a session gets without delay.",
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
    max_header_size: int = option(
        "max_header_size",
        Quantity("size", SIZE_UNITS, "KB"),
        "512KB",
        low="1",
        high="64MB",
        doc="Greatest size of a message's header.",
    )
    max_header_fields: int = option(
        "max_header_fields",
        Count("fields"),
        "2000",
        low="10",
        high="1000000",
        doc="Greatest number of fields in a message's header.",
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
    max_threads: int = option(
        "max_threads",
        Count("threads"),
        "10",
        low="3",
        high="256",
        rows="X369",
        doc="Greatest number of threads besides the main one; all they do is wait for the disk.",
    )
    processes: int = option(
        "processes",
        Count("processes"),
        "0",
        low="0",
        high="256",
        rows="X380",
        doc="Number of processes: another way to set min_processes, max_processes and, where it "
        "is missing, pass_id. 0: as those say.",
    )
    protected_recipients: tuple[ProtectedConf, ...] = section(
        "protected_recipients",
        ProtectedConf,
        repeat=True,
        doc="Protects recipients that the access map names with protectedrcpt:; needs flag access.",
    )
    policy_milter: tuple[PolicyMilterConf, ...] = section(
        "policy_milter",
        PolicyMilterConf,
        repeat=True,
        doc="A filter with the failure handling of sendmail X; it comes before the others. At "
        "most one.",
    )
    milter: tuple[MilterConf, ...] = section(
        "milter",
        MilterConf,
        repeat=True,
        doc="A filter that speaks the milter protocol, for example opendkim or rspamd. May be "
        "repeated: each sees what those before it have changed.",
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
    auth: SmtpsAuthConf = section("auth", SmtpsAuthConf, doc="AUTH of clients.")
    tls: SmtpsTlsConf = section(
        "tls",
        SmtpsTlsConf,
        doc="TLS with clients; offered when there is a certificate.",
    )
    log_level: int = log_level()
    log: LogConf = log_section()
    service: ServiceConf = shared(ServiceConf)
