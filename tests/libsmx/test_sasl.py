"""SASL: vectors of the RFCs, both sides against each other, hostile messages."""

import hmac

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from libsmx import sasl, saslserver
from libsmx.sasl import CLIENT_MECHANISMS, SaslError, choose_client, prepare, salt_password, select
from libsmx.saslkeys import (
    KeyTable,
    ScramKey,
    UserKeys,
    check_user,
    cram_digest,
    derive_cram,
    derive_scram,
    format_keys,
    read_keys,
)
from libsmx.saslserver import (
    SERVER_MECHANISMS,
    Challenge,
    Derive,
    Failure,
    Lookup,
    Success,
)

ROUNDS = 4096
PASSWORD = "pencil"


def make_keys(password=PASSWORD):
    return UserKeys(
        {
            name: derive_scram(name, password, b"salt" * 4, ROUNDS)
            for name in ("SCRAM-SHA-1", "SCRAM-SHA-256")
        },
        derive_cram(password),
    )


TABLE = KeyTable(ROUNDS, b"s" * 16, {"alice": make_keys(), "b,o=b": make_keys("other")})
PASSWORDS = list(CLIENT_MECHANISMS)


def serve(mechanism, step, table=TABLE):
    """Answer what the mechanism asks of us, until it speaks to the client."""
    while True:
        if isinstance(step, Lookup):
            step = mechanism.keys(table.find(step.user))
        elif isinstance(step, Derive):
            step = mechanism.derived(
                salt_password(step.hash_name, step.password, step.salt, step.iterations)
            )
        else:
            return step


def talk(name, user, password, *, initial=True, identity=""):
    """Run both sides; return the end, the client and how many challenges there were."""
    client = CLIENT_MECHANISMS[name](user, password, "clientNonce1234567890")
    server = SERVER_MECHANISMS[name]("serverNonce", identity)
    step = serve(server, server.start(client.first() if initial else None))
    challenges = 0
    while isinstance(step, Challenge):
        challenges += 1
        assert challenges < 5
        step = serve(server, server.respond(client.respond(step.data)))
    return step, client, challenges


@pytest.mark.parametrize("initial", [True, False])
@pytest.mark.parametrize("name", PASSWORDS)
def test_both_sides_understand_each_other(name, initial):
    for user, password in (("alice", PASSWORD), ("b,o=b", "other")):
        end, client, _ = talk(name, user, password, initial=initial)
        assert end == Success(user)
        assert client.finished
    for user, password in (("alice", "pencils"), ("b,o=b", PASSWORD), ("nobody", PASSWORD)):
        end, client, _ = talk(name, user, password, initial=initial)
        assert end == Failure(user)


@pytest.mark.parametrize("name", PASSWORDS)
def test_an_unknown_user_takes_the_same_way(name):
    """Steps, lengths and repeated values tell nothing about who exists."""

    def trace(user):
        client = CLIENT_MECHANISMS[name](user, "wrong", "clientNonce1234567890")
        server = SERVER_MECHANISMS[name]("serverNonce")
        steps = [server.start(client.first())]
        while not isinstance(steps[-1], Failure):
            step = steps[-1]
            if isinstance(step, Challenge):
                steps.append(server.respond(client.respond(step.data)))
            elif isinstance(step, Lookup):
                steps.append(server.keys(TABLE.find(step.user)))
            else:
                steps.append(server.derived(b"x" * 32))
        return [(type(step), len(getattr(step, "data", b""))) for step in steps], steps

    assert trace("alice")[0] == trace("alicf")[0]
    assert trace("alicf")[1] == trace("alicf")[1], "made-up salts stay the same"


def test_made_up_keys_prove_nothing():
    """Even who finds out the file's secret cannot log in as a user who does not exist."""
    made = TABLE.find("nobody")
    assert made.made_up == {"SCRAM-SHA-1", "SCRAM-SHA-256", "CRAM-MD5"}
    server = saslserver.CramMd5("n")
    server.start(None)
    digest = cram_digest(made.cram_md5, b"<n@smx>")
    assert serve(server, server.respond(b"nobody " + digest.encode())) == Failure("nobody")


