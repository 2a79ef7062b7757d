"""Retry arithmetic and the clock that does not jump."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from qmgr.retry import Retry, SteadyWall

DRAW = st.floats(0, 1, exclude_max=True)


@pytest.mark.covers("X185", "X186")
@given(low=st.floats(1, 10_000), factor=st.floats(1, 1000), tries=st.integers(0, 10**9), draw=DRAW)
def test_every_delay_lies_between_the_two_options(low, factor, tries, draw):
    retry = Retry(low, low * factor, 1e9)
    assert low <= retry.delay_s(tries, draw) <= low * factor


def test_delays_double_until_the_longest():
    retry = Retry(900, 14_400, 432_000)
    assert [retry.delay_s(n, 0.0) for n in range(1, 7)] == [900, 1800, 3600, 7200, 14_400, 14_400]
    assert retry.delay_s(1, 0.999) < 900 * 1.25
    assert retry.delay_s(9, 0.999) > 14_400 * 0.75


@pytest.mark.covers("X181")
@given(received=st.floats(0, 1e6), age=st.floats(0, 2e5), wait=st.floats(1, 2e5))
def test_the_last_try_falls_on_the_end_of_the_message(received, age, wait):
    retry = Retry(900, 14_400, 1e5)
    now = received + age
    at = retry.next_try_at(received, now, wait)
    assert now < at <= now + wait
    assert at <= received + 1e5 or now >= received + 1e5


def test_a_message_expires_exactly_once_it_is_old_enough():
    retry = Retry(900, 14_400, 100.0)
    assert not retry.expired(1000.0, 1099.9)
    assert retry.expired(1000.0, 1100.0)
    assert not retry.expired(5000.0, 1000.0), "a time from the future is young"


@given(
    jumps=st.lists(
        st.tuples(st.floats(0.001, 100), st.one_of(st.just(0.0), st.floats(-1e9, 1e9))),
        max_size=30,
    )
)
def test_steady_time_never_goes_back_nor_runs_away(jumps):
    wall, mono = 1e9, 50.0
    steady = SteadyWall(wall, mono)
    last = steady.now_s(wall, mono)
    for seconds, jump in jumps:
        wall += seconds + jump
        mono += seconds
        now = steady.now_s(wall, mono)
        assert last + seconds * 0.8999 <= now <= last + seconds * 1.1001
        last = now


def test_a_small_difference_is_made_good():
    steady = SteadyWall(1000.0, 0.0)
    assert steady.now_s(1060.0, 50.0) == pytest.approx(1055.0)
    assert steady.now_s(1110.0, 100.0) == pytest.approx(1110.0)
