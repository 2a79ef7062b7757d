"""Delivery status notifications: structure, and what strangers' texts can do to it."""

import email
import email.policy

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libsmx.envelope import DsnReport, Envelope, Recipient, ReportedRcpt
from libsmx.ids import format_ta_id
from smtpc.compose import MAX_HEADER, Original, compose

BOUNDARY = "=_0123456789abcdef"
ORIGINAL = b"Received: by x\r\nSubject: original\r\nFrom: s@example.org\r\n\r\nbody\r\n.\r\n"
RCPT = ReportedRcpt(
    address="gone@example.net", status="5.1.1", text="550 5.1.1 no such user", remote="mx.net"
)


def report(*rcpts, **kwargs):
    values = {
        "ta_id": format_ta_id(1, 2), "sender": "s@example.org", "received_at": 1_700_000_000.0,
        "reporter": "mta.example.com", "rcpts": list(rcpts) or [RCPT],
    }  # fmt: skip
    return DsnReport(**{**values, **kwargs})


def envelope(dsn):
    return Envelope(
        ta_id=format_ta_id(9, 0, "Q"), cdb_id=dsn.ta_id, sender="",
        rcpts=[Recipient(idx=0, address=dsn.sender)], size=0, received_at=1_700_000_100.0, dsn=dsn,
    )  # fmt: skip


WHOLE = Original(ORIGINAL, whole=True)


def composed(dsn=None, original=WHOLE):
    dsn = dsn or report()
    result = compose(envelope(dsn), dsn, BOUNDARY, original)
    return result, email.message_from_bytes(result.data, policy=email.policy.default)


def test_report_has_the_three_parts_of_rfc_6522():
    result, message = composed()
    assert not result.body8
    assert message.get_content_type() == "multipart/report"
    assert message["Content-Type"].params["report-type"] == "delivery-status"
    kinds = [part.get_content_type() for part in message.iter_parts()]
    assert kinds == ["text/plain", "message/delivery-status", "message/rfc822"]
    assert not message.defects
    assert not any(part.defects for part in message.walk())


def test_header_names_both_sides_and_asks_for_no_answer():
    _, message = composed()
    assert message["From"] == "Mail Delivery System <MAILER-DAEMON@mta.example.com>"
    assert message["To"] == "s@example.org"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["Date"] == "Tue, 14 Nov 2023 22:15:00 +0000"
    assert message["Message-ID"] == f"<{format_ta_id(9, 0, 'Q')}@mta.example.com>"


def status_fields(message):
    part = next(p for p in message.walk() if p.get_content_type() == "message/delivery-status")
    return part.get_payload()


def test_status_part_has_a_block_for_each_recipient():
    second = ReportedRcpt(address="late@example.net", status="4.4.7", text="too old")
    _, message = composed(report(RCPT, second))
    whole, first, other = status_fields(message)
    assert whole["Reporting-MTA"] == "dns; mta.example.com"
    assert whole["Arrival-Date"] == "Tue, 14 Nov 2023 22:13:20 +0000"
    assert first["Final-Recipient"] == "rfc822; gone@example.net"
    assert first["Action"] == "failed"
    assert first["Status"] == "5.1.1"
    assert first["Remote-MTA"] == "dns; mx.net"
    assert first["Diagnostic-Code"] == "smtp; 550 5.1.1 no such user"
    assert other["Remote-MTA"] is None
    assert other["Diagnostic-Code"] == "X-smX; too old"


def test_person_reads_who_failed_and_why():
    _, message = composed()
    text = next(message.iter_parts()).get_content()
    assert "<gone@example.net> (mx.net said):" in text
    assert "550 5.1.1 no such user" in text


@pytest.mark.covers("X167")
def test_small_original_comes_back_byte_for_byte():
    result, _ = composed()
    assert b"\r\n\r\n" + ORIGINAL + b"\r\n--" in result.data


@pytest.mark.covers("X167")
@pytest.mark.parametrize("body8", [True, False])
@pytest.mark.parametrize("mime", [True, False])
def test_a_large_original_goes_between_two_pieces_of_the_report(mime, body8):
    """Nobody holds it whole; what is sent is what a small one would have given."""
    dsn = report(mime=mime)
    large = compose(envelope(dsn), dsn, BOUNDARY, Original(ORIGINAL[:50], whole=False, body8=body8))
    assert (large.streamed, large.body8) == (True, body8)
    small = compose(envelope(dsn), dsn, BOUNDARY, WHOLE)
    assert not small.streamed
    sent = large.data + ORIGINAL + large.tail
    if not body8:
        assert sent == small.data
    message = email.message_from_bytes(sent, policy=email.policy.default)
    assert message["Content-Transfer-Encoding"] == ("8bit" if body8 else "7bit")
    assert message.get_content_type() == ("multipart/report" if mime else "text/plain")


