"""Lookup orders against an independent statement of the README's rules.

The statement below never builds a key from an address: it reads a key of the map, says which
addresses it matches and how close the match is, and the closest match wins.
"""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smar.lookuporder import address_keys, client_keys, domain_keys, local_keys, split_detail


def closeness(pattern: str, user: str, detail: str | None, delimiter: str, *, implicit: bool):
    """Return a to e as 0 to 4 when the key's local part matches, else None."""
    if detail is not None and pattern == user + delimiter + detail:
        return 0
    if pattern == user + delimiter + "+":
        return 1 if detail else None
    if pattern == user + delimiter + "*":
        return 2 if detail is not None else None
    if pattern.endswith("*"):
        return 3 if pattern[:-1] == user else None
    if pattern == user:
        return 4 if detail is None or implicit else None
    return None


def domain_distance(pattern: str, domain: str):
    """Return how many labels the key's domain leaves to the wildcard, None for no match."""
    if pattern == domain:
        return 0
    if pattern.startswith(".") and domain.endswith(pattern) and pattern != ".":
        left = domain[: -len(pattern)]
        return left.count(".") + 1 if left else None
    return None


def naive(keys, user, detail, domain, *, delimiter="+", implicit=False, local_part=False):
    """Return the best key of a map, None if none matches."""
    ranked = []
    for key in keys:
        local, at, host = key.rpartition("@")
        if not at:
            if local_part:
                rank = closeness(key, user, detail, delimiter, implicit=implicit)
                if rank is not None:
                    ranked.append(((1000, rank), key))
            continue
        far = domain_distance(host, domain)
        if far is None:
            continue
        rank = 5 if not local else closeness(local, user, detail, delimiter, implicit=implicit)
        if rank is not None:
            ranked.append(((far, rank), key))
    return min(ranked)[1] if ranked else None


_LABELS = st.sampled_from(["a", "bb", "sub1", "tld"])
_DOMAINS = st.lists(_LABELS, min_size=1, max_size=4).map(".".join)
_USERS = st.sampled_from(["user", "user1", "u", "us.er", "user*"])
_DETAILS = st.sampled_from([None, "", "x", "y", "+", "*", "x+y", "-"])


@st.composite
def maps(draw, delimiter, domain):
    """Draw keys that have a chance to match."""
    parents = [domain[at:] for at in range(len(domain)) if domain[at] == "."]
    hosts = st.sampled_from([domain, *parents, ".", "." + domain, "other"])
    ends = ["", *(delimiter + end for end in ("+", "*", "", "x", "x+y")), "*"]
    locals_ = st.tuples(_USERS, st.sampled_from(ends)).map("".join)
    full = st.tuples(st.one_of(locals_, st.just("")), hosts).map("@".join)
    return draw(st.sets(st.one_of(full, locals_), max_size=12))


@given(st.data())
def test_an_address_is_looked_up_as_the_rules_say(data):
    delimiter = data.draw(st.sampled_from("+-"))
    domain, user, detail = data.draw(_DOMAINS), data.draw(_USERS), data.draw(_DETAILS)
    keys = data.draw(maps(delimiter, domain))
    implicit, local_part = data.draw(st.booleans()), data.draw(st.booleans())
    local = user if detail is None else f"{user}{delimiter}{detail}"
    order = address_keys(
        f"{local}@{domain}",
        delimiter=delimiter,
        implicit_detail=implicit,
        local_part=local_part,
    )
    found = next((key for key in order if key in keys), None)
    assert found == naive(
        keys,
        user,
        detail,
        domain,
        delimiter=delimiter,
        implicit=implicit,
        local_part=local_part,
    )


@pytest.mark.covers("X437", "X439", "X286")
@pytest.mark.parametrize(
    ("domain", "default", "keys"),
    [
        ("sub2.sub1.tld", False, ["sub2.sub1.tld", ".sub1.tld", ".tld"]),
        ("sub2.sub1.tld", True, ["sub2.sub1.tld", ".sub1.tld", ".tld", "."]),
        ("tld", False, ["tld"]),
        ("[192.0.2.1]", True, ["[192.0.2.1]", "."]),
    ],
)
def test_domains(domain, default, keys):
    assert domain_keys(domain, default=default) == keys


@pytest.mark.covers("X438")
def test_a_subdomain_is_no_match_without_the_dot():
    assert not {"sub1.tld", "tld"} & set(domain_keys("sub2.sub1.tld", default=True))
    assert not {"@sub1.tld", "u@sub1.tld"} & set(address_keys("u@sub2.sub1.tld"))


