"""TLS contexts: what connections share, made from files.

Kind: shell.

Half of the door to OpenSSL; libsmx/tls.py is the other one, and tells more.
Source: RFC 7525 3.1, RFC 6066 3; SPEC rows X409-X412, X422-X425.
"""

import hashlib
import os
import stat
from collections import OrderedDict

import attrs
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID
from OpenSSL import SSL, crypto

from libsmx.tlsfacts import PeerCert, TlsFileError, encode_dn

MIN_VERSIONS = {"tlsv1.2": SSL.TLS1_2_VERSION, "tlsv1.3": SSL.TLS1_3_VERSION}
UNREADABLE = (
    ValueError, TypeError, OverflowError, UnsupportedAlgorithm, x509.InvalidVersion,
    x509.DuplicateExtension, x509.UnsupportedGeneralNameType,
)  # fmt: skip
"""What reading a certificate raises that OpenSSL takes and that is none: strangers send such."""
_MAX_REMEMBERED = 10_000
"""Most verified client certificates that a server remembers for resumed sessions."""
_MAX_PEM = 1 << 20
_MAX_CA_NAMES = 64 * 1024
"""Largest CA file, bytes, whose names are told to clients: the list travels in each handshake."""


@attrs.frozen(kw_only=True)
class TlsFiles:
    """What a context is made from; an empty name stands for nothing.

    Attributes:
        cert: certificate chain, PEM, own certificate first.
        key: its private key, PEM.
        ca_file, ca_dir: certificates that peers are verified with.
        system_cas: without ca_file and ca_dir use those that the operating system trusts.
        min_version: ``tlsv1.2`` or ``tlsv1.3``.
        ciphers: for TLS 1.2 in OpenSSL's syntax; empty: the library's choice.
    """

    cert: str = ""
    key: str = ""
    ca_file: str = ""
    ca_dir: str = ""
    system_cas: bool = False
    min_version: str = "tlsv1.2"
    ciphers: str = ""

    def paths(self) -> tuple[str, ...]:
        """Return the names of all files and directories."""
        return tuple(path for path in (self.cert, self.key, self.ca_file, self.ca_dir) if path)


class TlsContext:
    """Certificates and rules that connections share.

    Args:
        files: what it is made from.
        server: for the server's side.

    Raises:
        TlsFileError: names the file and what is wrong with it.
    """

    def __init__(self, files: TlsFiles, *, server: bool) -> None:
        self.files = files
        self.server = server
        self._by_name: dict[str, TlsContext] = {}
        self._remembered: OrderedDict[bytes, None] = OrderedDict()
        context = SSL.Context(SSL.TLS_SERVER_METHOD if server else SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(MIN_VERSIONS[files.min_version])
        context.set_options(
            SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE
        )
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)  # tickets keep the state elsewhere
        self.raw = context
        if files.ciphers:
            _try(f"ciphers {files.ciphers!r}", context.set_cipher_list, files.ciphers.encode())
        if files.cert:
            _load_own(context, files)
        trusts = self._load_trusted(context)
        if server:
            context.set_session_id(b"smx")  # one for all names: a ticket may come back with another
            context.set_tlsext_servername_callback(self._choose)
        if trusts or not server:
            context.set_verify(SSL.VERIFY_PEER, _note_verdict)

    def _load_trusted(self, context: SSL.Context) -> bool:
        """Load CA certificates; tell whether there are any."""
        files = self.files
        if files.ca_file or files.ca_dir:
            what = files.ca_file or files.ca_dir
            if files.ca_dir and not os.path.isdir(files.ca_dir):
                raise TlsFileError(f"{files.ca_dir}: is no directory")
            _try(what, context.load_verify_locations, files.ca_file or None, files.ca_dir or None)
            if self.server and files.ca_file and os.path.getsize(files.ca_file) <= _MAX_CA_NAMES:
                _try(what, context.load_client_ca, os.fsencode(files.ca_file))
            return True
        if files.system_cas:
            context.set_default_verify_paths()
        return files.system_cas

    def add_name(self, name: str, other: "TlsContext") -> None:
        """Use another context's certificate for clients that ask for this host name."""
        self._by_name[name.lower().rstrip(".")] = other

    def _choose(self, connection: SSL.Connection) -> None:
        """Take the certificate of the name that the client asks for (RFC 6066 3)."""
        if not self._by_name:
            return
        name = (connection.get_servername() or b"").decode("ascii", "replace").lower().rstrip(".")
        other = self._by_name.get(name) or self._by_name.get(f"*.{name.partition('.')[2]}")
        if other is not None:
            connection.set_context(other.raw)

    def remember(self, leaf: bytes) -> None:
        """Note that the certificate with this digest was verified."""
        self._remembered[leaf] = None
        self._remembered.move_to_end(leaf)
        if len(self._remembered) > _MAX_REMEMBERED:
            self._remembered.popitem(last=False)

    def remembers(self, leaf: bytes) -> bool:
        """Tell whether a certificate was verified by this context."""
        return leaf in self._remembered


