"""Certificates for tests, and two TLS machines that talk to each other in memory."""

import datetime
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from libsmx.tls import TlsMachine
from libsmx.tlscontext import TlsContext, TlsFiles

START = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
END = datetime.datetime(2099, 1, 1, tzinfo=datetime.UTC)
DARTH = (
    (NameOID.COUNTRY_NAME, "US"),
    (NameOID.STATE_OR_PROVINCE_NAME, "California"),
    (NameOID.ORGANIZATION_NAME, "endmail.org"),
    (NameOID.ORGANIZATIONAL_UNIT_NAME, "private"),
    (NameOID.COMMON_NAME, "Darth Mail (Cert)"),
    (NameOID.EMAIL_ADDRESS, "darth+cert@endmail.org"),
)
"""The issuer of the README's examples."""


class Authority:
    """A CA that writes its certificates into a directory."""

    def __init__(self, directory, name="Test CA", parts=()):
        self.directory = directory
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name(
            [x509.NameAttribute(*part) for part in parts or ((NameOID.COMMON_NAME, name),)]
        )
        self.cert = self._sign(self.name, self.key, ca=True)
        self.file = directory / f"{name.replace(' ', '-')}.pem"
        self.file.write_bytes(self.cert.public_bytes(serialization.Encoding.PEM))

    def _sign(self, subject, key, *, ca=False, names=(), end=END, extra=()):
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(START)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([general_name(name) for name in names]), critical=False
            )
        for extension in extra:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, name, *, names=None, parts=(), end=END, extra=()):
        """Write NAME.pem and NAME.key; return both paths as text."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [x509.NameAttribute(*part) for part in parts or ((NameOID.COMMON_NAME, name),)]
        )
        cert = self._sign(
            subject, key, names=(name,) if names is None else names, end=end, extra=extra
        )
        stem = name.replace("*", "star").replace("@", "-at-")
        cert_path, key_path = self.directory / f"{stem}.pem", self.directory / f"{stem}.key"
        write_secret(
            key_path,
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )
        cert_path.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
        return str(cert_path), str(key_path)


def general_name(name):
    """Return a subjectAltName entry for an address, a mail address or a host name."""
    if "@" in name:
        return x509.RFC822Name(name)
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def write_secret(path, data):
    """Write a file that nobody else may read."""
    path.touch(0o600)
    path.write_bytes(data)


def server_context(cert, **options):
    """Return a context for the server's side from (certificate, key)."""
    return TlsContext(TlsFiles(cert=cert[0], key=cert[1], **options), server=True)


def client_context(**options):
    """Return a context for the client's side."""
    return TlsContext(TlsFiles(**options), server=False)


class Pair:
    """A client and a server whose bytes are carried by hand."""

    def __init__(self, server, client, *, host="mx.test", resume=None):
        self.server = TlsMachine(server)
        self.client = TlsMachine(client, host=host, resume=resume)
        self.to_client = b""
        self.to_server = b""

    def shake(self):
        """Carry bytes until both sides are done; return the pair."""
        self.client.start()
        for _ in range(10):
            self.carry()
        return self

    def carry(self):
        """Move what is there in both directions once."""
        self.to_server += self.server.receive(self.client.output())
        self.to_client += self.client.receive(self.server.output())
