"""CHUNKING, SMTPUTF8, what is offered, what is hidden, VRFY and HELP."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libsmx.wire import Verdict
from tests.smtps.client import UNKNOWN_USER, Client, World

MAIL = "MAIL FROM:<s@a.test>\r\n"
RCPT = "RCPT TO:<r@b.test>\r\n"
BEGIN = "EHLO c.test\r\n" + MAIL + RCPT
BODY = "Subject: x\r\n\r\n.hello\r\n..\r\n.\r\n"


def stored(client):
    """What was committed, without our Received: field."""
    content = client.files[client.envelopes[-1].cdb_id]
    return content[content.index(b"+0000\r\n") + 7 :].decode()


CHUNKS = [
    # framing
    (BEGIN + "BDAT 5 LAST\r\nabc\r\nNOOP\r\n", "250 250 250 250 250"),
    (BEGIN + "bdat 0 last\r\nQUIT\r\n", "250 250 250 250 221"),
    (BEGIN + "BDAT 4\r\nab\r\nBDAT 4\r\nQUITBDAT 2 LAST\r\n\r\nNOOP\r\n",
     "250 250 250 250 250 250 250"),
    (BEGIN + "BDAT\r\nNOOP\r\n", "250 250 250 501"),
    (BEGIN + "BDAT x LAST\r\nNOOP\r\n", "250 250 250 501"),
    (BEGIN + "BDAT -1\r\nNOOP\r\n", "250 250 250 501"),
    (BEGIN + "BDAT 1 FIRST\r\nNOOP\r\n", "250 250 250 501"),
    (BEGIN + "BDAT " + "9" * 30 + "\r\nNOOP\r\n", "250 250 250 501"),
    (BEGIN + "BDAT 99999999999999\r\nNOOP\r\n", "250 250 250 421"),
    # a chunk that may not come is read away all the same
    ("EHLO c.test\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n", "250 503 250"),
    ("EHLO c.test\r\n" + MAIL + "BDAT 6 LAST\r\nQUIT\r\n" + RCPT, "250 250 503 250"),
    ("BDAT 6\r\nQUIT\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n", "503 503 250"),
    # orders
    (BEGIN + "BDAT 2\r\n\r\nDATA\r\n" + MAIL + RCPT + "BDAT 0 LAST\r\n",
     "250 250 250 250 503 503 503 250"),
    (BEGIN + "BDAT 2\r\n\r\nRSET\r\nBDAT 2 LAST\r\n\r\n" + MAIL, "250 250 250 250 250 503 250"),
    (BEGIN + "BDAT 2\r\n\r\nEHLO c.test\r\n" + MAIL + RCPT + "BDAT 0 LAST\r\n",
     "250 250 250 250 250 250 250 250"),
    (BEGIN + "BDAT 2\r\n\r\nQUIT\r\n", "250 250 250 250 221"),
    # what is refused in DATA is refused in chunks, and the session goes on
    (BEGIN + "BDAT 3 LAST\r\na\nbNOOP\r\n", "250 250 250 554 250"),
    (BEGIN + "BDAT 2\r\na\rBDAT 2 LAST\r\nb\nNOOP\r\n", "250 250 250 250 554 250"),
    (BEGIN + "BDAT 2\r\na\rBDAT 1 LAST\r\n\nNOOP\r\n", "250 250 250 250 250 250"),
    (BEGIN + "BDAT 2 LAST\r\na\rNOOP\r\n", "250 250 250 554 250"),
    (BEGIN + "BDAT 3\r\na\nbBDAT 2 LAST\r\n\r\nNOOP\r\n", "250 250 250 554 503 250"),
]  # fmt: skip


@pytest.mark.parametrize(("said", "codes"), CHUNKS)
def test_chunks_get_their_replies_however_the_bytes_arrive(said, codes):
    assert Client().codes(said) == codes
    for step in (1, 3, 17):
        client = Client()
        got = [client.codes(said[at : at + step]) for at in range(0, len(said), step)]
        assert " ".join(filter(None, got)) == codes


@settings(max_examples=150)
@given(st.lists(st.integers(0, 12), max_size=12), st.integers(1, 40))
def test_content_in_chunks_is_stored_as_it_is(sizes, step):
    """No dot has a meaning, no chunk a boundary: what is stored is what was counted."""
    said, at = BEGIN, 0
    for size in sizes:
        said += f"BDAT {len(BODY[at : at + size])}\r\n{BODY[at : at + size]}"
        at += size
    said += f"BDAT {len(BODY[at:])} LAST\r\n{BODY[at:]}QUIT\r\n"
    client = Client()
    got = "".join(client.talk(said[at : at + step]) for at in range(0, len(said), step))
    assert [line[:3] for line in got.splitlines() if line[3] == " "] == [
        *["250"] * (3 + len(sizes) + 1), "221",
    ]  # fmt: skip
    assert stored(client) == BODY
    assert client.closed


BREAKS = ["\r\n", "\n", "\r", "\r\r\n", "\n\r", "\r\0\n", "\0", "\n\n"]


@pytest.mark.parametrize("before", BREAKS)
@pytest.mark.parametrize("after", BREAKS)
def test_no_line_end_makes_two_messages_of_a_chunk(before, after):
    evil = f"x{before}.{after}{MAIL}{RCPT}DATA\r\nevil\r\n.\r\n"
    for step in (1, 5, 4096):
        client = Client()
        client.talk(BEGIN)
        said = f"BDAT {len(evil)} LAST\r\n{evil}"
        replies = "".join(client.talk(said[at : at + step]) for at in range(0, len(said), step))
        assert replies.count("\r\n") == 1
        assert len(client.envelopes) == (replies[:3] == "250")
        assert replies[:3] == "250" or not client.files
        if replies[:3] == "250":
            clean = {"\r\n", "\0"}
            assert before in clean
            assert after in clean
            assert stored(client) == evil


def test_chunks_count_against_the_size_and_the_hops():
    client = Client(max_message_size=1)
    client.talk(BEGIN)
    assert client.codes("BDAT 1024 LAST\r\n" + "x" * 1022 + "\r\n") == "250"
    client.talk(MAIL + RCPT)
    assert client.codes("BDAT 1022\r\n" + "x" * 1022 + "BDAT 3 LAST\r\n\r\nx") == "250 552"
    client.talk(MAIL + RCPT)
    hops = "Received: x\r\n" * 26
    assert client.codes(f"BDAT {len(hops)} LAST\r\n{hops}") == "554"
    assert len(client.files) == 1


def test_disk_that_fails_at_the_first_chunk_costs_only_the_message():
    client = Client(world=World(disk=False))
    client.talk(BEGIN)
    assert client.codes("BDAT 6\r\nQUIT\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n") == "451 503 250"


def test_hidden_extensions_are_neither_offered_nor_taken():
    hidden = frozenset({"chunking", "dsn", "smtputf8", "size"})
    client = Client(extensions_hidden=hidden)
    assert client.talk("EHLO c.test\r\n") == (
        "250-mx.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n"
    )
    assert client.codes("MAIL FROM:<s@a.test> RET=FULL\r\n") == "555"
    assert client.codes("MAIL FROM:<s@a.test> SMTPUTF8\r\n") == "555"
    assert client.codes(MAIL + "RCPT TO:<r@b.test> NOTIFY=NEVER\r\n" + RCPT) == "250 555 250"
    # What follows cannot be told from commands, so the session ends.
    assert client.codes("BDAT 6 LAST\r\nQUIT\r\n") == "502"
    assert client.closed


# --- SMTPUTF8 ------------------------------------------------------------------------------


def test_addresses_beyond_ascii_need_smtputf8():
    client = Client()
    client.talk("EHLO c.test\r\n")
    assert client.talk("MAIL FROM:<jörg@a.test>\r\n".encode()).startswith("553 5.6.7")
    assert client.codes(MAIL + "RCPT TO:<postmaster>\r\n") == "250 250"
    assert client.talk("RCPT TO:<jörg@b.test>\r\n".encode()).startswith("553 5.6.7")
    client.talk("RSET\r\n")
    said = "MAIL FROM:<jörg@exämple.test> SMTPUTF8 BODY=8BITMIME\r\nRCPT TO:<用户@b.test>\r\n"
    assert client.codes((said + "DATA\r\nSubject: ü\r\n.\r\n").encode()) == "250 250 354 250"
    (envelope,) = client.envelopes
    assert envelope.sender == "jörg@exämple.test"
    assert envelope.rcpts[0].address == "用户@b.test"
    content = client.files[envelope.cdb_id].decode()
    assert " with UTF8SMTP id " in content
    assert "for <用户@b.test>" in content


@pytest.mark.parametrize("address", [
    b"\xff@a.test", b"a\xc2\x85b@a.test", b"a@\xff.test", "a\u2028b@a.test".encode(),
    "a@x\u3000y.test".encode(), "a@\u200b.test".encode(), ("ü" * 300 + "@a.test").encode(),
])  # fmt: skip
def test_what_is_no_utf8_or_no_name_is_refused(address):
    client = Client()
    client.talk("EHLO c.test\r\n")
    assert client.codes(b"MAIL FROM:<" + address + b"> SMTPUTF8\r\n") == "501"


def test_smtputf8_is_offered_with_8bitmime_only():
    client = Client(flags=frozenset())
    assert "SMTPUTF8" not in client.talk("EHLO c.test\r\n")
    assert client.codes("MAIL FROM:<s@a.test> SMTPUTF8\r\n") == "555"


# --- VRFY, HELP, EXPN, ETRN ----------------------------------------------------------------


def test_vrfy_tells_what_the_resolver_says_where_it_may():
    world = World(rcpt={"u@b.test": Verdict(accept=True, local=True), "n@b.test": UNKNOWN_USER})
    client = Client(world=world, commands=frozenset({"vrfy"}))
    client.talk("EHLO c.test\r\n")
    assert client.talk("VRFY <u@b.test>\r\n") == "250 2.1.5 <u@b.test>\r\n"
    assert client.talk("VRFY n@b.test\r\n") == "550 5.1.1 no such user\r\n"
    assert client.talk("VRFY r@elsewhere.test\r\n").startswith("252 2.5.2")
    assert client.codes("VRFY a b\r\n") == "501"
    assert client.codes(MAIL + "VRFY u@b.test\r\n" + RCPT + "VRFY u@b.test\r\nDATA\r\n") == (
        "250 250 250 250 354"
    )
    world.smar = False
    other = Client(world=world, commands=frozenset({"vrfy"}))
    assert other.codes("EHLO c.test\r\nVRFY u@b.test\r\nHELP\r\n") == "250 451 502"


def test_expn_and_etrn_are_refused():
    client = Client()
    assert client.talk("EXPN list\r\n") == "502 5.5.1 EXPN is not implemented\r\n"
    assert client.talk("ETRN a.test\r\n") == "502 5.5.1 ETRN is not implemented\r\n"


# --- replies -------------------------------------------------------------------------------


def test_every_reply_but_those_of_the_rfc_has_an_enhanced_code():
    client = Client(commands=frozenset({"help"}))
    said = BEGIN + "DATA\r\n.\r\n" + BEGIN + (
        "VRFY x\r\nNOOP\r\nHELP\r\nRSET\r\nFOO\r\nRCPT\r\nMAIL\r\nMAIL FROM:<@>\r\nETRN\r\nQUIT\r\n"
    )  # fmt: skip
    for line in client.talk(said).splitlines():
        if line[:3] != "354" and line[3] == " " and line != "250 SMTPUTF8":
            assert line[4:].split()[0].count(".") == 2, line


def test_banner_is_the_text_of_the_option():
    assert (
        Client(banner="ready when you are").greeting == "220 mx.test ESMTP ready when you are\r\n"
    )


@pytest.mark.parametrize("flag", ["require_tls", "require_auth"])
def test_server_for_submission_wants_encryption_or_authentication(flag):
    client = Client(flags=frozenset({"8bitmime", flag}))
    client.talk("EHLO c.test\r\n")
    assert client.talk(MAIL).startswith("530 5.7.0")
    client.session.dialogue.secure = flag == "require_tls"
    client.session.dialogue.auth = "me" if flag == "require_auth" else ""
    assert client.codes(MAIL) == "250"
