"""What operators are told: tables of facts and words."""

import pytest

from qmgr.ctltext import parse_age, show_age
from qmgr.explain import Facts, HostFacts, explain

UP = HostFacts(name="mx1 [192.0.2.1]", window=10, open=2)
DOWN = HostFacts(name="mx2 [192.0.2.2]", window=1, blocked_s=300.0, error="refused")
FULL = HostFacts(name="mx3 [192.0.2.3]", window=2, open=2)
NAMED = HostFacts(name="mx4", suspended="mx4 is suspended: they asked")

ROWS = [
    ({"place": "held", "error": "no room"}, "operator holds it", "released"),
    ({"place": "closing"}, "written to disk", "leaves the queue"),
    ({"place": "delivering", "dest": "x.org"}, "delivered to x.org now", "result"),
    ({"place": "delivering", "wish": "hold"}, "delivered", "then hold"),
    ({"place": "incoming"}, "just now", "at once"),
    ({"place": "incoming", "aq_full": True}, "active queue is full", "when an active one"),
    ({"place": "incoming", "stopping": True}, "stops", "next start"),
    ({"place": "routing"}, "route", "smar answers"),
    ({"place": "routing", "resolver": False}, "resolver is away", "smar is back"),
    ({"place": "deferred", "tries": 2, "error": "4yz"}, "last error: 4yz", "tried at once"),
    ({"place": "deferred", "tries": 1, "due_s": 90.0}, "1 attempt did", "next try in 1m30s"),
    ({"place": "deferred", "due_s": 9.0, "return_s": -1.0}, "not been tried", "returned"),
    ({"place": "deferred", "aq_full": True}, "half of the active queue", "becomes active"),
    ({"place": "deferred", "defedb": False}, "not open", "opened"),
    ({"place": "deferred", "suspended": "x is suspended"}, "x is suspended", "is lifted"),
    (
        {"place": "deferred", "suspended": "x is suspended", "suspended_s": 60.0},
        "x is suspended", "ends in 1m0s",
    ),
    ({"place": "deferred", "hosts": (DOWN,)}, "mx2 [192.0.2.2] is left alone for 5m0s", "due"),
    ({"place": "waiting", "capacity": 0}, "no smtpc", "started"),
    ({"place": "waiting", "busy": 9, "capacity": 9, "hosts": (UP,)}, "all 9", "its turn"),
    ({"place": "waiting", "hosts": (FULL, DOWN)}, "all 2 sessions that it may have", "its turn"),
    ({"place": "waiting", "hosts": (UP, FULL), "dest_waiting": 7}, "7 recipients wait", "turn"),
    ({"place": "waiting", "hosts": (DOWN,)}, "refused", "deferred until"),
    ({"place": "waiting", "hosts": (NAMED,)}, "they asked", "deferred until"),
]  # fmt: skip


@pytest.mark.parametrize(("facts", "why", "following"), ROWS)
def test_the_reason_and_what_follows_are_named(facts, why, following):
    reasons, then = explain(Facts(**{"return_s": 3600.0, **facts}))
    assert why in "; ".join(reasons)
    assert following in then


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("5m", 300), ("1d12h", 129_600), ("0.5h", 1800), ("0", 0)]
)
def test_spans_of_time(text, seconds):
    assert parse_age(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "5x", "m", "-5", "1e9", "9" * 20, "5 m", "nan"])
def test_what_is_no_span_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        parse_age(text)


def test_a_span_shows_as_its_two_largest_units():
    assert show_age(129_600) == "1d12h"
