"""Options of TLS, of the SMTP server and of the client.

Kind: table.

Source: SPEC rows X124, X409-X414, X422-X427; D05.
"""

import attrs

from libsmx.kinds import Choice, Count, Flags, ListOf, Path, String
from libsmx.opt_shared import SECONDS
from libsmx.options import option, section

MIN_PROTOCOL = Choice("tlsv1.2", "tlsv1.3")
CIPHERS = String("cipher list", r"[A-Za-z0-9_:@!+=-]*", "OpenSSL's syntax of cipher lists")
SERVER_NAME = String(
    "server name",
    r"(\*\.)?[A-Za-z0-9][A-Za-z0-9_-]{0,62}(\.[A-Za-z0-9_-]{1,63}){0,20}",
    "a host name, or *. before one",
)


@attrs.frozen
class SniConf:
    """A certificate for clients that ask for certain host names."""

    names: tuple[str, ...] = option(
        "names",
        ListOf(SERVER_NAME, 1000),
        (),
        doc="Host names for which this certificate is shown; *.domain stands for all names with "
        "one label more.",
    )
    cert_file: str = option(
        "cert_file", Path(), "", doc="Certificate and those that lead from it to its CA, PEM."
    )
    key_file: str = option("key_file", Path(), "", doc="Private key of the certificate, PEM.")


@attrs.frozen
class SmtpsTlsConf:
    """TLS of the SMTP server."""

    cert_file: str = option(
        "cert_file",
        Path(beside_conf=True),
        "smtps_cert.pem",
        rows="X409 X427",
        doc="Certificate of the server and those that lead from it to its CA, PEM. STARTTLS is "
        "offered when there is one; a file that is named here must exist. Files that were "
        "changed are read again without a restart; broken ones are logged and the old ones stay "
        "in use.",
    )
    key_file: str = option(
        "key_file",
        Path(beside_conf=True),
        "smtps_key.pem",
        rows="X410 X427",
        doc="Private key of the certificate, PEM, without a password. The server's user must be "
        "able to read it and others must not.",
    )
    cacert_file: str = option(
        "CAcert_file",
        Path(beside_conf=True),
        "CAcert.pem",
        rows="X411 X427",
        doc="Certificates of CAs, PEM. Clients are asked for a certificate, which they need not "
        "have, when there is this file or CAcert_directory.",
    )
    cacert_directory: str = option(
        "CAcert_directory",
        Path(beside_conf=True),
        "CAcerts",
        rows="X412 X427",
        doc="Directory of CA certificates, PEM, under the names that openssl rehash gives.",
    )
    flags: frozenset[str] = option(
        "flags",
        Flags(
            {
                "allow_relaying_if_verified": "a client whose certificate verifies may relay",
                "check_access_map_for_relaying": "a client whose certificate verifies may relay "
                "if the access map says so for certissuer: or certsubject:",
            }
        ),
        (),
        rows="X413 X414",
        doc="What a client's certificate is good for.",
    )
    implicit_ports: tuple[int, ...] = option(
        "implicit_ports",
        ListOf(Count("port"), 20),
        ("465",),
        doc="Ports of this server on which TLS begins with the connection (RFC 8314), without "
        "STARTTLS.",
    )
    min_protocol: str = option(
        "min_protocol", MIN_PROTOCOL, "tlsv1.2", doc="Oldest version of TLS that is spoken."
    )
    ciphers: str = option(
        "ciphers",
        CIPHERS,
        "",
        doc="Ciphers for TLS 1.2, in OpenSSL's syntax. Empty: the library's own choice.",
    )
    handshake_timeout: int = option(
        "handshake_timeout",
        SECONDS,
        "30s",
        low="1s",
        high="10m",
        doc="Longest time for a handshake.",
    )
    sni: tuple[SniConf, ...] = section(
        "sni",
        SniConf,
        repeat=True,
        doc="Another certificate for some names of this server; may be repeated.",
    )


@attrs.frozen
class SmtpcTlsConf:
    """TLS of the SMTP client."""

    cert_file: str = option(
        "cert_file",
        Path(beside_conf=True),
        "smtpc_cert.pem",
        rows="X422 X427",
        doc="Certificate that is shown to servers that ask for one, PEM. A file that is named "
        "here must exist. Files that were changed are read again without a restart.",
    )
    key_file: str = option(
        "key_file",
        Path(beside_conf=True),
        "smtpc_key.pem",
        rows="X423 X427",
        doc="Private key of the certificate, PEM, without a password. The client's user must be "
        "able to read it and others must not.",
    )
    cacert_file: str = option(
        "CAcert_file",
        Path(beside_conf=True),
        "CAcert.pem",
        rows="X424 X427",
        doc="Certificates of CAs by which servers are verified, PEM. With neither this file nor "
        "CAcert_directory those that the operating system trusts are used.",
    )
    cacert_directory: str = option(
        "CAcert_directory",
        Path(beside_conf=True),
        "CAcerts",
        rows="X425 X427",
        doc="Directory of CA certificates, PEM, under the names that openssl rehash gives.",
    )
    min_protocol: str = option(
        "min_protocol", MIN_PROTOCOL, "tlsv1.2", doc="Oldest version of TLS that is spoken."
    )
    ciphers: str = option(
        "ciphers",
        CIPHERS,
        "",
        doc="Ciphers for TLS 1.2, in OpenSSL's syntax. Empty: the library's own choice.",
    )
    level: str = option(
        "level",
        Choice("none", "may", "encrypt", "verify"),
        "may",
        doc="What is asked of servers about which policy_map says nothing. none: TLS is not "
        "tried; may: TLS where it works, clear text where it does not; encrypt: TLS with anybody; "
        "verify: TLS with a server whose certificate is of a known CA and has the host's name. "
        "Mail that a server does not get for this reason waits.",
    )
    policy_map: str = option(
        "policy_map",
        Path(),
        "",
        doc="Map of TLS policies, made by createmap: address, domain, .domain above it, or the "
        "same of the next hop's name; then the level and, for encrypt and verify, minimum=, "
        "names=, ca=, fingerprint=, on_connect. Read at the start and on SIGHUP.",
    )
