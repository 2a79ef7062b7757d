"""The grammar of smx.conf."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libsmx.conffile import MAX_DEPTH, MAX_FILE, MAX_PROBLEMS, Option, parse
from libsmx.kinds import to_syntax


def plain(entries):
    """Return entries as nested tuples without places."""
    return [
        (entry.name, [value.text for value in entry.values])
        if isinstance(entry, Option)
        else (entry.keyword, entry.name, plain(entry.entries))
        for entry in entries
    ]


def tree(text):
    entries, problems = parse(text.encode(), "t")
    assert [str(problem) for problem in problems] == []
    return plain(entries)


def complaints(text):
    data = text if isinstance(text, bytes) else text.encode()
    return [str(problem) for problem in parse(data, "t")[1]]


@pytest.mark.covers("X085", "X086", "X087", "X088", "X089", "X090", "X091", "X093", "X099", "X103")
@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", []),
        ("\ufeff  \n\t", []),
        ("# only a comment", []),
        ("a = 1;", [("a", ["1"])]),
        ("a=1;b=2;", [("a", ["1"]), ("b", ["2"])]),
        ("a # x = 2;\n = # y\n 1 # z\n ;", [("a", ["1"])]),
        ("path = /usr/libexec/smtps;", [("path", ["/usr/libexec/smtps"])]),
        ('a = "x;y{z";', [("a", ["x;y{z"])]),
        ('a = "no # comment";', [("a", ["no # comment"])]),
        ('a = "ab"\n"cd";', [("a", ["abcd"])]),
        ('a = "";', [("a", [""])]),
        ('a = "x\\"y\\\\z\\n\\t";', [("a", ['x"y\\z\n\t'])]),
        ("a = 1h 5m 12s;", [("a", ["1h 5m 12s"])]),
        ("a = {x, y}", [("a", ["x", "y"])]),
        ("a = { x , y };", [("a", ["x", "y"])]),
        ("a = {}; b = 1;", [("a", []), ("b", ["1"])]),
        ('a = { "x" "y", 5m 3s }', [("a", ["xy", "5m 3s"])]),
        ("s { }", [("s", None, [])]),
        ("s { };", [("s", None, [])]),
        ("smtps MTA { a = 1; }", [("smtps", "MTA", [("a", ["1"])])]),
        ('smtps "M A" { }', [("smtps", "M A", [])]),
        (
            "s{t{u{a=1;}}b=2;}",
            [("s", None, [("t", None, [("u", None, [("a", ["1"])])]), ("b", ["2"])])],
        ),
        ("naïve = ü;", [("naïve", ["ü"])]),
    ],
)
def test_a_file_is_parsed(text, wanted):
    assert tree(text) == wanted


@pytest.mark.covers("X093")
def test_line_breaks_mean_nothing_outside_of_strings():
    text = 'a = 1;\nsmtps MTA {\n  b = { x,\n y }\n c = "s" "t";\n}\n'
    assert tree(text) == tree(text.replace("\n", " "))


def test_bytes_that_are_not_utf8_are_allowed_in_comments_only():
    assert complaints(b"# caf\xe9\na = 1;") == []
    assert complaints(b"a = caf\xe9;") == ["t:1:8: the file is not UTF-8 here"]
    assert "not UTF-8" in complaints(b'a = "caf\xe9";')[0]


LONG = "a name of at most 64 characters"
BROKEN = (
    "t:1:5: the string does not end on its line; "
    "close it and go on with another string on the next line"
)


@pytest.mark.covers("X085", "X086", "X102")
@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a = 1", ["t:1:6: ';' is missing after the value of a"]),
        ("a = 1\nb = 2;", ["t:1:6: ';' is missing after the value of a"]),
        ("a = 1\nsmtps MTA { }", ["t:1:6: ';' is missing after the value of a"]),
        ("a = 1 s { }", ["t:1:6: ';' is missing after the value of a"]),
        ("s { a = 1 }", ["t:1:10: ';' is missing after the value of a"]),
        ("a = ;", ["t:1:5: found ';' instead of a value for a"]),
        ("a = {x y};", ["t:1:8: a has more than one word; put the value into quotes"]),
        ("a = {x,};", ["t:1:8: found '}' instead of a value for a"]),
        ("a = {x;", ["t:1:7: found ';' instead of ',' or '}' in the list"]),
        ("a = smtpc -f x;", ["t:1:11: a has more than one word; put the value into quotes"]),
        ("a;", ["t:1:2: found ';' instead of '=' or '{' after a"]),
        ("a", ["t:1:2: found end of file instead of '=' or '{' after a"]),
        ("a b c { x = 1; } d = 2;", ["t:1:5: found 'c' instead of '{'"]),
        ("a" * 65 + " = 1;", [f"t:1:1: found {'a' * 40!r} instead of {LONG}"]),
        ("s " + "a" * 65 + " { }", [f"t:1:3: found {'a' * 40!r} instead of {LONG}"]),
        ("a = 1;;", ["t:1:7: found ';' instead of the name of an option or section"]),
        ("}", ["t:1:1: '}' closes nothing"]),
        ("s {\n a = 1;", ["t:2:8: '}' is missing for s from line 1"]),
        ('"a" = 1;', ["t:1:1: found 'a' instead of the name of an option or section"]),
        ('a = "x', [BROKEN]),
        ('s { a = "x;\n b = 1; }', [BROKEN.replace("1:5", "1:9")]),
        ('a = "\\x";', ["t:1:5: unknown escape \\x in a string; for a backslash write \\\\"]),
        ("a\x00 = 1;", ["t:1:2: unexpected character '\\x00'"]),
        ('a = "\x07";', ["t:1:5: the string holds '\\x07'"]),
    ],
)  # fmt: skip
def test_a_mistake_is_reported_with_its_place(text, wanted):
    assert complaints(text) == wanted


def test_all_mistakes_are_reported_and_the_rest_is_understood():
    entries, problems = parse(b"a = ;\ns {\n  b c;\n  d = 1;\n  e = { x y };\n}\nf = 2;\n", "t")
    assert [problem.place.line for problem in problems] == [1, 3, 5]
    assert plain(entries) == [("s", None, [("d", ["1"])]), ("f", ["2"])]


def test_a_bad_head_does_not_hide_what_follows_its_section():
    entries, problems = parse(b"a b c { x = { 1, 2 } y { z = 1; } } d = 2;", "t")
    assert len(problems) == 1
    assert plain(entries) == [("d", ["2"])]


def test_places_are_those_of_the_text():
    entries, _ = parse(b"\n  s {\n\ta = \xc3\xbc ;\n b = { x,\n  y }; }", "f")
    inner = entries[0].entries
    assert str(entries[0].place) == "f:2:3"
    assert str(inner[0].place) == "f:3:2"
    assert str(inner[0].values[0].place) == "f:3:6"
    assert str(inner[1].values[1].place) == "f:5:3"


def test_limits_are_reported():
    assert complaints(b" " * (MAX_FILE + 1)) == [f"t: the file is larger than {MAX_FILE} bytes"]
    deep = "s {" * MAX_DEPTH + "}" * MAX_DEPTH
    assert complaints(deep) == []
    assert "nested more than 20 deep" in complaints("s {" + deep + "} a = 1;")[0]
    assert len(complaints("s {" + deep + "} a = 1;")) == 1
    many = complaints("a = ;" * 1000)
    assert len(many) == MAX_PROBLEMS + 1
    assert "too many" in many[-1]
    assert len(complaints("s {" * 50000)) <= MAX_PROBLEMS + 1


FRAGMENTS = st.sampled_from(
    ["a", "=", ";", "{", "}", ",", '"x"', '"', "1h", " ", "\n", "#", "\\", "smtps", "\x00", "ü"]
)


@given(st.one_of(st.binary(max_size=200), st.lists(FRAGMENTS).map(lambda x: "".join(x).encode())))
def test_any_bytes_give_a_tree_and_problems_with_places(data):
    _entries, problems = parse(data, "t")
    lines = data.decode("utf-8-sig", "surrogateescape").split("\n")
    for problem in problems:
        assert 1 <= problem.place.line <= len(lines)
        assert 1 <= problem.place.column <= len(lines[problem.place.line - 1]) + 1
        assert "\n" not in problem.text


NAMES = st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1, max_size=6)
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=12)
OPTIONS = st.tuples(NAMES, st.lists(TEXTS, max_size=3))
ENTRIES = st.recursive(
    st.lists(OPTIONS, max_size=4),
    lambda inner: st.lists(
        st.one_of(OPTIONS, st.tuples(NAMES, st.one_of(st.none(), NAMES), inner)), max_size=4
    ),
    max_leaves=8,
)


def write(entries):
    """Write nested tuples as smx.conf."""
    out = []
    for entry in entries:
        if len(entry) == 2:
            values = [to_syntax(text) for text in entry[1]]
            out.append(
                f"{entry[0]} = {values[0]};"
                if len(values) == 1
                else f"{entry[0]} = {{ {', '.join(values)} }}"
            )
        else:
            name = to_syntax(entry[1]) if entry[1] else ""
            out.append(f"{entry[0]} {name} {{ {write(entry[2])} }}")
    return "\n".join(out)


@given(ENTRIES)
def test_what_is_written_parses_to_the_same_tree(entries):
    assert tree(write(entries)) == [tuple(entry) for entry in entries]