def test_of_a_large_original_the_header_may_come_back():
    data = ORIGINAL + b"x" * MAX_HEADER
    _, message = composed(report(headers_only=True), Original(data, whole=False))
    last = list(message.iter_parts())[-1]
    assert last.get_content_type() == "text/rfc822-headers"
    assert last.get_payload().splitlines() == [
        "Received: by x", "Subject: original", "From: s@example.org"
    ]  # fmt: skip


def test_endless_header_is_cut_at_a_line():
    data = b"X-Long: 0123456789\r\n" * 10_000
    result, _ = composed(report(headers_only=True), Original(data[:65536], whole=False))
    assert len(result.data) < MAX_HEADER + 4096
    assert result.data.count(b"X-Long: 0123456789\r\n") == MAX_HEADER // 20
    assert b"X-Long: 0123456789\r\n\r\n--" in result.data


def test_missing_original_is_said():
    _, message = composed(original=None)
    assert len(list(message.iter_parts())) == 2
    assert "not available" in next(message.iter_parts()).get_content()


def test_8bit_original_makes_an_8bit_report():
    result, message = composed(original=Original("Subject: x\r\n\r\nä\r\n".encode(), whole=True))
    assert result.body8
    assert message["Content-Transfer-Encoding"] == "8bit"


@pytest.mark.covers("X166")
def test_header_only_brings_no_body_back():
    result, message = composed(report(headers_only=True))
    assert b"\r\nbody\r\n" not in result.data
    assert list(message.iter_parts())[-1].get_content_type() == "text/rfc822-headers"


@pytest.mark.covers("X168")
@pytest.mark.parametrize("headers_only", [True, False])
def test_without_mime_format_a_report_is_plain_text_with_the_same_facts(headers_only):
    result, message = composed(report(mime=False, headers_only=headers_only, envid="E1"))
    assert message.get_content_type() == "text/plain"
    assert not message.is_multipart()
    assert not message.defects
    text = message.get_content()
    for fact in ("550 5.1.1 no such user", "Final-Recipient: rfc822; gone@example.net",
                 "Original-Envelope-Id: E1", "Subject: original"):  # fmt: skip
        assert fact in text
    assert ("\r\nbody\r\n" in text) is not headers_only
    assert result.data.endswith(b"\r\n")


@pytest.mark.covers("X182")
def test_a_delay_says_until_when_it_is_tried():
    delayed = attrs.evolve(
        RCPT, action="delayed", status="4.4.1", attempt_at=1_700_000_060.0,
        retry_until=1_700_432_000.0,
    )  # fmt: skip
    _, message = composed(report(delayed, headers_only=True))
    assert message["Subject"] == "Delivery of your mail is delayed"
    _, fields = status_fields(message)
    assert (fields["Action"], fields["Status"]) == ("delayed", "4.4.1")
    assert fields["Last-Attempt-Date"] == "Tue, 14 Nov 2023 22:14:20 +0000"
    assert fields["Will-Retry-Until"] == "Sun, 19 Nov 2023 22:13:20 +0000"
    text = next(message.iter_parts()).get_content()
    assert "no need to\r\nsend it once more" in text
    assert "could not be delivered" in text


@pytest.mark.parametrize(
    ("action", "subject"),
    [
        ("relayed", "Your mail was relayed"),
        ("delivered", "Your mail was delivered"),
        ("expanded", "Your mail was passed on"),
    ],
)
def test_success_is_told_with_the_names_that_the_sender_gave(action, subject):
    good = attrs.evolve(
        RCPT, action=action, status="odd", text="250 2.0.0 ok", orcpt="rfc822;old@example.net"
    )
    _, message = composed(report(good, envid="Q 1", headers_only=True))
    assert message["Subject"] == subject
    whole, fields = status_fields(message)
    assert whole["Original-Envelope-Id"] == "Q 1"
    assert fields["Original-Recipient"] == "rfc822; old@example.net"
    assert (fields["Action"], fields["Status"]) == (action, "2.0.0")


