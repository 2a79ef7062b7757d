"""Mailertable: what is read, what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libsmx.errors import ConfigError
from smar.mailertable import Entry, Host, HostKind, read_mailertable

MX, NAME, ADDRESS = HostKind.MX, HostKind.NAME, HostKind.ADDRESS


def entry(text):
    found = read_mailertable(f"example.org {text}\n", "mt").find("example.org")
    return found.lmtp, found.port, [(host.kind, host.name) for host in found.hosts]


@pytest.mark.parametrize(
    ("rhs", "wanted"),
    [
        pytest.param(
            "mx.example.net",
            (False, 25, [(MX, "mx.example.net")]),
            marks=pytest.mark.covers("X313"),
        ),
        pytest.param(
            "[10.1.2.3]", (False, 25, [(ADDRESS, "10.1.2.3")]), marks=pytest.mark.covers("X314")
        ),
        pytest.param(
            "esmtp:[10.1.2.3]",
            (False, 25, [(ADDRESS, "10.1.2.3")]),
            marks=pytest.mark.covers("X315"),
        ),
        pytest.param(
            "2525^esmtp:[127.0.0.1]",
            (False, 2525, [(ADDRESS, "127.0.0.1")]),
            marks=pytest.mark.covers("X316"),
        ),
        ("2525^[127.0.0.1]", (False, 2525, [(ADDRESS, "127.0.0.1")])),
        pytest.param("lmtp:", (True, 0, []), marks=pytest.mark.covers("X317")),
        pytest.param(
            "525^lmtp:[10.11.12.13]",
            (True, 525, [(ADDRESS, "10.11.12.13")]),
            marks=pytest.mark.covers("X318"),
        ),
        ("24^lmtp:store.example", (True, 24, [(MX, "store.example")])),
        ("[mx.example.net]", (False, 25, [(NAME, "mx.example.net")])),
        ("[IPv6:2001:DB8:0::1]", (False, 25, [(ADDRESS, "2001:db8::1")])),
        ("26^esmtp:[ipv6:::1]", (False, 26, [(ADDRESS, "::1")])),
        ("ESMTP:MX.Example.NET.", (False, 25, [(MX, "mx.example.net")])),
        ("LMTP:", (True, 0, [])),
        pytest.param(
            "26^esmtp:[10.0.0.1] b.example [c.example]",
            (False, 26, [(ADDRESS, "10.0.0.1"), (MX, "b.example"), (NAME, "c.example")]),
            marks=pytest.mark.covers("X312"),
        ),
        ("esmtp: a.example", (False, 25, [(MX, "a.example")])),
    ],
)
def test_right_hand_sides(rhs, wanted):
    assert entry(rhs) == wanted


@pytest.mark.parametrize(
    ("line", "part"),
    [
        pytest.param("a.b lmtp:c.d", "needs port and host", marks=pytest.mark.covers("X318")),
        ("a.b 24^lmtp:", "needs port and host"),
        ("a.b lmtp: c.d", "needs port and host"),
        ("a.b", "right-hand side is missing"),
        ("a.b esmtp:", "the host is missing"),
        ("a.b 25^", "the host is missing"),
        ("a.b 0^c.d", "port 0 is no number"),
        ("a.b 65536^c.d", "port 65536"),
        ("a.b x^c.d", "port x"),
        ("a.b ^c.d", "port before ^"),
        ("a.b 9999999999999999^c.d", "port 9999999999999999"),
        ("a.b smtp:c.d", "mailer smtp is unknown"),
        ("a.b c.d esmtp:e.f", "stand once"),
        ("a.b c.d 26^e.f", "stand once"),
        ("a.b 192.0.2.1", "brackets"),
        ("a.b [192.0.2.999]", "Bad address literal"),
        ("a.b [2001:db8::1]", "[IPv6:2001:db8::1]"),
        ("a.b [IPv6:zz]", "Bad address literal"),
        ("a.b [c.d", "Bad address literal"),
        ("a.b c..d", "Bad domain"),
        ("a.b " + " ".join(f"h{n}.x" for n in range(21)), "21 hosts"),
        ("a..b c.d", "Bad domain"),
        ("a@b.c d.e", "Bad domain"),
        (".. c.d", "Bad domain"),
        ("a.b. c.d", "Bad domain"),
        ("[10.0.0] c.d", "Bad address literal"),
        ("m\u00fcller.example c.d", "Bad domain"),
    ],
)
def test_mistakes_name_file_line_and_remedy(line, part):
    with pytest.raises(ConfigError) as caught:
        read_mailertable(f"# first\n\n{line}\n", "/etc/smx/mt")
    (problem,) = caught.value.problems
    assert problem.startswith("/etc/smx/mt:3: ")
    assert part in problem


def test_all_mistakes_are_reported_at_once_but_not_without_end():
    with pytest.raises(ConfigError) as caught:
        read_mailertable("a.b\nc.d x:y\n", "mt")
    assert [p.split(" ")[0] for p in caught.value.problems] == ["mt:1:", "mt:2:"]
    with pytest.raises(ConfigError) as caught:
        read_mailertable("a.b\n" * 1000, "mt")
    assert len(caught.value.problems) == 21
    assert "980 more" in caught.value.problems[-1]


def test_second_entry_for_a_domain_is_refused_with_the_first_line():
    with pytest.raises(ConfigError, match=r"mt:2: A\.b stands in line 1"):
        read_mailertable("a.b c.d\nA.b e.f\n", "mt")


TABLE = read_mailertable(
    "\n".join(
        [
            "# comment",
            "localhost\tlmtp:",
            "SPAM.FILTER.DOMAIN \t  2525^esmtp:[127.0.0.1]  # with a comment",
            "example.org\tesmtp:exact.example",
            ".example.org  esmtp:sub.example",
            ".tld esmtp:gate.way",
            "[192.0.2.9] lmtp:",
            "[ipv6:2001:db8::0:9] lmtp:",
            "",
        ]
    ),
    "mt",
)


@pytest.mark.parametrize(
    ("domain", "host"),
    [
        pytest.param("example.org", "exact.example", marks=pytest.mark.covers("X308")),
        pytest.param("x.example.org", "sub.example", marks=pytest.mark.covers("X308", "X309")),
        ("y.x.example.org", "sub.example"),
        pytest.param("a.tld", "gate.way", marks=pytest.mark.covers("X309")),
        pytest.param("a.b.tld", "gate.way", marks=pytest.mark.covers("X309")),
        pytest.param("tld", None, marks=pytest.mark.covers("X309")),
        pytest.param("x.localhost", None, marks=pytest.mark.covers("X438")),
        pytest.param("spam.filter.domain", "127.0.0.1", marks=pytest.mark.covers("X311")),
        ("[192.0.2.1]", None),
    ],
)
def test_which_entry_a_domain_finds(domain, host):
    found = TABLE.find(domain)
    assert (found.hosts[0].name if found else None) == host


def test_local_is_the_local_lmtp_socket_alone():
    assert TABLE.find("localhost").local
    assert TABLE.find("[192.0.2.9]").local
    assert TABLE.find("[IPv6:2001:db8::9]").local
    assert not TABLE.find("example.org").local
    assert not Entry(lmtp=True, port=24, hosts=(Host(ADDRESS, "10.0.0.1"),)).local


@pytest.mark.covers("X310", "X439")
def test_dot_routes_everything_else():
    table = read_mailertable("example.org esmtp:a.example\n. esmtp:smart.host\n", "mt")
    assert table.find("example.org").hosts[0].name == "a.example"
    for domain in ("example.net", "x.example.org", "com", "[192.0.2.1]"):
        assert table.find(domain).hosts[0].name == "smart.host"


@pytest.mark.covers("X250")
def test_empty_table_is_fine():
    table = read_mailertable("", "mt")
    assert len(table) == 0
    assert table.find("example.org") is None


words = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["lmtp:", "esmtp:", "25^", ".", "[", "]", "[127.0.0.1]", "a.b", "#", "IPv6:"]),
    st.text("[]^:.#aI6v1 \t", max_size=10),
)


@given(st.lists(st.lists(words, max_size=5).map(" ".join), max_size=5).map("\n".join))
def test_any_text_is_a_table_or_an_error(text):
    try:
        table = read_mailertable(text, "mt")
    except ConfigError as error:
        problems = error.problems
    else:
        problems = []
        table.find("a.b")
    assert all(problem.startswith("mt:") for problem in problems)
