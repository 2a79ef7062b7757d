"""Which addresses are this host's own."""

import pytest

from smar.nameservice import own_addresses


@pytest.mark.parametrize(
    ("address", "own"),
    [
        ("127.0.0.1", True),
        ("127.5.5.5", True),
        ("192.0.2.77", True),
        ("2001:db8::77", True),
        ("192.0.2.78", False),
        ("2001:db8::78", False),
        ("255.255.255.255", False),
        ("no address", False),
    ],
)
def test_addresses_of_interfaces_and_those_named_are_own(address, own):
    assert own_addresses(["192.0.2.77", "2001:db8::77"])(address) is own
