"""AUTH in the session machine: what is offered, how it ends, what nobody learns."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libsmx.opt_auth import SmtpsAuthConf
from libsmx.sasl import CLIENT_MECHANISMS, decode64, encode64, salt_password
from libsmx.saslkeys import KeyTable, UserKeys, derive_cram, derive_scram
from libsmx.saslserver import Challenge, Derive, Failure, Lookup, Success
from smtps.authsteps import Begin, Begun, End, Ended, Remote, RemoteCancel, RemoteReply
from tests.smtps.client import Client, World, make_policy
from tests.smtps.test_tls_session import CERT, PLAIN, VERIFIED

ALL = ("PLAIN", "LOGIN", "SCRAM-SHA-1", "SCRAM-SHA-256", "CRAM-MD5", "EXTERNAL")
PASSWORDS = ("PLAIN", "LOGIN", "SCRAM-SHA-1", "SCRAM-SHA-256", "CRAM-MD5")
KEYS = UserKeys(
    {
        name: derive_scram(name, "pencil", b"s" * 16, 4096)
        for name in ("SCRAM-SHA-1", "SCRAM-SHA-256")
    },
    derive_cram("pencil"),
)
TABLE = KeyTable(4096, b"x" * 16, {"alice": KEYS})


@attrs.define
class Shell:
    """Answers questions as the real one does."""

    blocked: bool = False
    delay_s: int = 0
    broken: bool = False

    def __call__(self, question):
        match question:
            case Begin():
                return Begun("serverNonce", self.blocked)
            case Lookup(user):
                return None if self.broken else TABLE.find(user)
            case Derive(name, password, salt, iterations):
                return salt_password(name, password, salt, iterations)
            case End(success):
                return Ended(0 if success else self.delay_s)
        raise AssertionError(question)


def make(shell=None, *, tls=PLAIN, mechanisms=ALL, remote=False, secure=True, **auth):
    auth = {key: frozenset(value) if key == "flags" else value for key, value in auth.items()}
    policy = make_policy(auth=attrs.evolve(SmtpsAuthConf(), **auth))
    policy.tls_ready = True
    policy.auth_mechanisms = tuple(mechanisms)
    policy.auth_remote = remote
    client = Client(World(tls=tls, prove=shell or Shell()), policy=policy)
    if secure:
        client.talk("EHLO c.test\r\nSTARTTLS\r\n")
    client.ehlo = client.talk("EHLO c.test\r\n")
    return client


def offered(client):
    """The mechanisms in the EHLO reply."""
    lines = [line[4:] for line in client.ehlo.splitlines() if line[4:].startswith("AUTH ")]
    assert len(lines) <= 1
    return lines[0].split()[1:] if lines else []


def login(client, name, user="alice", password="pencil", *, initial=True):
    """Authenticate; return the last reply."""
    mechanism = CLIENT_MECHANISMS[name](user, password, "clientNonce1234567890")
    first = mechanism.first() if initial else None
    words = "" if first is None else f" {encode64(first)}"
    said = client.talk(f"AUTH {name}{words}\r\n")
    for _ in range(5):
        if not said.startswith("334 "):
            return said
        answer = mechanism.respond(decode64(said[4:].strip().encode()))
        said = client.talk(f"{encode64(answer)}\r\n")
    raise AssertionError(said)


# --- what is offered -----------------------------------------------------------------------


@pytest.mark.covers("X005")
@pytest.mark.parametrize("initial", [True, False])
@pytest.mark.parametrize("name", PASSWORDS)
def test_each_mechanism_lets_the_right_one_in(name, initial):
    client = make()
    assert login(client, name, initial=initial) == "235 2.7.0 Authentication succeeded\r\n"
    assert client.session.dialogue.auth == "alice"
    assert client.codes("AUTH PLAIN\r\n") == "503"
    client = make()
    assert login(client, name, password="pen", initial=initial).startswith("535 5.7.8 ")
    assert client.session.dialogue.auth == ""
    assert login(client, name).startswith("235 ")


@pytest.mark.covers("X349")
def test_passwords_do_not_travel_in_clear_text():
    client = make(secure=False)
    assert offered(client) == ["SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5"]
    assert client.codes("AUTH PLAIN AGEAYg==\r\nAUTH LOGIN\r\n") == "538 538"
    assert login(client, "SCRAM-SHA-256").startswith("235 ")
    assert "PLAIN" in offered(make())
    assert "PLAIN" in offered(make(secure=False, flags=()))


@pytest.mark.covers("X353")
@pytest.mark.parametrize("name", ["ANONYMOUS", "DIGEST-MD5", "GSSAPI", "X"])
def test_other_mechanisms_are_not_offered(name):
    client = make(flags=())
    assert name not in offered(client)
    assert client.codes(f"AUTH {name}\r\n") == "504"


@pytest.mark.covers("X350", "X351", "X352", "X354", "X355")
@pytest.mark.parametrize(
    ("flags", "left"),
    [
        (["noactive"], "SCRAM-SHA-256 SCRAM-SHA-1"),
        (["nodictionary"], ""),
        (["forward_secrecy"], ""),
        (["pass_credentials"], "PLAIN LOGIN"),
        (["mutual_auth"], "SCRAM-SHA-256 SCRAM-SHA-1"),
    ],
)
def test_flags_filter_what_ehlo_lists(flags, left):
    client = make(flags=flags)
    assert offered(client) == left.split()
    refused = client.codes("AUTH CRAM-MD5\r\n")
    assert refused == "504"


def test_without_keys_there_is_no_auth():
    client = make(mechanisms=())
    assert "AUTH" not in client.ehlo
    assert client.codes("AUTH PLAIN\r\nMAIL FROM:<a@b.test> AUTH=<>\r\n") == "502 555"


def test_external_is_for_verified_certificates():
    assert "EXTERNAL" not in offered(make())
    assert "EXTERNAL" not in offered(make(tls=attrs.evolve(VERIFIED, verified=False)))
    client = make(tls=VERIFIED)
    assert "EXTERNAL" in offered(client)
    assert client.codes("AUTH EXTERNAL =\r\n") == "235"
    assert client.session.dialogue.auth == "c.test"
    client = make(tls=VERIFIED)
    assert client.codes(f"AUTH EXTERNAL {encode64(b'root')}\r\n") == "535"
    named = attrs.evolve(VERIFIED, cert=attrs.evolve(CERT, emails=("me@c.test",)))
    client = make(tls=named)
    assert client.codes("AUTH EXTERNAL\r\n\r\n") == "334 235"
    assert client.session.dialogue.auth == "me@c.test"


# --- the command ---------------------------------------------------------------------------


def test_auth_has_its_place():
    client = make(secure=False)
    assert client.codes("AUTH\r\nAUTH PLAIN a b\r\n") == "501 501"
    assert client.codes("MAIL FROM:<a@b.test>\r\nAUTH CRAM-MD5\r\nRSET\r\n") == "250 503 250"
    assert client.codes("HELO c.test\r\nAUTH CRAM-MD5\r\n") == "250 503"
    client = make()
    assert client.codes("AUTH PLAIN !\r\n") == "501"
    assert client.codes("auth plain\r\n*\r\nNOOP\r\n") == "334 501 250"
    assert client.codes("AUTH LOGIN\r\nnot base64\r\nNOOP\r\n") == "334 501 250"
    assert client.codes(f"AUTH PLAIN {encode64(b'nonsense')}\r\nNOOP\r\n") == "501 250"
    assert client.codes("AUTH PLAIN =\r\nNOOP\r\n") == "501 250"


def test_a_response_that_is_too_long_ends_the_exchange_only():
    client = make()
    assert client.codes("AUTH LOGIN\r\n" + "x" * 3000 + "\r\nNOOP\r\n") == "334 500 250"


def test_starttls_comes_first():
    client = make(secure=False)
    assert login(client, "CRAM-MD5").startswith("235 ")
    assert client.codes("STARTTLS\r\n") == "503"


@pytest.mark.parametrize("said", ["<>", "a@b.test", "a+2Bb@c.test"])
def test_mail_may_name_the_first_submitter(said):
    client = make()
    assert client.codes(f"MAIL FROM:<a@b.test> AUTH={said}\r\n") == "250"


@pytest.mark.parametrize("said", ["", "+ZZ", "a=b"])
def test_but_not_anyhow(said):
    client = make()
    assert client.codes(f"MAIL FROM:<a@b.test> AUTH={said}\r\n") == "501"


# --- what it is good for -------------------------------------------------------------------


@pytest.mark.covers("X356", "X469")
@pytest.mark.parametrize(
    ("trusted", "relay"),
    [(["CRAM-MD5"], True), (["cram-md5"], True), (["PLAIN", "DIGEST-MD5"], False), ([], False)],
)
def test_trusted_mechanisms_let_relay(trusted, relay):
    client = make(trusted_mechs=tuple(trusted))
    login(client, "CRAM-MD5")
    client.begin()
    (question,) = client.asks[-1].questions
    assert question.relay is relay
    name, fields = client.records[-1]
    assert (name, fields["user"], fields["relay"]) == ("auth_done", "alice", int(relay))


def test_the_received_field_tells_of_it():
    client = make()
    login(client, "PLAIN")
    client.begin()
    client.talk("DATA\r\n")
    (content,) = client.files.values()
    assert b"with ESMTPSA\r\n" in content
    assert b"alice" not in content


# --- failures ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PASSWORDS)
def test_nobody_learns_who_exists(name):
    """Questions and replies are of the same kinds and sizes, and the same each time."""

    def trace(user):
        client = make()
        said = []
        mechanism = CLIENT_MECHANISMS[name](user, "wrong", "clientNonce1234567890")
        said.append(client.talk(f"AUTH {name}\r\n"))
        while said[-1].startswith("334 "):
            answer = mechanism.respond(decode64(said[-1][4:].strip().encode()))
            said.append(client.talk(f"{encode64(answer)}\r\n"))
        return [len(one) for one in said], [type(one) for one in client.proofs], said

    assert trace("alice")[:2] == trace("alicf")[:2]
    assert trace("alice")[2][-1] == trace("alicf")[2][-1]
    assert trace("alicf")[2] == trace("alicf")[2]


def test_a_failure_waits_and_too_many_end_the_session():
    client = make(Shell(delay_s=4), max_failures_per_session=2)
    assert login(client, "PLAIN", password="a").startswith("535 ")
    assert client.delays == [4]
    assert login(client, "PLAIN", password="b").startswith("535 ")
    assert login(client, "PLAIN", password="c").startswith("421 4.7.0 ")
    assert client.closed
    failed = [fields for name, fields in client.records if name == "auth_failed"]
    assert [fields["user"] for fields in failed] == ["alice"] * 3
    assert "pencil" not in str(client.records)


def test_a_blocked_address_is_not_even_looked_at():
    client = make(Shell(blocked=True))
    assert login(client, "PLAIN").startswith("454 4.7.0 ")
    assert [type(one) for one in client.proofs] == [Begin]
    assert client.codes("NOOP\r\n") == "250"
    # Nor may it go on for ever.
    assert client.codes("AUTH CRAM-MD5\r\n" * 60).split()[-1] == "421"
    assert client.closed


def test_trouble_is_temporary():
    client = make(Shell(broken=True))
    assert login(client, "PLAIN").startswith("454 4.7.0 ")
    assert client.codes("NOOP\r\n") == "250"
    client.world.prove = Shell()
    assert login(client, "PLAIN").startswith("235 ")


@given(st.lists(st.binary(max_size=60).filter(lambda line: b"\n" not in line), max_size=8))
def test_no_line_in_an_exchange_lets_anybody_in(lines):
    client = make()
    for line in lines:
        client.talk(b"AUTH SCRAM-SHA-256\r\n")
        client.talk(line.replace(b"\r", b"") + b"\r\n")
    assert client.session.dialogue.auth == ""


# --- an authentication server --------------------------------------------------------------


class Remotely:
    """Answers as an authentication server does."""

    def __init__(self, *steps):
        self.steps = list(steps)
        self.asked = []

    def __call__(self, question):
        self.asked.append(question)
        match question:
            case Begin():
                return Begun("n")
            case End():
                return Ended()
            case RemoteCancel():
                return None
        return self.steps.pop(0)


def test_an_exchange_is_passed_on():
    shell = Remotely(Challenge(b"c1"), Challenge(b"c2"), Success("alice@c.test"))
    client = make(shell, remote=True, trusted_mechs=("SCRAM-SHA-256",))
    assert client.talk("AUTH SCRAM-SHA-256 eA==\r\n") == f"334 {encode64(b'c1')}\r\n"
    assert client.talk("eQ==\r\n") == f"334 {encode64(b'c2')}\r\n"
    assert client.talk("\r\n").startswith("235 ")
    dialogue = client.session.dialogue
    assert (dialogue.auth, dialogue.relay) == ("alice@c.test", True)
    assert shell.asked[1:4] == [
        Remote("SCRAM-SHA-256", b"x", secure=True, verified=False),
        RemoteReply(b"y"),
        RemoteReply(b""),
    ]


def test_login_is_asked_without_initial_response():
    shell = Remotely(Challenge(b"Username:"), Challenge(b"Password:"), Failure("alice"))
    client = make(shell, remote=True)
    said = client.talk(f"AUTH LOGIN {encode64(b'alice')}\r\n")
    assert said == f"334 {encode64(b'Password:')}\r\n"
    assert client.talk("eA==\r\n").startswith("535 ")
    assert shell.asked[1] == Remote("LOGIN", None, secure=True, verified=False)
    assert shell.asked[2] == RemoteReply(b"alice")


def test_an_exchange_given_up_is_given_up_there_too():
    shell = Remotely(Challenge(b""))
    client = make(shell, remote=True)
    assert client.codes("AUTH PLAIN\r\n*\r\nNOOP\r\n") == "334 501 250"
    assert isinstance(shell.asked[-1], RemoteCancel)


def test_an_absent_server_is_a_temporary_failure():
    client = make(Remotely(None), remote=True)
    assert client.codes("AUTH PLAIN AGEAYg==\r\nNOOP\r\n") == "454 250"


def test_external_needs_no_server():
    client = make(Remotely(), remote=True, tls=VERIFIED)
    assert client.codes("AUTH EXTERNAL =\r\n") == "235"


def test_filters_learn_who_speaks_and_how():
    client = make(tls=VERIFIED, secure=False)
    client.policy.filtered = True
    client.talk("STARTTLS\r\n")
    client.talk("EHLO c.test\r\n")
    login(client, "PLAIN")
    client.begin()
    macros = {step.stage: dict(step.macros) for step in client.consulted}
    assert macros["helo"] == {
        "{tls_version}": "TLSv1.3",
        "{cipher}": "TLS_AES_256_GCM_SHA384",
        "{cipher_bits}": "256",
        "{verify}": "OK",
        "{cert_subject}": "/CN=c.test",
        "{cert_issuer}": "/CN=CA",
    }
    assert macros["mail"]["{auth_authen}"] == "alice"
    assert macros["mail"]["{auth_type}"] == "PLAIN"
