"""TLS over memory: handshakes, verdicts on certificates, resumption, faults."""

import base64
import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import example, given
from hypothesis import strategies as st

from libsmx.log import NullLog
from libsmx.opt_tls import SmtpcTlsConf, SmtpsTlsConf, SniConf
from libsmx.tls import TlsMachine
from libsmx.tlscontext import TlsContext, TlsFiles
from libsmx.tlsfacts import (
    MAX_DN,
    PeerCert,
    TlsError,
    TlsFileError,
    colons,
    encode_dn,
    matches_host,
    plain_host,
    read_fingerprint,
)
from libsmx.tlssource import CHECK_S, TlsSource, find_files
from tests.libsmx.tlspair import (
    DARTH,
    Authority,
    Pair,
    client_context,
    server_context,
    write_secret,
)


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def mx(ca):
    return ca.issue("mx.test")


def test_both_sides_agree_and_know_each_other(ca, mx):
    cert = ca.issue("client.test")
    server = server_context(mx, ca_file=str(ca.file))
    client = client_context(ca_file=str(ca.file), cert=cert[0], key=cert[1])
    pair = Pair(server, client).shake()
    mine, theirs = pair.client.facts, pair.server.facts
    assert (mine.version, mine.verify, mine.resumed) == ("TLSv1.3", "OK", False)
    assert (mine.cipher, mine.bits) == (theirs.cipher, theirs.bits)
    assert (theirs.verify, theirs.sni) == ("OK", "mx.test")
    assert matches_host(mine.cert, "mx.test")
    assert not matches_host(mine.cert, "mail.test")
    assert theirs.cert.subject == "/CN=client.test"
    assert "cipher=TLS_" in mine.describe()
    assert "verify=OK" in mine.describe()


@given(st.lists(st.binary(min_size=1, max_size=40_000), max_size=6), st.integers(1, 9000))
def test_what_goes_in_comes_out_however_it_is_cut(pieces, cut):
    pair = Pair(*CONTEXTS).shake()
    for piece in pieces:
        pair.client.send(piece)
    wire = pair.client.output()
    got = b"".join(
        pair.server.receive(wire[at : at + cut]) for at in range(0, max(len(wire), 1), cut)
    )
    assert got == b"".join(pieces)


CONTEXTS = []


@pytest.fixture(scope="module", autouse=True)
def _contexts(ca, mx):
    CONTEXTS[:] = [server_context(mx), client_context(ca_file=str(ca.file))]


def test_certificates_that_do_not_verify_are_told_and_not_refused(ca, mx, tmp_path):
    stranger = Authority(tmp_path, "Another CA").issue("client.test")
    old = ca.issue("old.test", end=datetime.datetime(2021, 1, 1, tzinfo=datetime.UTC))
    server = server_context(mx, ca_file=str(ca.file))
    for cert, why in ((stranger, "unable to get issuer"), (old, "expired")):
        facts = Pair(server, client_context(cert=cert[0], key=cert[1])).shake().server.facts
        assert facts.verify == "FAIL"
        assert why in facts.why
    assert Pair(server, client_context()).shake().server.facts.verify == "NO"
    facts = Pair(server_context(old), client_context(ca_file=str(ca.file))).shake().client.facts
    assert (facts.verify, facts.why) == ("FAIL", "cert has expired")


@pytest.mark.parametrize("newest", ["TLSv1.2", "TLSv1.3"])
def test_a_resumed_session_is_as_trusted_as_the_first(ca, mx, tmp_path, newest):
    good, bad = ca.issue("good.test"), Authority(tmp_path, "Other CA").issue("bad.test")
    server = server_context(mx, ca_file=str(ca.file))
    for cert, verify in ((good, "OK"), (bad, "FAIL")):
        client = client_context(ca_file=str(ca.file), cert=cert[0], key=cert[1])
        if newest == "TLSv1.2":
            client.raw.set_max_proto_version(0x0303)
        first = Pair(server, client).shake()
        assert first.client.facts.version == newest
        again = Pair(server, client, resume=first.client.resumption()).shake()
        assert (again.client.facts.resumed, again.client.facts.verify) == (True, "OK")
        assert (again.server.facts.resumed, again.server.facts.verify) == (True, verify)
        # Another server process, or one with new certificates, takes no such ticket.
        other = server_context(mx, ca_file=str(ca.file))
        full = Pair(other, client, resume=first.client.resumption()).shake()
        assert (full.server.facts.resumed, full.server.facts.verify) == (False, verify)


