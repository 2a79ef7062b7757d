"""The client machine before its first transaction: STARTTLS, AUTH, and what they decide."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libsmx.envelope import Recipient
from libsmx.sasl import salt_password
from libsmx.saslkeys import UserKeys, derive_cram, derive_scram
from libsmx.saslserver import (
    SERVER_MECHANISMS,
    Challenge,
    Derive,
    Failure,
    Lookup,
    Success,
)
from libsmx.tlsfacts import PeerCert, TlsFacts
from smtpc.effects import Close, Done, Send, SendContent, StartTls, Transaction
from smtpc.phases import Phase
from smtpc.plan import Login, Plan
from smtpc.session import Session
from smtpc.tlspolicy import Level, Secured, TlsPolicy

OFFER = b"250-mx.example\r\n250-PIPELINING\r\n250 STARTTLS\r\n"
AFTER = b"250-mx.example\r\n250 PIPELINING\r\n"
CERT = PeerCert(subject="", issuer="", dns=("mx.example",), fingerprint="ab" * 32)
SECURE = Secured(
    TlsFacts(version="TLSv1.3", cipher="C", bits=256, cert=CERT, verified=True), "mx.example"
)
MAY, ENCRYPT = TlsPolicy(Level.MAY), TlsPolicy(Level.ENCRYPT)
VERIFY = TlsPolicy(Level.VERIFY, names=("other.example",))


def ta(*names, policies=(), login=None, **kwargs):
    rcpts = [Recipient(idx=i, address=f"{n}@example.net") for i, n in enumerate(names or ("a",))]
    return Transaction(
        sender="s@example.org", rcpts=rcpts, size=10, policies=policies, login=login, **kwargs
    )


class Client:
    """A session with its effects sorted."""

    def __init__(self, *names, policies=(), login=None, utf8=False, **plan):
        plan.setdefault("starttls", True)
        self.session = Session(Plan("me.example", login=login, nonce="n" * 24, **plan))
        self.sent, self.done, self.closed, self.handshakes, self.contents = b"", [], None, 0, []
        self.obey(self.session.start(ta(*names, policies=policies, login=login, utf8=utf8)))

    def obey(self, effects):
        for effect in effects:
            match effect:
                case Send(data):
                    self.sent += data
                case StartTls():
                    self.handshakes += 1
                case SendContent():
                    self.contents.append(effect)
                case Done():
                    self.done.append(effect)
                case Close(reason):
                    self.closed = reason
        return self

    def get(self, data):
        return self.obey(self.session.receive(data))

    def take_sent(self):
        sent, self.sent = self.sent, b""
        return sent

    def to_tls(self):
        self.get(b"220 mx.example\r\n").get(OFFER).get(b"220 2.0.0 go\r\n").take_sent()
        return self.obey(self.session.secured(SECURE))

    @property
    def codes(self):
        return [(result.code, result.status) for result in self.done[-1].results]

    @property
    def texts(self):
        return [result.text for result in self.done[-1].results]


@pytest.mark.covers("X426")
def test_starttls_is_used_when_it_is_offered_and_everything_is_asked_again():
    client = Client().get(b"220 mx.example\r\n")
    client.take_sent()
    assert client.get(OFFER).take_sent() == b"STARTTLS\r\n"
    assert client.session.phase is Phase.TLS
    assert client.get(b"220 2.0.0 go\r\n").handshakes == 1
    assert client.take_sent() == b""
    assert client.session.phase is Phase.TLS
    assert client.obey(client.session.secured(SECURE)).take_sent() == b"EHLO me.example\r\n"
    # what was offered before TLS counts for nothing (RFC 3207 4.2)
    assert client.get(b"250 mx.example\r\n").take_sent() == b"MAIL FROM:<s@example.org>\r\n"
    assert client.session.secure is SECURE


@pytest.mark.covers("X426")
def test_a_server_without_starttls_gets_clear_text():
    client = Client().get(b"220 x\r\n").get(AFTER)
    assert b"STARTTLS" not in client.sent
    assert b"MAIL FROM" in client.sent


def test_lmtp_asks_with_lhlo_again():
    client = Client(lmtp=True)
    assert client.to_tls().take_sent() == b"LHLO me.example\r\n"


@pytest.mark.parametrize("reply", [b"454 4.7.0 not now\r\n", b"501 what?\r\n"])
def test_a_refused_starttls_goes_on_in_clear_text_where_it_may(reply):
    client = Client("a", "b", policies=(MAY, ENCRYPT)).get(b"220 x\r\n").get(OFFER)
    client.take_sent()
    sent = client.get(reply).take_sent()
    assert sent == b"MAIL FROM:<s@example.org>\r\nRCPT TO:<a@example.net>\r\nDATA\r\n"
    client.get(b"250 x\r\n250 x\r\n354 x\r\n")
    client.session.content_sent()
    client.get(b"250 taken\r\n")
    assert client.codes == [(250, "2.0.0"), (451, "4.7.4")]
    assert "STARTTLS was refused: " + reply.decode()[:3] in client.texts[1]


@pytest.mark.parametrize(
    ("policies", "offer", "status"),
    [((ENCRYPT,), AFTER, "4.7.4"), ((ENCRYPT, VERIFY), AFTER, "4.7.4"), ((VERIFY,), None, "4.7.5")],
)
def test_where_no_recipient_may_be_sent_nothing_is_named_to_the_server(policies, offer, status):
    names = ("a", "b")[: len(policies)]
    client = Client(*names, policies=policies)
    if offer is None:
        client.to_tls().get(AFTER)
    else:
        client.get(b"220 x\r\n").get(offer)
    assert b"MAIL" not in client.sent
    assert client.sent.endswith(b"QUIT\r\n")
    assert [one for _, one in client.codes] == [status] * len(policies)
    assert client.done[0].elsewhere
    assert client.closed


def test_a_kept_session_of_milder_mail_is_left_for_a_new_one():
    client = Client().get(b"220 x\r\n").get(AFTER).get(b"250 x\r\n250 x\r\n354 x\r\n")
    client.session.content_sent()
    client.get(b"250 taken\r\n").take_sent()
    client.obey(client.session.start(ta("a", "b", policies=(MAY, ENCRYPT))))
    assert client.take_sent() == b"QUIT\r\n"
    assert client.done[1].elsewhere
    assert [code for code, _ in client.codes] == [451, 451]


def test_a_kept_session_that_meets_the_policies_is_used():
    client = Client(policies=(ENCRYPT,)).to_tls().get(AFTER)
    client.get(b"250 x\r\n250 x\r\n354 x\r\n")
    client.session.content_sent()
    client.get(b"250 taken\r\n").take_sent()
    client.obey(client.session.start(ta("a", "b", policies=(MAY, ENCRYPT))))
    assert client.take_sent().count(b"RCPT") == 2


@pytest.mark.parametrize(
    "extra",
    [b"250 injected\r\n", b"EVIL", b"250-x\r\n", OFFER],
    ids=["line", "part", "open", "ehlo"],
)
def test_clear_text_behind_the_reply_to_starttls_ends_the_session(extra):
    client = Client().get(b"220 x\r\n").get(OFFER).get(b"220 go\r\n" + extra)
    assert client.closed
    assert "clear text behind" in client.texts[0]
    assert client.done[0].elsewhere


@pytest.mark.parametrize("how", ["handshake", "lost", "timed_out"])
def test_a_failed_handshake_is_said_so(how):
    client = Client().get(b"220 x\r\n").get(OFFER).get(b"220 go\r\n")
    session = client.session
    client.obey({
        "handshake": lambda: session.handshake_failed("no shared cipher"),
        "lost": lambda: session.lost("connection closed by the server"),
        "timed_out": session.timed_out,
    }[how]())  # fmt: skip
    assert client.done[0].tls_failed
    assert client.done[0].elsewhere
    assert "TLS handshake failed" in client.texts[0]
    assert client.codes == [(451, "4.7.5")]


def test_a_server_that_goes_away_at_starttls_counts_as_a_failed_handshake():
    client = Client().get(b"220 x\r\n").get(OFFER)
    client.obey(client.session.lost("connection closed by the server"))
    assert client.done[0].tls_failed


def test_tls_from_the_first_byte_waits_for_the_greeting_after_it():
    client = Client(on_connect=True)
    assert client.session.phase is Phase.TLS
    client.obey(client.session.secured(SECURE))
    assert client.session.phase is Phase.GREETING
    assert client.get(b"220 x\r\n").take_sent() == b"EHLO me.example\r\n"
    # STARTTLS inside TLS is not asked for
    assert b"MAIL" in client.get(OFFER).take_sent()


# --- AUTH ----------------------------------------------------------------------------------

LOGIN = Login("alice", "s3cret, word")
OFFERS = "SCRAM-SHA-256 SCRAM-SHA-1 CRAM-MD5 PLAIN LOGIN"


def keys_of(password):
    salt = b"salt" * 4
    scram = {name: derive_scram(name, password, salt, 4096) for name in OFFERS.split()[:2]}
    return UserKeys(scram=scram, cram_md5=derive_cram(password))


def answer(mechanism, step, password):
    """Do what a server's mechanism asks for; return its next challenge or end."""
    while not isinstance(step, Challenge | Success | Failure):
        if isinstance(step, Lookup):
            step = mechanism.keys(keys_of(password))
        elif isinstance(step, Derive):
            step = mechanism.derived(
                salt_password(step.hash_name, step.password, step.salt, step.iterations)
            )
    return step


