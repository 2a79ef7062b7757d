"""STARTTLS in the session machine: what is forgotten, what a certificate is good for."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libsmx.opt_tls import SmtpsTlsConf
from libsmx.tlsfacts import PeerCert, TlsFacts
from libsmx.wire import CertAsk, Refusal, SessionGranted, Verdict
from smtps.received import protocol_name
from smtps.xclient import Introduction
from tests.smtps.client import Client, World, make_policy

PLAIN = TlsFacts(version="TLSv1.3", cipher="TLS_AES_256_GCM_SHA384", bits=256, sni="mx.test")
CERT = PeerCert(subject="/CN=c.test", issuer="/CN=CA", cn="c.test", dns=("c.test",))
VERIFIED = attrs.evolve(PLAIN, cert=CERT, verified=True)
SELF_SIGNED = attrs.evolve(PLAIN, cert=CERT, why="self signed cert")


def make(world=None, *, ready=True, flags=(), **options):
    policy = make_policy(tls=attrs.evolve(SmtpsTlsConf(), flags=frozenset(flags)), **options)
    policy.tls_ready = ready
    return Client(world or World(tls=PLAIN), policy=policy)


@pytest.mark.covers("X004")
def test_everything_begins_anew_after_the_handshake():
    client = make()
    assert "250-STARTTLS" in client.talk("EHLO c.test\r\n").replace("250 STARTTLS", "250-STARTTLS")
    assert client.talk("STARTTLS\r\n").startswith("220 2.0.0 ")
    assert client.session.dialogue.helo == ""
    assert client.codes("MAIL FROM:<a@b.test>\r\n") == "503"
    assert "STARTTLS" not in client.talk("EHLO c.test\r\n")
    assert client.codes("STARTTLS\r\nMAIL FROM:<a@b.test>\r\n") == "503 250"
    name, fields = client.records[0]
    assert (name, fields["version"], fields["verify"]) == ("tls_started", "TLSv1.3", "NO")


def test_a_transaction_in_clear_text_is_given_up():
    client = make()
    client.begin()
    assert client.codes("STARTTLS\r\n") == "220"
    assert client.aborted == ["S000000000000000100"]
    assert client.codes("EHLO c.test\r\nDATA\r\n") == "250 503"


def test_not_offered_means_not_implemented():
    for client in (make(ready=False), make(extensions_hidden=frozenset(("starttls",)))):
        assert "STARTTLS" not in client.talk("EHLO c.test\r\n")
        assert client.codes("STARTTLS\r\n") == "502"


def test_starttls_takes_no_argument_and_comes_after_ehlo():
    assert make().codes("STARTTLS\r\n") == "503"
    assert make().codes("EHLO c.test\r\nSTARTTLS now\r\n") == "250 501"


@given(st.binary(min_size=1, max_size=40))
def test_nothing_may_follow_in_clear_text(more):
    client = make()
    client.talk("EHLO c.test\r\n")
    said = client.talk(b"STARTTLS\r\n" + more)
    assert said.startswith("554 5.5.1 ")
    assert client.closed
    assert [name for name, _ in client.records] == ["tls_injection"]
    assert client.session.dialogue.tls is None


def test_replies_before_it_leave_before_it():
    client = make()
    assert client.codes("EHLO c.test\r\nNOOP\r\nSTARTTLS\r\n") == "250 250 220"


@pytest.mark.covers("X413")
@pytest.mark.parametrize(
    ("facts", "flags", "relay"),
    [
        (VERIFIED, ["allow_relaying_if_verified"], True),
        (VERIFIED, [], False),
        (SELF_SIGNED, ["allow_relaying_if_verified"], False),
        (PLAIN, ["allow_relaying_if_verified"], False),
    ],
)
def test_a_verified_certificate_may_relay_by_flag(facts, flags, relay):
    client = make(World(tls=facts), flags=flags)
    client.talk("EHLO c.test\r\nSTARTTLS\r\n")
    client.begin()
    assert client.asks[-1].questions[0].relay is relay


@pytest.mark.covers("X414", "X415", "X416", "X417", "X418")
@pytest.mark.parametrize(
    ("facts", "options", "verdict", "asked", "relay"),
    [
        (VERIFIED, {"flags": {"access"}}, Verdict(accept=True, mark="relay"), True, True),
        (VERIFIED, {"flags": {"access"}}, Verdict(accept=True, mark=""), True, False),
        (VERIFIED, {"flags": {"access"}}, Verdict(accept=False, code=550), True, False),
        (VERIFIED, {}, Verdict(accept=True, mark="relay"), False, False),
        (SELF_SIGNED, {"flags": {"access"}}, Verdict(accept=True, mark="relay"), False, False),
    ],
)
def test_the_access_map_decides_on_verified_certificates(facts, options, verdict, asked, relay):
    world = World(tls=facts, prove=lambda _: verdict)
    tls = attrs.evolve(SmtpsTlsConf(), flags=frozenset(("check_access_map_for_relaying",)))
    policy = make_policy(tls=tls, **{name: frozenset(value) for name, value in options.items()})
    policy.tls_ready = True
    client = Client(world, policy=policy)
    client.talk("EHLO c.test\r\nSTARTTLS\r\n")
    wanted = [CertAsk(issuer="/CN=CA", subject="/CN=c.test")]
    assert client.proofs == (wanted if asked else [])
    assert client.session.dialogue.relay is relay


@pytest.mark.parametrize("answer", [None, Refusal(code=451, status="4.3.0", text="x")])
def test_while_the_map_cannot_be_asked_the_client_has_to_come_again(answer):
    world = World(tls=VERIFIED, prove=lambda _: answer)
    policy = make_policy(
        tls=attrs.evolve(SmtpsTlsConf(), flags=frozenset(("check_access_map_for_relaying",))),
        flags=frozenset(("access",)),
    )
    policy.tls_ready = True
    client = Client(world, policy=policy)
    said = client.talk("EHLO c.test\r\nSTARTTLS\r\n")
    assert said.splitlines()[-1].startswith("421 4.3.0 ")
    assert client.closed


class Implicit(Client):
    """A client whose handshake comes before the greeting."""

    def _perform(self, effects):
        if self.session.dialogue.tls is None:
            self.session = type(self.session)(self.policy, "192.0.2.9", "65538F00-2")
            self.session.secured(self.world.tls)
            effects = self.session.opened(SessionGranted(), self.world.conn)
        super()._perform(effects)


def test_tls_from_the_beginning():
    policy = make_policy(
        tls=attrs.evolve(SmtpsTlsConf(), flags=frozenset(("check_access_map_for_relaying",))),
        flags=frozenset(("access",)),
    )
    policy.tls_ready = True
    world = World(tls=VERIFIED, prove=lambda _: Verdict(accept=True, mark="relay"))
    client = Implicit(world, policy=policy)
    assert client.greeting.startswith("220 mx.test ESMTP")
    assert client.session.dialogue.relay
    assert "STARTTLS" not in client.talk("EHLO c.test\r\n")
    world.prove = lambda _: None
    client = Implicit(world, policy=policy)
    assert client.greeting.splitlines()[-1].startswith("421 4.3.0 ")


def test_xclient_speaks_for_clients_without_certificates():
    client = make(
        World(tls=VERIFIED),
        flags=["allow_relaying_if_verified"],
    )
    client.talk("EHLO c.test\r\nSTARTTLS\r\n")
    dialogue = client.session.dialogue
    assert (dialogue.relay, dialogue.identity, dialogue.subject) == (True, "c.test", "/CN=c.test")
    dialogue.introduce(Introduction("192.0.2.77"))
    assert (dialogue.relay, dialogue.identity, dialogue.subject) == (False, "", "")
    assert dialogue.secure


def test_the_protocol_is_named_with_what_protects_it():
    """RFC 3848, RFC 6531 4.3."""
    names = {
        (utf8, tls, auth): protocol_name(esmtp=True, utf8=utf8, tls=tls, auth=auth)
        for utf8 in (False, True)
        for tls in (False, True)
        for auth in (False, True)
    }
    assert names[False, True, False] == "ESMTPS"
    assert names[False, True, True] == "ESMTPSA"
    assert names[False, False, True] == "ESMTPA"
    assert names[True, True, True] == "UTF8SMTPSA"
    text = protocol_name(esmtp=True, utf8=False, tls=True, auth=False, facts=VERIFIED)
    assert text == (
        "ESMTPS\r\n\t(version=TLSv1.3 cipher=TLS_AES_256_GCM_SHA384 bits=256 verify=OK)"
    )


def test_the_received_field_tells_how_the_message_came():
    client = make()
    client.talk("EHLO c.test\r\nSTARTTLS\r\n")
    client.begin()
    client.talk("DATA\r\n")
    (content,) = client.files.values()
    assert b"with ESMTPS\r\n\t(version=TLSv1.3 cipher=TLS_AES_256_GCM_SHA384 bits=256" in content
