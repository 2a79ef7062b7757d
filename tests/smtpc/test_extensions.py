"""CHUNKING and SMTPUTF8: when they are used, and what becomes of mail where they are missing."""

import pytest

from libsmx.envelope import Recipient
from smtpc.commands import in_a_labels
from smtpc.effects import Close, Done, Send, SendContent, Transaction
from smtpc.phases import Phase
from smtpc.plan import Plan
from smtpc.session import Session

CHUNKING = b"250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n"
PLAIN = b"250 mx\r\n"
UTF8 = b"250-mx\r\n250-8BITMIME\r\n250-PIPELINING\r\n250 SMTPUTF8\r\n"


class Client:
    """An opened session with its effects sorted."""

    def __init__(self, ta, ehlo, **plan):
        self.session = Session(Plan("me.example", **plan))
        self.sent, self.contents, self.done, self.closed = b"", [], [], None
        self.obey(self.session.start(ta)).get(b"220 x\r\n")
        self.sent = b""
        self.get(ehlo)

    def obey(self, effects):
        for effect in effects:
            match effect:
                case Send(data):
                    self.sent += data
                case SendContent(chunk):
                    self.contents.append(chunk)
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

    @property
    def codes(self):
        return [(result.code, result.status) for result in self.done[-1].results]


def ta(*addresses, sender="s@example.org", **kwargs):
    rcpts = [Recipient(idx=i, address=a) for i, a in enumerate(addresses or ("a@example.net",))]
    return Transaction(sender=sender, rcpts=rcpts, size=10, **kwargs)


# --- CHUNKING ------------------------------------------------------------------------------


@pytest.mark.covers("X017")
def test_the_chunk_follows_the_replies_to_the_envelope():
    client = Client(ta("a@example.net", "b@example.net"), CHUNKING)
    assert client.take_sent().count(b"\r\n") == 3
    client.get(b"250 x\r\n250 a\r\n")
    assert client.contents == []
    client.get(b"550 5.1.1 b\r\n")
    assert client.contents == [True]
    assert client.take_sent() == b""
    client.session.content_sent()
    assert client.session.phase is Phase.DOT
    client.get(b"250 2.6.0 taken\r\n")
    assert client.codes == [(250, "2.6.0"), (550, "5.1.1")]
    assert client.session.idle


def test_no_chunk_is_sent_where_nobody_gets_it():
    client = Client(ta("a@example.net"), CHUNKING).get(b"250 x\r\n550 5.1.1 a\r\n")
    assert client.contents == []
    assert client.codes == [(550, "5.1.1")]
    client.take_sent()
    client.obey(client.session.start(ta("b@example.net")))
    assert client.take_sent().startswith(b"RSET\r\nMAIL")


def test_no_chunk_is_sent_where_mail_was_refused():
    client = Client(ta("a@example.net"), CHUNKING).get(b"550 5.7.1 x\r\n250 a\r\n")
    assert client.contents == []
    assert client.codes == [(550, "5.7.1")]
    assert client.session.idle


def test_lmtp_answers_a_chunk_for_each_recipient():
    client = Client(ta("a@x", "b@x"), CHUNKING, lmtp=True).get(b"250 x\r\n250 a\r\n250 b\r\n")
    client.session.content_sent()
    client.get(b"250 2.1.5 a\r\n").get(b"452 4.2.2 b\r\n")
    assert client.codes == [(250, "2.1.5"), (452, "4.2.2")]


@pytest.mark.parametrize(("reply", "code"), [(b"552 5.3.4 big\r\n", 552), (b"250 ok\r\n", 451)])
def test_a_refusal_before_the_end_of_a_chunk_counts_and_a_promise_does_not(reply, code):
    client = Client(ta("a@x"), CHUNKING).get(b"250 x\r\n250 a\r\n").get(reply)
    assert [one for one, _ in client.codes] == [code]
    assert client.closed


