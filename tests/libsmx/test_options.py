"""The kinds of values and the rows of the options table."""
# ruff: noqa: RUF009 (option() and section() declare fields)

import ipaddress
import re

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libsmx import kinds, netkinds
from libsmx.conffile import Option, parse
from libsmx.opt_shared import ACCOUNT, HOST, SECONDS
from libsmx.options import find_row, members, option, section, shared, walk

MICRO = kinds.Quantity("duration", kinds.MICRO_UNITS, "us")
BYTES = kinds.Quantity("size", kinds.SIZE_UNITS, "B")
KILO = kinds.Quantity("size", kinds.SIZE_UNITS, "KB")
WORDS = kinds.Choice("wait", "pass")
FLAGS = kinds.Flags({"8bitmime": "eight", "MIME_Format": "mime"})


@pytest.mark.covers("X094", "X095", "X096", "X097", "X098", "X099", "X100", "X101", "X136")
@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (kinds.Count(), "0", 0),
        (kinds.Count(), "8192", 8192),
        (kinds.Count(), "0xFFFFFF00", 0xFFFFFF00),
        (kinds.Count(), "0XfF", 255),
        (kinds.Count(), "0117", 0o117),
        (kinds.Count(), "9223372036854775807", 2**63 - 1),
        (SECONDS, "300", 300),
        (SECONDS, "1w", 604800),
        (SECONDS, "1d", 86400),
        (SECONDS, "1h", 3600),
        (SECONDS, "1m", 60),
        (SECONDS, "1s", 1),
        (SECONDS, "1h 5m 12s", 3912),
        (SECONDS, "5m3s", 303),
        (SECONDS, "5 M 3 S", 303),
        (SECONDS, "0x10", 16),
        (MICRO, "1000", 1000),
        (MICRO, "5ms", 5000),
        (MICRO, "1s", 1_000_000),
        (BYTES, "2MB", 2097152),
        (BYTES, "1gb 1Kb 1b", 1024**3 + 1025),
        (KILO, "100", 100),
        (KILO, "10MB", 10240),
        (KILO, "2048B", 2),
        (kinds.Octal(), "0117", 0o117),
        (kinds.Octal(), "0", 0),
        (kinds.Boolean(), "0", False),
        (kinds.Boolean(), "FALSE", False),
        (kinds.Boolean(), "Off", False),
        (kinds.Boolean(), "1", True),
        (kinds.Boolean(), "True", True),
        (kinds.Boolean(), "on", True),
        (kinds.String(), "a;b{c", "a;b{c"),
        (kinds.Path(), "smtps/smtpsfd", "smtps/smtpsfd"),
        (kinds.Words(), "smtps -N 'M T A'  -f x", ("smtps", "-N", "M T A", "-f", "x")),
        (WORDS, "PASS", "pass"),
        (FLAGS, "8BITMIME", frozenset({"8bitmime"})),
        (FLAGS, "mime_format", frozenset({"mime_format"})),
        (netkinds.IpAddress(), "", ""),
        (netkinds.IpAddress(), "0:0::1", "::1"),
        (netkinds.IpNetwork(), "10.0.0.0/8", ipaddress.ip_network("10.0.0.0/8")),
        (netkinds.IpNetwork(), "::1", ipaddress.ip_network("::1/128")),
        (netkinds.EndpointKind(53), "10.10.10.9", ("10.10.10.9", 53)),
        (netkinds.EndpointKind(53), "127.0.0.1:5300", ("127.0.0.1", 5300)),
        (netkinds.EndpointKind(53), "::1", ("::1", 53)),
        (netkinds.EndpointKind(53), "[::1]", ("::1", 53)),
        (netkinds.EndpointKind(53), "[::1]:5300", ("::1", 5300)),
        (HOST, "mx.example.org", "mx.example.org"),
        (ACCOUNT, "261", "261"),
    ],
)
def test_a_value_is_read(kind, text, value):
    assert kind.read(text) == value


