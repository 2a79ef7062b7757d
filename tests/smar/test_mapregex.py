"""Regular expressions of maps, held against Python's own."""

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from libsmx.maptext import MAX_PROBLEMS
from smar import mapregex
from smar.mapregex import RegexTable, read_regex

_ATOMS = st.sampled_from(
    ["a", "b", ".", "[ab]", "[^a]", r"\.", r"\d", r"\D", "(a|b)", "(?:ab)", "^", "$"]
)
_TIMES = st.sampled_from(["", "", "*", "+", "?", "{2}", "{1,2}", "{0,1}", "{2,}", "{0}"])


@st.composite
def expressions(draw, depth=2):
    parts = []
    for _ in range(draw(st.integers(1, 4))):
        if depth and draw(st.booleans()):
            inner = draw(expressions(depth=depth - 1))
            parts.append(f"({inner}){draw(_TIMES)}")
        else:
            atom = draw(_ATOMS)
            parts.append(atom if atom in "^$" else atom + draw(_TIMES))
    return draw(st.sampled_from(["", "|", ""])).join(parts)


@given(st.lists(expressions(), min_size=1, max_size=4, unique=True), st.text("ab1.", max_size=8))
def test_the_first_line_that_python_finds_too(patterns, key):
    table = RegexTable({f"/{pattern}/": str(n) for n, pattern in enumerate(patterns)})
    expected = next((str(n) for n, pattern in enumerate(patterns) if re.search(pattern, key)), None)
    assert table.get(key) == expected
    assert table.get(key) == expected  # from what was remembered


@given(st.text(r"ab()[]{}*+?|\^$.-,1/", max_size=14))
def test_any_text_is_an_expression_or_an_error(text):
    line = b"/" + text.encode() + b"/ value"
    found = read_regex([line])
    assume(found.entries and not found.problems)
    RegexTable(found.entries).get("ab1")


@pytest.mark.parametrize(
    "pattern", ["(a*)*b", "(a|a)*b", "(a+)+$", ".*.*.*.*.*.*.*.*x", "(a{1,50}){1,50}b"]
)
def test_what_makes_others_take_for_ever_is_read_once(pattern):
    assert RegexTable({f"/{pattern}/": "v"}).get("a" * 1000 + "c") is None


@pytest.mark.parametrize("pattern", ["^$", "$^", "^", "$", "(^|$)*"])
def test_an_empty_key_has_both_ends_in_one_place(pattern):
    assert RegexTable({f"/{pattern}/": "v"}).get("") == "v"


def test_the_memory_of_states_is_bounded(monkeypatch):
    monkeypatch.setattr(mapregex, "MAX_CACHED", 20)
    table = RegexTable({"/^[^@]+@spam/": "1", r"/\.example$/": "2"})
    for n in range(300):
        assert table.get(f"user{n}@spam.example") == "1"
        assert table.get(f"user{n}@ham{n}.example") == "2"
        assert table.get(f"user{n}@ham{n}.test") is None
        assert table._cached <= 20


def test_keys_are_lower_case_and_expressions_need_not_be():
    table = RegexTable({"/[A-F]oo@EXAMPLE/": "1"})
    assert table.get("foo@example") == "1"
    assert table.get("goo@example") is None


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"a/ v", "between slashes"),
        (b"/(a/ v", "closing parenthesis is missing"),
        (b"/a)/ v", "without its opening one"),
        (b"/a**/ v", "one repetition behind another"),
        (b"/*a/ v", "repeats nothing"),
        (b"/(?=a)/ v", "(?:...) only"),
        (b"/(a)\\1/ v", "not known"),
        (b"/a{300}/ v", "goes up to 255"),
        (b"/a{3,2}/ v", "the smaller number first"),
        (b"/a{x}/ v", "write a repetition as"),
        (b"/[b-a]/ v", "from the smaller character"),
        (b"/[a/ v", "ends too early"),
        (b"/((a{200}){200}){200}/ v", "more than 20000 nodes"),
        (b"/" + b"(" * 60 + b"a" + b")" * 60 + b"/ v", "more than 50 deep"),
    ],
)
def test_what_cannot_be_read_is_told(line, problem):
    (text,) = read_regex([line]).problems
    assert problem in text


def test_all_together_may_be_too_large():
    lines = [b"/(a%d{250}){60}/ v" % n for n in range(3)]
    found = read_regex(lines)
    assert 0 < len(found.problems) <= MAX_PROBLEMS
    assert "nodes together" in found.problems[0]
