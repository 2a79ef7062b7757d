"""What sendmail makes of its arguments and of a message."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libsmx.errors import UsageError
from libsmx.sendmail import _lines, _stuff
from libsmx.submission import (
    Header,
    complete,
    exit_code_of,
    header_recipients,
    parse_arguments,
    qualify,
    split_header,
    xtext,
)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("a@b.example", {"mode": "send", "rcpts": ["a@b.example"]}),
        ("-t -i", {"from_header": True, "dots": True}),
        ("-ti", {"from_header": True, "dots": True}),
        ("-oi -oem -odq x", {"dots": True, "rcpts": ["x"]}),
        ("-O IgnoreDots=true x", {"dots": True}),
        ("-f me@b.example x", {"sender": "me@b.example"}),
        ("-fme@b.example x", {"sender": "me@b.example"}),
        ("-f <> x", {"sender": ""}),
        ("-r me@b.example x", {"sender": "me@b.example"}),
        ("-Fme x", {"full_name": "me"}),
        ("-N failure,delay -R hdrs -V id1 x",
         {"notify": "FAILURE,DELAY", "ret": "HDRS", "envid": "id1"}),
        ("-bm -v -U -G -B 8BITMIME -h 5 -L tag x", {"mode": "send", "rcpts": ["x"]}),
        ("-bs", {"mode": "smtp"}), ("-bp", {"mode": "mailq"}), ("-bv x", {"mode": "verify"}),
        ("-bi", {"mode": "newaliases"}), ("-q", {"mode": "flush"}), ("-q30m", {"mode": "flush"}),
        ("-qRb.example", {"mode": "flush", "match": "b.example"}),
        ("-C /x/smx.conf x", {"config": "/x/smx.conf"}),
        ("-t -- -odd@b.example", {"from_header": True, "rcpts": ["-odd@b.example"]}),
    ],
)  # fmt: skip
def test_arguments(line, wanted):
    wish = parse_arguments(line.split())
    assert {name: getattr(wish, name) for name in wanted} == wanted


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("-bd", "mcp.sh start"), ("-bt", "-bv"), ("-bz", "no such mode"), ("-f", "needs a value"),
        ("-k x", "unknown"), ("-N always x", "never"), ("-N never,delay x", "never"),
        ("-R some x", "full or hdrs"), ("-f a\x01b x", "no mail address"), ("-qIx", "qmgrctl"),
        ("-f " + "a" * 400 + " x", "320"), (" ".join(["x"] * 1001), "1000 recipients"),
    ],
)  # fmt: skip
def test_what_there_is_not_is_refused_by_name(line, text):
    with pytest.raises(UsageError, match=text):
        parse_arguments(line.split(" "))


def test_names_are_modes():
    assert parse_arguments([], "mailq").mode == "mailq"
    assert parse_arguments([], "newaliases").mode == "newaliases"


@pytest.mark.parametrize(
    ("data", "fields", "body"),
    [
        (b"A: 1\r\n b\r\nB: 2\r\n\r\nhi\r\n", (b"A: 1\r\n b\r\n", b"B: 2\r\n"), b"hi\r\n"),
        (b"From me Mon\r\nA: 1\r\n\r\nhi", (b"A: 1\r\n",), b"hi"),
        (b"just text\r\n", (), b"just text\r\n"),
        (b"A: 1\r\nno field\r\n", (b"A: 1\r\n",), b"no field\r\n"),
        (b"\r\nA: 1\r\n", (), b"A: 1\r\n"),
        (b"", (), b""),
    ],
)
def test_a_message_has_a_header_and_a_body(data, fields, body):
    assert split_header(data) == (Header(fields), body)


@given(st.binary())
def test_nothing_of_a_message_is_lost(data):
    header, body = split_header(data)
    joined = b"".join(header.fields) + body
    kept = data.partition(b"\r\n")[2] if data.startswith(b"From ") else data
    assert joined.replace(b"\r\n", b"") == kept.replace(b"\r\n", b"") or b"\r\r\n" in kept


def header(text):
    return split_header(text.replace("\n", "\r\n").encode())[0]


def test_recipients_stand_in_the_header():
    found = header_recipients(header('To: "A, B" <a@x.example>, b@x.example\nCc: a@x.example\n'
                                     "Bcc: c@x.example\nFrom: no@x.example\n"))  # fmt: skip
    assert found == ["a@x.example", "b@x.example", "c@x.example"]
    resent = header("To: a@x.example\nResent-To: d@x.example\n")
    assert header_recipients(resent) == ["d@x.example"]


def test_a_header_is_completed_and_hides_who_gets_blind_copies():
    made = complete(header("To: a@x.example\nBcc: c@x.example\n"), sender="me@h.example",
                    full_name="Me", date="Thu, 1 Jan 1970 00:00:00 +0000",
                    message_id="<1@h.example>")  # fmt: skip
    assert b"".join(made.fields) == (
        b"From: Me <me@h.example>\r\nDate: Thu, 1 Jan 1970 00:00:00 +0000\r\n"
        b"Message-ID: <1@h.example>\r\nTo: a@x.example\r\n"
    )
    same = header("From: a@x.example\nDate: x\nMessage-ID: <2>\n")
    assert complete(same, sender="m", full_name="", date="", message_id="") == same


def test_small_things():
    assert qualify("root", "h.example") == "root@h.example"
    assert qualify("a@b", "h.example") == "a@b"
    assert xtext("a+b=c d") == "a+2Bb+3Dc+20d"
    assert [exit_code_of(*one) for one in ((451, "4.3.0"), (550, "5.1.1"), (501, "5.5.4"),
                                           (554, "5.7.1"))] == [75, 67, 65, 69]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "dots", "lines"),
    [
        (b"a\nb\n", False, [b"a\r\n", b"b\r\n"]),
        (b"a\r\nb", False, [b"a\r\n", b"b\r\n"]),
        (b"a\n.\nb\n", False, [b"a\r\n"]),
        (b"a\n.\nb\n", True, [b"a\r\n", b".\r\n", b"b\r\n"]),
        (b"a\rb\n", True, [b"a\r\nb\r\n"]),
    ],
)
def test_lines_of_standard_input(text, dots, lines):
    assert list(_lines(io.BytesIO(text), dots=dots)) == lines


def test_dots_are_doubled():
    assert _stuff(b".a\r\n.b\r\n", at_start=True) == b"..a\r\n..b\r\n"
    assert _stuff(b".a\r\n", at_start=False) == b".a\r\n"