@pytest.mark.covers("X095", "X096", "X102")
@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (kinds.Count(), "08", "octal"),
        (kinds.Count(), "09", "octal"),
        (kinds.Count(), "-1", "not a number"),
        (kinds.Count(), "", "not a number"),
        (kinds.Count(), "0x", "not a number"),
        (kinds.Count(), "1.5", "not a number"),
        (kinds.Count(), "12x", "not a number"),
        (kinds.Count(), "٣", "not a number"),  # a digit to str.isdigit, not to us
        (kinds.Count(), "9223372036854775808", "too large"),
        (kinds.Count(), "9" * 5000, "too large"),
        (SECONDS, "-5", "not a duration"),
        (SECONDS, "", "not a duration"),
        (SECONDS, "1y", "unknown unit 'y'"),
        (SECONDS, "1h 30", "'30' has no unit"),
        (SECONDS, "5ms", "unknown unit 'ms'"),
        (SECONDS, "9223372036854775807w", "too large"),
        (KILO, "10B", "not a whole number of KB"),
        (BYTES, "3TB", "unknown unit 'TB'"),
        (kinds.Octal(), "117", "octal"),
        (kinds.Octal(), "01000", "octal"),
        (kinds.Boolean(), "maybe", "not a boolean"),
        (kinds.Boolean(), "2", "not a boolean"),
        (kinds.String(), "a\x07b", "control character"),
        (kinds.String(), "a" * 4097, "more than 4096"),
        (kinds.Words(), "a 'b", "not a command line"),
        (WORDS, "wiat", "did you mean wait?"),
        (WORDS, "", "none of wait, pass"),
        (FLAGS, "8bitmine", "did you mean 8bitmime?"),
        (netkinds.IpAddress(), "localhost", "not an IP address"),
        (netkinds.IpNetwork(), "10.1.2.3/8", "host bits set"),
        (netkinds.IpNetwork(), "ten", "as 192.0.2.0/24"),
        (netkinds.EndpointKind(53), "localhost", "not an address"),
        (netkinds.EndpointKind(53), "1.2.3.4:0", "not an address"),
        (netkinds.EndpointKind(53), "1.2.3.4:65536", "not an address"),
        (netkinds.EndpointKind(53), "[1.2.3.4", "not an address"),
        (HOST, "-x.example.org", "no host name"),
        (ACCOUNT, "a b", "no account"),
    ],
)
def test_a_bad_value_is_refused_with_what_was_expected(kind, text, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        kind.read(text)
    assert len(str(caught.value)) < 200


def reread(kind, value):
    """Show a value, parse it as an option of a file, read it again."""
    entries, problems = parse(f"x = {kind.show(value)};".encode(), "t")
    assert not problems
    assert isinstance(entries[0], Option)
    return kind.join([kind.read(one.text) for one in entries[0].values])


VALUES = st.one_of(
    st.tuples(st.just(kinds.Count()), st.integers(0, 2**63 - 1)),
    st.tuples(st.sampled_from([SECONDS, BYTES]), st.integers(0, 2**40)),
    st.tuples(st.sampled_from([MICRO, KILO]), st.integers(0, 2**40)),
    st.tuples(st.just(kinds.Octal()), st.integers(0, 0o777)),
    st.tuples(st.just(kinds.Boolean()), st.booleans()),
    st.tuples(
        st.just(kinds.String()),
        st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=50),
    ),
    st.tuples(
        st.just(kinds.Words()),
        st.lists(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=9)).map(tuple),
    ),
    st.tuples(
        st.just(FLAGS), st.frozensets(st.sampled_from(["8bitmime", "mime_format"]), min_size=1)
    ),
    st.tuples(st.just(netkinds.IpAddress()), st.ip_addresses().map(str)),
    st.tuples(
        st.just(kinds.ListOf(netkinds.IpNetwork(), 9)),
        st.lists(st.ip_addresses().map(ipaddress.ip_network), min_size=1, max_size=9).map(tuple),
    ),
    st.tuples(
        st.just(netkinds.EndpointKind(53)),
        st.builds(netkinds.Endpoint, st.ip_addresses().map(str), st.integers(1, 65535)),
    ),
)