def authenticate(client, password):
    """Play the server that checks with the real mechanisms."""
    words = client.take_sent().split()
    assert words[0] == b"AUTH"
    mechanism = SERVER_MECHANISMS[words[1].decode()]("server-nonce-of-this-test")
    initial = base64.b64decode(words[2]) if len(words) > 2 else None
    step = answer(mechanism, mechanism.start(initial), password)
    while isinstance(step, Challenge):
        client.get(b"334 " + base64.b64encode(step.data) + b"\r\n")
        line = client.take_sent()
        if not line.endswith(b"\r\n") or line.startswith(b"QUIT"):
            return words[1]
        step = answer(mechanism, mechanism.respond(base64.b64decode(line.strip())), password)
    good = isinstance(step, Success)
    client.get(b"235 2.7.0 welcome\r\n" if good else b"535 5.7.8 go away\r\n")
    return words[1]


@pytest.mark.parametrize("name", OFFERS.split())
@pytest.mark.parametrize("right", [True, False])
def test_every_mechanism_against_the_servers_side_of_it(name, right):
    client = Client(login=LOGIN).to_tls()
    client.take_sent()
    client.get(b"250-mx.example\r\n250 AUTH " + name.encode() + b"\r\n")
    used = authenticate(client, LOGIN.password if right else "another")
    assert used.decode() == name
    if right:
        assert client.take_sent() == b"MAIL FROM:<s@example.org>\r\n"
        return
    assert client.codes == [(451, "4.7.8")]
    assert client.done[0].elsewhere
    assert client.closed


