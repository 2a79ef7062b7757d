"""Limits of the queue manager: the numbers that its cores work with.

Kind: table.

Taken from the options once at start; the cores know nothing of configuration files.
Source: SPEC rows X160, X165-X170, X175, X180-X192; D56.
"""

import attrs

from libsmx.opttab import QmgrConf


@attrs.frozen(kw_only=True)
class Limits:
    """Every number a core of the queue manager is bound by; times in seconds."""

    aq_max_entries: int = 8192
    """Recipients under delivery."""
    iqdb_max_entries: int = 10_000
    """Sessions, open transactions and recipients that wait for the active queue, together."""
    occ_max_entries: int = 10_000
    """Remote addresses remembered."""
    in_max_connections: int = 100
    """Open connections from one client address."""
    in_max_rate: int = 100
    """New connections from one client address in 60 s."""
    out_initial_connections: int = 10
    """Window of a remote address that nothing is known of."""
    out_max_connections: int = 100
    """Widest window of a remote address."""
    smtp_max_rcpts: int = 100
    """Recipients in one outgoing SMTP transaction."""
    lmtp_max_rcpts: int = 100
    """Recipients in one outgoing LMTP transaction."""
    max_idle_s: float = 5.0
    """How long an unused delivery session is kept."""
    max_tas_per_session: int = 1000
    """Transactions over one delivery session."""
    retry_min_s: float = 900.0
    retry_max_s: float = 14_400.0
    return_timeout_s: float = 432_000.0
    """Age at which a message goes back to its sender."""
    delay_timeout_s: float = 14_400.0
    """Age at which the sender is told of a delay; beyond return_timeout_s: never."""
    max_errors_per_dsn: int = 100
    """Recipients in one report."""
    dsn_merge_s: float = 10.0
    """How long a failure waits for others of its transaction to be told with it."""
    dsn_header_only: bool = False
    """Reports never carry the whole message."""
    dsn_mime: bool = True
    """Reports are multipart/report; else plain text."""
    dsn_max_returned: int = 32 << 20
    """Greatest message that a report carries whole, bytes."""
    double_bounce: str = ""
    """Who is told when mail with the null sender fails; empty: nobody."""
    hostname: str = "localhost"
    """Name of this system in bounces."""


def from_conf(conf: QmgrConf, hostname: str) -> Limits:
    """Return the limits that a configuration asks for.

    A first window wider than the widest is cut down to it, and a shortest retry delay beyond
    the longest likewise (SPEC decision D13).
    """
    return Limits(
        aq_max_entries=conf.aq_max_entries,
        iqdb_max_entries=conf.iqdb.max_cache_entries,
        occ_max_entries=conf.occ_max_entries,
        in_max_connections=conf.smtps.max_connections,
        in_max_rate=conf.smtps.max_connection_rate,
        out_initial_connections=min(conf.smtpc.initial_connections, conf.smtpc.max_connections),
        out_max_connections=conf.smtpc.max_connections,
        smtp_max_rcpts=conf.smtpc.smtp_max_rcpts_per_transaction,
        lmtp_max_rcpts=conf.smtpc.lmtp_max_rcpts_per_transaction,
        max_idle_s=conf.smtpc.max_idle,
        max_tas_per_session=conf.smtpc.max_transactions_per_session,
        retry_min_s=min(conf.retry_min_delay, conf.retry_max_delay),
        retry_max_s=conf.retry_max_delay,
        return_timeout_s=conf.queue_return_timeout,
        delay_timeout_s=conf.queue_delay_timeout,
        max_errors_per_dsn=conf.dsn_handling.max_errors_per_dsn,
        dsn_merge_s=conf.dsn_handling.merge_delay_max,
        dsn_header_only="header_only" in conf.dsn_handling.flags,
        dsn_mime="mime_format" in conf.dsn_handling.flags,
        dsn_max_returned=conf.dsn_handling.max_returned_size * 1024,
        double_bounce=conf.dsn_handling.double_bounce_address,
        hostname=hostname,
    )
