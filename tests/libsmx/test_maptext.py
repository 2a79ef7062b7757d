"""The text that a map is made from."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from libsmx.maptext import MAX_KEY, MAX_PROBLEMS, MAX_VALUE, PROGRESS_LINES, MapText, read_map_text


@pytest.mark.covers("X329", "X421")
@pytest.mark.parametrize(
    ("line", "entry"),
    [
        ("oci:127.0.0.1      5", ("oci:127.0.0.1", "5")),
        ("oci:\t1", ("oci:", "1")),
        ("From:Bad@X.ORG error:550 5.7.1 No!", ("from:bad@x.org", "error:550 5.7.1 No!")),
        ("k v \t\r\n", ("k", "v")),
        ("k " + "x" * MAX_VALUE, ("k", "x" * MAX_VALUE)),
        ("größe ü", ("größe", "ü")),
    ],
)  # fmt: skip
def test_a_line_is_a_key_and_a_value(line, entry):
    assert read_map_text([line.encode()]) == MapText(dict([entry]), [], [])


@pytest.mark.parametrize("line", ["", "  ", "\t\r\n", "# oci: 1", "#"])
def test_empty_lines_and_comments_say_nothing(line):
    assert read_map_text([line.encode()]) == MapText({}, [], [])


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b" key value", "begins with a blank"),
        (b"key", "no value"),
        (b"key  \t ", "no value"),
        (b"key va\x00lue", "control character"),
        (b"key \xff", "not UTF-8"),
        (b"k" * (MAX_KEY + 1) + b" v", "key is longer"),
        (b"k " + b"v" * (MAX_VALUE + 1), "value is longer"),
    ],
)
def test_a_bad_line_is_told_with_its_number(line, problem):
    problems = read_map_text([b"good line", line]).problems
    assert len(problems) == 1
    assert problems[0].startswith("line 2: ")
    assert problem in problems[0]


def test_a_key_stands_once():
    found = read_map_text([b"a 1", b"A 2"])
    assert found.entries == {"a": "1"}
    assert found.problems == ["line 2: key 'a' stands on line 1 already"]
    assert read_map_text([b"a 1", b"A 2"], keep_case=True).entries == {"a": "1", "A": "2"}


def test_of_many_problems_some_are_listed():
    problems = read_map_text([b"bad"] * (MAX_PROBLEMS + 7)).problems
    assert len(problems) == MAX_PROBLEMS + 1
    assert problems[-1] == "and 7 more"


@given(st.lists(st.binary(max_size=30), max_size=8))
def test_any_bytes_are_entries_or_problems(lines):
    found = read_map_text(lines)
    entries, problems = found.entries, found.problems
    assert len(entries) + len(problems) <= len(lines)
    assert all(key and value for key, value in entries.items())


def test_progress_is_told_on_long_input():
    told = []
    read_map_text((b"#" for _ in range(2 * PROGRESS_LINES + 5)), progress=told.append)
    assert told == [PROGRESS_LINES, 2 * PROGRESS_LINES]


def test_a_check_refuses_and_warns_with_the_line():
    def check(key, value):
        if value == "bad":
            raise ValueError(f"{key} is bad")
        return "odd" if value == "odd" else ""

    found = read_map_text([b"a bad", b"b odd", b"c fine"], check=check)
    assert found == MapText({"b": "odd", "c": "fine"}, ["line 1: a is bad"], ["line 2: odd"])


@pytest.mark.covers("X330", "X331")
def test_the_colon_of_an_alias_is_no_part_of_its_key():
    lines = [b"postmaster: <user@host.domain>", b"user++: local:", b"plain x"]
    entries = read_map_text(lines, colon=True).entries
    assert list(entries) == ["postmaster", "user++", "plain"]
    assert "user++:" in read_map_text(lines).entries
