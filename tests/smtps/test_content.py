"""Content, hops, the Received: field and what policy derives from options."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libsmx.opttab import SmtpsConf
from smtps.commands import COMMANDS, NOT_IMPLEMENTED, Verb, split_command
from smtps.content import Content, HeaderWatch
from smtps.policy import Policy, is_over, plain_address
from smtps.received import format_date, format_received
from tests.smtps.client import make_policy


@given(st.lists(st.sampled_from([b"Received:", b"received: x", b"\r\n", b" ", b"X", b"\r\n\r\n"])),
       st.integers(1, 9))  # fmt: skip
def test_hops_are_counted_alike_however_the_header_is_cut(parts, step):
    content = b"".join(parts)
    header = (b"\r\n" + content).split(b"\r\n\r\n")[0]
    want = header.lower().count(b"\r\nreceived:")
    counter = HeaderWatch()
    for at in range(0, len(content), step):
        if counter.in_header:
            counter.feed(content[at : at + step])
    assert counter.hops == want


def test_content_that_is_refused_is_not_given_out():
    content = Content(10, SmtpsConf())
    assert content.feed(b"12345\r\n") == (b"12345\r\n", False, b"")
    assert content.feed(b"12345\r\n") == (b"", False, b"")
    assert content.refusal is not None
    assert content.feed(b".\r\nQUIT\r\n") == (b"", True, b"QUIT\r\n")
    assert not content.endless


@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_header_limits_hold_exactly(step):
    conf = attrs.evolve(SmtpsConf(), max_header_size=1, max_header_fields=10)

    def refusal(text):
        content = Content(0, conf)
        for at in range(0, len(text), step):
            content.feed(text[at : at + step])
        return content.refusal

    fields = b"A: b\r\n c\r\n" * 10
    assert refusal(fields + b"\r\n" + b"X: y\r\n" * 50 + b".\r\n") is None
    assert refusal(b"B:\r\n" + fields + b"\r\n.\r\n").text == "Header has more than 10 fields"
    size = b"A: " + b"x" * 1019 + b"\r\n"
    assert refusal(size + b"\r\nbody\r\n.\r\n") is None
    assert refusal(b"A:" + size + b"\r\n.\r\n").text == "Header is larger than 1024 bytes"
    # A message that begins with no field is text from the beginning.
    assert refusal(b"hello\r\n" * 2000 + b".\r\n") is None
    assert refusal(b"hello: x\r\n" * 2000 + b".\r\n") is not None


@pytest.mark.covers("X001", "X107")
def test_received_field_tells_client_host_id_and_date():
    field = format_received(
        helo="c.test",
        client="2001:db8::1",
        hostname="mx.test",
        protocol="ESMTP",
        ta_id="S000000000000000100",
        rcpt="r@b.test",
        at_s=1_700_000_000.9,
    ).decode()
    first, second, third, fourth, end = field.split("\r\n")
    assert first == "Received: from c.test ([IPv6:2001:db8::1])"
    assert second.startswith("\tby mx.test (smX.")
    assert second.endswith(") with ESMTP id S000000000000000100")
    assert third == "\tfor <r@b.test>;"
    assert fourth == "\tTue, 14 Nov 2023 22:13:20 +0000"
    assert end == ""


@given(st.text(max_size=300))
def test_no_client_name_breaks_the_received_field(helo):
    field = format_received(
        helo=helo,
        client="192.0.2.1",
        hostname="mx.test",
        protocol="SMTP",
        ta_id="S",
        rcpt="",
        at_s=0,
    )
    assert field.count(b"\r\n") == field.count(b"\n") == field.count(b"\r") == 3
    assert field.split(b"\r\n")[0].endswith(b" ([192.0.2.1])")
    assert field.endswith(b" with SMTP id S;\r\n\tThu, 1 Jan 1970 00:00:00 +0000\r\n")


def test_date_has_the_form_of_rfc_5322():
    assert format_date(951_782_400) == "Tue, 29 Feb 2000 00:00:00 +0000"


@pytest.mark.parametrize(("address", "plain"), [
    ("192.0.2.1", "192.0.2.1"),
    ("::ffff:192.0.2.1", "192.0.2.1"),
    ("2001:DB8:0::1", "2001:db8::1"),
    ("fe80::1%eth0", "fe80::1"),
])  # fmt: skip
def test_client_address_has_one_form(address, plain):
    assert plain_address(address) == plain


@pytest.mark.covers("X469")
@pytest.mark.parametrize(("client", "relays"), [
    ("127.0.0.1", True),
    ("127.9.9.9", True),
    ("::1", True),
    ("128.0.0.1", False),
    ("::2", False),
    ("192.0.2.1", False),
])  # fmt: skip
def test_loopback_alone_may_relay_by_default(client, relays):
    assert Policy(SmtpsConf(), "mx.test").may_relay(client) is relays


@pytest.mark.parametrize(("count", "limit", "over"), [
    (0, 1, False), (1, 1, False), (2, 1, True), (10**9, 0, False),
])  # fmt: skip
def test_limit_allows_exactly_its_number(count, limit, over):
    assert is_over(count, limit) is over


@pytest.mark.covers("X379")
def test_message_size_is_offered_in_bytes():
    assert "SIZE 3072" in make_policy(max_message_size=3).ehlo.text


def test_every_verb_has_a_row_and_no_row_is_also_unimplemented():
    assert {row.verb for row in COMMANDS.values()} == set(Verb)
    assert not NOT_IMPLEMENTED & set(COMMANDS)


@pytest.mark.parametrize(("line", "parts"), [
    (b"", (b"", b"")),
    (b"noop", (b"NOOP", b"")),
    (b"Mail  FROM:<a@b> ", (b"MAIL", b"FROM:<a@b>")),
    (b" x", (b"", b"x")),
])  # fmt: skip
def test_line_is_split_into_verb_and_argument(line, parts):
    assert split_command(line) == parts
