"""DSN parameters: what is taken, what is refused, and that nothing else gets out again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libsmx import dsnparam

PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126))


@given(PRINTABLE)
def test_xtext_gives_back_what_was_put_in(text):
    coded = dsnparam.encode_xtext(text)
    assert " " not in coded
    assert "=" not in coded
    assert dsnparam.decode_xtext(coded) == text


@given(st.text())
def test_no_text_breaks_a_command_line(text):
    coded = dsnparam.encode_xtext(text) + dsnparam.write_orcpt(text) + dsnparam.write_notify(text)
    assert coded.isascii()
    assert coded.isprintable()
    assert " " not in coded


@given(st.text())
def test_only_printable_text_comes_out_of_xtext(text):
    try:
        plain = dsnparam.decode_xtext(text)
    except ValueError:
        return
    assert plain.isascii()
    assert plain.isprintable()


@pytest.mark.parametrize("text", ["+", "+0", "+0a", "a=b", "a b", "ä", "+0A", "+00", "+7F", "+80"])
def test_what_is_no_xtext_or_hides_a_control_character_is_refused(text):
    with pytest.raises(ValueError, match="xtext"):
        dsnparam.decode_xtext(text)


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("never", "NEVER"),
        ("Success", "SUCCESS"),
        ("DELAY,SUCCESS", "SUCCESS,DELAY"),
        ("failure,failure,delay", "FAILURE,DELAY"),
    ],
)
def test_notify_is_kept_in_one_form(value, kept):
    assert dsnparam.read_notify(value) == kept
    assert dsnparam.write_notify(kept) == kept


@pytest.mark.parametrize("value", ["", ",", "NEVER,SUCCESS", "SUCCESS,", "ALWAYS", "S", "NEVER "])
def test_other_values_of_notify_are_refused(value):
    with pytest.raises(ValueError, match="NEVER"):
        dsnparam.read_notify(value)
    assert dsnparam.write_notify(value) == ""


@pytest.mark.parametrize("value", ["a@b", ";a@b", "rfc822;", "r c;a", "-;a", "x;" + "a" * 499])
def test_orcpt_needs_a_type_and_an_address_and_has_a_bound(value):
    with pytest.raises(ValueError, match="type"):
        dsnparam.read_orcpt(value)


def test_orcpt_and_envid_are_decoded():
    assert dsnparam.read_orcpt("rfc822;a+3Db@c") == "rfc822;a=b@c"
    assert dsnparam.write_orcpt("rfc822;a=b@c") == "rfc822;a+3Db@c"
    assert dsnparam.read_envid("Q+20Q") == "Q Q"
    for bad in ("", "x" * 101, "+0A"):
        with pytest.raises(ValueError, match=r"long|xtext"):
            dsnparam.read_envid(bad)


def test_ret_is_one_of_two():
    assert dsnparam.read_ret("hdrs") == "HDRS"
    with pytest.raises(ValueError, match="FULL"):
        dsnparam.read_ret("")


@pytest.mark.parametrize(
    ("notify", "wanted"),
    [
        ("", "FAILURE DELAY"),
        ("NEVER", ""),
        ("SUCCESS", "SUCCESS"),
        ("SUCCESS,FAILURE", "SUCCESS FAILURE"),
    ],
)
def test_without_notify_failure_and_delay_are_reported(notify, wanted):
    cases = ["SUCCESS", "FAILURE", "DELAY"]
    assert " ".join(case for case in cases if dsnparam.wants(notify, case)) == wanted