def test_a_user_without_a_key_for_one_mechanism_fails_there():
    scram_only = attrs.evolve(make_keys(), cram_md5=b"")
    table = KeyTable(ROUNDS, b"s" * 16, {"alice": scram_only})
    server = saslserver.CramMd5("n")
    server.start(None)
    digest = hmac.new(PASSWORD.encode(), b"<n@smx>", "md5").hexdigest()
    assert serve(server, server.respond(f"alice {digest}".encode()), table) == Failure("alice")
    made_up = cram_digest(table.find("alice").cram_md5, b"<n@smx>")
    server = saslserver.CramMd5("n")
    server.start(None)
    assert serve(server, server.respond(f"alice {made_up}".encode()), table) == Failure("alice")


# --- vectors -------------------------------------------------------------------------------


def test_rfc_7677_vector():
    client = CLIENT_MECHANISMS["SCRAM-SHA-256"]("user", "pencil", "rOprNGfwEbeRWgbNEkqO")
    assert client.first() == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    first = (
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    )
    final = client.respond(first)
    assert final == (
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    assert not client.finished
    assert client.respond(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=") == b""
    assert client.finished


def test_rfc_5802_vector_on_the_servers_side():
    salt = sasl.decode64(b"QSXCR+Q6sek8bf92")
    keys = UserKeys({"SCRAM-SHA-1": derive_scram("SCRAM-SHA-1", "pencil", salt, 4096)})
    server = saslserver.ScramSha1("3rfcNHYJY1ZVvWVs7j")
    step = server.start(b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL")
    assert step == Lookup("user")
    assert server.keys(keys) == Challenge(
        b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096"
    )
    step = server.respond(
        b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="
    )
    assert step == Challenge(b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=")
    assert server.respond(b"") == Success("user")


def test_rfc_2195_vector():
    client = CLIENT_MECHANISMS["CRAM-MD5"]("tim", "tanstaaftanstaaf", "")
    response = client.respond(b"<1896.697170952@postoffice.reston.mci.net>")
    assert response == b"tim b913a602c7eda7a495b4e6e7334d3890"


@given(st.text(min_size=1, max_size=100), st.binary(max_size=200))
@example("x" * 64, b"c" * 55)
@example("x" * 65, b"c" * 64)
def test_states_of_md5_are_as_good_as_the_password(password, challenge):
    wanted = hmac.new(password.encode("utf-8", "replace"), challenge, "md5").hexdigest()
    text = password.encode("utf-8", "replace").decode()
    assert cram_digest(derive_cram(text), challenge) == wanted


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("\u0007", None),
        ("\u06271", None),
        ("", None),
        ("a\u00a0b", "a b"),
        ("\ue000", None),
    ],
)
def test_rfc_4013_examples(text, made):
    if made is None:
        with pytest.raises(SaslError):
            prepare(text)
    else:
        assert prepare(text) == made


# --- hostile messages ----------------------------------------------------------------------


@given(
    st.sampled_from(sorted(SERVER_MECHANISMS)),
    st.one_of(st.none(), st.binary(max_size=60)),
    st.lists(
        st.one_of(
            st.binary(max_size=60),
            st.sampled_from(
                [b"", b"n,,n=alice,r=x", b"\0alice\0pencil", b"alice", b"c=biws,r=xn,p="]
            ),
        ),
        max_size=4,
    ),
)
def test_no_message_breaks_a_server_or_lets_anybody_in(name, initial, messages):
    server = SERVER_MECHANISMS[name]("n")
    table = KeyTable(ROUNDS, b"s" * 16, {"alice": make_keys("unguessable")})
    try:
        step = serve(server, server.start(initial), table)
        for message in messages:
            if not isinstance(step, Challenge):
                break
            step = serve(server, server.respond(message), table)
    except SaslError:
        return
    assert not isinstance(step, Success)


@given(
    st.sampled_from(sorted(CLIENT_MECHANISMS)),
    st.lists(
        st.one_of(
            st.binary(max_size=60),
            st.sampled_from([b"", b"r=nonce1,s=YQ==,i=1", b"v=YQ==", b"e=no"]),
        ),
        max_size=4,
    ),
)
def test_no_challenge_breaks_a_client_or_convinces_it(name, challenges):
    client = CLIENT_MECHANISMS[name]("alice", PASSWORD, "nonce")
    try:
        for challenge in challenges:
            client.respond(challenge)
    except SaslError:
        pass
    assert client.finished == (not name.startswith("SCRAM"))


@pytest.mark.parametrize(
    "first",
    [
        b"r=other1,s=YQ==,i=4096",
        b"r=nonce,s=YQ==,i=4096",
        b"r=nonce1,s=,i=4096",
        b"r=nonce1,s=YQ==,i=0",
        b"r=nonce1,s=YQ==,i=-5",
        b"r=nonce1,s=YQ==,i=4294967296",
        b"r=nonce1,s=YQ==,i=300001",
        b"m=x,r=nonce1,s=YQ==,i=4096",
        b"r=nonce1,r=nonce1,s=YQ==,i=4096",
        b"r=nonce1,s=!,i=4096",
        b"\xff",
        b"x" * 9000,
    ],
)
def test_a_scram_client_believes_little(first):
    client = CLIENT_MECHANISMS["SCRAM-SHA-256"]("alice", PASSWORD, "nonce")
    with pytest.raises(SaslError):
        client.respond(first)


@pytest.mark.parametrize(
    "messages",
    [
        [b"p=tls-unique,,n=alice,r=x"],
        [b"n,alice,n=alice,r=x"],
        [b"n,,r=x,n=alice"],
        [b"n,,n=al=ice,r=x"],
        [b"n,,n=alice"],
        [b"n,,m=1,n=alice,r=x"],
        [b"n,,n=al ice,r=x"],
        [b"n,,n=alice,r=x", b"c=biws,r=xother,p=YQ=="],
        [b"n,,n=alice,r=x", b"c=eSws,r=xn,p=YQ=="],
        [b"n,,n=alice,r=x", b"c=biws,r=xn"],
        [b"n,,n=alice,r=x", b"c=biws,r=xn,p=!"],
    ],
)
def test_a_scram_server_takes_no_other_form(messages):
    server = SERVER_MECHANISMS["SCRAM-SHA-256"]("n")
    *before, last = messages
    for message in before:
        assert isinstance(serve(server, server.respond(message)), Challenge)
    with pytest.raises(SaslError):
        serve(server, server.respond(last))


def test_nobody_speaks_for_another():
    server = saslserver.Plain("n")
    assert server.start(b"root\0alice\0pencil") == Failure("alice")
    assert isinstance(saslserver.Plain("n").start(b"alice\0alice\0pencil"), Lookup)
    assert saslserver.ScramSha256("n").start(b"n,a=root,n=alice,r=x") == Failure("alice")
    assert isinstance(saslserver.ScramSha256("n").start(b"n,a=alice,n=alice,r=x"), Lookup)


def test_external_is_who_the_certificate_says():
    assert saslserver.External("n", "me@test").start(b"") == Success("me@test")
    assert saslserver.External("n", "me@test").start(b"me@test") == Success("me@test")
    assert saslserver.External("n", "me@test").start(b"you@test") == Failure("you@test")
    assert saslserver.External("n").start(b"") == Failure("")
    assert saslserver.External("n", "me@test").start(None) == Challenge(b"")


# --- which mechanism -----------------------------------------------------------------------

ALL = ["LOGIN", "PLAIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256", "EXTERNAL", "DIGEST-MD5"]


@pytest.mark.parametrize(
    ("flags", "tls", "left"),
    [
        ((), False, "EXTERNAL SCRAM-SHA-256 SCRAM-SHA-1 CRAM-MD5 PLAIN LOGIN"),
        pytest.param(
            ("noplaintext",), False, "EXTERNAL SCRAM-SHA-256 SCRAM-SHA-1 CRAM-MD5",
            marks=pytest.mark.covers("X349"),
        ),
        (("noplaintext",), True, "EXTERNAL SCRAM-SHA-256 SCRAM-SHA-1 CRAM-MD5 PLAIN LOGIN"),
        pytest.param(
            ("noactive",), True, "EXTERNAL SCRAM-SHA-256 SCRAM-SHA-1",
            marks=pytest.mark.covers("X350"),
        ),
        pytest.param(("nodictionary",), True, "EXTERNAL", marks=pytest.mark.covers("X351")),
        pytest.param(("forward_secrecy",), True, "", marks=pytest.mark.covers("X352")),
        pytest.param(
            ("noanonymous",), True, "EXTERNAL SCRAM-SHA-256 SCRAM-SHA-1 CRAM-MD5 PLAIN LOGIN",
            marks=pytest.mark.covers("X353"),
        ),
        pytest.param(("pass_credentials",), True, "PLAIN LOGIN", marks=pytest.mark.covers("X354")),
        pytest.param(
            ("mutual_auth",), True, "SCRAM-SHA-256 SCRAM-SHA-1", marks=pytest.mark.covers("X355")
        ),
        (("mutual_auth", "pass_credentials"), True, ""),
    ],
)  # fmt: skip
def test_flags_choose_mechanisms(flags, tls, left):
    assert " ".join(select(ALL, flags, tls=tls)) == left


def test_a_client_takes_the_best_and_keeps_its_password():
    assert choose_client(ALL, tls=False) == "SCRAM-SHA-256"
    assert choose_client(["login", "plain"], tls=True) == "PLAIN"
    assert choose_client(["LOGIN", "PLAIN"], tls=False) == ""
    assert choose_client(["LOGIN", "PLAIN"], tls=False, plain_in_clear=True) == "PLAIN"
    assert choose_client(["EXTERNAL", "GSSAPI"], tls=True) == ""


# --- the file ------------------------------------------------------------------------------


def test_a_file_is_read_as_it_was_written():
    assert read_keys(format_keys(TABLE).splitlines()) == TABLE
    assert TABLE.mechanisms == ("PLAIN", "LOGIN", "SCRAM-SHA-1", "SCRAM-SHA-256", "CRAM-MD5")
    assert PASSWORD not in format_keys(TABLE)


LINE = format_keys(TABLE).splitlines()[1]


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ([], "line 1: this is no file"),
        (["alice x"], "line 1: this is no file"),
        (["# smxpasswd 1 " + "A" * 22 + "=="], "line 1: 1 rounds"),
        (["HEAD", LINE, LINE], "line 3: alice stands"),
        (["HEAD", "", "# a comment", "alice"], "line 4: no SCRAM key"),
        (["HEAD", "alice CRAM-MD5$" + "0" * 64], "line 2: no SCRAM key"),
        (["HEAD", LINE + " " + LINE.split(" ")[1]], "line 2: malformed key"),
        (["HEAD", LINE.replace("4096", "999999")], "line 2: malformed key"),
        (["HEAD", LINE + "x"], "line 2: malformed key"),
        (["HEAD", LINE.replace("==$", "==$AAAA", 1)], "line 2: malformed key"),
        (["HEAD", "x" * 5000], "line 2: line too long"),
    ],
)
def test_a_broken_file_is_told_by_line(lines, text):
    head = format_keys(TABLE).splitlines()[0]
    with pytest.raises(SaslError, match=text):
        read_keys([head if line == "HEAD" else line for line in lines])


@pytest.mark.parametrize("user", ["", "a b", "#x", "x" * 256, "a\tb", "a\x7f"])
def test_names_that_cannot_be_used(user):
    with pytest.raises(SaslError):
        check_user(user)


def test_keys_are_not_the_password():
    key = derive_scram("SCRAM-SHA-256", PASSWORD, b"s" * 16, ROUNDS)
    assert isinstance(key, ScramKey)
    assert (len(key.stored), len(key.server)) == (32, 32)
