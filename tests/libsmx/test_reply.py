"""Replies: encoding, softening, and the client's parser on good and hostile input."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libsmx import reply
from libsmx.reply import MAX_LINE, MAX_LINES, Reply, ReplyError, ReplyParser

TABLE = {name: value for name, value in vars(reply).items() if isinstance(value, Reply)}


@pytest.mark.parametrize(("given_reply", "sent"), [
    (Reply(250, "2.0.0", "Ok"), b"250 2.0.0 Ok\r\n"),
    (Reply(354, "", "Go"), b"354 Go\r\n"),
    (Reply(250, "", "a\nb\nc"), b"250-a\r\n250-b\r\n250 c\r\n"),
    (Reply(550, "5.1.1", "x\ny"), b"550-5.1.1 x\r\n550 5.1.1 y\r\n"),
    (Reply(550, "5.1.1", "x\r250 ok\x00\xff"), b"550 5.1.1 x?250 ok??\r\n"),
])  # fmt: skip
def test_reply_is_encoded(given_reply, sent):
    assert given_reply.encode() == sent


@given(st.text(max_size=2000))
def test_no_text_breaks_out_of_its_reply(text):
    sent = Reply(550, "5.1.1", text).encode()
    assert sent.count(b"\r\n") == sent.count(b"\n") == sent.count(b"\r")
    *lines, end = sent.split(b"\r\n")
    assert end == b""
    assert all(line.startswith(b"550") and len(line) <= 510 for line in lines)


@pytest.mark.parametrize("name", TABLE)
def test_status_class_of_every_named_reply_fits_its_code(name):
    row = TABLE[name]
    assert row.status == "" or row.status[0] == str(row.code)[0]
    assert len(row.encode()) <= 512


@pytest.mark.covers("X364")
@pytest.mark.parametrize(("hard", "soft"), [
    (Reply(550, "5.1.1", "x"), Reply(450, "4.1.1", "x")),
    (Reply(554, "", "x"), Reply(454, "", "x")),
    (Reply(250, "2.0.0", "x"), Reply(250, "2.0.0", "x")),
    (Reply(421, "4.3.0", "x"), Reply(421, "4.3.0", "x")),
])  # fmt: skip
def test_soften_makes_permanent_temporary(hard, soft):
    assert hard.soften() == soft


def test_fill_takes_percent_signs_in_values_as_they_are():
    assert Reply(250, "", "%s").fill("100%s").text == "100%s"


DIALOGUES = [
    (b"220 hi\r\n", [Reply(220, "", "hi")]),
    (b"250 2.1.0 Ok\r\n", [Reply(250, "2.1.0", "Ok")]),
    (b"250 2.1.0\r\n", [Reply(250, "2.1.0", "")]),
    (b"250\r\n", [Reply(250, "", "")]),
    (b"250-a\r\n250-SIZE 10\r\n250 c\r\n", [Reply(250, "", "a\nSIZE 10\nc")]),
    (b"550-5.1.1 no\r\n550 5.1.1 such\r\n", [Reply(550, "5.1.1", "no\nsuch")]),
    (b"550-5.1.1 no\r\n550 such\r\n", [Reply(550, "5.1.1", "no\nsuch")]),
    (b"250 ok\r\n354 go\r\n", [Reply(250, "", "ok"), Reply(354, "", "go")]),
    (b"250 lf only\n", [Reply(250, "", "lf only")]),
    (b"250 2.1.0 a\x00\xffb\r\n", [Reply(250, "2.1.0", "a??b")]),
    (b"550 2.1.0 wrong class\r\n", [Reply(550, "", "2.1.0 wrong class")]),
]


@pytest.mark.parametrize(("data", "replies"), DIALOGUES)
def test_replies_are_read_however_the_bytes_arrive(data, replies):
    assert ReplyParser().feed(data) == replies
    for cut in range(len(data)):
        parser = ReplyParser()
        assert parser.feed(data[:cut]) + parser.feed(data[cut:]) == replies
        assert not parser.pending
    parser = ReplyParser()
    assert [found for at in data for found in parser.feed(bytes([at]))] == replies


@pytest.mark.parametrize("data", [
    b"\r\n",
    b"hello\r\n",
    b"999 x\r\n",
    b"100 x\r\n",
    b"25 x\r\n",
    b"250x\r\n",
    b"250-a\r\n251 b\r\n",
    b"250-a\r\nfoo\r\n",
    b"x" * (MAX_LINE + 2),
    b"250 " + b"x" * MAX_LINE + b"\r\n",
    b"250-x\r\n" * (MAX_LINES + 1),
    (b"250-" + b"x" * 2000 + b"\r\n") * 20,
    b"\xff\xfe\x00\n",
])  # fmt: skip
def test_what_is_no_reply_is_an_error(data):
    with pytest.raises(ReplyError):
        ReplyParser().feed(data)


@given(st.lists(st.binary(max_size=50) | st.sampled_from([b"250 ok\r\n", b"250-", b"\r\n"])))
def test_any_bytes_are_replies_or_a_reply_error(chunks):
    parser = ReplyParser()
    try:
        for chunk in chunks:
            for found in parser.feed(chunk):
                assert 200 <= found.code <= 599
    except ReplyError:
        pass


def test_pending_tells_of_a_reply_that_is_not_complete():
    parser = ReplyParser()
    parser.feed(b"250-a\r\n")
    assert parser.pending
    parser.feed(b"250 b\r\n")
    assert not parser.pending
    parser.feed(b"2")
    assert parser.pending


def test_enhanced_status_is_made_where_missing():
    assert Reply(450, "", "x").enhanced == "4.0.0"
    assert Reply(450, "4.2.1", "x").enhanced == "4.2.1"
