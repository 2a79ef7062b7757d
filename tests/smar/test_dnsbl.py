"""DNS blacklists."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smar.dnsbl import Blacklist, Blacklists, reversed_address
from smar.records import Ahead, Answer, Outcome, Question
from tests.smar.zone import FAILED, NO_DATA, Zone

LISTS = Blacklists([Blacklist("one.tld", "first"), Blacklist("two.tld", "second")])
REFUSED = Answer(outcome=Outcome.FAILED, detail="REFUSED", refused=True)
ONE, TWO = "1.2.0.192.one.tld", "1.2.0.192.two.tld"


@pytest.mark.parametrize(
    ("records", "keys"),
    [
        ({}, []),
        ({ONE: NO_DATA}, []),
        ({ONE: "127.0.0.2"}, ["first:127.0.0.2"]),
        ({TWO: "127.0.0.9"}, ["second:127.0.0.9"]),
        ({ONE: "127.0.0.2", TWO: "127.0.0.2"}, ["first:127.0.0.2", "second:127.0.0.2"]),
        ({ONE: "127.0.0.10 127.0.0.9"}, ["first:127.0.0.9", "first:127.0.0.10"]),
        ({ONE: FAILED, TWO: "127.0.0.3"}, ["first:temp", "second:127.0.0.3"]),
        ({ONE: REFUSED, TWO: FAILED}, ["first:perm", "second:temp"]),
    ],
)
@pytest.mark.covers("X230", "X231", "X232", "X233", "X234", "X235", "X239", "X283")
def test_keys_in_the_order_of_the_lists(records, keys):
    zone = Zone(A=records)
    assert zone.drive(LISTS.keys("192.0.2.1")) == keys


@pytest.mark.covers("X238")
def test_all_lists_are_asked_at_once_and_may_be_asked_ahead():
    zone = Zone()
    zone.drive(LISTS.keys("192.0.2.1"))
    assert zone.rounds == [(Question(ONE, "A"), Question(TWO, "A"))]
    assert LISTS.ahead("192.0.2.1") == (Ahead(Question(ONE, "A")), Ahead(Question(TWO, "A")))


@pytest.mark.parametrize(
    ("client", "wanted"),
    [
        ("192.0.2.1", "1.2.0.192"),
        ("::ffff:192.0.2.1", "1.2.0.192"),
        ("2001:db8::f", "f." + "0." * 23 + "8.b.d.0.1.0.0.2"),
        ("unix", None),
        ("", None),
    ],
)
def test_reversed_addresses(client, wanted):
    assert reversed_address(client) == wanted


def test_what_is_no_address_is_on_no_list():
    zone = Zone()
    assert zone.drive(LISTS.keys("unix")) == []
    assert LISTS.ahead("unix") == ()
    assert zone.asked == []


@given(st.ip_addresses())
def test_every_address_has_a_name_of_its_own_that_can_be_asked(address):
    labels = reversed_address(str(address)).split(".")
    if len(labels) == 4:
        last = address if address.version == 4 else address.ipv4_mapped
        assert ".".join(labels[::-1]) == str(last)
    else:
        assert int("".join(reversed(labels)), 16) == int(address)
    assert len(LISTS.ahead(str(address))) == 2
