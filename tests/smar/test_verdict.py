"""Verdicts on senders and recipients."""

import pytest

from libsmx.wire import MailAsk, RcptAsk
from smar.mailertable import read_mailertable
from smar.verdict import Checks
from tests.smar.zone import FAILED, Zone, mx

TABLE = read_mailertable(
    "loc.al lmtp:\ninet.lmtp 24^lmtp:[10.0.0.1]\nrelayed.example esmtp:[10.0.0.2]\n", "mt"
)


def mail(sender):
    return MailAsk(sender=sender, client="192.0.2.99")


def to(rcpt, *, relay=False):
    return RcptAsk(rcpt=rcpt, client="192.0.2.99", relay=relay)


RECORDS = {
    "MX": {
        "mx.example": mx("10 a.x"),
        "null.example": mx("0 ."),
        "bad.example": mx("10 192.0.2.1"),
        "slow.example": FAILED,
    },
    "A": {"a.example": "192.0.2.1", "lost.example": FAILED},
    "AAAA": {"aaaa.example": "2001:db8::1"},
    "TXT": {"txt.example": "x"},
}


@pytest.mark.covers("X463")
@pytest.mark.parametrize(
    ("sender", "code", "status"),
    [
        ("", 250, "2.1.0"),
        ("u@mx.example", 250, "2.1.0"),
        ("u@a.example", 250, "2.1.0"),
        ("u@aaaa.example", 250, "2.1.0"),
        ("u@loc.al", 250, "2.1.0"),
        ("u@relayed.example", 250, "2.1.0"),
        ("u@[192.0.2.1]", 250, "2.1.0"),
        ("u@gw.example", 553, "5.1.8"),
        ("u@none.example", 553, "5.1.8"),
        ("u@txt.example", 553, "5.1.8"),
        ("u@bad.example", 553, "5.1.8"),
        ("u@null.example", 550, "5.7.27"),
        ("u@slow.example", 451, "4.1.8"),
        ("u@lost.example", 451, "4.1.8"),
        ("nobody", 553, "5.1.7"),
    ],
)
def test_sender_must_be_routable(sender, code, status):
    verdict = Zone(**RECORDS).drive(Checks(TABLE, "gw.example").sender(mail(sender)))
    assert (verdict.code, verdict.status) == (code, status)
    assert verdict.accept == (code == 250)
    assert bool(verdict.text) == (code != 250)


@pytest.mark.covers("X335", "X467", "X468")
@pytest.mark.parametrize(
    ("rcpt", "relay", "accept", "local", "status"),
    [
        ("u@loc.al", False, True, True, "2.1.5"),
        ("u@LOC.AL", True, True, True, "2.1.5"),
        ("u@sub.loc.al", False, False, False, "5.7.1"),
        ("u@example.org", False, False, False, "5.7.1"),
        ("u@example.org", True, True, False, "2.1.5"),
        ("u@inet.lmtp", False, False, False, "5.7.1"),
        ("u@relayed.example", False, False, False, "5.7.1"),
        ("postmaster", False, True, True, "2.1.5"),
        ("Postmaster", True, True, True, "2.1.5"),
        ("nobody", True, False, False, "5.1.3"),
        ("u@a..b", True, False, False, "5.1.3"),
    ],
)
def test_recipient_must_be_local_or_the_session_may_relay(rcpt, relay, accept, local, status):
    verdict = Zone().drive(Checks(TABLE, "gw.example").rcpt(to(rcpt, relay=relay)))
    assert (verdict.accept, verdict.local, verdict.status) == (accept, local, status)


def test_postmaster_alone_is_local_where_the_host_name_is():
    assert Zone().drive(Checks(TABLE, "loc.al").rcpt(to("postmaster"))).local
