"""Options of the queue manager.

Kind: table.

Source: SPEC rows X160-X197; D10, D11.
"""
# ruff: noqa: RUF009 (option() and section() declare fields, they are no shared defaults)

import attrs

from libsmx.kinds import MICRO_UNITS, SIZE_UNITS, Count, Flags, Path, Quantity, String
from libsmx.opt_shared import SECONDS, LogConf, ServiceConf, log_level, log_section
from libsmx.options import option, section, shared

ENTRIES = Count("entries")
CONNECTIONS = Count("connections")
MICROSECONDS = Quantity("duration", MICRO_UNITS, "us")
BYTES = Quantity("size", SIZE_UNITS, "B")
KILOBYTES = Quantity("size", SIZE_UNITS, "KB")


@attrs.frozen
class DefedbConf:
    """Where deferred mail is kept."""

    base_directory: str = option(
        "base_directory",
        Path(),
        "defedb",
        rows="X163",
        doc="Directory of the database of deferred mail.",
    )


@attrs.frozen
class IbdbConf:
    """The log of accepted mail; its directory is ibdb below the queue directory (X174)."""

    max_commit_delay: int = option(
        "max_commit_delay",
        MICROSECONDS,
        "1000us",
        low="0us",
        high="1s",
        rows="X171",
        doc="Longest time that a commit waits for others that could share its disk sync.",
    )
    size: int = option(
        "size",
        BYTES,
        "16MB",
        low="64KB",
        high="1GB",
        rows="X172",
        doc="Greatest size of one file of the log before the next is begun.",
    )
    max_open_tas: int = option(
        "max_open_TAs",
        ENTRIES,
        "200",
        low="1",
        high="100000",
        rows="X173",
        doc="Number of waiting transactions at which a commit is done at once.",
    )


@attrs.frozen
class IqdbConf:
    """Envelopes of open and of just accepted transactions, in memory."""

    max_cache_entries: int = option(
        "max_cache_entries",
        ENTRIES,
        "10000",
        low="1",
        high="10000000",
        rows="X175",
        doc="Greatest number of recipients in open transactions; beyond it RCPT is answered "
        "with a temporary error.",
    )
    hash_table_entries: int = option(
        "hash_table_entries",
        ENTRIES,
        "20011",
        low="2",
        high="100000000",
        rows="X176",
        doc="Size of the hash table. Kept for old configurations: the table grows by itself.",
    )


@attrs.frozen
class DsnConf:
    """What a report to the sender looks like."""

    flags: frozenset[str] = option(
        "flags",
        Flags(
            {
                "MIME_Format": "write multipart/report (RFC 3464); else plain text",
                "header_only": "return the header of a message only; otherwise the first "
                "report of a failure brings the whole message, later ones its header",
            }
        ),
        ("mime_format",),
        rows="X166 X167 X168",
        doc="Form of reports.",
    )
    merge_delay_max: int = option(
        "merge_delay_max",
        SECONDS,
        "10s",
        low="0s",
        high="1h",
        rows="X165",
        doc="How long a failed recipient waits for others of its transaction, so that one "
        "report tells of all. It does not wait when no other recipient is under delivery.",
    )
    max_returned_size: int = option(
        "max_returned_size",
        KILOBYTES,
        "32MB",
        low="0",
        high="2GB",
        rows="X167",
        doc="Greatest message that a report brings back whole, also where its sender asks for "
        "it (RET=FULL); of larger ones the header comes back. It takes no memory.",
    )
    double_bounce_address: str = option(
        "double_bounce_address",
        String("mail address", r"[!-~]+@[!-~]+", "user@domain is expected"),
        "",
        doc="Who is told when mail without a sender (a report, for example) cannot be "
        "delivered. Empty: it is logged and dropped.",
    )
    max_errors_per_dsn: int = option(
        "max_errors_per_DSN",
        ENTRIES,
        "100",
        low="1",
        high="1000",
        rows="X169 X170",
        doc="Greatest number of failed recipients that one bounce lists; more make more bounces.",
    )


@attrs.frozen
class OutgoingConf:
    """Limits of delivery."""

    initial_connections: int = option(
        "initial_connections",
        CONNECTIONS,
        "10",
        low="1",
        high="10000",
        rows="X080 X187",
        doc="Concurrent connections to one address at first; every success allows one more.",
    )
    max_connections: int = option(
        "max_connections",
        CONNECTIONS,
        "100",
        low="1",
        high="10000",
        rows="X079 X188",
        doc="Greatest number of concurrent connections to one address.",
    )
    lmtp_max_rcpts_per_transaction: int = option(
        "lmtp_max_rcpts_per_transaction",
        ENTRIES,
        "100",
        low="1",
        high="1000",
        rows="X189",
        doc="Greatest number of recipients in one LMTP transaction.",
    )
    smtp_max_rcpts_per_transaction: int = option(
        "smtp_max_rcpts_per_transaction",
        ENTRIES,
        "100",
        low="1",
        high="1000",
        rows="X190",
        doc="Greatest number of recipients in one SMTP transaction.",
    )
    max_idle: int = option(
        "max_idle",
        SECONDS,
        "5s",
        low="0s",
        high="5m",
        doc="How long an unused delivery session is kept for the next message.",
    )
    max_transactions_per_session: int = option(
        "max_transactions_per_session",
        ENTRIES,
        "1000",
        low="1",
        high="1000000",
        doc="Messages sent over one delivery session before it is closed.",
    )


