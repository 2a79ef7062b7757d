"""Right-hand sides of the access map."""

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libsmx.accessrhs import Action, Rule, check_entry, parse_restrictions, parse_rhs
from tests.system import ROOT


@pytest.mark.covers("X293", "X294", "X295", "X296", "X297", "X298", "X299")
@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("relay", Rule(Action.RELAY)),
        ("OK", Rule(Action.OK)),
        ("quick:ok", Rule(Action.OK, quick=True)),
        ("Quick:Relay", Rule(Action.RELAY, quick=True)),
        ("discard", Rule(Action.DISCARD)),
        ("quick:discard", Rule(Action.DISCARD, quick=True)),
        ("cont", Rule(Action.CONT)),
        ("reject", Rule(Action.ERROR, code=550, status="5.7.0", text="Rejected.")),
        ("quick:reject", Rule(Action.ERROR, True, 550, "5.7.0", "Rejected.")),
        ("error:551 5.7.1 No mail", Rule(Action.ERROR, False, 551, "5.7.1", "No mail")),
        ("quick:error:451 4.7.1 Later", Rule(Action.ERROR, True, 451, "4.7.1", "Later")),
        ("error:551 No code", Rule(Action.ERROR, False, 551, "5.0.0", "No code")),
        ("error:450", Rule(Action.ERROR, False, 450, "4.0.0", "Rejected.")),
    ],
)
def test_what_a_right_hand_side_says(value, rule):
    assert parse_rhs(value) == rule


@pytest.mark.parametrize(
    "value",
    [
        "", "relayed", "error", "error:", "error:250 2.0.0 fine", "error:354 go", "error:99 x",
        "error:550 4.7.1 mixed", "quick:cont", "quick:", "error:550 5.7.1 caf\xe9",
        "error:550 5.7.1 " + "x" * 500, "quick:quick:ok",
    ],
)  # fmt: skip
def test_what_it_cannot_say(value):
    with pytest.raises(ValueError, match=r"\w"):
        parse_rhs(value)


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_entry_is_a_rule_or_an_error(key, value):
    for function in (parse_rhs, parse_restrictions):
        with contextlib.suppress(ValueError):
            assert function(value)
    with contextlib.suppress(ValueError):
        assert isinstance(check_entry(key, value), str)


@pytest.mark.covers("X402", "X403", "X404", "X406")
def test_restrictions_stand_in_order():
    found = parse_restrictions("from:<A@b.C> cltaddr:1.2.3.4 list:Staff from:<>")
    assert [(one.kind, one.value) for one in found] == [
        ("from", "a@b.c"), ("cltaddr", "1.2.3.4"), ("list", "staff"), ("from", ""),
    ]  # fmt: skip
    for bad in ("", "to:a@b", "from:", "a@b"):
        with pytest.raises(ValueError, match="restriction"):
            parse_restrictions(bad)


@pytest.mark.covers("X284", "X285")
@pytest.mark.parametrize(
    ("key", "value", "odd"),
    [
        ("CertSubject:/C=US", "relay", ""),
        ("dnsbltld:127.0.0.1", "error:550 5.7.1 listed", ""),
        ("to:abuse", "quick:ok", ""),
        ("to:dom.tld", "relay", "an @ before it"),
        ("from:a@b", "relay", "cannot permit relaying"),
        ("cltresolve:maybe", "ok", "cltresolve: knows"),
        ("cltaddr:10.", "ok", "no address"),
        ("cltaddr:ipv6:2001:db8", "ok", ""),
        ("from:@b\xfccher.test", "reject", "A-labels"),
        ("to:j\xf6rg@buecher.test", "relay", ""),
        ("protectedrcpt:list3", "list:list3", ""),
    ],
)
def test_an_odd_entry_is_warned_about(key, value, odd):
    said = check_entry(key, value)
    assert (odd in said) if odd else not said


def test_the_examples_that_are_installed_can_be_obeyed():
    lines = (ROOT / "conf/access").read_text().splitlines()
    examples = [line[1:].split(None, 1) for line in lines if re.match(r"#[a-z]+:\S+ ", line)]
    assert len(examples) > 5
    assert [check_entry(key, value) for key, value in examples] == [""] * len(examples)
