"""The styles of log lines: JSON, the journal, Postfix's; none can be forged."""

import json
import re
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

import qmgr.events
import smtpc.events
import smtps.events
from libsmx.log import FileSink
from libsmx.logopen import open_log, styled_log
from libsmx.logstyle import STYLES, journal_fields, json_object, postfix_lines
from libsmx.logtab import EVENTS, Event
from libsmx.opttab import LogConf

TESTED = Event("tested", 9, "For this test.", ("one", "two"))
HEAD = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \S+ (smx/\w+)\[\d+\]: (.*)")
values = st.one_of(st.text(), st.binary(), st.integers(), st.floats(allow_nan=False), st.none())


@given(values, values)
def test_a_json_line_is_one_line_and_one_object(one, two):
    text = json_object(TESTED, {"one": one, "two": two})
    assert text.isascii()
    assert text.isprintable()
    assert list(json.loads(text)) == ["event", "level", "one", "two"]


def test_json_keeps_numbers_and_its_own_keys():
    odd = Event("odd", 5, "For this test.", ("level", "secs", "who"))
    row = json.loads(json_object(odd, {"level": 12, "secs": 1.23456, "who": None}))
    assert row == {"event": "odd", "level": 5, "_level": 12, "secs": 1.235, "who": None}


def sample(event, **changes):
    found = dict.fromkeys(event.fields, "x") | {"rcpts": 2, "size": 1234, "delay": 1.5, "code": 250}
    return {key: (found | changes).get(key, "x") for key in event.fields}


@pytest.mark.parametrize(
    ("event", "changes", "wanted"),
    [
        (smtps.events.TA_ACCEPTED,
         {"ss_ta": "S01", "client": "192.0.2.1", "client_name": "", "mail": "<a@b.example>"},
         [("", "S01: client=unknown[192.0.2.1]"),
          ("qmgr", "S01: from=<a@b.example>, size=1234, nrcpt=2 (queue active)")]),
        (smtps.events.RCPT_REFUSED,
         {"client": "192.0.2.1", "mail": "a@b.example", "rcpt": "c@d.example",
          "stat": "550 5.1.1 no"},
         [("", ("NOQUEUE: reject: RCPT from unknown[192.0.2.1]: 550 5.1.1 no;"
               " from=<a@b.example> to=<c@d.example> proto=ESMTP"))]),
        (smtps.events.SESSION_CLOSED, {"client": "192.0.2.1"},
         [("", "disconnect from unknown[192.0.2.1]")]),
        (smtpc.events.RCPT_DELIVERED,
         {"ta": "S01", "rcpt": "c@d.example", "host": "mx.d.example", "address": "192.0.2.2",
          "status": "2.0.0", "text": "ok"},
         [("", ("S01: to=<c@d.example>, relay=mx.d.example[192.0.2.2], delay=1.50, dsn=2.0.0,"
               " status=sent (250 ok)"))]),
        (smtpc.events.RCPT_DEFERRED,
         {"ta": "S01", "rcpt": "c@d.example", "host": "", "address": "", "code": 451,
          "status": "4.4.1", "text": "451 no\nconnection"},
         [("", ("S01: to=<c@d.example>, relay=none, delay=1.50, dsn=4.4.1,"
               " status=deferred (451 no?connection)"))]),
        (qmgr.events.BOUNCE_QUEUED, {"ta": "S02", "about": "S01", "action": "failed"},
         [("bounce", "S01: sender non-delivery notification: S02")]),
        (qmgr.events.DISK_LOW, {"reason": "full"}, [("", "warning: disk_low reason=full")]),
    ],
)  # fmt: skip
def test_a_line_that_tools_for_postfix_know(event, changes, wanted):
    assert postfix_lines(event, sample(event, **changes)) == wanted


