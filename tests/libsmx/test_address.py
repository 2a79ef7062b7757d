"""Addresses: what is taken, what is refused with which reply, and that nothing else happens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libsmx.address import AddressError, Mailbox, parse_domain, parse_mailbox, parse_path

GOOD = [
    ("a@example.org", Mailbox("a", "example.org")),
    ("A.B+c@Example.ORG", Mailbox("A.B+c", "example.org")),
    ("user%host@example.org", Mailbox("user%host", "example.org")),
    ("bang!path@example.org", Mailbox("bang!path", "example.org")),
    ("a@localhost", Mailbox("a", "localhost")),
    ("a@xn--bcher-kva.example", Mailbox("a", "xn--bcher-kva.example")),
    ("a@under_score.example", Mailbox("a", "under_score.example")),
    ("a@1and1.example", Mailbox("a", "1and1.example")),
    ('"a b"@example.org', Mailbox("a b", "example.org")),
    ('"a@b"@example.org', Mailbox("a@b", "example.org")),
    (r'"a\"b\\c"@example.org', Mailbox(r"a\"b\c".replace(r"\"", '"'), "example.org")),
    ('""@example.org', Mailbox("", "example.org")),
    ("a@[192.0.2.1]", Mailbox("a", "[192.0.2.1]")),
    ("a@[IPv6:2001:DB8::1]", Mailbox("a", "[IPv6:2001:db8::1]")),
    ("a@[ipv6:::1]", Mailbox("a", "[IPv6:::1]")),
    ("Postmaster", Mailbox("Postmaster", "")),
]


@pytest.mark.parametrize(("text", "mailbox"), GOOD)
def test_mailbox_is_parsed(text, mailbox):
    assert parse_mailbox(text) == mailbox


BAD = [
    "",
    "@",
    "a@",
    "@example.org",
    "a b@example.org",
    "a@example.org.",
    "a@.example.org",
    "a@example..org",
    "a@-x.example",
    "a@x-.example",
    "a@exam ple.org",
    "a@127.0.0.1",
    "a@2130706433",
    "a@[127.0.0.1",
    "a@127.0.0.1]",
    "a@[256.0.0.1]",
    "a@[127.1]",
    "a@[IPv6:fe80::1%eth0]",
    "a@[IPv6:1::2::3]",
    "a@[tag:content]",
    ".a@example.org",
    "a.@example.org",
    "a..b@example.org",
    "a@b@example.org",
    'a"b@example.org',
    '"a"b"@example.org',
    '"a\x00"@example.org',
    "a\r@example.org",
    "a@example.org\n",
    "a\x0b@example.org",
    "a,b@example.org",
    "<a@example.org>",
    "a@" + "x" * 64 + ".example",
    "a@" + "x." * 127 + "example",
    "x" * 513 + "@example.org",
]


@pytest.mark.parametrize("text", BAD)
def test_bad_mailbox_is_refused_as_syntax_error(text):
    with pytest.raises(AddressError) as caught:
        parse_mailbox(text)
    assert (caught.value.code, caught.value.status) == (501, "5.1.3")


@pytest.mark.parametrize("text", ["nobody", "postmaster2", "a.b"])
def test_mailbox_without_domain_is_refused(text):
    with pytest.raises(AddressError) as caught:
        parse_mailbox(text)
    assert (caught.value.code, caught.value.status) == (553, "5.5.4")


@pytest.mark.parametrize("text", ["ä@example.org", "a@bücher.example", "a@example.org\uff0ecom"])
def test_address_that_is_not_ascii_is_refused(text):
    with pytest.raises(AddressError) as caught:
        parse_mailbox(text)
    assert (caught.value.code, caught.value.status) == (553, "5.6.7")


local_parts = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)
labels = st.from_regex(r"[a-z0-9_]([a-z0-9-]{0,10}[a-z])", fullmatch=True)
domains = st.lists(labels, min_size=1, max_size=4).map(".".join)


@given(local_parts, domains)
def test_printed_mailbox_reads_back(local, domain):
    mailbox = Mailbox(local, domain)
    assert parse_mailbox(str(mailbox)) == mailbox


@given(st.ip_addresses())
def test_address_literals_have_one_form(address):
    tag = "IPv6:" if address.version == 6 else ""
    assert parse_domain(f"[{tag}{address.exploded}]") == f"[{tag}{address}]"


PATHS = [
    (b"<>", "MAIL", "", {}),
    (b"<a@b.example>", "MAIL", "a@b.example", {}),
    (b"<a@B.Example> size=100 BODY=8BITMIME", "MAIL", "a@b.example",
     {"SIZE": "100", "BODY": "8BITMIME"}),
    (b"<> RET", "MAIL", "", {"RET": None}),
    (b"<a@b.example>   SIZE=1", "MAIL", "a@b.example", {"SIZE": "1"}),
    (b"<@x.example,@y.example:a@b.example>", "RCPT", "a@b.example", {}),
    (b'<"a> b"@b.example> SIZE=1', "MAIL", '"a> b"@b.example', {"SIZE": "1"}),
    (b'<"ab"@b.example>', "RCPT", "ab@b.example", {}),
    (b"<postmaster>", "RCPT", "postmaster", {}),
    (b"<PostMaster>", "RCPT", "PostMaster", {}),
]  # fmt: skip


@pytest.mark.parametrize(("arg", "kind", "address", "params"), PATHS)
def test_path_is_parsed(arg, kind, address, params):
    assert parse_path(arg, kind) == (address, params)


BAD_PATHS = [
    (b"", "MAIL", 501, "5.1.7"),
    (b"a@b.example", "MAIL", 501, "5.1.7"),
    (b"a@b.example", "RCPT", 501, "5.1.3"),
    (b"<a@b.example", "RCPT", 501, "5.1.3"),
    (b"<a@b.example>x", "RCPT", 501, "5.1.3"),
    (b"<a@b.example> a b=c=d", "RCPT", 501, "5.5.4"),
    (b"<a@b.example> =1", "RCPT", 501, "5.5.4"),
    (b"<a@b.example> SIZE=1 size=2", "MAIL", 501, "5.5.4"),
    (b"<>", "RCPT", 501, "5.1.3"),
    (b"< >", "MAIL", 501, "5.1.7"),
    (b"<postmaster>", "MAIL", 553, "5.5.4"),
    (b"<user>", "RCPT", 553, "5.5.4"),
    (b"<a@b.example>\xff", "MAIL", 553, "5.6.7"),
    (b"<\xc3\xa4@b.example>", "MAIL", 553, "5.6.7"),
    (b"<@x.example:>", "RCPT", 501, "5.1.3"),
    (b"<@x.example a@b.example>", "RCPT", 501, "5.1.3"),
    (b"<<a@b.example>>", "RCPT", 501, "5.1.3"),
    (b"<a@b.example>\x00", "RCPT", 501, "5.1.3"),
    (b"<a\x00@b.example>", "RCPT", 501, "5.1.3"),
]


@pytest.mark.parametrize(("arg", "kind", "code", "status"), BAD_PATHS)
def test_bad_path_gets_its_reply(arg, kind, code, status):
    with pytest.raises(AddressError) as caught:
        parse_path(arg, kind)
    assert (caught.value.code, caught.value.status) == (code, status)


@given(st.binary(max_size=60) | st.text('<>@a.:" \\[]=', max_size=30).map(str.encode))
def test_any_bytes_are_a_path_or_an_address_error(arg):
    for kind in ("MAIL", "RCPT"):
        try:
            address, _ = parse_path(arg, kind)
        except AddressError as caught:
            error = caught
        else:
            error = None
        if error is not None:
            assert 500 <= error.code <= 599
            assert error.status.startswith("5.")
        else:
            assert address == "" or str(parse_mailbox(address)) == address