def test_a_session_of_an_older_context_is_not_used(ca, mx):
    server = server_context(mx)
    first = Pair(server, client_context(ca_file=str(ca.file))).shake()
    other = client_context(ca_file=str(ca.file))
    again = Pair(server, other, resume=first.client.resumption()).shake()
    assert (again.client.facts.resumed, again.client.facts.verify) == (False, "OK")


def test_only_new_protocols(ca, mx):
    server = server_context(mx, min_version="tlsv1.3")
    client = client_context()
    client.raw.set_max_proto_version(0x0303)
    pair = Pair(server, client)
    with pytest.raises(TlsError, match="protocol"):
        pair.shake()
    assert pair.server.output(), "the client is told by an alert"


def feed(machine, data):
    """Receive, and at the end that nothing more comes."""
    for at in range(0, len(data), 20_000):
        machine.receive(data[at : at + 20_000])


@given(st.binary(min_size=100, max_size=200))
def test_rubbish_ends_the_handshake_and_nothing_else(rubbish):
    machine = TlsMachine(CONTEXTS[0])
    with pytest.raises(TlsError):
        feed(machine, rubbish * 400)
    assert machine.facts is None


@given(st.binary(min_size=100, max_size=200))
def test_rubbish_in_the_stream_ends_it(rubbish):
    pair = Pair(*CONTEXTS).shake()
    with pytest.raises(TlsError):
        feed(pair.server, rubbish * 600)


@pytest.mark.filterwarnings("ignore:Parsed a")
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=3))
@example([(12, 5)])  # a version that there is not
def test_no_certificate_breaks_a_server_or_is_believed(changes):
    der = bytearray(CLIENT["der"])
    for at, value in changes:
        der[at % len(der)] = value
    if der == CLIENT["der"]:
        return
    text = base64.encodebytes(bytes(der))
    CLIENT["path"].write_bytes(
        b"-----BEGIN CERTIFICATE-----\n" + text + b"-----END CERTIFICATE-----\n"
    )
    try:
        client = client_context(cert=str(CLIENT["path"]), key=CLIENT["key"])
    except TlsFileError:
        return  # OpenSSL itself does not send it
    try:
        facts = Pair(CLIENT["server"], client).shake().server.facts
    except TlsError:
        return
    signed = slice(4, 4 + CLIENT["signed"])
    if der[signed] != CLIENT["der"][signed]:
        assert facts is None or not facts.verified


CLIENT = {}


@pytest.fixture(scope="module", autouse=True)
def _client(ca, mx, tmp_path_factory):
    cert, key = ca.issue("client.test", names=("client.test", "192.0.2.1", "a@client.test"))
    loaded = x509.load_pem_x509_certificate(Path(cert).read_bytes())
    der = loaded.public_bytes(Encoding.DER)
    path = tmp_path_factory.mktemp("bad") / "bad.pem"
    server = server_context(mx, ca_file=str(ca.file))
    CLIENT.update(
        der=der, signed=len(loaded.tbs_certificate_bytes), key=key, path=path, server=server
    )


def test_the_end_is_told(mx):
    pair = Pair(server_context(mx), client_context()).shake()
    pair.client.send(b"last words")
    pair.client.close()
    pair.carry()
    assert pair.to_server == b"last words"
    assert pair.server.closed
    assert pair.server.receive(b"") == b""
    pair.server.close()
    pair.carry()
    assert pair.client.closed
    early = TlsMachine(CONTEXTS[0])
    early.close()
    assert early.output() == b""
    with pytest.raises(TlsError, match="before the handshake"):
        early.send(b"x")


