"""From a domain to its hosts and addresses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smar.mx import (
    MAX_HOST_ADDRESSES,
    MAX_MX,
    Exchangers,
    Failure,
    Problem,
    find_addresses,
    find_exchangers,
)
from smar.records import Question
from tests.smar.zone import FAILED, NO_DATA, NO_NAME, Zone, addresses, mx


def exchangers(zone, domain="example.org"):
    return zone.drive(find_exchangers(domain))


@pytest.mark.covers("X320")
def test_hosts_are_grouped_by_preference():
    zone = Zone(MX={"example.org": mx("20 c.x", "10 b.x", "10 a.x", "5 d.x")})
    found = exchangers(zone)
    assert found == Exchangers((("d.x",), ("a.x", "b.x"), ("c.x",)))
    assert found.names == ["d.x", "a.x", "b.x", "c.x"]


@pytest.mark.covers("X320")
def test_only_equal_preference_is_shuffled():
    found = Exchangers((("d.x",), ("a.x", "b.x"), ("c.x",)))
    assert found.ordered(list.reverse) == ["d.x", "b.x", "a.x", "c.x"]
    assert found.names == ["d.x", "a.x", "b.x", "c.x"]


@pytest.mark.parametrize(
    ("records", "wanted"),
    [
        ({"MX": {"example.org": mx("0 .")}}, Problem.NULL_MX),
        ({"MX": {"example.org": mx("0 .", "10 a.x")}}, Exchangers((("a.x",),))),
        ({"MX": {"example.org": mx("10 192.0.2.1")}}, Problem.UNUSABLE),
        ({"MX": {"example.org": mx("10 192.0.2.1", "20 a.x")}}, Exchangers((("a.x",),))),
        ({"MX": {"example.org": mx("10 a.x", "5 a.x", "7 b.x")}}, Exchangers((("a.x",), ("b.x",)))),
        ({"MX": {"example.org": mx("10 a\\032b.x")}}, Problem.UNUSABLE),
        ({"MX": {"example.org": FAILED}}, Problem.LOOKUP),
        ({"MX": {"example.org": NO_NAME}}, Problem.NO_DOMAIN),
        ({}, Problem.NO_DOMAIN),
        ({"A": {"example.org": "192.0.2.1"}}, Exchangers((("example.org",),), implicit=True)),
        ({"AAAA": {"example.org": "2001:db8::1"}}, Exchangers((("example.org",),), implicit=True)),
        ({"TXT": {"example.org": addresses()}}, Problem.NO_HOST),
        ({"A": {"example.org": FAILED}}, Problem.LOOKUP),
        (
            {"A": {"example.org": FAILED}, "AAAA": {"example.org": "2001:db8::1"}},
            Exchangers((("example.org",),), implicit=True),
        ),
    ],
)
def test_domains(records, wanted):
    found = exchangers(Zone(**records))
    assert (found.problem if isinstance(found, Failure) else found) == wanted


def test_lookup_failure_of_mx_never_falls_back_to_addresses():
    zone = Zone(MX={"example.org": FAILED}, A={"example.org": "192.0.2.1"})
    assert exchangers(zone).problem is Problem.LOOKUP
    assert zone.asked == [Question("example.org", "MX")]


def test_odd_domains_are_not_asked_for():
    zone = Zone()
    assert exchangers(zone, "[x:y]").problem is Problem.NO_DOMAIN
    assert zone.asked == []


def test_number_of_hosts_is_bounded_and_the_best_are_kept():
    zone = Zone(MX={"example.org": mx(*(f"{n} h{n}.x" for n in range(900, 0, -1)))})
    names = exchangers(zone).names
    assert names == [f"h{n}.x" for n in range(1, MAX_MX + 1)]


def lookup(zone, *hosts):
    return zone.drive(find_addresses(list(hosts)))


def test_both_families_of_all_hosts_are_asked_for_in_one_round():
    zone = Zone(A={"a.x": "192.0.2.1", "b.x": "192.0.2.2"}, AAAA={"a.x": "2001:db8::1"})
    found = lookup(zone, "a.x", "b.x")
    assert found.by_host == {"a.x": ("192.0.2.1", "2001:db8::1"), "b.x": ("192.0.2.2",)}
    assert len(zone.rounds) == 1


def test_families_alternate():
    zone = Zone(A={"a.x": "192.0.2.1 192.0.2.2 192.0.2.3"}, AAAA={"a.x": "2001:db8::1"})
    assert lookup(zone, "a.x").by_host["a.x"] == (
        "192.0.2.1",
        "2001:db8::1",
        "192.0.2.2",
        "192.0.2.3",
    )


@pytest.mark.parametrize(
    ("v4", "v6", "usable", "failed"),
    [
        (FAILED, "2001:db8::1", ("2001:db8::1",), False),
        ("192.0.2.1", FAILED, ("192.0.2.1",), False),
        (FAILED, FAILED, None, True),
        (FAILED, NO_DATA, None, True),
        (NO_DATA, FAILED, None, True),
        (NO_NAME, FAILED, None, False),
        (NO_DATA, NO_DATA, None, False),
        (NO_NAME, NO_NAME, None, False),
    ],
)
def test_one_family_failing_does_not_fail_the_other(v4, v6, usable, failed):
    found = lookup(Zone(A={"a.x": v4}, AAAA={"a.x": v6}), "a.x")
    assert found.by_host.get("a.x") == usable
    assert bool(found.failed) == failed


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "255.255.255.255", "224.0.0.1", "239.1.2.3"),
        *("::", "ff02::1", "fe80::1", "::ffff:192.0.2.1"),
    ],
)
def test_addresses_that_no_mail_server_can_have_are_skipped(address):
    kind = "AAAA" if ":" in address else "A"
    found = lookup(Zone(**{kind: {"a.x": address}}), "a.x")
    assert found.by_host == {}
    assert not found.failed


def test_number_of_addresses_is_bounded():
    many = " ".join(f"192.0.2.{n}" for n in range(1, 200))
    assert len(lookup(Zone(A={"a.x": many}), "a.x").by_host["a.x"]) == MAX_HOST_ADDRESSES


hosts = st.sampled_from(["a.x", "b.x", "c.x", "", "192.0.2.1", "bad name", "x" * 70])
records = st.lists(st.tuples(st.integers(0, 65535), hosts), min_size=1, max_size=30)


@given(records)
def test_any_mx_set_gives_usable_hosts_in_order_or_a_reason(pairs):
    zone = Zone(MX={"example.org": mx(*(f"{p} {h}" for p, h in pairs if " " not in h and h))})
    found = exchangers(zone)
    if isinstance(found, Failure):
        assert found.text
        return
    best = {host: min(p for p, h in pairs if h == host) for host in found.names}
    assert set(best) <= {"a.x", "b.x", "c.x"}
    assert [best[host] for host in found.names] == sorted(best.values())
