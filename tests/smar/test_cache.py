"""The cache of DNS answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smar.cache import (
    FAILURE_TTL_S,
    MAX_NEGATIVE_TTL_S,
    MAX_TTL_S,
    MIN_TTL_S,
    STALE_TTL_S,
    Cache,
    lifetime_s,
    size_of,
)
from smar.records import Answer, Outcome, Question

A = Question("a.x", "A")


def answer(ttl_s, outcome=Outcome.FOUND):
    return Answer(outcome=outcome, ttl_s=ttl_s)


@pytest.mark.parametrize(
    ("outcome", "ttl_s", "wanted"),
    [
        (Outcome.FOUND, 300, 300),
        (Outcome.FOUND, 0, MIN_TTL_S),
        (Outcome.FOUND, 2**31 - 1, MAX_TTL_S),
        (Outcome.NO_DATA, 60, 60),
        (Outcome.NO_DATA, 86400, MAX_NEGATIVE_TTL_S),
        (Outcome.NO_NAME, 86400, MAX_NEGATIVE_TTL_S),
        (Outcome.NO_NAME, 0, MIN_TTL_S),
        (Outcome.FAILED, 0, FAILURE_TTL_S),
        (Outcome.FAILED, 86400, FAILURE_TTL_S),
    ],
)
def test_lifetimes(outcome, ttl_s, wanted):
    assert lifetime_s(answer(ttl_s, outcome)) == wanted


def test_answer_is_good_until_its_lifetime_ends_and_not_longer():
    cache = Cache(100_000)
    kept = answer(5)
    cache.put(A, kept, 100.0)
    assert cache.get(A, 104.999) is kept
    assert cache.get(A, 105.0) is None
    assert len(cache) == 0
    assert cache.used_bytes == 0


FAILED = Answer(outcome=Outcome.FAILED, detail="SERVFAIL")


def test_stale_answer_stands_in_for_a_failed_lookup_for_a_bounded_time():
    cache = Cache(100_000, stale_s=3600)
    kept = answer(5)
    cache.put(A, kept, 0)
    assert cache.get(A, 5.0) is None  # asked for again first
    assert cache.put(A, FAILED, 6.0) is kept
    assert cache.get(A, 6.0 + STALE_TTL_S - 1) is kept
    assert cache.get(A, 6.0 + STALE_TTL_S) is None
    assert cache.put(A, FAILED, 3604.0) is kept
    assert cache.get(A, 3605.0) is None
    assert cache.put(A, FAILED, 3605.0) is FAILED
    assert cache.get(A, 3606.0) is FAILED


@pytest.mark.parametrize("outcome", [Outcome.NO_NAME, Outcome.NO_DATA, Outcome.FOUND])
def test_what_the_dns_says_now_goes_before_what_it_said(outcome):
    cache = Cache(100_000, stale_s=3600)
    cache.put(A, answer(5), 0)
    fresh = answer(5, outcome)
    assert cache.put(A, fresh, 6) is fresh
    assert cache.get(A, 7) is fresh


def test_a_failure_is_never_served_stale_and_by_default_nothing_is():
    cache = Cache(100_000)
    cache.put(A, answer(5), 0)
    assert cache.put(A, FAILED, 6) is FAILED
    again = Answer(outcome=Outcome.FAILED, detail="other")
    assert Cache(100_000, 3600).put(A, again, 6 + FAILURE_TTL_S) is again


def test_bytes_are_bounded_whatever_the_answers_hold():
    cache = Cache(1_000_000)
    for n in range(10_000):
        many = tuple((pref, "h" * 200) for pref in range(n % 30))
        cache.put(Question(f"n{n}.x", "MX"), Answer(outcome=Outcome.FOUND, mx=many), 0)
        assert cache.used_bytes <= 1_000_000
    assert 50 < len(cache) < 1000


def test_least_recently_used_goes_first():
    a, b, c = (Question(f"{name}.x", "A") for name in "abc")
    cache = Cache(2 * size_of(a, answer(60)))
    cache.put(a, answer(60), 0)
    cache.put(b, answer(60), 0)
    assert cache.get(a, 1)
    cache.put(c, answer(60), 2)
    assert cache.get(b, 3) is None
    assert cache.get(a, 3)
    assert cache.get(c, 3)


def test_types_of_one_name_are_kept_apart():
    cache = Cache(100_000)
    cache.put(A, answer(60), 0)
    assert cache.get(Question("a.x", "AAAA"), 1) is None


names = st.sampled_from("abcdef")
steps = st.lists(
    st.tuples(st.sampled_from(["put", "get"]), names, st.integers(0, 100), st.floats(0, 20)),
    max_size=60,
)


@given(steps, st.integers(1, 4))
def test_never_an_expired_or_foreign_answer_and_never_more_than_the_limit(steps, limit):
    each = size_of(Question("a", "A"), answer(1))
    cache = Cache(limit * each)
    model = {}
    now = 0.0
    for action, name, ttl_s, pause in steps:
        now += pause
        question = Question(name, "A")
        if action == "put":
            made = answer(ttl_s)
            cache.put(question, made, now)
            model[name] = (now + lifetime_s(made), made)
        else:
            found = cache.get(question, now)
            if found is not None:
                expires, made = model[name]
                assert found is made
                assert now < expires
        assert len(cache) <= limit
        assert cache.used_bytes == len(cache) * each