UTF8 = attrs.evolve(
    RCPT, address="bébé+x@exämple.net", text="550 5.1.1 kein Platz für Bébé", orcpt="utf-8;bé@x"
)
UTF8_ORIGINAL = "Subject: grüße\r\nFrom: jürgen@exämple.org\r\n\r\nbody\r\n".encode()


@pytest.mark.covers("X167")
@pytest.mark.parametrize("headers_only", [True, False])
def test_a_message_with_utf8_gets_a_report_of_rfc_6533(headers_only):
    dsn = report(UTF8, sender="jürgen@exämple.org", utf8=True, headers_only=headers_only)
    result, message = composed(dsn, Original(UTF8_ORIGINAL, whole=True))
    kinds = [part.get_content_type() for part in message.iter_parts()]
    returned = "message/global-headers" if headers_only else "message/global"
    assert kinds == ["text/plain", "message/global-delivery-status", returned]
    assert result.body8
    assert "\r\nTo: jürgen@exämple.org\r\n".encode() in result.data
    assert "\r\nFinal-Recipient: utf-8; bébé\\x{2B}x@exämple.net\r\n".encode() in result.data
    assert "\r\nOriginal-Recipient: utf-8; bé@x\r\n".encode() in result.data
    assert "; 550 5.1.1 kein Platz für Bébé\r\n".encode() in result.data
    people = next(message.iter_parts())
    assert people["Content-Transfer-Encoding"] == "8bit"
    assert "<bébé+x@exämple.net>" in people.get_content()
    assert "Subject: grüße\r\n".encode() in result.data


def test_what_is_ascii_of_it_stays_as_the_whole_world_reads_it():
    _, message = composed(report(utf8=True))
    kinds = [part.get_content_type() for part in message.iter_parts()]
    assert kinds == ["text/plain", "message/delivery-status", "message/rfc822"]


def test_without_smtputf8_a_report_has_no_8bit_address():
    result, message = composed(report(UTF8))
    _, fields = status_fields(message)
    assert fields["Final-Recipient"] == "utf-8; b\\x{E9}b\\x{E9}\\x{2B}x@ex\\x{E4}mple.net"
    assert result.data.isascii()


def test_same_facts_give_the_same_bytes():
    assert composed()[0] == composed()[0]


def test_damaged_line_ends_of_an_original_are_not_passed_on():
    result, _ = composed(original=Original(b"A: b\nC: d\r\r\n\n.\nx\r", whole=True))
    assert result.data.count(b"\n") == result.data.count(b"\r\n") == result.data.count(b"\r")


HOSTILE = st.one_of(
    st.text(max_size=80),
    st.sampled_from(
        [
            "x\r\nBcc: evil@example.org", "x\n\n--" + BOUNDARY, "\r\n.\r\nMAIL FROM:<>",
            "a" * 2000, "\x00\x1b[2J", "550 \u202e x", "--" + BOUNDARY + "--",
        ]
    ),
)  # fmt: skip


@given(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, st.floats(), st.booleans())
def test_no_text_of_a_stranger_changes_the_structure(
    address, status, text, remote, name, wish, at_s, utf8
):
    """Fields, parts and recipients are those that we meant, whatever texts hold."""
    rcpts = [
        ReportedRcpt(
            address=address,
            status=status[:100],
            text=text,
            remote=remote,
            action=wish,
            orcpt=wish,
            attempt_at=at_s,
            retry_until=at_s,
        ),
        attrs.evolve(RCPT, text=text),
    ]
    dsn = report(*rcpts, sender=address, reporter=name, received_at=at_s, envid=wish, utf8=utf8)
    result, message = composed(dsn)
    assert result.data.count(b"\n") == result.data.count(b"\r\n") == result.data.count(b"\r")
    assert max(map(len, result.data.split(b"\r\n"))) < 998
    head = result.data.partition(b"\r\n\r\n")[0]
    assert [line.split(b":")[0] for line in head.split(b"\r\n") if line[:1] != b"\t"] == [
        b"From", b"To", b"Subject", b"Date", b"Message-ID", b"Auto-Submitted", b"MIME-Version",
        b"Content-Type", b"Content-Transfer-Encoding",
    ]  # fmt: skip
    assert result.data.count(b"\r\n--" + BOUNDARY.encode()) == 4
    assert len(list(message.iter_parts())) == 3
    if result.data.isascii():
        assert len(status_fields(message)) == 3
    assert result.data.isascii() or utf8
    assert utf8 or not result.body8
