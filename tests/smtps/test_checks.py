"""What the resolver decides is obeyed in its order: client, sender, recipients (README 3.12.2)."""

import attrs
import pytest

from libsmx.opt_smtps_parts import ProtectedConf
from libsmx.reply import Reply
from libsmx.wire import ConnVerdict, Facts, MailAsk, RcptAsk, Refusal, Verdict
from smtps.effects import Said
from smtps.policy import Policy
from tests.smtps.client import UNKNOWN_USER, Client, World, make_policy

MAIL = "MAIL FROM:<s@a.test>\r\n"
RCPT = "RCPT TO:<r@b.test>\r\n"
EHLO = "EHLO c.test\r\n"
MESSAGE = EHLO + MAIL + RCPT + "DATA\r\nSubject: x\r\n.\r\n"
ACCESS = frozenset({"8bitmime", "access"})
DELAYED = ACCESS | {"delay_checks"}
BLOCKED = ConnVerdict(accept=False, code=550, status="5.7.1", text="blocked")
SPAMMER = Verdict(accept=False, code=551, status="5.7.1", text="no spammers")


def questions(client):
    return [question for ask in client.asks for question in ask.questions]


# --- the client ----------------------------------------------------------------------------


@pytest.mark.covers("X455", "X461")
def test_refused_client_is_turned_away_where_the_access_map_is_used():
    world = World(conn=BLOCKED)
    client = Client(world=world, flags=ACCESS)
    assert client.greeting == "550 5.7.1 blocked\r\n"
    assert client.closed
    assert client.records[0][0] == "session_refused"
    assert Client(world=world).greeting.startswith("220 ")


def test_without_a_verdict_on_the_client_it_has_to_come_again():
    for verdict in (None, Refusal(code=451, status="4.3.2", text="busy")):
        client = Client(world=World(conn=verdict), flags=ACCESS)
        assert client.greeting.startswith("421 4.3.0 ")
        assert client.closed


@pytest.mark.covers("X366", "X457")
def test_name_of_the_client_is_told_and_stands_in_received():
    verdict = ConnVerdict(accept=True, name="mail.c.test", resolve="ok")
    client = Client(world=World(conn=verdict), flags=ACCESS)
    client.talk(MESSAGE)
    assert {question.facts.client_name for question in questions(client)} == {"mail.c.test"}
    assert {question.facts.resolve for question in questions(client)} == {"ok"}
    (content,) = client.files.values()
    assert content.startswith(b"Received: from c.test (mail.c.test [192.0.2.9])\r\n")
    plain = Client(world=World(conn=verdict))
    plain.talk(MESSAGE)
    assert b"mail.c.test" not in next(iter(plain.files.values()))


@pytest.mark.covers("X469")
@pytest.mark.parametrize(("mark", "relay"), [
    ("", False), ("ok", False), ("quick:ok", False), ("relay", True), ("quick:relay", True),
])  # fmt: skip
def test_mark_of_the_client_permits_relaying(mark, relay):
    client = Client(world=World(conn=ConnVerdict(accept=True, mark=mark)), flags=ACCESS)
    client.talk(EHLO + MAIL + RCPT)
    (ask,) = (question for question in questions(client) if isinstance(question, RcptAsk))
    assert (ask.relay, ask.facts.mark) == (relay, mark)


@pytest.mark.covers("X462")
@pytest.mark.parametrize(("mark", "asked"), [
    ("", True), ("ok", True), ("relay", True), ("quick:ok", False), ("quick:relay", False),
])  # fmt: skip
def test_sender_is_not_checked_for_clients_that_pass_quickly(mark, asked):
    client = Client(world=World(conn=ConnVerdict(accept=True, mark=mark)), flags=ACCESS)
    client.talk(EHLO + MAIL + RCPT)
    assert any(isinstance(question, MailAsk) for question in questions(client)) == asked
    null = Client(flags=ACCESS)
    null.talk(EHLO + "MAIL FROM:<>\r\n" + RCPT)
    assert [type(question) for question in questions(null)] == [RcptAsk]


# --- delay_checks --------------------------------------------------------------------------


@pytest.mark.covers("X360", "X473")
def test_rejection_of_the_client_waits_for_the_recipients():
    pass_quickly = Verdict(accept=True, mark="quick:ok")
    world = World(conn=BLOCKED, rcpt={"abuse@b.test": pass_quickly})
    client = Client(world=world, flags=DELAYED)
    assert client.greeting.startswith("220 ")
    assert client.codes(EHLO + MAIL) == "250 250"
    assert client.talk(RCPT) == "550 5.7.1 blocked\r\n"
    assert client.codes("RCPT TO:<abuse@b.test>\r\n") == "250"
    assert client.talk(RCPT) == "550 5.7.1 blocked\r\n"
    assert client.codes("DATA\r\nx\r\n.\r\n") == "354 250"
    assert [rcpt.address for rcpt in client.envelopes[0].rcpts] == ["abuse@b.test"]
    assert all(question.facts.delayed for question in questions(client))
    assert not any(isinstance(question, MailAsk) for question in questions(client))


