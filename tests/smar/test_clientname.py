"""Names of clients."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smar.clientname import MAX_NAMES, ClientName, find_client_name, name_question
from smar.records import Answer, Outcome, Question
from tests.smar.zone import FAILED, NO_DATA, NO_NAME, Zone, names

V4 = "1.2.0.192.in-addr.arpa"
V6 = "1." + "0." * 23 + "8.b.d.0.1.0.0.2.ip6.arpa"
NO = ClientName("no")
FORGED = ClientName("no", forged=True)


@pytest.mark.parametrize(
    ("client", "records", "wanted"),
    [
        ("192.0.2.1", {"PTR": {V4: names("h.x")}, "A": {"h.x": "192.0.2.1"}},
         ClientName("ok", "h.x")),
        ("::ffff:192.0.2.1", {"PTR": {V4: names("h.x")}, "A": {"h.x": "192.0.2.1"}},
         ClientName("ok", "h.x")),
        ("2001:DB8::1", {"PTR": {V6: names("h.x")}, "AAAA": {"h.x": "2001:db8:0:0::1"}},
         ClientName("ok", "h.x")),
        ("192.0.2.1", {"PTR": {V4: names("h.x")}, "A": {"h.x": "192.0.2.7 192.0.2.1"}},
         ClientName("ok", "h.x")),
        ("192.0.2.1", {"PTR": {V4: names("f.x", "h.x")},
                       "A": {"f.x": "192.0.2.9", "h.x": "192.0.2.1"}}, ClientName("ok", "h.x")),
        ("192.0.2.1", {"PTR": {V4: names("t.x", "h.x")},
                       "A": {"t.x": FAILED, "h.x": "192.0.2.1"}}, ClientName("ok", "h.x")),
        ("192.0.2.1", {"PTR": {V4: names("h.x")}, "A": {"h.x": "192.0.2.2"}}, FORGED),
        ("192.0.2.1", {"PTR": {V4: names("h.x")}}, FORGED),
        ("192.0.2.1", {"PTR": {V4: names("h.x")}, "AAAA": {"h.x": "2001:db8::1"}}, FORGED),
        ("192.0.2.1", {}, NO),
        ("192.0.2.1", {"PTR": {V4: NO_DATA}}, NO),
        ("192.0.2.1", {"PTR": {V4: NO_NAME}}, NO),
        ("192.0.2.1", {"PTR": {V4: names("", "bad name", "a..b", "x" * 70)}}, NO),
        ("192.0.2.1", {"PTR": {V4: FAILED}}, ClientName("tempptr")),
        ("192.0.2.1", {"PTR": {V4: names("h.x")}, "A": {"h.x": FAILED}}, ClientName("tempa")),
        ("192.0.2.1", {"PTR": {V4: names("f.x", "t.x")}, "A": {"f.x": "192.0.2.9", "t.x": FAILED}},
         ClientName("tempa")),
        ("", {}, NO),
        ("unix", {}, NO),
        ("fe80::1%eth0", {}, NO),
    ],
)  # fmt: skip
@pytest.mark.covers("X288", "X289", "X290", "X291", "X292", "X457")
def test_names(client, records, wanted):
    assert Zone(**records).drive(find_client_name(client)) == wanted


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (ClientName("ok", "h.x"), "ok"),
        (NO, "no"),
        (FORGED, "forged"),
        (ClientName("tempptr"), "temp"),
        (ClientName("tempa"), "temp"),
    ],
)
def test_word_for_smtps(found, wanted):
    assert found.resolve == wanted


def test_question_may_be_asked_ahead():
    assert name_question("192.0.2.1") == Question(V4, "PTR")
    assert name_question("unix") is None


def test_number_of_names_is_bounded():
    many = [f"n{n}.x" for n in range(100)]
    zone = Zone(PTR={V4: names(*many)}, A={"n99.x": "192.0.2.1"})
    assert zone.drive(find_client_name("192.0.2.1")) == FORGED
    assert len(zone.asked) == 1 + MAX_NAMES


answers = st.builds(
    Answer,
    outcome=st.sampled_from(Outcome),
    names=st.lists(st.text(max_size=20), max_size=4).map(tuple),
    addresses=st.lists(st.text(max_size=20), max_size=4).map(tuple),
)


@given(st.text(max_size=50) | st.ip_addresses().map(str), st.lists(answers, min_size=8, max_size=8))
def test_every_answer_leads_to_a_result(client, answers):
    found = drive(find_client_name(client), answers)
    assert found.key in {"ok", "no", "tempptr", "tempa"}
    assert bool(found.name) == (found.key == "ok")


def drive(steps, answers):
    """The result of a decision that always gets the first of these answers."""
    try:
        asked = next(steps)
        while True:
            asked = steps.send(tuple(answers[: len(asked)]))
    except StopIteration as stop:
        return stop.value