@pytest.mark.parametrize(
    ("offer", "login", "tls", "used"),
    [
        (OFFERS, LOGIN, True, b"SCRAM-SHA-256"),
        (OFFERS, LOGIN, False, b"SCRAM-SHA-256"),
        ("PLAIN LOGIN CRAM-MD5", LOGIN, True, b"CRAM-MD5"),
        ("PLAIN LOGIN", LOGIN, True, b"PLAIN"),
        ("PLAIN LOGIN", LOGIN, False, None),
        ("PLAIN LOGIN", Login("a", "b", clear=True), False, b"PLAIN"),
        ("CRAM-MD5 PLAIN", Login("a", "b", frozenset({"PLAIN"})), True, b"PLAIN"),
        ("CRAM-MD5", Login("a", "b", frozenset({"PLAIN"})), True, None),
        ("GSSAPI NTLM", LOGIN, True, None),
        ("", LOGIN, True, None),
    ],
)
def test_the_best_mechanism_that_may_be_used(offer, login, tls, used):
    client = Client(login=login)
    if tls:
        client.to_tls()
    else:
        client.get(b"220 x\r\n")
    client.take_sent()
    client.get(b"250-mx.example\r\n250 AUTH " + offer.encode() + b"\r\n")
    if used is None:
        assert client.codes == [(451, "4.7.8")]
        assert "none may be used" in client.texts[0]
        assert b"AUTH" not in client.sent
    else:
        assert client.take_sent().split()[1] == used


