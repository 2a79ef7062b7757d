"""What is known of a TLS connection, how names in certificates are read and written.

Kind: core.

Nothing here touches OpenSSL, so that other cores may judge a connection by its facts.
Source: RFC 6125 6.4, RFC 5280 4.2.1.6, RFC 8446; SPEC rows X419, X420.
"""

import ipaddress
import re
from collections.abc import Iterable

import attrs

from libsmx.errors import SmxError

MAX_DN = 2048
"""Longest encoded DN that is used, characters: what a message to smar carries."""
_MAX_NAMES = 100
_ENCODED = frozenset(b'<>()"+ ')
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")


class TlsError(SmxError):
    """TLS cannot go on with this peer; the shell ends the connection or its attempt."""


class TlsFileError(SmxError):
    """A certificate, key or CA file cannot be used; told at start, logged at a reload."""


@attrs.frozen(kw_only=True)
class PeerCert:
    """The certificate of the other side.

    Attributes:
        subject, issuer: encoded DNs; empty where they are longer than MAX_DN.
        cn: the last CN of the subject, decoded, "" if there is none.
        dns: dNSName entries of subjectAltName, lower case, at most 100.
        ips: iPAddress entries, in their usual form.
        emails: rfc822Name entries.
        fingerprint: SHA-256 of the certificate, lower case hexadecimal.
        key_fingerprint: SHA-256 of its public key (SubjectPublicKeyInfo).
    """

    subject: str
    issuer: str
    cn: str = ""
    dns: tuple[str, ...] = ()
    ips: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    fingerprint: str = ""
    key_fingerprint: str = ""


@attrs.frozen(kw_only=True)
class TlsFacts:
    """An established TLS connection.

    Attributes:
        version: ``TLSv1.3``.
        cipher: OpenSSL's name of the cipher suite.
        bits: secret bits of the cipher.
        resumed: keys come from an earlier session.
        cert: of the peer, None if it sent none.
        verified: the certificate leads to one of our CAs, is for this use and within its time.
        why: why it did not verify, "" where it did or there is none.
        sni: the name the client asked for (server), or that we asked for (client).
    """

    version: str
    cipher: str
    bits: int
    resumed: bool = False
    cert: PeerCert | None = None
    verified: bool = False
    why: str = ""
    sni: str = ""

    @property
    def verify(self) -> str:
        """``OK``, ``NO`` without a certificate, ``FAIL`` with one that did not verify."""
        if self.cert is None:
            return "NO"
        return "OK" if self.verified else "FAIL"

    def describe(self) -> str:
        """Return the facts as Received: fields and log lines have them."""
        return f"version={self.version} cipher={self.cipher} bits={self.bits} verify={self.verify}"


def encode_dn(components: Iterable[tuple[bytes, bytes]]) -> str:
    """Return a distinguished name in OpenSSL's one-line form, safe as a key of a map.

    Args:
        components: (short name, value) as the certificate has them, raw bytes.

    Returns:
        ``/C=US/CN=Darth+20Mail``: non-printables and ``<>()"+`` and blanks as +HH (SPEC rows
        X419, X420); empty where the result is longer than MAX_DN.
    """
    text = "".join(f"/{_encode(name)}={_encode(value)}" for name, value in components)
    return text if len(text) <= MAX_DN else ""


def _encode(value: bytes) -> str:
    return "".join(chr(c) if 32 < c < 127 and c not in _ENCODED else f"+{c:02X}" for c in value)


def plain_host(host: str) -> str:
    """Return a host name in lower case without a dot at its end; an address in its usual form."""
    host = host.strip().lower().rstrip(".")
    try:
        return str(ipaddress.ip_address(host.strip("[]").removeprefix("ipv6:")))
    except ValueError:
        return host


def is_address(host: str) -> bool:
    """Tell whether a host is given by its IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def matches_host(cert: PeerCert, host: str) -> bool:
    """Tell whether a certificate names a host.

    Args:
        cert: of the peer.
        host: name or IP address.

    The names of subjectAltName count; the CN of the subject only where there is none of them
    (RFC 6125 6.4.4). A wildcard stands for the whole first label, and at least two labels
    must follow (6.4.3).
    """
    wanted = plain_host(host)
    if is_address(wanted):
        return wanted in cert.ips
    names = cert.dns
    if not names and not cert.ips and cert.cn:
        names = (cert.cn.lower(),)
    return any(_matches(name.rstrip("."), wanted) for name in names[:_MAX_NAMES])


def _matches(pattern: str, host: str) -> bool:
    labels, given = host.split("."), pattern.split(".")
    if len(labels) != len(given) or not all(_LABEL.fullmatch(label) for label in labels):
        return False
    if given[0] == "*" and len(given) > 2:
        return labels[1:] == given[1:]
    return labels == given


def colons(fingerprint: str) -> str:
    """Return a fingerprint as ``openssl x509 -fingerprint`` prints it: ``AB:CD``."""
    upper = fingerprint.upper()
    return ":".join(upper[at : at + 2] for at in range(0, len(upper), 2))


def read_fingerprint(text: str) -> str:
    """Return a SHA-256 fingerprint, with or without colons, in lower case.

    Raises:
        ValueError: it is none.
    """
    plain = text.replace(":", "").lower()
    if not re.fullmatch(r"[0-9a-f]{64}", plain):
        raise ValueError(f"{text[:80]!r} is no SHA-256 fingerprint: 64 hexadecimal digits")
    return plain
