"""Lookup order of domains."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smar.lookuporder import domain_keys

labels = st.text("abc09-", min_size=1, max_size=5)
domains = st.lists(labels, min_size=1, max_size=8).map(".".join)


@pytest.mark.covers("X437")
@pytest.mark.parametrize(
    ("domain", "keys"),
    [
        ("sub2.sub1.tld", ["sub2.sub1.tld", ".sub1.tld", ".tld"]),
        ("sub1.tld", ["sub1.tld", ".tld"]),
        ("tld", ["tld"]),
        ("a.b.c.d", ["a.b.c.d", ".b.c.d", ".c.d", ".d"]),
        ("[192.0.2.1]", ["[192.0.2.1]"]),
        ("[IPv6:2001:db8::1]", ["[IPv6:2001:db8::1]"]),
    ],
)
def test_domain_then_its_parents_with_a_dot(domain, keys):
    assert domain_keys(domain) == keys


@pytest.mark.covers("X439")
def test_default_comes_last_and_only_on_request():
    assert domain_keys("a.b", default=True) == ["a.b", ".b", "."]
    assert domain_keys("[192.0.2.1]", default=True) == ["[192.0.2.1]", "."]
    assert "." not in domain_keys("a.b")


@pytest.mark.covers("X438")
@given(domains)
def test_only_keys_with_a_leading_dot_match_a_parent(domain):
    keys = domain_keys(domain)
    assert keys[0] == domain
    assert len(keys) == domain.count(".") + 1
    for key in keys[1:]:
        assert key.startswith(".")
        assert domain.endswith(key)
