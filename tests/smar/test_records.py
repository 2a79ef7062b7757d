"""Questions, names, and decisions side by side."""

import pytest

from smar.records import Question, is_dns_name, together
from tests.smar.zone import Zone


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("example.org", True),
        ("localhost", True),
        ("_dmarc.a-b.example", True),
        ("a" * 63 + ".example", True),
        ("a" * 64 + ".example", False),
        (".".join(["a" * 49] * 5), True),
        (".".join(["a" * 50] * 5), False),
        ("", False),
        ("a..b", False),
        (".a", False),
        ("a.", False),
        ("a b", False),
        ("a\\.b", False),
        ("A.b", False),
        ("\u00fc.example", False),
        ("a\nb", False),
    ],
)
def test_names_that_may_be_asked_for(name, good):
    assert is_dns_name(name) is good


def asks(*rounds, result):
    for names in rounds:
        answers = yield tuple(Question(name, "A") for name in names)
        assert [answer.addresses for answer in answers] == [(name.upper(),) for name in names]
    return result


def test_decisions_side_by_side_ask_one_round_at_once_and_get_their_own_answers():
    zone = Zone(A={name: name.upper() for name in "abcde"})
    parts = [
        asks("ab", "c", result=1),
        asks(result=2),
        asks("d", result=3),
        asks("e", "a", "b", result=4),
    ]
    assert zone.drive(together(parts)) == [1, 2, 3, 4]
    assert [[q.name for q in asked] for asked in zone.rounds] == [list("abde"), ["c", "a"], ["b"]]


def test_nothing_side_by_side_asks_nothing():
    zone = Zone()
    assert zone.drive(together([])) == []
    assert zone.asked == []