@pytest.mark.covers("X360", "X473")
@pytest.mark.parametrize("pipelined", [True, False])
def test_rejection_of_the_sender_waits_for_the_recipients(pipelined):
    pass_quickly = Verdict(accept=True, mark="quick:relay")
    world = World(mail={"s@a.test": SPAMMER}, rcpt={"abuse@b.test": pass_quickly})
    client = Client(world=world, flags=DELAYED)
    said = [EHLO, MAIL, RCPT, "RCPT TO:<abuse@b.test>\r\n", "RSET\r\n", "MAIL FROM:<t@a.test>\r\n",
            RCPT]  # fmt: skip
    talks = ["".join(said)] if pipelined else said
    codes = " ".join(client.codes(talk) for talk in talks)
    assert codes == "250 250 551 250 250 250 250"
    rcpts = [question for question in questions(client) if isinstance(question, RcptAsk)]
    assert [question.facts.delayed for question in rcpts] == [True, True, False]


@pytest.mark.covers("X360")
def test_quick_rejections_and_temporary_troubles_do_not_wait():
    quick = attrs.evolve(BLOCKED, mark="quick")
    assert Client(world=World(conn=quick), flags=DELAYED).greeting.startswith("550")
    world = World(mail={"s@a.test": attrs.evolve(SPAMMER, mark="quick")})
    assert Client(world=world, flags=DELAYED).codes(EHLO + MAIL + RCPT) == "250 551 503"
    assert Client(world=World(smar=False), flags=DELAYED).codes(EHLO + MAIL) == "250 451"


@pytest.mark.covers("X465")
def test_without_delay_checks_the_sender_is_refused_at_once():
    world = World(mail={"s@a.test": SPAMMER})
    assert Client(world=world, flags=ACCESS).codes(EHLO + MAIL + RCPT) == "250 551 503"


def test_without_an_answer_the_recipient_has_to_come_again_whatever_waits():
    world = World(conn=BLOCKED)
    client = Client(world=world, flags=DELAYED)
    client.talk(EHLO + MAIL)
    world.smar = False
    assert client.codes(RCPT) == "451"


# --- marks, discards -----------------------------------------------------------------------


@pytest.mark.covers("X472")
@pytest.mark.parametrize("session", ["", "ok", "relay"])
def test_mark_of_the_sender_is_not_taken_for_the_clients(session):
    """Anybody can name a sender that a rule accepts; only the session exempts from checks."""
    world = World(
        conn=ConnVerdict(accept=True, mark=session),
        mail={"s@a.test": Verdict(accept=True, mark="quick:relay")},
    )
    client = Client(world=world, flags=ACCESS)
    client.talk(EHLO + MAIL + RCPT)
    (ask,) = [ask for ask in questions(client) if isinstance(ask, RcptAsk)]
    assert (ask.facts.mark, ask.relay) == (session, session == "relay")


@pytest.mark.parametrize("world", [
    World(conn=ConnVerdict(accept=True, discard=True)),
    World(mail={"s@a.test": Verdict(accept=True, discard=True)}),
    World(rcpt={"r@b.test": Verdict(accept=True, discard=True)}),
    World(rcpt={"r@b.test": Verdict(accept=True, discard=True, mark="quick")}),
])  # fmt: skip
def test_discarded_mail_is_taken_with_an_id_and_dropped(world):
    client = Client(world=world, flags=ACCESS)
    replies = client.talk(MESSAGE)
    assert replies.endswith("250 2.0.0 S000000000000000100 accepted\r\n")
    assert (client.envelopes, client.files, len(client.aborted)) == ([], {}, 1)
    assert "ta_dropped" in [name for name, _ in client.records]
    # Syntax still counts (D51).
    assert client.codes(MAIL + "RCPT TO:<x\r\n") == "250 501"


def test_discarded_recipient_is_left_out_and_a_quick_one_drops_everything():
    dropped = Verdict(accept=True, discard=True)
    world = World(rcpt={"x@b.test": dropped, "q@b.test": attrs.evolve(dropped, mark="quick")})
    client = Client(world=world, flags=ACCESS)
    client.talk(EHLO + MAIL + "RCPT TO:<x@b.test>\r\n" + RCPT)
    assert client.codes("DATA\r\nx\r\n.\r\n") == "354 250"
    assert [rcpt.address for rcpt in client.envelopes[0].rcpts] == ["r@b.test"]
    client.talk(MAIL + RCPT + "RCPT TO:<q@b.test>\r\n")
    assert client.codes("DATA\r\nx\r\n.\r\n") == "354 250"
    assert len(client.envelopes) == 1