@given(values, st.data())
def test_no_value_ends_a_line_or_a_pair_of_brackets(value, data):
    event = data.draw(st.sampled_from(sorted(EVENTS.values(), key=lambda e: (e.name, e.fields))))
    for _program, text in postfix_lines(event, dict.fromkeys(event.fields, value)):
        assert text.isprintable()
        assert not re.search(r"<[^>]*<", text) or event.name not in (
            "ta_accepted",
            "rcpt_delivered",
        )
    for name, _text in journal_fields(event, dict.fromkeys(event.fields, value)):
        assert re.fullmatch(r"SMX_[A-Z0-9_]+", name)


@pytest.mark.covers("X119")
@pytest.mark.parametrize("style", STYLES)
def test_a_file_in_each_style(tmp_path, style):
    path = tmp_path / "x.log"
    log = open_log(LogConf(file=str(path)), 9, "smtps", style)
    log.emit(TESTED, one=1, two="a b")
    log.emit(smtps.events.TA_ACCEPTED, **sample(smtps.events.TA_ACCEPTED, ss_ta="S01"))
    log.flush()
    lines = path.read_text().splitlines()
    if style == "json":
        rows = [json.loads(line) for line in lines]
        assert [row["event"] for row in rows] == ["tested", "ta_accepted"]
        assert {"time", "name", "pid", "level"} <= set(rows[0])
        assert (rows[0]["name"], rows[0]["one"], rows[0]["two"]) == ("smtps", 1, "a b")
    elif style == "postfix":
        parts = [HEAD.fullmatch(line).groups() for line in lines]
        assert [name for name, _text in parts] == ["smx/smtpd", "smx/smtpd", "smx/qmgr"]
        assert parts[1][1].startswith("S01: client=")
    else:
        assert lines[0].endswith(': tested one=1 two="a b"')
    with pytest.raises(ValueError, match="tested"):
        log.emit(TESTED, one=1)


def parse_datagram(data):
    """Fields of a datagram of the journal's protocol."""
    found = {}
    while data:
        name, _, rest = data.partition(b"\n")
        if b"=" in name:
            key, _, value = name.partition(b"=")
            data = rest
        else:
            key, size = name, int.from_bytes(rest[:8], "little")
            value, data = rest[8 : 8 + size], rest[9 + size :]
        found[key.decode()] = value.decode()
    return found


def test_the_journal_gets_every_value_as_a_field(tmp_path):
    path = str(tmp_path / "journal")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(path)
        log = open_log(LogConf(journal=True, facility="mail"), 9, "smtps", "text", path)
        log.emit(TESTED, one="a\nPRIORITY=0", two=2)
        found = parse_datagram(journal.recv(65536))
        log._sink.close()
        assert found["MESSAGE"] == 'tested one="a\\x0aPRIORITY=0" two=2'
        assert found["SMX_EVENT"] == "tested"
        assert found["SMX_ONE"] == "a\nPRIORITY=0"
        assert (found["PRIORITY"], found["SYSLOG_FACILITY"]) == ("6", "2")
        assert found["SYSLOG_IDENTIFIER"] == "smtps"


def test_what_the_journal_does_not_take_is_counted_and_said(tmp_path):
    path = str(tmp_path / "journal")
    journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    journal.bind(path)
    log = open_log(LogConf(journal=True), 9, "smtps", "text", path)
    journal.close()
    for number in range(3):
        log.emit(TESTED, one=number, two=0)
    (tmp_path / "journal").unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(path)
        log.emit(TESTED, one=9, two=0)
        texts = [parse_datagram(journal.recv(65536))["MESSAGE"] for _ in range(2)]
    log._sink.close()
    assert texts == ["the journal did not take 3 lines before this one", "tested one=9 two=0"]


def test_syslog_is_the_way_where_there_is_no_journal(tmp_path):
    log = open_log(LogConf(journal=True), 0, "smtps", "text", str(tmp_path / "none"))
    log.emit(TESTED, one=1, two=2)  # above the level: nothing is sent


def test_a_sink_of_mcp_has_a_style_too(tmp_path):
    path = tmp_path / "mcp.log"
    log = styled_log(FileSink(str(path), "mcp", "json"), 9, "json")
    log.emit(TESTED, one=1, two=2)
    log.flush()
    assert json.loads(path.read_text())["name"] == "mcp"