def test_a_name_has_its_own_certificate(ca, mx):
    server = server_context(mx, ca_file=str(ca.file))
    server.add_name("Other.Test", server_context(ca.issue("other.test")))
    server.add_name("*.wild.test", server_context(ca.issue("*.wild.test")))
    client = client_context(ca_file=str(ca.file))
    for asked, shown in (
        ("mx.test", "mx.test"),
        ("OTHER.test", "other.test"),
        ("a.wild.test", "*.wild.test"),
        ("a.b.wild.test", "mx.test"),
        ("unknown.test", "mx.test"),
        ("192.0.2.1", "mx.test"),
    ):
        pair = Pair(server, client, host=asked).shake()
        assert pair.client.facts.cert.cn == shown, asked
        again = Pair(server, client, host=asked, resume=pair.client.resumption()).shake()
        assert again.server.facts.resumed, asked


# --- names ---------------------------------------------------------------------------------


@pytest.mark.covers("X419", "X420")
def test_names_are_written_as_keys_of_the_access_map(ca, tmp_path):
    issuer = Authority(tmp_path, "Darth", DARTH)
    cert = issuer.issue("x", parts=((NameOID.COMMON_NAME, 'a<b>"c"\x7f\xe9'),))
    server = server_context(cert)
    facts = Pair(server, client_context(ca_file=str(issuer.file))).shake().client.facts
    assert facts.cert.issuer == (
        "/C=US/ST=California/O=endmail.org/OU=private/CN=Darth+20Mail+20+28Cert+29"
        "/emailAddress=darth+2Bcert@endmail.org"
    )
    assert facts.cert.subject == "/CN=a+3Cb+3E+22c+22+7F+C3+A9"


@given(st.lists(st.tuples(st.binary(max_size=5), st.binary(max_size=40)), max_size=8))
def test_an_encoded_name_is_one_printable_word(components):
    text = encode_dn(components)
    assert all(" " < c <= "~" for c in text)
    assert not set(text) & set('<>()" ')


def test_a_name_too_long_is_no_name():
    assert len(encode_dn([(b"CN", b"x" * (MAX_DN - 4))])) == MAX_DN
    assert encode_dn([(b"CN", b"x" * (MAX_DN - 3))]) == ""


@pytest.mark.parametrize(
    ("names", "host", "matches"),
    [
        (["mx.example"], "mx.example", True),
        (["mx.example"], "MX.Example.", True),
        (["mx.example"], "a.mx.example", False),
        (["*.example.net"], "mx.example.net", True),
        (["*.example.net"], "example.net", False),
        (["*.example.net"], "a.b.example.net", False),
        (["*.net"], "example.net", False),
        (["m*.example.net"], "mx.example.net", False),
        (["*.example.net"], "*.example.net", False),
        (["192.0.2.1"], "192.0.2.1", False),
        ([], "cn.example", True),
        (["mx.example"], "cn.example", False),
        (["mx.example."], "mx.example", True),
        (["mx.example"], "", False),
        (["mx..example"], "mx..example", False),
    ],
)
def test_whose_certificate_it_is(names, host, matches):
    cert = PeerCert(subject="", issuer="", cn="cn.example", dns=tuple(names))
    assert matches_host(cert, host) is matches


def test_addresses_match_addresses_only():
    cert = PeerCert(subject="", issuer="", cn="192.0.2.1", ips=("192.0.2.9", "2001:db8::1"))
    assert matches_host(cert, "192.0.2.9")
    assert matches_host(cert, "[IPv6:2001:DB8:0::1]")
    assert not matches_host(cert, "192.0.2.1")
    assert plain_host("[192.0.2.9]") == "192.0.2.9"


def test_fingerprints():
    plain = "0f" * 32
    assert read_fingerprint(colons(plain)) == plain
    for wrong in ("", "0f" * 31, "zz" * 32):
        with pytest.raises(ValueError, match="fingerprint"):
            read_fingerprint(wrong)


# --- files ---------------------------------------------------------------------------------