@pytest.mark.covers("X287", "X440")
def test_ipv4_loses_its_last_number_each_time():
    assert client_keys("10.1.2.3") == ["10.1.2.3", "10.1.2", "10.1", "10"]
    assert client_keys("::ffff:10.1.2.3") == client_keys("10.1.2.3")


@pytest.mark.covers("X483")
def test_ipv6_short_form_then_groups():
    assert client_keys("2001:DB8::1") == [
        "ipv6:2001:db8::1",
        "ipv6:2001:db8:0:0:0:0:0:1",
        "ipv6:2001:db8:0:0:0:0:0",
        "ipv6:2001:db8:0:0:0:0",
        "ipv6:2001:db8:0:0:0",
        "ipv6:2001:db8:0:0",
        "ipv6:2001:db8:0",
        "ipv6:2001:db8",
        "ipv6:2001",
    ]
    assert client_keys("1:2:3:4:5:6:7:8")[:2] == ["ipv6:1:2:3:4:5:6:7:8", "ipv6:1:2:3:4:5:6:7"]


@given(st.text(max_size=60))
def test_any_text_has_keys(text):
    assert client_keys(text)
    assert address_keys(text)
    assert len(address_keys(text)) < 600


@pytest.mark.covers("X441", "X442", "X443", "X444", "X445", "X446", "X447")
def test_the_order_of_an_address_with_detail():
    assert address_keys("User+Detail@Sub1.Tld", local_part=True, implicit_detail=True) == [
        "user+detail@sub1.tld",
        "user++@sub1.tld",
        "user+*@sub1.tld",
        "user*@sub1.tld",
        "user@sub1.tld",
        "@sub1.tld",
        "user+detail@.tld",
        "user++@.tld",
        "user+*@.tld",
        "user*@.tld",
        "user@.tld",
        "@.tld",
        "user+detail",
        "user++",
        "user+*",
        "user*",
        "user",
    ]


@pytest.mark.covers("X448", "X449", "X450", "X451", "X452")
@pytest.mark.parametrize(
    ("local", "implicit", "keys"),
    [
        ("user+x", False, ["user+x", "user++", "user+*", "user*"]),
        ("user+x", True, ["user+x", "user++", "user+*", "user*", "user"]),
        ("user+", False, ["user+", "user+*", "user*"]),
        ("user", False, ["user*", "user"]),
        ("+x", False, ["+x*", "+x"]),
        ("user*", False, ["user**"]),
        ('"a b+c"', False, ['"a b+c"*', '"a b+c"']),
    ],
)
def test_local_parts(local, implicit, keys):
    assert local_keys(local, implicit_detail=implicit) == keys


@pytest.mark.covers("X222", "X453")
def test_the_delimiter_of_the_configuration_stands_in_the_keys():
    assert local_keys("user-x", delimiter="-") == ["user-x", "user-+", "user-*", "user*"]
    assert local_keys("user+x", delimiter="-") == ["user+x*", "user+x"]


@pytest.mark.covers("X444")
def test_a_user_with_a_star_does_not_match_the_pattern_of_another():
    assert "user*@d.tld" not in address_keys("user*@d.tld", local_part=True)
    assert "user*" not in address_keys("user*@d.tld", local_part=True)


def test_the_null_path_postmaster_and_what_is_no_address():
    assert address_keys("") == ["<>"]
    assert "postmaster@mx.tld" in address_keys("Postmaster", hostname="mx.tld")
    assert address_keys("No Address") == ["no address"]


@given(_USERS, _DETAILS)
def test_split_and_join(user, detail):
    local = user if detail is None else f"{user}+{detail}"
    assert split_detail(local) == (user, detail)


def test_keys_are_never_repeated():
    for local, delimiter in itertools.product(["u+*", "u++", "u+", "u-*", "u"], "+-"):
        keys = address_keys(f"{local}@a.b.c", delimiter=delimiter, local_part=True)
        assert len(keys) == len(set(keys))


def test_domains_of_other_scripts_have_one_form():
    for domain in ("b\xfccher.test", "B\xdcCHER.test", "xn--bcher-kva.test"):
        assert address_keys(f"J\xf6rg@{domain}", local_part=True) == [
            "j\xf6rg*@xn--bcher-kva.test",
            "j\xf6rg@xn--bcher-kva.test",
            "@xn--bcher-kva.test",
            "j\xf6rg*@.test",
            "j\xf6rg@.test",
            "@.test",
            "j\xf6rg*",
            "j\xf6rg",
        ]