def test_a_server_that_does_not_prove_itself_is_not_believed():
    client = Client(login=LOGIN).to_tls()
    client.get(b"250-x\r\n250 AUTH SCRAM-SHA-256\r\n").get(b"235 welcome\r\n")
    assert client.codes == [(451, "4.7.8")]
    assert "did not prove" in client.texts[0]


@pytest.mark.parametrize(
    "reply", [b"334 !!!\r\n", b"334 " + b"QUJD" * 400 + b"\r\n", b"334 QUJD\r\n", b"250 x\r\n"]
)
def test_nonsense_in_a_challenge_ends_the_session(reply):
    client = Client(login=LOGIN).to_tls()
    client.get(b"250-x\r\n250 AUTH SCRAM-SHA-256\r\n").get(reply)
    assert client.done[0].elsewhere
    assert [code for code, _ in client.codes] == [451]


def test_421_during_authentication_ends_the_session():
    client = Client(login=LOGIN).to_tls()
    client.get(b"250-x\r\n250 AUTH PLAIN\r\n").get(b"421 4.3.2 bye\r\n")
    assert client.codes == [(421, "4.3.2")]


def test_a_session_of_another_login_is_not_used():
    client = Client().get(b"220 x\r\n").get(AFTER).get(b"250 x\r\n250 x\r\n354 x\r\n")
    client.session.content_sent()
    client.get(b"250 taken\r\n").take_sent()
    client.obey(client.session.start(ta(login=LOGIN)))
    assert client.take_sent() == b"QUIT\r\n"
    assert client.done[1].elsewhere


def test_a_password_is_in_no_result_and_no_representation():
    client = Client(login=LOGIN).to_tls()
    client.get(b"250-x\r\n250 AUTH PLAIN\r\n").get(b"535 5.7.8 no\r\n")
    assert LOGIN.password not in client.texts[0]
    assert LOGIN.password not in repr(LOGIN)
    assert LOGIN.password not in repr(Plan("x", login=LOGIN))


LINES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [b"220 x\r\n", OFFER, AFTER, b"250-x\r\n250 AUTH PLAIN SCRAM-SHA-1\r\n", b"334 QUJD\r\n",
         b"235 ok\r\n", b"421 x\r\n", b"454 x\r\n", b"250 x\r\n", "tls", "fail"]
    ),
)  # fmt: skip


@given(
    st.lists(LINES, max_size=15),
    st.booleans(),
    st.lists(st.sampled_from([MAY, ENCRYPT, VERIFY]), max_size=3),
)
def test_whatever_a_server_says_a_policy_is_kept(lines, login, policies):
    names = [f"r{i}" for i in range(len(policies))]
    client = Client(*names, policies=tuple(policies), login=LOGIN if login else None)
    for line in lines:
        if client.session.phase is Phase.CONTENT:
            client.session.content_sent()
        before = client.handshakes
        if isinstance(line, bytes):
            client.get(line)
        elif client.handshakes and client.session.secure is None:
            session = client.session
            client.obey(session.secured(SECURE) if line == "tls" else session.handshake_failed("x"))
        assert client.handshakes - before <= 1
    if client.closed is None:
        client.obey(client.session.lost("x"))
    assert len(client.done) == 1
    for index, policy in enumerate(policies):
        named = f"<r{index}@example.net>".encode() in client.sent
        if policy is VERIFY:
            assert not named
        if policy is ENCRYPT and named:
            assert client.session.secure is SECURE
    assert client.done[0].elsewhere or b"RCPT" in client.sent or b"MAIL" in client.sent
