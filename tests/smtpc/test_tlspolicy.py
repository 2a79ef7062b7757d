"""TLS policies: how they are written, found and judged."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libsmx.tlsfacts import PeerCert, TlsFacts
from smtpc.tlspolicy import (
    Level,
    PolicyTable,
    Secured,
    TlsPolicy,
    judge,
    may_be_clear,
    read_policies,
    read_policy,
    strictest,
)

CERT = PeerCert(
    subject="/CN=mx.example.net", issuer="/CN=CA", dns=("mx.example.net", "*.example.com"),
    fingerprint="ab" * 32, key_fingerprint="cd" * 32,
)  # fmt: skip
FACTS = TlsFacts(version="TLSv1.3", cipher="C", bits=256, cert=CERT, verified=True)
GOOD = Secured(FACTS, "mx.example.net")


def changed(**facts):
    return attrs.evolve(GOOD, facts=attrs.evolve(FACTS, **facts))


EXPIRED = changed(verified=False, why="certificate has expired")
NOBODY = changed(cert=None, verified=False)
OLD = changed(version="TLSv1.2")


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("none", {"level": Level.NONE}),
        ("MAY", {"level": Level.MAY}),
        ("encrypt", {"level": Level.ENCRYPT}),
        ("encrypt minimum=TLSv1.3", {"level": Level.ENCRYPT, "minimum": "TLSv1.3"}),
        ("encrypt on_connect", {"level": Level.ENCRYPT, "on_connect": True}),
        ("verify", {"level": Level.VERIFY, "names": ("hostname",)}),
        ("verify names=a.example:.B.example ca=/etc/ca.pem",
         {"level": Level.VERIFY, "names": ("a.example", ".b.example"), "ca": "/etc/ca.pem"}),
        ("verify fingerprint=" + ":".join(["AB"] * 32) + "," + "cd" * 32,
         {"level": Level.VERIFY, "fingerprints": frozenset({"ab" * 32, "cd" * 32})}),
    ],
)  # fmt: skip
def test_a_policy_reads_as_written(text, fields):
    assert read_policy(text, "map x") == TlsPolicy(source="map x", **fields)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("strict", "none of none, may, encrypt, verify"),
        ("may minimum=TLSv1.3", "may takes no settings"),
        ("encrypt names=a.example", "need the level verify"),
        ("verify names=", "names are host names"),
        ("verify names=a_b..", "names are host names"),
        ("verify ca=relative.pem", "no setting"),
        ("verify fingerprint=abc", "fingerprint"),
        ("verify minimum=SSLv3", "no setting"),
        ("verify wish=x", "no setting"),
        ("verify names=a names=b", "given twice"),
        ("verify names=a fingerprint=" + "ab" * 32, "takes the place"),
    ],
)
def test_a_wrong_policy_is_named(text, why):
    with pytest.raises(ValueError, match=why):
        read_policy(text, "map")


def test_an_unreadable_policy_keeps_the_mail_and_not_a_secret_hope():
    policies, problems = read_policies([("a.example", "verfy"), ("b.example", "may")], "map")
    assert [key for key, _ in problems] == ["a.example"]
    assert judge(policies["a.example"], GOOD) is not None
    assert judge(policies["a.example"], None) is not None
    assert judge(policies["b.example"], None) is None


NONE, MAY = TlsPolicy(Level.NONE), TlsPolicy(Level.MAY)
ENCRYPT, VERIFY = TlsPolicy(Level.ENCRYPT), TlsPolicy(Level.VERIFY, names=("mx.example.net",))


@pytest.mark.covers("X424", "X426")
@pytest.mark.parametrize(
    ("policy", "session", "status", "why"),
    [
        (NONE, None, "", ""),
        (NONE, GOOD, "", ""),
        (MAY, None, "", ""),
        (MAY, EXPIRED, "", ""),
        (ENCRYPT, None, "4.7.4", "it was not tried"),
        (ENCRYPT, EXPIRED, "", ""),
        (ENCRYPT, NOBODY, "", ""),
        (attrs.evolve(ENCRYPT, minimum="TLSv1.3"), OLD, "4.7.5", "TLSv1.2 is below TLSv1.3"),
        (attrs.evolve(ENCRYPT, minimum="TLSv1.2"), GOOD, "", ""),
        (VERIFY, None, "4.7.4", "no TLS"),
        (VERIFY, GOOD, "", ""),
        (VERIFY, EXPIRED, "4.7.5", "not trusted: certificate has expired"),
        (VERIFY, NOBODY, "4.7.5", "no certificate"),
        (attrs.evolve(VERIFY, names=("other.example",)), GOOD, "4.7.5", "not for other.example"),
        (attrs.evolve(VERIFY, names=("other.example", "mx.example.net")), GOOD, "", ""),
        (attrs.evolve(VERIFY, names=("a.example.com",)), GOOD, "", ""),
        (attrs.evolve(VERIFY, names=("a.b.example.com",)), GOOD, "4.7.5", "not for"),
        (attrs.evolve(VERIFY, names=(".example.net",)), GOOD, "", ""),
        (attrs.evolve(VERIFY, names=(".ample.net",)), GOOD, "4.7.5", "not for"),
        (attrs.evolve(VERIFY, names=()), GOOD, "4.7.5", "not for anybody"),
        (attrs.evolve(VERIFY, ca="/ca.pem"), GOOD, "4.7.5", "other CAs"),
        (attrs.evolve(VERIFY, ca="/ca.pem"), attrs.evolve(GOOD, ca="/ca.pem"), "", ""),
        (attrs.evolve(VERIFY, fingerprints=frozenset({"ab" * 32})), EXPIRED, "", ""),
        (attrs.evolve(VERIFY, fingerprints=frozenset({"cd" * 32})), EXPIRED, "", ""),
        (attrs.evolve(VERIFY, fingerprints=frozenset({"00" * 32})), GOOD, "4.7.5", "AB:AB"),
    ],
)  # fmt: skip
def test_judgement(policy, session, status, why):
    unmet = judge(policy, session)
    assert (unmet.status if unmet else "") == status
    if unmet:
        assert why.lower() in unmet.text.lower()
        assert f"policy {policy.level.name.lower()}" in unmet.text


def test_the_reason_of_clear_text_is_told():
    assert "454 TLS broken" in judge(ENCRYPT, None, "454 TLS broken").text


TABLE = PolicyTable(
    TlsPolicy(),
    read_policies(
        [
            ("a@x.example", "none"),
            ("x.example", "encrypt"),
            (".x.example", "verify names=domain"),
            ("mx.big.example", "verify"),
            (".cloud.example", "encrypt minimum=TLSv1.3"),
        ],
        "map",
    )[0],
)


@pytest.mark.parametrize(
    ("address", "host", "level", "names"),
    [
        ("a@x.example", "mx.big.example", Level.NONE, None),
        ("A@X.Example", "mx.big.example", Level.NONE, None),
        ("b@x.example", "mx.big.example", Level.ENCRYPT, None),
        ("b@sub.x.example", "mx", Level.VERIFY, ("sub.x.example",)),
        ("b@deep.sub.x.example", "mx", Level.VERIFY, ("deep.sub.x.example",)),
        ("b@y.example", "MX.big.example", Level.VERIFY, ("mx.big.example",)),
        ("b@y.example", "n1.cloud.example", Level.ENCRYPT, None),
        ("b@y.example", "cloud.example", Level.MAY, None),
        ("postmaster", "", Level.MAY, None),
    ],
)
def test_the_nearest_entry_holds(address, host, level, names):
    found = TABLE.find(address, host)
    assert found.level is level
    if names is not None:
        assert found.names == names


def test_a_lone_dot_is_for_everybody_else():
    policies = read_policies([(".", "encrypt"), ("x.example", "may")], "map")[0]
    table = PolicyTable(TlsPolicy(), policies)
    assert table.find("a@y.example", "mx").level is Level.ENCRYPT
    assert table.find("a@x.example", "mx").level is Level.MAY


def test_the_strictest_opens_the_session_and_the_mildest_may_fall_back():
    assert strictest([NONE, VERIFY, MAY]) is VERIFY
    assert may_be_clear([VERIFY, MAY])
    assert not may_be_clear([VERIFY, ENCRYPT])


@given(st.text(max_size=60), st.text(max_size=20))
def test_no_text_breaks_the_reader_and_no_address_the_search(text, address):
    policies, problems = read_policies([("k", text)], "map")
    assert len(policies) == 1
    assert len(problems) <= 1
    assert TABLE.find(address, text).level in Level