@attrs.frozen
class IncomingConf:
    """Limits of acceptance, for each client address."""

    max_connection_rate: int = option(
        "max_connection_rate",
        Count("connections/60s"),
        "100",
        low="1",
        high="1000000",
        rows="X081 X191 X197",
        doc="Connections that one client address may make in 60 seconds.",
    )
    max_connections: int = option(
        "max_connections",
        CONNECTIONS,
        "100",
        low="1",
        high="1000000",
        rows="X082 X192 X197",
        doc="Connections that one client address may hold open.",
    )


@attrs.frozen
class QmgrConf:
    """Options of section qmgr."""

    aq_max_entries: int = option(
        "AQ_max_entries",
        ENTRIES,
        "8192",
        low="16",
        high="10000000",
        rows="X160",
        doc="Greatest number of recipients under delivery. It must be larger than the number of "
        "recipients that smtps accepts in one transaction.",
    )
    conf: str = option(
        "conf",
        Path(beside_conf=True),
        "qmgr_conf.db",
        rows="X120 X121 X123 X124 X161 X198",
        doc="Map, made by createmap, with limits for single addresses and nets; it need not "
        "exist. Read at start and on SIGHUP.",
    )
    control_socket: str = option(
        "control_socket",
        Path(),
        "qmgrctl/control",
        rows="X162",
        doc="Unix socket over which qmgrctl asks and steers the queue manager.",
    )
    min_disk_space: int = option(
        "min_disk_space",
        KILOBYTES,
        "100MB",
        low="0",
        rows="X178",
        doc="Free disk space below which no mail is accepted. It should be as large as the "
        "greatest message times the number of incoming connections.",
    )
    ok_disk_space: int = option(
        "ok_disk_space",
        KILOBYTES,
        "128MB",
        low="1",
        rows="X179",
        doc="Free disk space at which mail is accepted again.",
    )
    occ_max_entries: int = option(
        "OCC_max_entries",
        ENTRIES,
        "10000",
        low="16",
        high="10000000",
        rows="X180",
        doc="Number of destination addresses about which the queue manager remembers whether "
        "they can be reached; should suffice for the longest retry time.",
    )
    queue_return_timeout: int = option(
        "queue_return_timeout",
        SECONDS,
        "5d",
        low="1s",
        high="52w",
        rows="X181",
        doc="Age at which a message is returned to its sender.",
    )
    queue_delay_timeout: int = option(
        "queue_delay_timeout",
        SECONDS,
        "4h",
        low="1s",
        high="53w",
        rows="X182 X183 X184",
        doc="Age at which the sender is told that a message is delayed, at the first failed "
        "attempt after it, once for each recipient. Off where larger than queue_return_timeout.",
    )
    retry_min_delay: int = option(
        "retry_min_delay",
        SECONDS,
        "15m",
        low="1s",
        high="4w",
        rows="X186",
        doc="Time to the first retry; every later one takes longer.",
    )
    retry_max_delay: int = option(
        "retry_max_delay",
        SECONDS,
        "4h",
        low="1s",
        high="4w",
        rows="X185",
        doc="Longest time between two attempts.",
    )
    wait_for_client: int = option(
        "wait_for_client",
        SECONDS,
        "60s",
        low="1s",
        high="1h",
        rows="X193",
        doc="How long to wait for smtps and smtpc to connect.",
    )
    wait_for_server: int = option(
        "wait_for_server",
        SECONDS,
        "60s",
        low="1s",
        high="1h",
        rows="X194",
        doc="How long to wait for the address resolver before giving up.",
    )
    shutdown_timeout: int = option(
        "shutdown_timeout",
        SECONDS,
        "10s",
        low="1s",
        high="10m",
        doc="How long an orderly stop waits for what is in flight.",
    )
    log_level: int = log_level()
    log: LogConf = log_section()
    defedb: DefedbConf = section("DEFEDB", DefedbConf, doc="The database of deferred mail.")
    dsn_handling: DsnConf = section(
        "DSN_handling", DsnConf, aliases=("max_errors_per_DSN",), doc="Bounces."
    )
    ibdb: IbdbConf = section("IBDB", IbdbConf, doc="The log of accepted mail.")
    iqdb: IqdbConf = section("IQDB", IqdbConf, doc="The queue of incoming transactions.")
    smtpc: OutgoingConf = section("smtpc", OutgoingConf, doc="Limits of delivery.")
    smtps: IncomingConf = section("smtps", IncomingConf, doc="Limits of acceptance.")
    service: ServiceConf = shared(ServiceConf)
