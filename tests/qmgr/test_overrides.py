"""Limits of single addresses and nets, and the map that they come from."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from libsmx.log import NullLog
from libsmx.mapfile import write_map
from qmgr.confmap import load_overrides
from qmgr.iqdb import Clients
from qmgr.occ import Occ
from qmgr.overrides import NONE, address_numbers, read_net, read_overrides
from qmgr.retry import Retry

README = {
    "oci:127.0.0.1": "5", "ocm:127.0.0.1": "10", "oci:10": "10", "ocm:10": "50", "oci:": "1",
    "ocm:": "4", "icr:10": "5", "icr:127.0.0.1": "100", "icm:127.0.0.1": "120",
}  # fmt: skip


def overrides(entries):
    found, problems = read_overrides(entries.items())
    assert not problems
    return found


@pytest.mark.covers("X199", "X200", "X202", "X203", "X204", "X205")
@pytest.mark.parametrize(
    ("limit", "address", "value"),
    [
        ("oci", "127.0.0.1", 5),
        ("oci", "127.0.0.2", 1),
        ("oci", "10.9.8.7", 10),
        ("ocm", "10.9.8.7", 50),
        ("ocm", "192.0.2.1", 4),
        ("ocm", "2001:db8::1", 4),
        ("icr", "10.255.255.255", 5),
        ("icr", "110.0.0.1", 77),
        ("icr", "127.0.0.1", 100),
        ("icm", "127.0.0.1", 120),
        ("icm", "::ffff:127.0.0.1", 120),
        ("icm", "10.0.0.1", 77),
    ],
)
def test_the_example_of_the_manual(limit, address, value):
    assert overrides(README).find(limit, address, 77) == value


@pytest.mark.covers("X204")
@pytest.mark.parametrize(
    ("address", "value"),
    [
        ("10.1.2.3", 4), ("10.1.2.4", 3), ("10.1.3.1", 2), ("10.2.1.1", 1), ("11.1.2.3", 9),
        ("2001:db8:1::5", 12), ("2001:db8:2::5", 11), ("2001:db8::7", 13), ("2001:db9::", 9),
        ("fe80::1", 9), ("a01:203::", 9), ("", 9), ("nonsense", 9),
    ],
)  # fmt: skip
def test_the_most_specific_key_counts(address, value):
    found = overrides(
        {"ICM:10": "1", "icm:10.1": "2", "icm:10.1.2.": "3", "icm:10.1.2.3": "4",
         "icm:ipv6:2001:db8": "11", "icm:IPv6:2001:0DB8:1:": "12", "icm:ipv6:2001:db8::7": "13"}
    )  # fmt: skip
    assert found.find("icm", address, 9) == value


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("oci:10", "0"), ("oci:10", "x"), ("ocm:", "10001"), ("icr:", "-1"), ("octo", "0s"),
        ("octo", "5y"), ("octo:10", "5"), ("oci:256", "5"), ("oci:10.01", "5"),
        ("oci:1.2.3.4.5", "5"), ("oci:10..1", "5"), ("oci:ipv6:", "5"), ("oci:2001:db8", "5"),
        ("oci:ipv6:12345", "5"),
        ("oci:ipv6:1:2:3:4:5:6:7:8:9", "5"), ("oci", "5"), ("ocx:", "5"), ("oci:localhost", "5"),
    ],
)  # fmt: skip
def test_a_wrong_entry_is_told_and_left_out(key, value):
    found, problems = read_overrides([("ocm:10", "7"), (key, value)])
    assert [name for name, _ in problems] == [key]
    assert found.find("ocm", "10.0.0.1", 1) == 7


@given(st.ip_addresses(), st.integers(0, 8))
def test_an_address_lies_in_each_of_its_nets(address, length):
    numbers = address_numbers(str(address))
    text = str(address)
    if address.version == 6 and address.ipv4_mapped is None:
        groups = address.exploded.split(":")[:length]
        text = "IPv6:" + (":".join(groups) if 0 < length < 8 else str(address))
    elif address.version == 4:
        text = ".".join(text.split(".")[: min(max(length, 1), 4)])
    else:
        return
    net = read_net(text)
    assert numbers[: len(net)] == net
    found = overrides({f"icr:{text}": "3"})
    assert found.find("icr", str(address), 9) == 3


def occ(initial=2, maximum=5):
    return Occ(initial, maximum, 10, Retry(60, 600, 10_000))


@pytest.mark.covers("X199", "X200", "X205", "X206", "X207")
def test_overrides_go_before_the_configuration_for_each_address_alone():
    cache = occ()
    cache.use(overrides({"oci:10": "4", "ocm:10": "6", "ocm:10.1": "3"}))
    one, two = (cache.host((f"10.0.0.{n}", 25), 0) for n in (1, 2))
    assert (one.allowed, two.allowed) == (4, 4), "each for itself"
    for _ in range(9):
        cache.succeeded(one)
    assert (one.allowed, two.allowed) == (6, 4)
    assert cache.host(("10.1.0.1", 25), 0).allowed == 3, "the first is cut to the greatest"
    assert cache.host(("192.0.2.1", 25), 0).allowed == 2, "smx.conf's"


@pytest.mark.covers("X198")
def test_overrides_that_change_hold_for_known_addresses_too():
    cache = occ()
    grown, fresh = cache.host(("10.0.0.1", 25), 0), cache.host(("10.0.0.2", 25), 0)
    for _ in range(9):
        cache.succeeded(grown)
    cache.use(overrides({"oci:10": "1", "ocm:10": "4"}))
    assert (grown.allowed, fresh.allowed) == (4, 1)
    cache.use(NONE)
    cache.succeeded(grown)
    assert (grown.allowed, fresh.allowed) == (5, 2)


@pytest.mark.covers("X201")
def test_octo_is_how_long_an_unused_address_is_remembered():
    cache = occ()
    key = ("192.0.2.1", 25)
    cache.use(overrides({"octo": "90"}))
    cache.succeeded(cache.host(key, 100.0))
    cache.expire(189.9)
    assert cache.peek(key).window == 3
    cache.expire(190.0)
    assert cache.peek(key) is None
    assert cache.host(key, 191.0).window == 2, "it begins anew"


@pytest.mark.covers("X202", "X203", "X206")
def test_incoming_limits_of_nets_are_those_of_each_client():
    clients = Clients(100, 100, 1000)
    clients.use(
        overrides({"icr:10": "3", "icm:10.1": "2", "icm:IPv6:2001:db8": "1", "icr:11": "0"})
    )
    for address in ("10.0.0.1", "10.0.0.2"):
        assert [clients.open(address, 0.0) is None for _ in range(4)] == [True] * 3 + [False]
    assert [clients.open("10.1.0.1", 0.0) is None for _ in range(3)] == [True, True, False]
    assert [clients.open("2001:db8::1", 0.0) is None for _ in range(2)] == [True, False]
    assert clients.open("11.0.0.1", 0.0) is not None, "none at all"
    clients.use(NONE)
    assert clients.open("10.0.0.1", 0.0) is None


@pytest.mark.covers("X161", "X198")
async def test_the_map_is_read_by_a_child(tmp_path):
    path = str(tmp_path / "q.db")
    log = NullLog()
    assert await load_overrides(path, log) == NONE
    write_map(path, {"oci:10": "3", "nonsense": "1"}, source="x", made_at=0)
    found = await load_overrides(path, log)
    assert found.find("oci", "10.0.0.1", 9) == 3
    assert [event.name for event, _ in log.records] == ["map_entry_bad", "map_read"]
    data = (tmp_path / "q.db").read_bytes()
    for bad in (b"oci:10 3\n", data[: len(data) // 2], data.replace(b"oci:10", b"ocm:10")):
        (tmp_path / "q.db").write_bytes(bad)
        assert await load_overrides(path, log) is None
        assert log.records[-1][0].name == "map_unread"