def _load_own(context: SSL.Context, files: TlsFiles) -> None:
    """Load certificate and key."""
    if not files.key:
        raise TlsFileError(f"{files.cert}: a certificate needs a key_file")
    try:
        mode = os.stat(files.key).st_mode
    except OSError as error:
        raise TlsFileError(f"{files.key}: cannot be read: {error.strerror}") from error
    if mode & stat.S_IRWXO:
        raise TlsFileError(f"{files.key}: everybody may use this private key: chmod o= {files.key}")
    _read(files.cert)
    _try(files.cert, context.use_certificate_chain_file, files.cert)
    try:
        key = load_pem_private_key(_read(files.key), None)
    except TypeError as error:  # a daemon has nobody to ask for the password
        raise TlsFileError(f"{files.key}: the key is encrypted; remove its password") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise TlsFileError(f"{files.key}: is no private key in PEM form") from error
    _try(f"{files.key}: does not belong to {files.cert}", context.use_privatekey, key)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_MAX_PEM)
    except OSError as error:
        raise TlsFileError(f"{path}: cannot be read: {error.strerror}") from error


def _try(what: str, function: object, *args: object) -> None:
    """Call a function of pyOpenSSL; its errors get a name."""
    try:
        function(*args)  # type: ignore[operator]
    except (SSL.Error, crypto.Error) as error:
        raise TlsFileError(f"{what}: {words_of(error)}") from error
    except (OSError, ValueError) as error:
        raise TlsFileError(f"{what}: {error}") from error


def words_of(error: Exception) -> str:
    """Return OpenSSL's reasons."""
    if isinstance(error, SSL.SysCallError):
        return "connection ended"
    parts = error.args[0] if error.args and isinstance(error.args[0], list) else []
    words = [str(part[-1]) for part in parts if isinstance(part, tuple) and part and part[-1]]
    return "; ".join(dict.fromkeys(words))[:200] or "connection broken"


def _note_verdict(
    connection: SSL.Connection, _cert: crypto.X509, number: int, _depth: int, _ok: int
) -> bool:
    """Keep the first thing that is wrong with the peer's certificate, and go on."""
    found = connection.get_app_data()
    if isinstance(found, list) and number and not found:
        found.append(number)
    return True


_SHORT = {
    NameOID.COUNTRY_NAME: "C",
    NameOID.STATE_OR_PROVINCE_NAME: "ST",
    NameOID.LOCALITY_NAME: "L",
    NameOID.ORGANIZATION_NAME: "O",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "OU",
    NameOID.COMMON_NAME: "CN",
    NameOID.EMAIL_ADDRESS: "emailAddress",
    NameOID.DOMAIN_COMPONENT: "DC",
    NameOID.USER_ID: "UID",
    NameOID.SERIAL_NUMBER: "serialNumber",
    NameOID.SURNAME: "SN",
    NameOID.GIVEN_NAME: "GN",
    NameOID.TITLE: "title",
    NameOID.STREET_ADDRESS: "street",
    NameOID.POSTAL_CODE: "postalCode",
    NameOID.INITIALS: "initials",
    NameOID.GENERATION_QUALIFIER: "generationQualifier",
    NameOID.DN_QUALIFIER: "dnQualifier",
    NameOID.PSEUDONYM: "pseudonym",
    NameOID.UNSTRUCTURED_NAME: "unstructuredName",
    NameOID.ORGANIZATION_IDENTIFIER: "organizationIdentifier",
}
"""OpenSSL's short names; other attributes are written with their number, as OpenSSL does."""


def read_cert(cert: x509.Certificate) -> PeerCert:
    """Return what is used of a certificate; what cannot be read counts as not there."""
    dns: list[str] = []
    ips: list[str] = []
    emails: list[str] = []
    try:
        names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        dns = names.get_values_for_type(x509.DNSName)
        ips = [str(ip) for ip in names.get_values_for_type(x509.IPAddress)]
        emails = names.get_values_for_type(x509.RFC822Name)
    except (x509.ExtensionNotFound, *UNREADABLE):
        pass  # strangers' certificates may hold anything
    try:
        key = cert.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except UNREADABLE:
        key = b""
    subject, issuer = _components(cert, "subject"), _components(cert, "issuer")
    cns = [value for name, value in subject if name == b"CN"]
    return PeerCert(
        subject=encode_dn(subject),
        issuer=encode_dn(issuer),
        cn=cns[-1].decode("utf-8", "replace") if cns else "",
        dns=tuple(name.lower() for name in dns[:100]),
        ips=tuple(ips[:100]),
        emails=tuple(emails[:100]),
        fingerprint=cert.fingerprint(SHA256()).hex(),
        key_fingerprint=hashlib.sha256(key).hexdigest() if key else "",
    )


def _components(cert: x509.Certificate, which: str) -> list[tuple[bytes, bytes]]:
    """Return (short name, value) of a DN, in the order of the certificate."""
    try:
        name = cert.subject if which == "subject" else cert.issuer
        return [
            (
                _SHORT.get(one.oid, one.oid.dotted_string).encode(),
                one.value if isinstance(one.value, bytes) else one.value.encode(),
            )
            for one in name
        ]
    except UNREADABLE:
        return []