def test_discarded_session_asks_nothing():
    client = Client(world=World(conn=ConnVerdict(accept=True, discard=True)), flags=ACCESS)
    client.talk(MESSAGE)
    assert questions(client) == []


# --- greylisting ---------------------------------------------------------------------------

GREY = Verdict(accept=False, code=451, status="4.7.1", text="come back later", greylisted=True)


@pytest.mark.covers("X361")
def test_greylisted_recipient_ends_the_session_or_waits_for_data():
    world = World(rcpt={"r@b.test": GREY})
    client = Client(world=world, flags=ACCESS | {"greylisting"})
    client.talk(EHLO + MAIL)
    assert client.talk(RCPT) == "451 4.7.1 come back later\r\n"
    assert not client.closed
    ending = World(rcpt={"r@b.test": attrs.evolve(GREY, code=421)})
    client = Client(world=ending, flags=ACCESS | {"greylisting"})
    client.talk(EHLO + MAIL)
    assert client.talk(RCPT) == "421 4.7.1 come back later\r\n"
    assert client.closed
    flags = ACCESS | {"greylisting", "delay_greylisting_error_until_data"}
    client = Client(world=world, flags=flags)
    assert client.codes(EHLO + MAIL + RCPT) == "250 250 250"
    assert client.talk("DATA\r\n") == "451 4.7.1 come back later\r\n"
    assert client.codes(MAIL) == "250"
    assert client.codes(RCPT + "BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n") == "250 451 250"
    assert client.files == {}


@pytest.mark.covers("X362", "X363")
def test_server_says_which_checks_it_wants():
    conf = {"flags": frozenset({"access", "greylisting", "lmtp_does_not_imply_relaying"})}
    assert make_policy(**conf).rules == "access greylisting lmtp_does_not_imply_relaying"
    assert make_policy().rules == ""
    everything = make_policy(
        **conf,
        protected_recipients=(
            ProtectedConf(
                allow_by=frozenset({"sender", "allow_by_sender", "client_ip"}),
                match_type="implicitly_match_detail",
            ),
        ),
    )
    assert isinstance(everything, Policy)
    assert everything.rules.split() == [
        "access", "greylisting", "lmtp_does_not_imply_relaying", "allow_by_client_ip",
        "allow_by_sender", "implicitly_match_detail",
    ]  # fmt: skip
    assert len(everything.rules) <= 128


def test_questions_say_nothing_of_the_session_where_nothing_depends_on_it():
    client = Client()
    client.talk(EHLO + MAIL + RCPT)
    assert {question.facts for question in questions(client)} == {Facts()}


# --- filters in the dialogue ---------------------------------------------------------------


def test_filters_are_asked_about_what_is_not_refused_already():
    world = World(
        rcpt={"x@b.test": UNKNOWN_USER},
        steps={("rcpt", "<y@b.test>"): Said(Reply(550, "5.7.1", "not you"))},
    )
    client = Client(world=world, milter=("one",))
    said = EHLO + MAIL + RCPT + "RCPT TO:<x@b.test>\r\nRCPT TO:<y@b.test> NOTIFY=NEVER\r\n"
    assert client.codes(said + "RCPT TO:<bad\r\nDATA\r\nx\r\n.\r\n") == (
        "250 250 250 550 550 501 354 250"
    )
    assert [(step.stage, *step.words) for step in client.consulted] == [
        ("connect", "[192.0.2.9]", "192.0.2.9"),
        ("helo", "c.test"),
        ("mail", "<s@a.test>"),
        ("rcpt", "<r@b.test>"),
        ("rcpt", "<y@b.test>", "NOTIFY=NEVER"),
        ("data",),
    ]
    assert client.forgotten == 0
    client.talk(MAIL + "RSET\r\n")
    assert client.forgotten == 1


def test_sender_that_a_filter_refuses_takes_its_recipients_with_it():
    world = World(steps={("mail", "<s@a.test>"): Said(Reply(550, "5.7.1", "not you"))})
    client = Client(world=world, milter=("one",))
    assert client.codes(EHLO + MAIL + RCPT + RCPT + "DATA\r\n") == "250 550 503 503 503"
    assert client.codes("MAIL FROM:<t@a.test>\r\n" + RCPT) == "250 250"


def test_data_that_a_filter_refuses():
    world = World(steps={("data",): Said(Reply(554, "5.7.1", "no"))})
    client = Client(world=world, milter=("one",))
    assert client.codes(EHLO + MAIL + RCPT + "DATA\r\n" + MAIL) == "250 250 250 554 250"
    assert client.codes(RCPT + "BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n") == "250 554 250"
    assert client.files == {}
