"""Trying out: the lines that smxtest prints."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libsmx.wire import Route, Verdict
from libsmx.wire_try import MAX_LINES, TryAnswer
from smar import smxtest
from smar.access import AccessMap
from smar.connect import Connect
from smar.mailertable import read_mailertable
from smar.route import Router
from smar.site import Site
from smar.trace import MAX_LINES as MAX_TRACE
from smar.trace import MAX_WIDTH, Trace
from smar.tryout import TryError, Tryout, route_lines, verdict_line
from smar.verdict import Checks
from tests.smar.test_access import Source
from tests.smar.zone import Zone, mx

ENTRIES = {"cltaddr:192.0.2": "relay", "to:root": "error:551 5.7.1 No", "from:@spam.test": "reject"}
TABLE = read_mailertable("loc.al lmtp:\n.far.test 26^esmtp:[192.0.2.1]\n", "mt")
RECORDS = {"MX": {"good.test": mx("10 a.x"), "spam.test": mx("10 a.x")}, "A": {"a.x": "192.0.2.9"}}


def tried(*words, entries=ENTRIES):
    """Answer a request; return its lines and whether it is so."""
    access = AccessMap(Source(entries))
    checks = Checks(TABLE, "mx.tld", access)
    router = Router(TABLE, Site(hostname="mx.tld", shuffle=lambda _: None))
    tryout = Tryout(
        checks, Connect(access), router, {"access": access.source}.get, "+", TABLE, "mx.tld"
    )
    answer = Zone(**RECORDS).drive(tryout.run(words))
    assert isinstance(answer, TryAnswer)
    return answer.lines, answer.found


@pytest.mark.covers("X437", "X438", "X439")
def test_routes():
    assert tried("route", "u@a.far.test") == (
        [
            "  map mailertable: a.far.test, .far.test, .test, . -> 26^esmtp:192.0.2.1",
            "destination esmtp:26:[192.0.2.1]",
            "  1. 192.0.2.1 [192.0.2.1]:26",
        ],
        True,
    )
    lines, found = tried("route", "u@good.test")
    assert lines[1] == "  dns MX good.test -> 10 a.x"
    assert lines[-1] == "  1. a.x [192.0.2.9]:25"
    assert found
    assert tried("route", "u@loc.al")[0][-1].endswith("the LMTP socket")
    lines, found = tried("route", "u@none.test")
    assert lines[-1].startswith("no route: 550 5.1.2")
    assert not found


@pytest.mark.covers("X454")
def test_recipients_stage_by_stage():
    lines, found = tried("rcpt", "192.0.2.5", "h", "s@good.test", "r@b.far.test", "access")
    assert found
    stages = [line for line in lines if not line.startswith(" ")]
    assert stages == [
        "check connect 1, cltaddr:",
        "check connect 3, name of the client",
        "connect: accepted, relay",
        "check MAIL 1, is the sender routable?",
        "check MAIL 3, from:",
        "MAIL: accepted",
        "check RCPT 2b, to:",
        "RCPT: accepted",
    ]
    lines, found = tried("rcpt", "10.1.1.1", "h", "s@spam.test", "r@b.far.test", "access")
    assert not found
    assert "MAIL: refused: 550 5.7.0 Rejected." in lines
    assert lines[-1] == "RCPT: refused: 550 5.7.1 relaying denied"
    lines, found = tried("rcpt", "10.1.1.1", "h", "s@spam.test", "r@b.far.test", "", "relay")
    assert found
    assert not any("access" in line for line in lines)
    refusing = {"cltaddr:10": "quick:reject"}
    lines, found = tried("rcpt", "10.1.1.1", "h", "", "r@loc.al", "access", entries=refusing)
    assert lines[-1] == "connect: refused at once: 550 5.7.0 Rejected."
    assert not found


def test_maps_and_the_dns():
    assert tried("map", "access", "TO:root") == (
        [
            "  map access: to:root -> error:551 5.7.1 No",
            "to:root is in the map: error:551 5.7.1 No",
        ],
        True,
    )
    lines, found = tried("map", "access", "client", "cltaddr:192.0.2.5")
    assert (len(lines), found) == (3, True)
    lines, found = tried("map", "access", "address", "u@x.y")
    assert [line.split(": ")[1].split(" ")[0] for line in lines[:-1]] == [
        "u*@x.y", "u@x.y", "@x.y", "u*@.y", "u@.y", "@.y", "u*", "u",
    ]  # fmt: skip
    assert not found
    assert tried("map", "access", "domain", "a.b")[0][:3] == [
        "  map access: a.b -> -", "  map access: .b -> -", "  map access: . -> -",
    ]  # fmt: skip
    assert tried("dns", "good.test") == (["  dns MX good.test -> 10 a.x", "lifetime 300 s"], True)
    lines, found = tried("dns", "192.0.2.1", "PTR")
    assert lines[0].startswith("  dns PTR 1.2.0.192.in-addr.arpa -> ")
    assert not found


@pytest.mark.parametrize(
    "words",
    [
        [], ["route"], ["route", "a", "b"], ["map", "none", "k"], ["map", "access", "odd", "k"],
        ["dns", "a.b", "TXT"], ["dns", "name", "PTR"], ["rcpt", "1", "2", "3"],
        ["rcpt", "1", "h", "2", "3", "", "no"],
    ],
)  # fmt: skip
def test_what_is_not_understood(words):
    with pytest.raises(TryError):
        tried(*words)


@given(st.lists(st.one_of(st.sampled_from(["route", "rcpt", "map", "dns", "access"]), st.text())))
def test_any_words_have_an_answer_or_an_error(words):
    try:
        lines, _ = tried(*words)
    except TryError:
        return
    assert len(lines) <= MAX_LINES


def test_a_trace_is_bounded():
    trace = Trace()
    for number in range(MAX_TRACE + 5):
        trace.add("x" * (MAX_WIDTH + number))
    assert len(trace.lines) == MAX_TRACE <= MAX_LINES
    assert max(map(len, trace.lines)) == MAX_WIDTH
    assert trace.left_out == 5
    trace.result("result")
    assert trace.lines[-2:] == ["  (5 more lookups)", "result"]


def test_lists_are_shown_in_part():
    route = Route(dest="", targets=[], expand=[f"u{n}@x" for n in range(3000)], owner="o@x")
    lines = route_lines(route)
    assert lines[0] == "stands for 3000, mailed in the name of o@x"
    assert lines[-1] == "  and 2900 more"
    assert len(lines) < 150


def test_verdicts_for_people():
    assert verdict_line(Verdict(accept=True, local=True, mark="ok")) == "accepted, ok, local"
    assert verdict_line(Verdict(accept=True, discard=True)) == "accepted and discarded"


def test_the_server_s_flags_come_from_its_section(tmp_path, capsys):
    conf = tmp_path / "smx.conf"
    (tmp_path / "mt").write_text("loc.al lmtp:\n")
    conf.write_text(
        f'smar {{ mailertable {{ file = "{tmp_path}/mt"; }} nameserver = "127.0.0.1:9"; }}\n'
        "smtps a { flags = { access, greylisting }; id = 0;"
        " protected_recipients { allow_by = sender; match_type = generic_lookup; } }\n"
        "smtps b { id = 1; }\n"
    )
    assert smxtest.rules_in(str(conf), "a") == "access greylisting allow_by_sender generic_lookup"
    assert smxtest.rules_in(str(conf), "b") == ""
    assert smxtest.run(["-f", str(conf), "rcpt", "--to", "u@loc.al"]) == smxtest.EX_USAGE
    assert "choose a section" in capsys.readouterr().err
    assert smxtest.run(["-f", str(tmp_path / "no"), "route", "u@loc.al"]) == smxtest.EX_CONFIG
    assert smxtest.run(["-s", str(tmp_path / "no"), "route", "u@x"]) == smxtest.EX_UNAVAILABLE
    assert smxtest.run(["-f", str(conf), "route", "u@loc.al"]) == 0
    assert smxtest.run(["nonsense"]) == smxtest.EX_USAGE
    (tmp_path / "mt").unlink()
    assert smxtest.run(["-f", str(conf), "route", "u@loc.al"]) == smxtest.EX_CONFIG
