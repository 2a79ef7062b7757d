"""The log cannot be forged, and its lines say what the events declare."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libsmx.log import FileSink, Log, format_event, quote
from libsmx.logtab import Event

TESTED = Event("tested", 9, "For this test.", ("one", "two"))
DETAIL = Event("detail", 12, "For this test.", ("one",))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        ("a@b.example", "a@b.example"),
        ("", '""'),
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ("\u00e9 b", '"\u00e9 b"'),
        ("a\\b c", '"a\\\\b c"'),
        ("x " * 501, '"' + "x " * 500 + '..."'),
        ('say "hi"', '"say \\"hi\\""'),
        ("a\r\nb", '"a\\x0d\\x0ab"'),
        ("\x1b[2J", '"\\x1b[2J"'),
        ("\u202eevil", '"\\u{202e}evil"'),
        (b"\xff\n", '"\\\\xff\\x0a"'),
        (5, "5"),
        (1.23456, "1.235"),
    ],
)
def test_values_are_quoted(value, text):
    assert quote(value) == text


@given(st.one_of(st.text(), st.binary()))
def test_no_value_can_end_a_line_or_forge_a_key(value):
    text = quote(value)
    assert re.fullmatch(r'[!#-<>-\[\]-~]+|"(?:[^"\\]|\\.)*"', text)
    assert text.isprintable()


def test_a_line_has_exactly_the_declared_fields():
    assert format_event(TESTED, {"one": 1, "two": "b c"}) == 'tested one=1 two="b c"'
    with pytest.raises(ValueError, match="not"):
        format_event(TESTED, {"one": 1})
    with pytest.raises(ValueError, match="missing"):
        format_event(TESTED, {"one": 1, "three": 3})


@pytest.mark.covers("X119")
def test_lines_go_to_the_file_by_level(tmp_path):
    path = tmp_path / "x.log"
    log = Log(FileSink(str(path), "qmgr"), 9)
    log.emit(TESTED, one=1, two=2)
    log.emit(DETAIL, one=1)
    log.flush()
    (line,) = path.read_text().splitlines()
    assert re.fullmatch(r"\S+Z qmgr\[\d+\]: tested one=1 two=2", line)
    assert path.stat().st_mode & 0o777 == 0o640
    path.rename(tmp_path / "x.log.1")
    log.reopen()
    log.emit(TESTED, one=3, two=4)
    log.flush()
    assert "one=3" in path.read_text()