def test_what_is_wrong_with_files_is_told(ca, mx, tmp_path):
    other = ca.issue("other.test")
    shown = tmp_path / "shown.key"
    shown.write_bytes(Path(mx[1]).read_bytes())
    shown.chmod(0o644)
    rubbish = tmp_path / "rubbish"
    write_secret(rubbish, b"-----BEGIN NOTHING-----\n")
    missing = str(tmp_path / "missing")
    for files, text in (
        ({"cert": mx[0]}, "needs a key_file"),
        ({"cert": mx[0], "key": other[1]}, "does not belong to"),
        ({"cert": mx[0], "key": str(shown)}, "everybody may use"),
        ({"cert": mx[0], "key": missing}, "missing: cannot be read"),
        ({"cert": missing, "key": mx[1]}, "missing: cannot be read"),
        ({"cert": str(rubbish), "key": mx[1]}, "rubbish: "),
        ({"cert": mx[0], "key": str(rubbish)}, "no private key"),
        ({"ca_file": missing}, "missing: "),
        ({"ca_dir": missing}, "is no directory"),
        ({"ca_file": str(rubbish)}, "rubbish: "),
        ({"ciphers": "NONSENSE"}, "NONSENSE"),
    ):
        with pytest.raises(TlsFileError, match=text):
            TlsContext(TlsFiles(**files), server=True)


@pytest.mark.covers("X427", "X124")
def test_default_names_lie_beside_the_configuration(ca, tmp_path):
    conf = SmtpsTlsConf(
        cert_file=str(tmp_path / "smtps_cert.pem"),
        key_file=str(tmp_path / "smtps_key.pem"),
        cacert_file=str(tmp_path / "CAcert.pem"),
        cacert_directory=str(tmp_path / "CAcerts"),
    )
    assert find_files(conf, str(tmp_path)) == TlsFiles()
    assert not TlsSource(conf, str(tmp_path), NullLog()).ready
    (tmp_path / "smtps_cert.pem").write_text("x")
    assert find_files(conf, str(tmp_path)).cert == conf.cert_file
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(TlsFileError, match=r"smtps_key.pem: cannot be read"):
        TlsSource(conf, str(tmp_path), NullLog())
    with pytest.raises(TlsFileError, match=r"CAcert.pem"):
        # Written by somebody, so it must be there.
        TlsSource(
            SmtpcTlsConf(cacert_file=conf.cacert_file, cert_file="smtpc_cert.pem"), "", NullLog()
        )


def test_changed_files_are_taken_and_broken_ones_are_not(ca, tmp_path):
    cert_file, key_file = tmp_path / "cert", tmp_path / "key"

    def put(pair):
        cert_file.write_bytes(Path(pair[0]).read_bytes())
        write_secret(key_file, Path(pair[1]).read_bytes())
        key_file.chmod(0o600)

    def shown(now_s):
        context = source.context(now_s)
        return Pair(context, client_context()).shake().client.facts.cert.cn

    put(ca.issue("first.test"))
    conf = SmtpsTlsConf(
        cert_file=str(cert_file), key_file=str(key_file),
        cacert_file="CAcert.pem", cacert_directory="CAcerts",
    )  # fmt: skip
    source = TlsSource(conf, "", NullLog())
    assert shown(100.0) == "first.test"
    second = ca.issue("second.test")
    cert_file.write_bytes(Path(second[0]).read_bytes())  # its key is not there yet
    assert shown(100.0 + CHECK_S) == "first.test"
    put(second)
    assert shown(100.0 + 2 * CHECK_S) == "second.test"
    cert_file.unlink()
    assert shown(100.0 + 3 * CHECK_S) == "second.test"


def test_certificates_of_other_names_are_complete_or_refused(ca, mx):
    for sni, cert in (
        (SniConf(names=("a.test",)), mx[0]),
        (SniConf(cert_file=mx[0], key_file=mx[1]), mx[0]),
        (SniConf(names=("a.test",), cert_file=mx[0], key_file=mx[1]), "smtps_cert.pem"),
    ):
        conf = SmtpsTlsConf(
            cert_file=cert, key_file=mx[1], cacert_file="CAcert.pem",
            cacert_directory="CAcerts", sni=(sni,),
        )  # fmt: skip
        with pytest.raises(TlsFileError, match="sni"):
            TlsSource(conf, "", NullLog())
