"""Options of AUTH, of the SMTP server.

Kind: table.

Source: SPEC rows X348-X357; D43, D44.
"""

import attrs

from libsmx.kinds import Count, Flags, ListOf, Path, String
from libsmx.opt_shared import SECONDS
from libsmx.options import option

MECHANISM = String(
    "mechanism", r"[A-Za-z0-9_-]{1,20}", "letters, digits, - and _, as SCRAM-SHA-256"
)


@attrs.frozen
class SmtpsAuthConf:
    """AUTH of the SMTP server."""

    flags: frozenset[str] = option(
        "flags",
        Flags(
            {
                "noplaintext": "without TLS no mechanism that shows the password to listeners",
                "noactive": "no mechanism that an active attacker can abuse",
                "nodictionary": "no mechanism from which passwords can be guessed",
                "forward_secrecy": "only mechanisms that keep old sessions secret, of which "
                "there is none",
                "noanonymous": "no anonymous login, of which there is none anyway",
                "pass_credentials": "only mechanisms that pass credentials on: PLAIN, LOGIN",
                "mutual_auth": "only mechanisms by which the client knows the server: SCRAM",
            }
        ),
        ("noplaintext",),
        rows="X349 X350 X351 X352 X353 X354 X355",
        doc="Which mechanisms are offered. noactive leaves EXTERNAL and SCRAM, nodictionary "
        "EXTERNAL alone.",
    )
    trusted_mechs: tuple[str, ...] = option(
        "trusted_mechs",
        ListOf(MECHANISM, 20),
        (),
        rows="X356",
        doc="Mechanisms by which an authenticated client may relay. By others it may "
        "authenticate, but not relay.",
    )
    credentials_file: str = option(
        "credentials_file",
        Path(beside_conf=True),
        "smtps_passwd",
        rows="X348",
        doc="Keys of users, made by smxpasswd(8). AUTH is offered when there is this file or "
        "dovecot_socket; a file that is named here must exist. A changed file is read again "
        "without a restart.",
    )
    dovecot_socket: str = option(
        "dovecot_socket",
        Path(),
        "",
        doc="Unix socket on which Dovecot's auth service authenticates clients; used instead of "
        "credentials_file.",
    )
    sasl_conf: str = option(
        "sasl_conf",
        Path(beside_conf=True),
        "sendmail.conf",
        rows="X357",
        doc="File in the form of Cyrus SASL of which the line mech_list: is used: mechanisms "
        "that may be offered, with blanks between. Without it all may. Read at the start.",
    )
    max_failures_per_session: int = option(
        "max_failures_per_session",
        Count("failures"),
        "3",
        low="1",
        high="100",
        doc="Failures of AUTH in one session; the next one ends it with 421.",
    )
    max_failures_per_address: int = option(
        "max_failures_per_address",
        Count("failures"),
        "20",
        high="100000",
        doc="Failures of AUTH from one IPv4 address or IPv6 /64 net within failure_window; after "
        "that AUTH gets 454 from there without a look at the password. 0: any number.",
    )
    failure_window: int = option(
        "failure_window",
        SECONDS,
        "10m",
        low="1s",
        high="1d",
        doc="How long failures of an address are counted.",
    )
    failure_delay: int = option(
        "failure_delay",
        SECONDS,
        "2s",
        high="1m",
        doc="How much longer each failure from an address lets the next reply to a failure wait, "
        "up to eight times as long.",
    )