@given(VALUES)
def test_what_is_shown_reads_back(pair):
    kind, value = pair
    assert reread(kind, value) == value


EVERY_KIND = [
    kinds.Count(),
    SECONDS,
    MICRO,
    BYTES,
    KILO,
    kinds.Octal(),
    kinds.Boolean(),
    kinds.String(),
    kinds.Words(),
    WORDS,
    FLAGS,
    HOST,
    ACCOUNT,
    netkinds.IpAddress(),
    netkinds.IpNetwork(),
    netkinds.EndpointKind(53),
    kinds.ListOf(kinds.Count(), 2),
]


@given(st.sampled_from(EVERY_KIND), st.text(max_size=30))
def test_any_text_gives_a_value_or_a_short_printable_error(kind, text):
    message = ""
    try:
        kind.read(text)
    except ValueError as error:
        message = str(error)
    assert "\n" not in message
    assert len(message) < 250


def test_a_list_has_a_greatest_length():
    kind = kinds.ListOf(kinds.Count(), 2)
    assert kind.join([(1,), (2,)]) == (1, 2)
    with pytest.raises(ValueError, match="at most 2"):
        kind.join([(1,), (2,), (3,)])


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a", "a"), ("", '""'), ("a b", '"a b"'), ('a"\\', '"a\\"\\\\"'), ("a;b{c", '"a;b{c"')],
)
def test_strings_are_quoted_where_the_grammar_needs_it(text, shown):
    assert kinds.to_syntax(text) == shown


@attrs.frozen
class Inner:
    """A subsection."""

    size: int = option("Size", BYTES, "1KB", low="2B", high="1MB", doc="Size.")


@attrs.frozen
class Extra:
    """Options written in the enclosing section."""

    user: str = option("user", ACCOUNT, "", doc="User.")


@attrs.frozen
class Outer:
    """A section."""

    names: tuple[str, ...] = option(
        "Names", kinds.ListOf(kinds.String(), 3), ("a", "b"), doc="Names."
    )
    inner: Inner = section("IN", Inner, doc="Inner.", aliases=("Size",))
    many: tuple[Inner, ...] = section("many", Inner, doc="Many.", repeat=True)
    extra: Extra = shared(Extra)


def test_members_are_found_by_lower_case_name():
    found = members(Outer)
    assert {name: (m.path, m.is_alias) for name, m in found.items()} == {
        "names": (("names",), False),
        "in": (("inner",), False),
        "size": (("inner", "size"), True),
        "many": (("many",), False),
        "user": (("extra", "user"), False),
    }


def test_walk_names_every_option_with_its_value():
    conf = Outer(many=(Inner(), Inner(7)))
    assert [(name, value) for name, _row, value in walk(conf, "x.")] == [
        ("x.Names", ("a", "b")),
        ("x.IN.Size", 1024),
        ("x.many.1.Size", 1024),
        ("x.many.2.Size", 7),
        ("x.user", ""),
    ]


def test_a_value_out_of_bounds_names_the_bound():
    row = find_row(Outer, ("in", "size"))
    assert row.check("2B") == 2
    with pytest.raises(ValueError, match=r"^1B is below the minimum 2B \(size\)$"):
        row.check("1B")
    with pytest.raises(ValueError, match=r"^2MB is above the maximum 1MB \(size\)$"):
        row.check("2MB")


@pytest.mark.parametrize("path", [("nothing",), ("names", "x"), ("in",)])
def test_find_row_knows_options_only(path):
    with pytest.raises(KeyError):
        find_row(Outer, path)
