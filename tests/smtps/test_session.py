"""The server machine: dialogues, orders, groups, content, failures, any bytes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libsmx.errors import Bug
from libsmx.lines import MAX_COMMAND_LINE
from libsmx.opttab import SmtpsConf
from libsmx.version import PRODUCT
from libsmx.wire import Refusal, TaCommitted
from smtps import judge
from smtps.effects import Ask, Opened, Send
from smtps.session import MAX_GROUP, Session, State
from tests.smtps.client import FULL, LOCAL, UNKNOWN_USER, Client, World, make_policy

RELAY = SmtpsConf().relay_clients
MAIL = "MAIL FROM:<s@a.test>\r\n"
RCPT = "RCPT TO:<r@b.test>\r\n"
BODY = "Subject: x\r\n\r\nhello\r\n"


@pytest.mark.covers("X002")
def test_simple_message_is_taken():
    client = Client()
    assert client.greeting == f"220 mx.test ESMTP {PRODUCT}\r\n"
    assert client.codes("EHLO c.test\r\n") == "250"
    assert client.talk(MAIL) == "250 2.1.0 Sender ok\r\n"
    assert client.talk(RCPT) == "250 2.1.5 Recipient ok\r\n"
    assert client.codes("DATA\r\n") == "354"
    assert client.talk(BODY) == ""
    assert client.talk(".\r\n") == "250 2.0.0 S000000000000000100 accepted\r\n"
    assert client.talk("QUIT\r\n") == "221 2.0.0 mx.test closing connection\r\n"
    assert client.closed
    (envelope,) = client.envelopes
    assert envelope.ta_id == envelope.cdb_id == "S000000000000000100"
    assert envelope.sender == "s@a.test"
    assert [(rcpt.idx, rcpt.address) for rcpt in envelope.rcpts] == [(0, "r@b.test")]
    assert envelope.client == LOCAL
    content = client.files[envelope.cdb_id].decode()
    assert content.startswith("Received: from c.test ([192.0.2.9])\r\n\tby mx.test (smX.")
    assert content.endswith("+0000\r\n" + BODY)


@pytest.mark.covers("X001")
def test_content_is_stored_as_received_behind_one_received_field():
    client = Client()
    client.begin()
    raw = "To: a\r\n\r\n..dots\r\n...\r\n\x01\x7f tab\t\r\n"
    client.talk("DATA\r\n" + raw + ".\r\n")
    content = client.files[client.envelopes[0].cdb_id]
    assert content[content.index(b"To: a") :] == raw.replace("\r\n..", "\r\n.").encode()
    assert content.count(b"Received:") == 1


@pytest.mark.covers("X002", "X003", "X359")
def test_ehlo_offers_extensions_and_helo_none():
    client = Client(max_message_size=100)
    assert client.talk("EHLO c.test\r\n") == (
        "250-mx.test\r\n250-PIPELINING\r\n250-SIZE 102400\r\n"
        "250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250-DSN\r\n250-CHUNKING\r\n250 SMTPUTF8\r\n"
    )
    assert client.talk("HELO c.test\r\n") == "250 mx.test\r\n"
    plain = Client(flags=frozenset())
    assert "8BITMIME" not in plain.talk("EHLO c.test\r\n")
    assert plain.codes("MAIL FROM:<s@a.test> BODY=8BITMIME\r\n") == "555"


DIALOGUES = [
    # verbs and their arguments
    ("EHLO\r\nHELO\r\n", "501 501"),
    ("EHLO c.test\r\nRSET x\r\nDATA x\r\nQUIT x\r\nQUIT\r\n", "250 501 501 501 221"),
    ("EHLO c.test\r\nNOOP\r\nNOOP x\r\nHELP\r\nHELP MAIL\r\n", "250 250 250 214 214"),
    ("EHLO c.test\r\nVRFY\r\nVRFY u\r\nEXPN l\r\nETRN x\r\n", "250 501 252 502 502"),
    ("STARTTLS\r\nAUTH PLAIN\r\nTURN\r\n", "502 502 502"),
    ("FOO\r\n\r\n \r\nMAILFROM:<a@b>\r\n", "500 500 500 500"),
    ("ehlo c.test\r\nmail from:<s@a.test>\r\nRcpt To:<r@b.test>\r\nrset\r\n", "250 250 250 250"),
    # orders
    (MAIL + RCPT + "DATA\r\nRSET\r\n", "503 503 503 250"),
    ("EHLO c.test\r\n" + RCPT + "DATA\r\n", "250 503 503"),
    ("EHLO c.test\r\n" + MAIL + "DATA\r\n", "250 250 503"),
    ("EHLO c.test\r\n" + MAIL + MAIL + RCPT, "250 250 503 250"),
    ("EHLO c.test\r\n" + MAIL + "RSET\r\n" + RCPT, "250 250 250 503"),
    ("EHLO c.test\r\n" + MAIL + "EHLO c.test\r\n" + RCPT, "250 250 250 503"),
    ("EHLO c.test\r\n" + MAIL + RCPT + "HELO c.test\r\nDATA\r\n", "250 250 250 250 503"),
    ("EHLO c.test\r\n" + MAIL + RCPT + "NOOP\r\nVRFY x\r\nFOO\r\nDATA\r\n",
     "250 250 250 250 252 500 354"),
    ("QUIT\r\nNOOP\r\n", "221"),
    # MAIL and RCPT
    ("EHLO c.test\r\nMAIL\r\nMAIL FROM\r\nMAIL FROM:\r\nMAIL TO:<a@b.test>\r\n",
     "250 501 501 501 501"),
    ("EHLO c.test\r\nMAIL FROM:<>\r\nRCPT TO:<>\r\nRCPT TO:<postmaster>\r\n", "250 250 501 250"),
    ("EHLO c.test\r\nMAIL FROM: <s@a.test>\r\nRCPT TO: <r@b.test>\r\n", "250 250 250"),
    ("EHLO c.test\r\nMAIL FROM:<user>\r\nMAIL FROM:<a@b@c>\r\n", "250 553 501"),
    ("EHLO c.test\r\nMAIL FROM:<s@a.test> SIZE=x\r\nMAIL FROM:<s@a.test> SIZE\r\n", "250 501 501"),
    ("EHLO c.test\r\nMAIL FROM:<s@a.test> SIZE=10 BODY=8bitmime\r\n", "250 250"),
    ("EHLO c.test\r\nMAIL FROM:<s@a.test> BODY=BINARYMIME\r\n", "250 501"),
    ("EHLO c.test\r\nMAIL FROM:<s@a.test> SMTPUTF8=x\r\nMAIL FROM:<s@a.test> FOO=x\r\n",
     "250 501 555"),
    ("EHLO c.test\r\n" + MAIL + "RCPT TO:<r@b.test> FOO=BAR\r\n", "250 250 555"),
    # RFC 3461
    ("EHLO c.test\r\nMAIL FROM:<s@a.test> RET=x\r\nMAIL FROM:<s@a.test> RET\r\n", "250 501 501"),
    ("EHLO c.test\r\nMAIL FROM:<s@a.test> ENVID=a+0D+0A\r\nMAIL FROM:<s@a.test> ENVID=+0d\r\n",
     "250 501 501"),
    ("EHLO c.test\r\nMAIL FROM:<s@a.test> ENVID=" + "x" * 101 + "\r\n", "250 501"),
    ("EHLO c.test\r\nMAIL FROM:<s@a.test> ret=Hdrs ENVID=" + "x" * 100 + "\r\n", "250 250"),
    ("EHLO c.test\r\n" + MAIL + "RCPT TO:<r@b.test> NOTIFY=NEVER,DELAY\r\n"
     "RCPT TO:<r@b.test> NOTIFY=\r\nRCPT TO:<r@b.test> NOTIFY=OFTEN\r\n", "250 250 501 501 501"),
    ("EHLO c.test\r\n" + MAIL + "RCPT TO:<r@b.test> ORCPT=r@b.test\r\n"
     "RCPT TO:<r@b.test> ORCPT=rfc822;a+00b\r\nRCPT TO:<r@b.test> ORCPT=;a\r\n",
     "250 250 501 501 501"),
    ("EHLO c.test\r\n" + MAIL + "RCPT TO:<r@b.test> NOTIFY=NEVER ORCPT=rfc822;a+2Bb@c\r\n",
     "250 250 250"),
    ("EHLO c.test\r\n" + MAIL + "RCPT\r\nRCPT TO:\r\nRCPT FROM:<a@b.test>\r\n",
     "250 250 501 501 501"),
    ("EHLO c.test\r\n" + MAIL + "RCPT\r\nDATA\r\n", "250 250 501 554"),
    ("EHLO c.test\r\n" + MAIL + "RCPTX\r\n" + RCPT, "250 250 500 250"),
    ("EHLO c.test\r\n" + MAIL + RCPT + "RCPT\r\nRCPTX\r\n" + RCPT, "250 250 250 501 500 250"),
    # lines
    ("EHLO c.test\r\n" + "x" * 3000 + "\r\nNOOP\r\n", "250 500 250"),
    ("EHLO c.test\r\nNOOP\nNOOP\r\n", "250 500"),
    ("EHLO c.test\r\n" + MAIL + "RCPT TO:<r@b.test>\rNOOP\r\nNOOP\r\n", "250 250 500"),
    ("GET / HTTP/1.1\r\nHost: x\r\n\r\nEHLO c.test\r\n", "421"),
    ("EHLO c.test\r\nPOST / HTTP/1.1\r\n", "250 421"),
]  # fmt: skip


@pytest.mark.covers("X002", "X003")
@pytest.mark.parametrize(("said", "codes"), DIALOGUES)
def test_dialogue_gets_its_replies_however_the_bytes_arrive(said, codes):
    assert Client().codes(said) == codes
    client = Client()
    assert " ".join(filter(None, (client.codes(char) for char in said))) == codes
    for at in range(1, len(said), 7):
        client = Client()
        assert " ".join(filter(None, (client.codes(said[:at]), client.codes(said[at:])))) == codes


def test_content_is_the_same_however_the_bytes_arrive():
    said = f"EHLO c.test\r\n{MAIL}{RCPT}DATA\r\n{BODY}..\r\n.\r\n{MAIL}{RCPT}DATA\r\n.\r\nQUIT\r\n"
    whole = Client()
    replies = whole.talk(said)
    assert len(whole.envelopes) == 2
    for step in (1, 2, 3, 5, 11, 64):
        client = Client()
        got = "".join(client.talk(said[at : at + step]) for at in range(0, len(said), step))
        assert got == replies
        assert client.files == whole.files
        assert client.envelopes == whole.envelopes


@pytest.mark.covers("X003")
def test_pipelined_group_is_asked_at_once_and_answered_in_order():
    client = Client(world=World(rcpt={"x@b.test": UNKNOWN_USER}))
    client.talk("EHLO c.test\r\n")
    replies = client.talk(
        MAIL + RCPT + "RCPT TO:<x@b.test>\r\nRCPT TO:<bad\r\nRCPT TO:<q@b.test>\r\nDATA\r\n"
    )
    assert [line[:9] for line in replies.splitlines()] == [
        "250 2.1.0", "250 2.1.5", "550 5.1.1", "501 5.1.3", "250 2.1.5", "354 End d",
    ]  # fmt: skip
    (ask,) = client.asks
    assert len(ask.questions) == 4
    assert ask.reserve
    client.talk(".\r\n")
    assert [rcpt.address for rcpt in client.envelopes[0].rcpts] == ["r@b.test", "q@b.test"]


def test_large_group_is_asked_in_parts_and_room_reserved_once():
    client = Client()
    client.talk("EHLO c.test\r\n" + MAIL)
    assert client.codes(RCPT * 250) == " ".join(["250"] * 250)
    assert all(len(ask.questions) <= MAX_GROUP for ask in client.asks)
    assert [ask.reserve for ask in client.asks] == [False, True, False, False]


def test_replies_wait_for_the_group_and_leave_in_one_write():
    client = Client()
    session = client.session
    (send,) = session.receive(b"EHLO c.test\r\n")
    assert isinstance(send, Send)
    effects = session.receive((MAIL + RCPT).encode())
    assert [type(effect) for effect in effects] == [Ask]
    assert session.state is State.ASKING
    with pytest.raises(Bug):
        session.receive(b"NOOP\r\n")
    with pytest.raises(Bug):
        session.answer(Opened(0.0))


@pytest.mark.covers("X462", "X469")
def test_client_that_may_relay_and_null_sender_skip_the_sender_check():
    relay = Client(client="127.0.0.1", relay_clients=RELAY)
    relay.talk("EHLO c.test\r\n" + MAIL + RCPT)
    (ask,) = relay.asks
    assert [(question.rcpt, question.relay) for question in ask.questions] == [("r@b.test", True)]
    other = Client(relay_clients=RELAY)
    other.talk("EHLO c.test\r\nMAIL FROM:<>\r\n" + RCPT)
    (ask,) = other.asks
    assert [question.relay for question in ask.questions] == [False]


def test_refused_sender_takes_its_recipients_with_it():
    client = Client(world=World(mail={"s@a.test": UNKNOWN_USER}))
    client.talk("EHLO c.test\r\n")
    assert client.codes(MAIL + RCPT + RCPT + "DATA\r\n") == "550 503 503 503"
    assert client.aborted == ["S000000000000000100"]
    assert client.codes("MAIL FROM:<t@a.test>\r\n" + RCPT) == "250 250"


@pytest.mark.covers("X009")
def test_without_resolver_mail_and_rcpt_get_a_temporary_refusal():
    client = Client(world=World(smar=False))
    client.talk("EHLO c.test\r\n")
    assert client.talk(MAIL).startswith("451 4.3.0")
    assert client.codes("MAIL FROM:<>\r\n" + RCPT) == "250 451"
    client.world.smar = True
    assert client.codes(RCPT + "DATA\r\n") == "250 354"


def test_without_room_in_the_queue_rcpt_is_refused_for_now_and_asked_again():
    client = Client(world=World(room=FULL))
    client.talk("EHLO c.test\r\n" + MAIL)
    assert client.talk(RCPT) == "452 4.3.1 queue is full\r\n"
    client.world.room = None
    assert client.talk(RCPT).startswith("451 4.3.0")
    client.world.room = World().room
    assert client.codes(RCPT + RCPT + "DATA\r\n") == "250 250 354"


def test_qmgr_that_refuses_or_is_missing_ends_the_session_at_once():
    refused = Client(granted=Refusal(code=421, status="4.7.0", text="too fast %s %d"))
    assert refused.greeting == "421 4.7.0 too fast %s %d\r\n"
    assert refused.closed
    session = Session(make_policy(), LOCAL, "1")
    sends = [effect.data for effect in session.opened(None) if isinstance(effect, Send)]
    assert sends == [b"421 4.3.0 mx.test service not available, try again later\r\n"]


def test_throttled_server_refuses_mail_for_now():
    client = Client()
    client.talk("EHLO c.test\r\n")
    client.policy.throttled = True
    assert client.talk(MAIL).startswith("452 4.3.1")
    client.policy.throttled = False
    assert client.codes(MAIL) == "250"


def test_session_that_qmgr_forgot_ends_at_the_next_mail():
    client = Client()
    client.talk("EHLO c.test\r\n")
    client.session.dialogue.disowned = True
    assert client.codes("NOOP\r\n" + MAIL) == "250 421"
    assert client.closed


# --- what is durable, and who may remove it ------------------------------------------------


@pytest.mark.covers("X011")
def test_250_is_said_only_for_a_commit_that_qmgr_confirmed():
    client = Client()
    client.begin()
    client.talk("DATA\r\n" + BODY)
    assert client.session.state is State.DATA
    effects = client.session.receive(b".\r\n")
    assert not any(isinstance(effect, Send) for effect in effects)
    assert client.session.state is State.COMMITTING


@pytest.mark.parametrize(("world", "codes", "kept", "aborted"), [
    (World(disk=False), "451 500", 0, 1),
    (World(synced=False), "354 451", 0, 1),
    (World(commit=FULL), "354 452", 0, 0),
    (World(commit=None), "354 451", 1, 0),
])  # fmt: skip
def test_failed_commit_is_temporary_and_content_goes_unless_qmgr_may_have_it(
    world, codes, kept, aborted
):
    client = Client(world=world)
    client.begin()
    said = "DATA\r\n" + ("x\r\n" if not world.disk else BODY + ".\r\n")
    assert client.codes(said) == codes
    assert len(client.files) == kept
    assert len(client.aborted) == aborted
    assert not client.envelopes
    client.world = World(commit=TaCommitted())
    client.world.disk = client.world.synced = True
    assert client.codes(MAIL + RCPT + "DATA\r\n.\r\n") == "250 250 354 250"


@pytest.mark.parametrize("said", ["", "EHLO c.test\r\n" + MAIL, "EHLO c.test\r\n" + MAIL + RCPT,
                                  "EHLO c.test\r\n" + MAIL + RCPT + "DATA\r\nhalf"])  # fmt: skip
def test_lost_client_leaves_nothing_behind(said):
    client = Client()
    client.talk(said)
    client._perform(client.session.lost("reset"))
    assert client.closed
    assert client.files == {}
    assert len(client.aborted) == ("RCPT" in said)
    assert client.take() == ""


def test_client_lost_during_commit_leaves_the_content_to_qmgr():
    client = Client()
    client.begin()
    client.talk("DATA\r\n" + BODY)
    client.session.receive(b".\r\n")
    client._perform(client.session.lost("reset"))
    assert len(client.files) == 1
    assert client.aborted == []


def test_silent_client_gets_421_and_its_content_goes():
    client = Client()
    client.begin()
    client.talk("DATA\r\nhalf")
    client._perform(client.session.time_out())
    assert client.take().startswith("421 4.4.2")
    assert (client.closed, client.files, len(client.aborted)) == (True, {}, 1)


def test_stopping_server_lets_data_finish_and_ends_at_the_next_command():
    client = Client()
    client.begin()
    client.talk("DATA\r\n")
    client.policy.stopping = True
    assert client.codes(BODY + ".\r\n") == "250"
    assert client.session.idle
    assert client.talk("NOOP\r\n").startswith("421 4.3.2")
    assert client.closed
    other = Client(policy=client.policy)
    assert other.codes("QUIT\r\n") == "221"


# --- smuggling -----------------------------------------------------------------------------

BREAKS = ["\n", "\r", "\r\r\n", "\n\r", "\r\0\n", "\n\n"]


@pytest.mark.parametrize("before", ["\r\n", *BREAKS])
@pytest.mark.parametrize("after", ["\r\n", *BREAKS])
@pytest.mark.parametrize("step", [1, 7, 4096])
def test_smuggled_message_is_refused_and_the_session_ends(before, after, step):
    if before == after == "\r\n":
        return
    client = Client()
    client.begin()
    client.talk("DATA\r\n")
    said = BODY + "x" + before + "." + after + MAIL + RCPT + "DATA\r\nevil\r\n.\r\n"
    replies = "".join(client.talk(said[at : at + step]) for at in range(0, len(said), step))
    assert replies.startswith("500 5.5.2")
    assert replies.count("\r\n") == 1
    assert client.closed
    assert (client.files, client.envelopes, len(client.aborted)) == ({}, [], 1)


# --- content limits ------------------------------------------------------------------------


@pytest.mark.covers("X379")
def test_message_size_limit_holds_exactly():
    client = Client(max_message_size=1)
    client.talk("EHLO c.test\r\n")
    assert client.codes("MAIL FROM:<s@a.test> SIZE=1025\r\n") == "552"
    assert client.codes("MAIL FROM:<s@a.test> SIZE=1024\r\n" + RCPT) == "250 250"
    assert client.codes("DATA\r\n" + "x" * 1022 + "\r\n.\r\n") == "354 250"
    assert client.codes(MAIL + RCPT + "DATA\r\n" + "x" * 1023 + "\r\n.\r\n") == "250 250 354 552"
    assert (len(client.files), len(client.envelopes)) == (1, 1)
    assert client.codes(MAIL) == "250"


def test_dots_do_not_count_into_the_size():
    client = Client(max_message_size=1)
    client.begin()
    assert client.codes("DATA\r\n.." + "x" * 1021 + "\r\n.\r\n") == "354 250"


def test_oversize_message_is_drained_but_not_for_ever():
    client = Client(max_message_size=1)
    client.begin()
    client.talk("DATA\r\n")
    replies = [client.talk("x" * 998 + "\r\n") for _ in range(6)]
    assert replies[:4] == [""] * 4
    assert any(reply.startswith("421 4.7.0") for reply in replies)
    assert client.closed
    assert client.files == {}


@pytest.mark.covers("X378")
@pytest.mark.parametrize("step", [1, 13, 4096])
def test_hop_limit_holds_exactly(step):
    for hops, code in ((25, "250"), (26, "554")):
        client = Client()
        client.begin()
        client.talk("DATA\r\n")
        said = "Received: x\r\n\ty\r\n" * (hops - 1) + "rEceived:x\r\nX: received: \r\n\r\n"
        said += "Received: z\r\n" * 50 + ".\r\n"
        replies = "".join(client.talk(said[at : at + step]) for at in range(0, len(said), step))
        assert replies[:3] == code
        assert ("5.4.6" in replies) == (code == "554")


# --- command limits (D31: N is allowed, the next is not) -----------------------------------


def fill(client, said, times):
    """Say something so often; return the codes."""
    return [client.codes(said) for _ in range(times)]


@pytest.mark.covers("X370")
def test_bad_commands_per_session():
    client = Client(max_bad_commands_per_session=3, max_bad_commands_per_transaction=0)
    client.begin()
    assert fill(client, "FOO\r\n", 3) == ["500"] * 3
    assert client.talk("FOO\r\n").startswith("421 4.7.0")
    assert client.closed
    assert len(client.aborted) == 1


@pytest.mark.covers("X373")
def test_bad_commands_per_transaction():
    client = Client(max_bad_commands_per_session=0, max_bad_commands_per_transaction=3)
    for _ in range(3):
        client.begin()
        assert fill(client, "FOO\r\n", 3) == ["500"] * 3
        client.talk("RSET\r\n")
        assert fill(client, "FOO\r\n", 5) == ["500"] * 5
    client.begin()
    assert fill(client, "FOO\r\n", 4) == ["500", "500", "500", "421"]


@pytest.mark.covers("X372")
def test_nop_commands_between_transactions():
    client = Client(max_nop_commands_between_transactions=4)
    client.talk("EHLO c.test\r\n")
    assert fill(client, "NOOP\r\n", 4) == ["250"] * 4
    assert client.codes(MAIL + RCPT + "DATA\r\n.\r\n") == "250 250 354 250"
    assert client.codes("NOOP\r\nRSET\r\nVRFY x\r\nHELP\r\n") == "250 250 252 214"
    assert client.codes("NOOP\r\n") == "421"


@pytest.mark.covers("X374")
def test_nop_commands_in_transaction():
    client = Client(max_nop_commands_in_transaction=4)
    client.begin()
    assert fill(client, "NOOP\r\n", 4) == ["250"] * 4
    client.talk("RSET\r\n")
    client.begin()
    assert fill(client, "NOOP\r\n", 5) == [*["250"] * 4, "421"]


def test_transactions_begun_and_reset_for_ever_are_limited():
    client = Client(max_nop_commands_between_transactions=4)
    client.talk("EHLO c.test\r\n")
    assert fill(client, MAIL + "RSET\r\n", 5) == [*["250 250"] * 4, "250 421"]


@pytest.mark.covers("X371")
def test_invalid_addresses_per_session():
    world = World(rcpt={"x@b.test": UNKNOWN_USER})
    client = Client(
        world=world, max_invalid_addresses_per_session=3, max_invalid_addresses_per_transaction=0
    )
    bad = "RCPT TO:<x@b.test>\r\n"
    client.talk("EHLO c.test\r\n" + MAIL)
    assert client.codes(bad + bad + "RSET\r\n" + MAIL + bad) == "550 550 250 250 550"
    assert client.codes(RCPT + bad + RCPT) == "250 421"
    assert client.closed


@pytest.mark.covers("X375")
def test_invalid_addresses_per_transaction():
    world = World(rcpt={"x@b.test": UNKNOWN_USER})
    client = Client(
        world=world, max_invalid_addresses_per_session=0, max_invalid_addresses_per_transaction=2
    )
    bad = "RCPT TO:<x@b.test>\r\n"
    client.talk("EHLO c.test\r\n" + MAIL)
    assert client.codes(bad + bad + RCPT + "DATA\r\n.\r\n") == "550 550 250 354 250"
    assert client.codes(MAIL + bad + bad + bad) == "250 550 550 421"


@pytest.mark.covers("X377")
@pytest.mark.parametrize("pipelined", [True, False])
def test_recipients_per_transaction(pipelined):
    client = Client(max_recipients_per_transaction=2)
    client.talk("EHLO c.test\r\n" + MAIL)
    if pipelined:
        assert client.codes(RCPT * 4) == "250 250 452 452"
    else:
        assert fill(client, RCPT, 4) == ["250", "250", "452", "452"]
    assert client.codes("DATA\r\n.\r\n") == "354 250"
    assert len(client.envelopes[0].rcpts) == 2
    assert client.codes(MAIL + RCPT * 2) == "250 250 250"


def test_recipients_fit_one_envelope_whatever_the_options_allow(monkeypatch):
    monkeypatch.setattr(judge, "MAX_RCPTS", 3)
    client = Client(max_recipients_per_transaction=0)
    client.begin()
    assert fill(client, RCPT, 3) == ["250", "250", "452"]
    monkeypatch.setattr(judge, "MAX_RCPTS", 50_000)
    monkeypatch.setattr(judge, "MAX_WEIGHT", 2 * len("r@b.test"))
    assert client.codes(RCPT) == "452"
    assert client.codes("DATA\r\n.\r\n" + MAIL + RCPT * 4) == "354 250 250 250 250 250 452"


@pytest.mark.covers("X376")
def test_recipients_per_session():
    client = Client(max_recipients_per_session=3)
    client.begin(2)
    assert client.codes("DATA\r\n.\r\n") == "354 250"
    assert client.codes(MAIL + RCPT * 2 + "DATA\r\n.\r\n") == "250 250 452 354 250"
    assert [len(envelope.rcpts) for envelope in client.envelopes] == [2, 1]


@pytest.mark.covers("X381")
def test_transactions_per_session():
    client = Client(max_transactions=2)
    client.talk("EHLO c.test\r\n")
    for _ in range(2):
        assert client.codes(MAIL + RCPT + "DATA\r\n.\r\n") == "250 250 354 250"
    assert client.codes(MAIL) == "421"
    assert client.closed


def test_zero_is_no_limit():
    client = Client(
        max_bad_commands_per_session=0,
        max_bad_commands_per_transaction=0,
        max_nop_commands_between_transactions=0,
        max_nop_commands_in_transaction=0,
        max_invalid_addresses_per_session=0,
        max_invalid_addresses_per_transaction=0,
        max_recipients_per_session=0,
        max_recipients_per_transaction=0,
    )
    client.begin()
    assert set(fill(client, "FOO\r\n", 200)) == {"500"}
    assert set(fill(client, "NOOP\r\n", 200)) == {"250"}
    assert set(fill(client, "RCPT\r\n", 200)) == {"501"}


# --- flags ---------------------------------------------------------------------------------


@pytest.mark.covers("X364")
def test_soft_bounce_makes_every_refusal_temporary():
    client = Client(world=World(rcpt={"x@b.test": UNKNOWN_USER}), flags=frozenset({"soft_bounce"}))
    client.talk("EHLO c.test\r\n")
    assert client.codes("FOO\r\nDATA\r\n" + MAIL) == "400 403 250"
    assert client.talk("RCPT TO:<x@b.test>\r\n") == "450 4.1.1 no such user\r\n"


@pytest.mark.covers("X365")
@pytest.mark.parametrize(("name", "plain", "strict"), [
    ("c.test", "250", "250"),
    ("localhost", "250", "250"),
    ("[192.0.2.1]", "250", "250"),
    ("[IPv6:2001:db8::1]", "250", "250"),
    ("bad_name!", "250", "501"),
    ("-x.test", "250", "501"),
    ("[300.1.1.1]", "250", "501"),
    ("two words", "250", "501"),
    ("", "501", "501"),
])  # fmt: skip
def test_strict_ehlo_checks_look_at_the_argument(name, plain, strict):
    for verb in ("EHLO", "HELO"):
        assert Client().codes(f"{verb} {name}\r\n") == plain
        flags = frozenset({"strict_ehlo_checks"})
        assert Client(flags=flags).codes(f"{verb} {name}\r\n") == strict


# --- anything ------------------------------------------------------------------------------

WORDS = [
    b"EHLO c.test\r\n", b"HELO x\r\n", MAIL.encode(), RCPT.encode(), b"DATA\r\n", b".\r\n", b"\r\n",
    b"RSET\r\n", b"NOOP\r\n", b"QUIT\r\n", b"VRFY a\r\n", b"FOO\r\n", b"MAIL FROM:<>\r\n",
    b"RCPT TO:<x@b.test>\r\n", b"text\r\n", b"RCPT TO:<", b"\r", b"\n", b".", b"x" * 3000,
]  # fmt: skip
WORLDS = [World, lambda: World(smar=False), lambda: World(room=FULL), lambda: World(commit=None),
          lambda: World(synced=False), lambda: World(disk=False)]  # fmt: skip


@settings(max_examples=300)
@given(st.lists(st.sampled_from(WORDS) | st.binary(max_size=20), max_size=40),
       st.sampled_from(WORLDS), st.integers(0, 5))  # fmt: skip
def test_any_bytes_leave_the_session_in_order(chunks, make_world, join):
    """No input raises, replies are well formed, and content exists only where it may."""
    client = Client(world=make_world(), max_message_size=1, max_bad_commands_per_session=4)
    if join:
        chunks = [b"".join(chunks[at : at + join]) for at in range(0, len(chunks), join)]
    for chunk in chunks:
        replies = client.talk(chunk)
        assert all(line[:3].isdigit() for line in replies.splitlines())
        assert replies == "" or replies.endswith("\r\n")
        # What was left of a line, and the chunk that came last.
        assert len(client.session.lines._buffer) <= MAX_COMMAND_LINE + len(chunk)
    client._perform(client.session.lost("end"))
    accepted = {envelope.cdb_id for envelope in client.envelopes}
    if client.world.commit is None:
        assert not accepted
    else:
        assert set(client.files) == accepted
    assert client.session.state is State.CLOSED


def test_what_is_said_of_reports_goes_with_the_envelope():
    client = Client()
    client.talk("EHLO c.test\r\nMAIL FROM:<s@a.test> ENVID=Q+2B1 RET=full\r\n")
    client.talk("RCPT TO:<r@b.test> NOTIFY=delay,SUCCESS,delay ORCPT=rfc822;o+3Do@x.test\r\n")
    client.talk("RCPT TO:<t@b.test>\r\nDATA\r\nSubject: x\r\n.\r\n")
    [envelope] = client.envelopes
    assert (envelope.ret, envelope.envid) == ("FULL", "Q+1")
    first, second = envelope.rcpts
    assert (first.notify, first.orcpt) == ("SUCCESS,DELAY", "rfc822;o=o@x.test")
    assert (second.idx, second.notify, second.orcpt) == (1, "", "")
