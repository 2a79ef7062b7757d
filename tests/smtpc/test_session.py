"""The client machine against scripted servers, honest and hostile."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libsmx.envelope import Recipient
from smtpc.effects import Close, Done, Send, SendContent, Transaction
from smtpc.phases import Phase
from smtpc.plan import Plan
from smtpc.result import temporary
from smtpc.session import Session

EHLO = b"250-mx.example Hello\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250 8BITMIME\r\n"
PLAIN = b"250 mx.example\r\n"


def ta(*names, sender="s@example.org", size=500, body8=False):
    names = names or ("a",)
    rcpts = [Recipient(idx=i + 5, address=f"{n}@example.net") for i, n in enumerate(names)]
    return Transaction(sender=sender, rcpts=rcpts, size=size, body8=body8)


class Client:
    """A session with its effects sorted."""

    def __init__(self, lmtp=False):
        self.session = Session(Plan("client.example", lmtp=lmtp))
        self.sent = b""
        self.done = []
        self.closed = None
        self.contents = 0

    def obey(self, effects):
        for effect in effects:
            match effect:
                case Send(data):
                    self.sent += data
                case SendContent():
                    self.contents += 1
                case Done():
                    self.done.append(effect)
                case Close(reason):
                    assert self.closed is None
                    self.closed = reason
        return self

    def start(self, *args, **kwargs):
        return self.obey(self.session.start(ta(*args, **kwargs)))

    def get(self, data):
        return self.obey(self.session.receive(data))

    def take_sent(self):
        sent, self.sent = self.sent, b""
        return sent

    def content(self):
        self.session.content_sent()
        return self

    @property
    def results(self):
        return [(r.idx, r.code, r.status) for r in self.done[-1].results]


def opened(*names, ehlo=EHLO, lmtp=False, **kwargs):
    client = Client(lmtp).start(*names, **kwargs)
    client.get(b"220 mx.example ESMTP\r\n").take_sent()
    return client.get(ehlo)


@pytest.mark.covers("X017")
def test_pipelined_transaction_takes_one_write_for_the_envelope():
    client = opened("a", "b", body8=True)
    assert client.take_sent() == (
        b"MAIL FROM:<s@example.org> SIZE=500 BODY=8BITMIME\r\n"
        b"RCPT TO:<a@example.net>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n"
    )
    assert client.session.phase is Phase.MAIL
    client.get(b"250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n")
    assert client.contents == 1
    assert client.session.phase is Phase.CONTENT
    client.content()
    assert client.session.phase is Phase.DOT
    client.get(b"250 2.0.0 queued as 1\r\n")
    assert client.results == [(5, 250, "2.0.0"), (6, 250, "2.0.0")]
    assert client.done[0].usable
    assert client.session.idle
    assert client.done[0].results[0].text == "250 2.0.0 queued as 1"


def test_without_pipelining_one_command_at_a_time():
    client = opened("a", "b", ehlo=PLAIN, body8=True)
    dialogue = [client.take_sent()]
    for reply in (b"250 ok\r\n", b"550 5.1.1 no\r\n", b"250 ok\r\n"):
        dialogue.append(client.get(reply).take_sent())
    # D49: BODY is not said to a server that does not know it
    assert dialogue == [
        b"MAIL FROM:<s@example.org>\r\n",
        b"RCPT TO:<a@example.net>\r\n",
        b"RCPT TO:<b@example.net>\r\n",
        b"DATA\r\n",
    ]
    client.get(b"354 go\r\n").content().get(b"250 ok\r\n")
    assert client.results == [(5, 550, "5.1.1"), (6, 250, "2.0.0")]


def test_server_without_ehlo_is_greeted_with_helo():
    client = Client().start()
    assert client.get(b"220 old\r\n").take_sent() == b"EHLO client.example\r\n"
    assert client.get(b"502 what?\r\n").take_sent() == b"HELO client.example\r\n"
    assert client.get(b"250 old\r\n").take_sent() == b"MAIL FROM:<s@example.org>\r\n"


@pytest.mark.parametrize(
    ("greeting", "code", "status"),
    [
        (b"421 4.7.0 busy\r\n", 421, "4.7.0"),
        (b"450 later\r\n", 450, "4.2.0"),
        (b"554 5.7.1 go away\r\n", 554, "5.7.1"),
        (b"554 go\r\n", 554, "5.0.0"),
        (b"250 hello\r\n", 451, "4.5.0"),
        (b"SSH-2.0-OpenSSH\r\n", 451, "4.5.0"),
        (b"999 what\r\n", 451, "4.5.0"),
        (b"\x00\xff" * 5000, 451, "4.5.0"),
    ],
)
def test_bad_greeting_sends_to_the_next_address(greeting, code, status):
    client = Client().start("a", "b").get(greeting)
    assert client.results == [(5, code, status), (6, code, status)]
    assert client.done[0].elsewhere
    assert not client.done[0].usable
    assert client.closed


@pytest.mark.parametrize("reply", [b"421 bye\r\n", b"450 not now\r\n"])
def test_refused_ehlo_sends_to_the_next_address(reply):
    client = Client().start().get(b"220 x\r\n").get(reply)
    assert client.done[0].elsewhere
    assert client.closed


def test_refused_helo_sends_to_the_next_address():
    client = Client().start().get(b"220 x\r\n").get(b"500 x\r\n").get(b"550 x\r\n")
    assert client.done[0].elsewhere
    assert client.results == [(5, 550, "5.0.0")]


@pytest.mark.parametrize(
    ("what", "phase"), [("greeting", 0), ("reply to EHLO", 1), ("reply to MAIL", 2)]
)
def test_loss_before_any_recipient_is_answered_is_retried_elsewhere(what, phase):
    client = Client().start()
    for reply in (b"220 x\r\n", EHLO)[:phase]:
        client.get(reply)
    client.obey(client.session.lost("connection lost"))
    assert client.results == [(5, 451, "4.4.2")]
    assert what in client.done[0].results[0].text
    assert client.done[0].elsewhere
    assert not client.done[0].unknown


def test_loss_after_a_recipient_was_accepted_is_not_retried_elsewhere():
    client = opened("a", "b").get(b"250 ok\r\n250 ok\r\n")
    client.obey(client.session.timed_out())
    assert client.results == [(5, 451, "4.4.2"), (6, 451, "4.4.2")]
    assert not client.done[0].elsewhere


@pytest.mark.parametrize(
    ("replies", "results"),
    [
        (b"250 x\r\n550 5.1.1 a\r\n250 b\r\n354 go\r\n", [(5, 550, "5.1.1"), None]),
        (b"250 x\r\n450 4.2.2 a\r\n250 b\r\n354 go\r\n", [(5, 450, "4.2.2"), None]),
        (b"250 x\r\n250 a\r\n552 b\r\n354 go\r\n", [None, (6, 452, "4.5.3")]),
        (b"250 x\r\n250 a\r\n552 5.2.2 b\r\n354 go\r\n", [None, (6, 552, "5.2.2")]),
        (b"250 x\r\n552 a\r\n250 b\r\n354 go\r\n", [(5, 552, "5.2.2"), None]),
    ],
)
@pytest.mark.covers("X017")
def test_a_refused_recipient_does_not_touch_the_other(replies, results):
    client = opened("a", "b").get(replies)
    assert client.contents == 1
    client.content().get(b"250 fine\r\n")
    wanted = [r or (5 + i, 250, "2.0.0") for i, r in enumerate(results)]
    assert client.results == wanted


def test_all_recipients_refused_and_data_refused_leaves_a_usable_session_after_rset():
    client = opened("a", "b")
    client.get(b"250 x\r\n550 no\r\n450 no\r\n503 no recipients\r\n").take_sent()
    assert client.results == [(5, 550, "5.0.0"), (6, 450, "4.2.0")]
    assert client.contents == 0
    assert client.session.idle
    sent = client.start("c").take_sent()
    assert sent.startswith(b"RSET\r\nMAIL ")
    client.get(b"250 flushed\r\n250 ok\r\n250 ok\r\n354 go\r\n").content().get(b"250 ok\r\n")
    assert client.results == [(5, 250, "2.0.0")]


def test_all_recipients_refused_and_data_accepted_is_ended_by_a_lone_dot():
    client = opened("a")
    client.take_sent()
    client.get(b"250 x\r\n550 5.1.1 no\r\n354 go\r\n")
    assert client.take_sent() == b".\r\n"
    assert client.contents == 0
    assert not client.done
    client.get(b"554 no valid recipients\r\n")
    assert client.results == [(5, 550, "5.1.1")]
    assert client.session.idle
    assert client.start().take_sent().startswith(b"MAIL")


def test_refused_mail_holds_for_every_recipient_and_keeps_the_session():
    client = opened("a", "b")
    client.get(b"550 5.7.1 sender\r\n503 x\r\n503 x\r\n503 x\r\n")
    assert client.results == [(5, 550, "5.7.1"), (6, 550, "5.7.1")]
    assert client.done[0].usable
    assert not client.done[0].elsewhere


def test_refused_mail_without_pipelining_sends_no_rcpt():
    client = opened("a", ehlo=PLAIN)
    client.take_sent()
    client.get(b"451 4.7.1 later\r\n")
    assert client.take_sent() == b""
    assert client.results == [(5, 451, "4.7.1")]
    assert client.session.idle


def test_no_message_is_sent_where_mail_was_refused_and_the_rest_accepted():
    client = opened("a")
    client.take_sent()
    client.get(b"550 no\r\n250 ok\r\n354 go\r\n")
    assert client.contents == 0
    assert client.take_sent() == b""
    assert client.results == [(5, 550, "5.0.0")]
    assert client.closed


def test_refused_data_holds_for_accepted_recipients_only():
    client = opened("a", "b").get(b"250 x\r\n550 5.1.1 a\r\n250 b\r\n451 4.3.1 full\r\n")
    assert client.results == [(5, 550, "5.1.1"), (6, 451, "4.3.1")]
    assert client.session.idle


@pytest.mark.parametrize(
    ("reply", "code", "status"),
    [
        (b"554 5.6.0 bad content\r\n", 554, "5.6.0"),
        (b"452 4.3.1 disk full\r\n", 452, "4.3.1"),
        (b"451-4.3.0 several\r\n451 4.3.0 lines\r\n", 451, "4.3.0"),
        (b"250 4.3.0 mismatch\r\n", 250, "2.0.0"),
        (b"354 again\r\n", 451, "4.5.0"),
        (b"garbage\r\n", 451, "4.5.0"),
    ],
)
def test_reply_to_the_dot_decides(reply, code, status):
    client = opened("a", "b").get(b"250 x\r\n250 a\r\n250 b\r\n354 go\r\n").content().get(reply)
    assert client.results == [(5, code, status), (6, code, status)]


@pytest.mark.parametrize("how", ["lost", "timed_out"])
def test_missing_reply_to_the_dot_is_temporary_and_marked_unknown(how):
    client = opened("a").get(b"250 x\r\n250 a\r\n354 go\r\n").content()
    effects = (
        client.session.lost("connection lost") if how == "lost" else client.session.timed_out()
    )
    client.obey(effects)
    assert client.results == [(5, 451, "4.4.2")]
    assert "after end of data" in client.done[0].results[0].text
    assert client.done[0].unknown
    assert not client.done[0].elsewhere


@pytest.mark.parametrize("cut", range(5))
def test_421_at_any_point_ends_the_session(cut):
    replies = [b"250 x\r\n", b"250 a\r\n", b"550 5.1.1 b\r\n", b"354 go\r\n"]
    client = opened("a", "b")
    for reply in replies[:cut]:
        client.get(reply)
    if cut == 4:
        client.content()
    client.get(b"421 4.3.2 shutting down\r\n")
    refused = (6, 550, "5.1.1") if cut > 2 else (6, 421, "4.3.2")
    assert client.results == [(5, 421, "4.3.2"), refused]
    assert client.closed
    assert client.done[0].elsewhere == (cut < 2)


def test_promise_before_the_dot_means_nothing():
    """An early 250 must not count as delivery."""
    client = opened("a").get(b"250 x\r\n250 a\r\n354 go\r\n250 thanks already\r\n")
    assert client.results == [(5, 451, "4.5.0")]
    assert client.closed


def test_refusal_before_the_dot_counts():
    client = opened("a").get(b"250 x\r\n250 a\r\n354 go\r\n").get(b"552 5.3.4 too big\r\n")
    assert client.results == [(5, 552, "5.3.4")]
    assert client.closed


def test_all_replies_in_advance_deliver_nothing():
    client = Client().start()
    client.get(b"220 x\r\n" + EHLO + b"250 x\r\n250 a\r\n354 go\r\n250 done\r\n")
    assert client.results == [(5, 451, "4.5.0")]
    assert client.contents == 0


def test_garbage_behind_the_reply_to_the_dot_keeps_the_delivery():
    client = opened("a").get(b"250 x\r\n250 a\r\n354 go\r\n").content()
    client.get(b"250 2.6.0 done\r\ngarbage\r\n250 x\r\n")
    assert client.results == [(5, 250, "2.6.0")]
    assert not client.done[0].usable
    assert client.closed


@pytest.mark.parametrize("data", [b"421 idle too long\r\n", b"250 hello again\r\n", b"junk\n"])
def test_unsolicited_bytes_end_an_idle_session(data):
    client = opened("a").get(b"250 x\r\n250 a\r\n354 go\r\n").content().get(b"250 ok\r\n")
    assert client.session.idle
    client.get(data)
    assert client.closed
    assert not client.session.idle
    assert len(client.done) == 1


@pytest.mark.parametrize(("limit", "refused"), [("499", True), ("500", False), ("0", False)])
def test_size_limit_of_the_server_is_believed(limit, refused):
    client = opened("a", "b", ehlo=b"250-x\r\n250 SIZE " + limit.encode() + b"\r\n", size=500)
    if refused:
        assert client.take_sent() == b""
        assert client.results == [(5, 552, "5.3.4"), (6, 552, "5.3.4")]
        assert client.session.idle
    else:
        assert client.take_sent() == b"MAIL FROM:<s@example.org> SIZE=500\r\n"


@pytest.mark.parametrize("limit", ["", "many", "-1", "1" * 400, "\u0661"])
def test_nonsense_as_size_limit_is_ignored(limit):
    line = f"250 SIZE {limit}\r\n".encode()
    assert opened(ehlo=b"250-x\r\n" + line).sent.startswith(b"MAIL FROM:<s@example.org> SIZE=500")


@pytest.mark.covers("X006")
def test_lmtp_has_one_reply_for_each_accepted_recipient():
    client = Client(lmtp=True).start("a", "b", "c")
    assert client.get(b"220 x LMTP\r\n").take_sent() == b"LHLO client.example\r\n"
    client.get(EHLO).get(b"250 x\r\n250 a\r\n550 5.1.1 b\r\n250 c\r\n354 go\r\n").content()
    client.get(b"250 2.1.5 a has it\r\n")
    assert not client.done
    client.get(b"552 5.2.2 c is full\r\n")
    assert client.results == [(5, 250, "2.1.5"), (6, 550, "5.1.1"), (7, 552, "5.2.2")]
    assert client.session.idle


def test_lmtp_loss_between_the_replies_keeps_those_that_came():
    client = opened("a", "b", lmtp=True).get(b"250 x\r\n250 a\r\n250 b\r\n354 go\r\n").content()
    client.get(b"250 ok\r\n")
    client.obey(client.session.lost("connection lost"))
    assert client.results == [(5, 250, "2.0.0"), (6, 451, "4.4.2")]
    assert client.done[0].unknown


def test_lmtp_does_not_fall_back_to_helo():
    client = Client(lmtp=True).start().get(b"220 x\r\n").get(b"500 what\r\n")
    assert client.done[0].elsewhere
    assert b"HELO" not in client.take_sent().replace(b"LHLO", b"")


def test_lmtp_accepting_data_without_recipients_is_left():
    client = opened("a", lmtp=True).get(b"250 x\r\n550 a\r\n354 go\r\n")
    assert client.results == [(5, 550, "5.0.0")]
    assert client.closed


@pytest.mark.parametrize("address", ["a\r\nRCPT TO:<evil", "a\x00b", "ä", ""])
def test_addresses_that_would_break_the_line_are_never_sent(address):
    rcpts = [Recipient(idx=0, address=address), Recipient(idx=1, address="b@example.net")]
    client = opened("x").get(b"250 x\r\n250 x\r\n354 x\r\n").content().get(b"250 x\r\n")
    client.take_sent()
    client.obey(client.session.start(Transaction(sender="", rcpts=rcpts, size=1)))
    assert client.take_sent() == (b"MAIL FROM:<> SIZE=1\r\nRCPT TO:<b@example.net>\r\nDATA\r\n")
    client.get(b"250 x\r\n250 x\r\n354 x\r\n").content().get(b"250 x\r\n")
    assert client.results == [(0, 553, "5.1.3"), (1, 250, "2.0.0")]


def test_bad_sender_is_refused_here():
    client = opened("a", sender="a\r\nDATA")
    assert client.take_sent() == b""
    assert client.results == [(5, 553, "5.1.7")]


def test_many_recipients_travel_in_windows():
    names = [f"r{i}" for i in range(250)]
    client = opened(*names)
    written = client.take_sent()
    assert written.count(b"\r\n") == 100
    rounds = 1
    while b"DATA\r\n" not in written:
        sent = client.get(b"250 ok\r\n" * 100).take_sent()
        written += sent
        rounds += 1
    assert rounds == 3
    assert written.count(b"RCPT") == 250
    left = written.count(b"\r\n") - 1 - 200
    client.get(b"250 ok\r\n" * left + b"354 go\r\n")
    assert client.contents == 1


def test_quit_waits_for_its_reply():
    client = opened("a").get(b"250 x\r\n250 a\r\n354 go\r\n").content().get(b"250 ok\r\n")
    client.take_sent()
    client.obey(client.session.quit())
    assert client.take_sent() == b"QUIT\r\n"
    assert client.session.phase is Phase.QUIT
    assert client.closed is None
    client.get(b"221 bye\r\n")
    assert client.closed


def test_failing_content_leaves_the_message_open_and_the_results_temporary():
    client = opened("a").get(b"250 x\r\n250 a\r\n354 go\r\n")
    client.take_sent()
    client.obey(client.session.fail(temporary("4.3.0", "cannot read")))
    assert client.results == [(5, 451, "4.3.0")]
    assert client.take_sent() == b""
    assert client.closed


def test_the_wait_begins_anew_with_each_whole_reply_only():
    client = opened("a", "b")
    steps = client.session.steps
    client.get(b"25")
    client.get(b"0-dripping\r\n")
    assert client.session.steps == steps
    client.get(b"250 at last\r\n")
    assert client.session.steps > steps


SCRIPT = (
    b"220 mx ESMTP\r\n" + EHLO, b"250 x\r\n550 5.1.1 a\r\n250 b\r\n354 go\r\n", b"250 2.0.0 ok\r\n"
)  # fmt: skip


def run_script(chunks_of):
    client = Client().start("a", "b")
    for part in SCRIPT:
        for chunk in chunks_of(part):
            client.get(chunk)
        if client.contents == 1 and client.session.phase is Phase.CONTENT:
            client.content()
    return client.results, client.sent


def test_replies_may_come_in_any_pieces():
    whole = run_script(lambda part: [part[:14], part[14:]] if part.startswith(b"220") else [part])
    single = run_script(lambda part: [part[i : i + 1] for i in range(len(part))])
    assert whole == single
    for at in range(1, 90):
        cut = run_script(
            lambda part, at=at: (
                [part[:14], part[14 : 14 + at], part[14 + at :]]
                if part.startswith(b"220")
                else [part[:at], part[at:]]
            )
        )
        assert cut == whole


LINES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [b"220 x\r\n", EHLO, PLAIN, b"250 ok\r\n", b"354 go\r\n", b"421 bye\r\n", b"550 no\r\n"]
    ),
    st.builds(
        lambda code, sep, text: b"%d%s%s\r\n" % (code, sep, text),
        st.integers(0, 999), st.sampled_from([b" ", b"-", b""]), st.binary(max_size=20),
    ),
)  # fmt: skip


@settings(deadline=None)
@given(
    st.lists(LINES, max_size=30),
    st.integers(1, 4),
    st.booleans(),
    st.sampled_from(["lost", "timed_out", "quit", "fail"]),
)
def test_whatever_a_server_says_every_recipient_has_exactly_one_result(lines, count, lmtp, end):
    client = Client(lmtp).start(*[f"r{i}" for i in range(count)])
    for line in lines:
        client.get(line)
        if client.session.phase is Phase.CONTENT:
            client.content()
        if client.session.idle and len(client.done) < 3:
            client.start(*[f"r{i}" for i in range(count)])
    begun = client.session.transactions
    if client.closed is None:
        how = {
            "lost": lambda: client.session.lost("x"),
            "timed_out": client.session.timed_out,
            "quit": client.session.quit,
            "fail": lambda: client.session.fail(temporary("4.3.0", "x")),
        }[end]
        client.obey(how())
    assert len(client.done) == begun
    for done in client.done:
        assert [r.idx for r in done.results] == [5 + i for i in range(count)]
        for result in done.results:
            assert result.code // 100 in {2, 4, 5}
            assert result.status[0] == str(result.code)[0]
            assert result.text.isprintable()
            assert len(result.text) <= 1100
    assert b"\n" not in client.sent.replace(b"\r\n", b"")


@pytest.mark.parametrize("offered", [True, False])
def test_wishes_for_reports_go_to_a_server_that_knows_them(offered):
    ehlo = EHLO.replace(b"250 8BITMIME", b"250-8BITMIME\r\n250 DSN") if offered else EHLO
    session = Session(Plan("client.example"))
    rcpts = [
        Recipient(idx=0, address="a@x", notify="SUCCESS,DELAY", orcpt="rfc822;o=o@x"),
        Recipient(idx=1, address="b@x", notify="junk\r\nRSET"),
        Recipient(idx=2, address="c@x"),
    ]
    session.start(Transaction(sender="s@x", rcpts=rcpts, size=1, ret="HDRS", envid="E 1"))
    session.receive(b"220 hi\r\n")
    [sent] = session.receive(ehlo)
    mail, rcpt = b" RET=HDRS ENVID=E+201", b" NOTIFY=SUCCESS,DELAY ORCPT=rfc822;o+3Do@x"
    assert sent.data == (
        b"MAIL FROM:<s@x> SIZE=1%s\r\nRCPT TO:<a@x>%s\r\nRCPT TO:<b@x>\r\nRCPT TO:<c@x>\r\nDATA\r\n"
        % ((mail, rcpt) if offered else (b"", b""))
    )
