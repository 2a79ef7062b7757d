"""What is remembered of remote addresses."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from qmgr.occ import FORGET_S, Occ
from qmgr.retry import Retry

KEY = ("192.0.2.1", 25)


def occ(initial=2, maximum=5, entries=10):
    return Occ(initial, maximum, entries, Retry(60, 600, 10_000))


@pytest.mark.covers("X080", "X187", "X188", "X195")
def test_the_window_starts_small_and_grows_with_success_to_its_maximum():
    cache = occ()
    host = cache.host(KEY, 0)
    seen = [host.window]
    for _ in range(5):
        cache.succeeded(host)
        seen.append(host.window)
    assert seen == [2, 3, 4, 5, 5, 5]


@pytest.mark.covers("X196")
def test_a_failure_halves_the_window_and_blocks_the_address():
    cache = occ(initial=5)
    host = cache.host(KEY, 0)
    assert cache.failed(host, 100.0, "refused", 0.0)
    assert host.window == 2
    assert cache.blocked(KEY, 159.9) is host
    assert cache.blocked(KEY, 160.0) is None
    cache.failed(host, 160.0, "refused", 0.0)
    assert host.window == 1
    assert cache.blocked(KEY, 279.0) is host, "the pause grows"
    cache.failed(host, 280.0, "refused", 0.0)
    assert host.window == 1, "never below one"


def test_failures_of_one_moment_count_once():
    cache = occ(initial=4)
    host = cache.host(KEY, 0)
    for _ in range(10):
        cache.failed(host, 100.0, "refused", 0.0)
    assert (host.window, host.failures) == (2, 1)


def test_a_host_that_works_in_other_sessions_is_slowed_but_not_blocked():
    cache = occ(initial=4)
    host = cache.host(KEY, 0)
    host.good = 1
    assert not cache.failed(host, 100.0, "too many connections", 0.0)
    assert host.window == 2
    assert cache.blocked(KEY, 100.0) is None


def test_a_flush_lets_it_be_tried_once_more():
    cache = occ()
    cache.failed(cache.host(KEY, 0), 100.0, "refused", 0.0)
    cache.flush(110.0)
    assert cache.blocked(KEY, 110.0) is None
    cache.failed(cache.host(KEY, 0), 120.0, "refused", 0.0)
    assert cache.blocked(KEY, 121.0)
    cache.unblock(KEY, 119.0)
    assert cache.blocked(KEY, 121.0), "blocked after that flush"
    cache.unblock(KEY, 120.0)
    assert cache.blocked(KEY, 121.0) is None


@pytest.mark.covers("X180")
def test_the_cache_is_bounded_and_keeps_what_is_in_use():
    cache = occ(entries=3)
    busy = cache.host(("192.0.2.250", 25), 0)
    busy.open = 1
    for n in range(20):
        cache.host((f"192.0.2.{n}", 25), n)
        assert len(cache) <= 3
    assert cache.peek(busy.key) is busy


def test_unused_addresses_are_forgotten_blocked_ones_are_not():
    cache = occ()
    cache.host(KEY, 0)
    failed = cache.host(("192.0.2.2", 25), 0)
    for _ in range(20):
        failed.blocked_until = 0
        cache.failed(failed, FORGET_S - 10, "refused", 0.0)
    cache.expire(FORGET_S)
    assert cache.peek(KEY) is None
    assert cache.peek(failed.key) is failed


@given(st.lists(st.sampled_from("sfl"), max_size=60))
def test_the_window_never_leaves_its_bounds(events):
    cache = occ(initial=3, maximum=6)
    host = cache.host(KEY, 0)
    now = 0.0
    for event in events:
        now += 1000
        if event == "s":
            cache.succeeded(host)
        elif event == "f":
            cache.failed(host, now, "x", 0.5)
        else:
            cache.slowed(host)
        assert 1 <= host.window <= 6