def test_a_lost_reply_to_the_chunk_is_the_unknown_case():
    client = Client(ta("a@x"), CHUNKING).get(b"250 x\r\n250 a\r\n")
    client.session.content_sent()
    client.obey(client.session.lost("connection lost"))
    assert client.done[0].unknown


def test_data_is_used_where_chunking_is_switched_off():
    client = Client(ta("a@x"), CHUNKING, chunking=False)
    assert client.take_sent().endswith(b"DATA\r\n")


def test_chunking_without_pipelining_goes_step_by_step():
    client = Client(ta("a@x"), b"250-mx\r\n250 CHUNKING\r\n").get(b"250 x\r\n")
    assert client.take_sent().endswith(b"RCPT TO:<a@x>\r\n")
    assert client.get(b"250 x\r\n").contents == [True]


# --- SMTPUTF8 ------------------------------------------------------------------------------


def test_smtputf8_is_declared_and_addresses_go_out_as_they_are():
    client = Client(ta("пример@почта.example", sender="søren@example.org", utf8=True), UTF8)
    assert client.take_sent().decode().split("\r\n")[:2] == [
        "MAIL FROM:<søren@example.org> SMTPUTF8",
        "RCPT TO:<пример@почта.example>",
    ]


def test_ascii_mail_does_not_declare_it():
    assert b"SMTPUTF8" not in Client(ta(), UTF8).take_sent()


def test_a_server_without_it_gets_what_needs_it_not():
    client = Client(ta("a@example.net", utf8=True), PLAIN)
    assert client.take_sent() == b"MAIL FROM:<s@example.org>\r\n"


@pytest.mark.parametrize(
    ("kwargs", "code"),
    [
        ({"sender": "søren@example.org"}, (553, "5.6.7")),
        ({"utf8_header": True}, (554, "5.6.9")),
    ],
)
def test_what_needs_it_is_refused_for_a_server_without_it(kwargs, code):
    client = Client(ta("a@example.net", "b@example.net", utf8=True, **kwargs), PLAIN)
    assert client.take_sent() == b""
    assert client.codes == [code, code]
    assert "SMTPUTF8" in client.done[0].results[0].text
    assert client.session.idle


def test_only_the_recipients_that_need_it_fail():
    client = Client(ta("ä@example.net", "b@example.net", "c@bücher.example", utf8=True), PLAIN)
    assert client.get(b"250 x\r\n").take_sent().endswith(b"RCPT TO:<b@example.net>\r\n")
    assert client.get(b"250 x\r\n").take_sent() == b"RCPT TO:<c@xn--bcher-kva.example>\r\n"
    client.get(b"250 x\r\n").get(b"354 x\r\n")
    client.session.content_sent()
    client.get(b"250 taken\r\n")
    assert client.codes == [(553, "5.6.7"), (250, "2.0.0"), (250, "2.0.0")]


@pytest.mark.parametrize(
    ("address", "plain"),
    [
        ("a@bücher.example", "a@xn--bcher-kva.example"),
        ("a@BÜCHER.example", "a@xn--bcher-kva.example"),
        ("a@straße.example", "a@xn--strae-oqa.example"),
        ("a@почта.рф", "a@xn--80a1acny.xn--p1ai"),
        ("ä@bücher.example", "ä@bücher.example"),
        ("a@example.net", "a@example.net"),
        ("", ""),
    ],
)
def test_domains_can_be_written_in_a_labels(address, plain):
    assert in_a_labels(address) == plain


@pytest.mark.parametrize("address", ["a\r\n@x", "a\x00@x", "", "a\u202e@x"])
def test_nothing_unprintable_is_sent_under_smtputf8(address):
    client = Client(ta(address, "b@x", utf8=True), UTF8)
    assert client.take_sent().count(b"RCPT") == 1
    client.get(b"250 x\r\n250 x\r\n354 x\r\n")
    client.session.content_sent()
    assert client.get(b"250 x\r\n").codes[0] == (553, "5.1.3")
