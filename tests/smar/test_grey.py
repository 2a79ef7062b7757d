"""States and times of greylisting."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smar.grey import Entry, Mask, Times, judge, show_key, state_of, unpack

TIMES = Times(grey_wait_s=300, grey_expire_s=3600, white_expire_s=10_000, white_timeout_s=20_000)
T0 = 1_700_000_000
GREY = Entry(white=False, first_s=T0, last_s=T0)
WHITE = Entry(white=True, first_s=T0, last_s=T0, mails=1)


@pytest.mark.parametrize(
    ("entry", "after_s", "accepted"),
    [
        (None, 0, False),
        (GREY, 0, False),
        (GREY, 299, False),
        (GREY, 300, True),
        (GREY, 3599, True),
        (GREY, 3600, False),
        (GREY, -1, False),
        (WHITE, 0, True),
        (WHITE, 10_001, True),
        (WHITE, 19_999, True),
        (WHITE, 20_000, False),
        (WHITE, -1000, True),
    ],
)
@pytest.mark.covers("X253", "X254", "X255", "X256", "X257", "X259")
def test_who_may_send(entry, after_s, accepted):
    assert judge(entry, T0 + after_s, TIMES)[0] is accepted


@pytest.mark.covers("X254")
def test_early_retries_do_not_prolong_the_wait():
    _, entry = judge(None, T0, TIMES)
    for after_s in (10, 100, 299):
        accepted, entry = judge(entry, T0 + after_s, TIMES)
        assert not accepted
    assert judge(entry, T0 + 300, TIMES)[0]


@pytest.mark.covers("X257")
def test_late_retry_begins_anew():
    _, entry = judge(GREY, T0 + 5000, TIMES)
    assert entry == Entry(white=False, first_s=T0 + 5000, last_s=T0 + 5000)


@pytest.mark.covers("X260")
def test_regular_sender_is_never_sent_away_again():
    entry, now = GREY, T0 + 400
    for count in range(1, 50):
        accepted, entry = judge(entry, now, TIMES)
        assert accepted
        assert entry.mails == count
        now += 19_000


@pytest.mark.covers("X258")
def test_times_of_expiry():
    assert GREY.expires_s(TIMES) == T0 + 3600
    assert WHITE.expires_s(TIMES) == T0 + 10_000


@pytest.mark.parametrize(
    ("entry", "after_s", "state"),
    [
        (GREY, 1, "waiting"),
        (GREY, 300, "confirming"),
        (GREY, 3600, "expired"),
        (WHITE, 1, "white"),
        (WHITE, 20_000, "expired"),
    ],
)
def test_states_for_the_operator(entry, after_s, state):
    assert state_of(entry, T0 + after_s, TIMES) == state


@pytest.mark.parametrize(
    ("mask", "one", "two", "same"),
    [
        (Mask(0xFFFFFFFF, 64), "192.0.2.1", "192.0.2.2", False),
        (Mask(0xFFFFFF00, 64), "192.0.2.1", "192.0.2.2", True),
        (Mask(0xFFFFFF00, 64), "192.0.2.1", "192.0.3.1", False),
        (Mask(0xFFFFFFFF, 64), "::ffff:192.0.2.1", "192.0.2.1", True),
        (Mask(0xFFFFFFFF, 64), "2001:db8::1", "2001:db8::2", True),
        (Mask(0xFFFFFFFF, 64), "2001:db8::1", "2001:db8:0:1::1", False),
        (Mask(0xFFFFFFFF, 128), "2001:db8::1", "2001:db8::2", False),
    ],
)
@pytest.mark.covers("X252", "X265")
def test_keys(mask, one, two, same):
    assert (mask.key(one) == mask.key(two)) is same


def test_what_is_no_address_has_no_key():
    assert Mask(0xFFFFFFFF, 64).key("unix") is None


@given(st.ip_addresses())
def test_a_whole_key_shows_its_address(address):
    shown = show_key(Mask(0xFFFFFFFF, 128).key(str(address)))
    plain = ipaddress.ip_address(int(address)) if address.version == 4 else address
    mapped = getattr(address, "ipv4_mapped", None)
    assert ipaddress.ip_address(shown) == (mapped or type(plain)(int(plain)))


times = st.integers(0, 2**40)


@given(st.builds(Entry, white=st.booleans(), first_s=times, last_s=times, mails=times))
def test_entries_are_read_as_they_were_written(entry):
    assert unpack(entry.pack()) == entry


@given(st.binary(max_size=60))
def test_no_stored_bytes_raise(data):
    entry = unpack(data)
    if entry is not None:
        accepted, later = judge(entry, T0, TIMES)
        assert later.white is accepted
        assert unpack(later.pack()) == later


@given(st.lists(st.integers(0, 30_000), max_size=30))
def test_a_client_is_let_in_only_after_it_waited(pauses):
    """Whatever the pauses: nobody is let in within grey_wait of its first visit."""
    entry, now, began = None, T0, None
    for pause in pauses:
        now += pause
        accepted, entry = judge(entry, now, TIMES)
        if not accepted and (began is None or entry.first_s == now):
            began = now
        if accepted:
            assert now - began >= TIMES.grey_wait_s
