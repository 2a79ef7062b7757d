"""The access map: clients, senders, recipients, certificates, protected recipients."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libsmx.accessrhs import CONT
from libsmx.maptext import fold
from libsmx.wire import ConnVerdict, Facts, MailAsk, RcptAsk, Verdict
from smar.access import UNSURE, AccessMap
from smar.connect import Connect
from smar.dnsbl import Blacklist, Blacklists
from smar.mailertable import read_mailertable
from smar.maps import RemoteMap, map_answer, map_question
from smar.maptables import TextTable
from smar.records import Answer, Outcome
from smar.trace import Trace, traced
from smar.verdict import Checks
from tests.smar.zone import FAILED, Zone, mx, names

CLIENT = "192.0.2.7"
PTR = "7.2.0.192.in-addr.arpa"
LISTED = "7.2.0.192.bl.test"
TABLE = read_mailertable("loc.al lmtp:\n", "mt")
NAMED = {"PTR": {PTR: names("mail.spam.dom")}, "A": {"mail.spam.dom": CLIENT}}


class Source:
    """A map in memory."""

    name = "access"
    later = False

    def __init__(self, entries):
        self._table = TextTable({fold(key): value for key, value in entries.items()})
        self.get, self.starts = self._table.get, self._table.starts
        self.members = (self,)


def access(entries, odd=None, **kwargs):
    told = odd if odd is not None else []
    return AccessMap(
        Source(entries), on_odd=lambda *what: told.append(what), hostname="mx.tld", **kwargs
    )


def connect(entries, zone=None, lists=()):
    judge = Connect(access(entries), Blacklists(Blacklist(*one.split("=")) for one in lists))
    return (zone or Zone()).drive(judge.client(CLIENT))


def said(verdict):
    """A verdict in one word or code."""
    if verdict.discard:
        return "quick:discard" if verdict.mark else "discard"
    if verdict.accept:
        return verdict.mark or "cont"
    return f"{verdict.mark}:{verdict.code}" if verdict.mark else verdict.code


@pytest.mark.covers("X276", "X288", "X289", "X290", "X291", "X277", "X302", "X303", "X304")
@pytest.mark.parametrize(
    ("entries", "zone", "expected"),
    [
        ({}, {}, "cont"),
        ({"cltaddr:192.0": "error:551 5.7.1 no"}, {}, 551),
        ({"cltaddr:192.0": "reject", f"cltaddr:{CLIENT}": "ok"}, {}, "ok"),
        ({"cltaddr:192.0": "reject", f"cltaddr:{CLIENT}": "cont"}, {}, "cont"),
        ({"CltAddr:192": "quick:relay"}, {}, "quick:relay"),
        ({"cltaddr:192": "relay"}, {}, "relay"),
        ({"cltaddr:192": "discard"}, {}, "discard"),
        ({"cltaddr:192": "quick:error:421 4.7.0 go"}, {}, "quick:421"),
        ({"cltresolve:no": "error:450 4.7.1 who"}, {}, 450),
        ({"cltresolve:no": "reject"}, NAMED, "cont"),
        ({"cltresolve:ok": "ok"}, NAMED, "ok"),
        ({"cltresolve:no": "reject"}, {**NAMED, "A": {"mail.spam.dom": "192.0.2.8"}}, 550),
        ({"cltresolve:tempptr": "error:451 4.7.1 x"}, {"PTR": {PTR: FAILED}}, 451),
        (
            {"cltresolve:tempa": "error:452 4.7.1 x", "cltresolve:tempptr": "reject"},
            {**NAMED, "A": {"mail.spam.dom": FAILED}},
            452,
        ),
        ({"cltname:.spam.dom": "reject"}, NAMED, 550),
        ({"cltname:spam.dom": "reject"}, NAMED, "cont"),
        ({"cltname:mail.spam.dom": "quick:reject"}, NAMED, "quick:550"),
        # a name that leads elsewhere is nobody's name
        ({"cltname:.spam.dom": "ok"}, {**NAMED, "A": {"mail.spam.dom": "192.0.2.8"}}, "cont"),
    ],
)
def test_clients(entries, zone, expected):
    assert said(connect(entries, Zone(**zone))) == expected


@pytest.mark.covers("X292", "X457")
def test_name_and_state_are_told():
    verdict = connect({"cltaddr:192": "ok"}, Zone(**NAMED))
    assert (verdict.name, verdict.resolve) == ("mail.spam.dom", "ok")
    forged = connect({}, Zone(**{**NAMED, "A": {"mail.spam.dom": "192.0.2.8"}}))
    assert (forged.name, forged.resolve) == ("", "forged")


@pytest.mark.covers("X455")
def test_a_client_that_is_refused_by_its_address_is_not_looked_up():
    zone = Zone(**NAMED)
    connect({"cltaddr:192": "quick:reject"}, zone, ["bl.test=bl"])
    assert zone.asked == []
    assert zone.ahead == []


@pytest.mark.covers("X233", "X234", "X236", "X239", "X456", "X460", "X283")
@pytest.mark.parametrize(
    ("entries", "zone", "expected"),
    [
        ({"bl:127.0.0.2": "error:550 5.7.1 spam"}, {}, 550),
        ({"bl:127.0.0.3": "error:550 5.7.1 spam"}, {}, "cont"),
        ({"bl:127.0.0.2": "ok", "other:127.0.0.9": "reject"}, {}, "ok"),
        ({"other:127.0.0.9": "reject"}, {}, 550),
        ({"bl:127.0.0.2": "cont", "other:127.0.0.9": "reject"}, {}, "cont"),
        ({"bl:temp": "error:451 4.7.1 x"}, {LISTED: FAILED}, 451),
        ({"bl:127.0.0.2": "reject", "cltname:.spam.dom": "ok"}, {}, "ok"),
        ({"bl:127.0.0.2": "reject", "cltaddr:192.0.2": "ok"}, {}, "ok"),
    ],
)
def test_blacklists_are_the_last_check(entries, zone, expected):
    records = {LISTED: "127.0.0.2", "7.2.0.192.bl2.test": "127.0.0.9", "mail.spam.dom": CLIENT}
    found = Zone(PTR=NAMED["PTR"], A={**records, **zone})
    assert said(connect(entries, found, ["bl.test=bl", "bl2.test=other"])) == expected
    if "cltaddr:192.0.2" not in entries:
        assert [question.name for question in found.ahead[-2:]] == [LISTED, "7.2.0.192.bl2.test"]
        assert found.asked[0].name == PTR


@pytest.mark.covers("X280", "X281", "X284")
@pytest.mark.parametrize(
    ("entries", "mark"),
    [
        ({}, ""),
        ({"certissuer:/C=US/CN=CA": "relay"}, "relay"),
        ({"certissuer:/C=US/CN=CA": "cont"}, ""),
        ({"certissuer:/C=US/CN=CA": "cont", "CertSubject:/CN=me": "relay"}, "relay"),
        ({"certsubject:/CN=me": "relay"}, ""),
        ({"certissuer:/C=US/CN=CA": "ok", "certsubject:/CN=me": "relay"}, ""),
        ({"certissuer:/C=US/CN=CA": "reject", "certsubject:/CN=me": "relay"}, ""),
    ],
)
def test_certificates(entries, mark):
    steps = Connect(access(entries)).certificate("/C=US/CN=CA", "/CN=ME")
    assert Zone().drive(steps) == Verdict(accept=True, mark=mark)


RECORDS = {
    "MX": {"spam.dom": mx("10 a.x"), "sub.spam.dom": mx("10 a.x"), "good.dom": mx("10 b.x")},
    "A": {"a.x": "127.0.0.1", "b.x": "192.0.2.1 10.1.2.3"},
}


def mail(sender, entries, mark="", rules="access"):
    ask = MailAsk(sender=sender, client=CLIENT, facts=Facts(mark=mark, rules=rules))
    return said(Zone(**RECORDS).drive(Checks(TABLE, "mx.tld", access(entries)).sender(ask)))


@pytest.mark.covers("X274", "X279", "X294", "X305", "X462", "X465", "X466", "X293")
@pytest.mark.parametrize(
    ("sender", "entries", "expected"),
    [
        ("u@spam.dom", {"from:@spam.dom": "error:551 5.7.1 no"}, 551),
        ("u@sub.spam.dom", {"from:@spam.dom": "reject"}, "cont"),
        ("u@sub.spam.dom", {"from:@.spam.dom": "reject"}, 550),
        ("u@spam.dom", {"from:@spam.dom": "reject", "from:u@spam.dom": "ok"}, "ok"),
        ("u@spam.dom", {"from:u": "reject"}, 550),
        ("u@spam.dom", {"from:@spam.dom": "discard"}, "discard"),
        ("u@spam.dom", {"from:@spam.dom": "relay"}, "cont"),
        ("u@spam.dom", {"from:@spam.dom": "nonsense"}, "cont"),
        ("u@spam.dom", {"from:spam.dom": "reject"}, "cont"),
        ("u@spam.dom", {"mxbadip:127.0.0.1": "error:551 5.7.1 bad"}, 551),
        ("u@good.dom", {"mxbadip:127.0.0.1": "reject"}, "cont"),
        ("u@good.dom", {"mxbadip:10": "reject"}, 550),
        ("u@spam.dom", {"mxbadip:127": "reject", "from:@spam.dom": "ok"}, "ok"),
        ("u@[127.0.0.1]", {"mxbadip:127": "reject"}, 550),
        ("u@loc.al", {"mxbadip:127": "reject"}, "cont"),
        ("u@none.dom", {"from:@none.dom": "ok"}, 553),
        ("", {"from:<>": "reject"}, "cont"),
    ],
)
def test_senders(sender, entries, expected):
    assert mail(sender, entries) == expected


@pytest.mark.covers("X302", "X303", "X462", "X465", "X273")
def test_senders_that_are_not_looked_up():
    entries = {"from:@spam.dom": "reject"}
    for mark in ("quick:ok", "quick:relay"):
        assert mail("u@spam.dom", entries, mark=mark) == "cont"
        assert mail("u@none.dom", entries, mark=mark) == "cont"
    for mark in ("", "ok", "relay"):
        assert mail("u@spam.dom", entries, mark=mark) == 550
    assert mail("u@spam.dom", entries, rules="greylisting") == "cont"


class Nobody:
    """Local users: one."""

    def refusal(self, address, *, sender, trace):
        yield from ()
        if address.startswith("u@"):
            return None
        return Verdict(accept=False, code=550, status="5.1.0" if sender else "5.1.1", text="no")


def rcpt(to, entries, *, relay=False, mark="", rules="access", sender="s@x", members=None, **kw):
    extra = {"members": members} if members else {}
    checks = Checks(TABLE, "mx.tld", access(entries), Nobody(), **extra)
    facts = Facts(mark=mark, rules=rules)
    ask = RcptAsk(rcpt=to, client=kw.pop("client", CLIENT), relay=relay, sender=sender, facts=facts)
    return Zone().drive(checks.rcpt(ask))


NO = {"to:u": "error:551 5.7.1 no", "to:x@far.dom": "error:552 5.7.1 no"}


@pytest.mark.covers(
    "X275", "X293", "X301", "X306", "X307", "X337", "X339", "X467", "X468", "X469", "X471", "X473"
)
@pytest.mark.parametrize(
    ("to", "entries", "asked", "expected"),
    [
        ("u@loc.al", {}, {}, "cont"),
        ("nobody@loc.al", {}, {}, 550),
        ("nobody@loc.al", {"to:nobody@loc.al": "relay"}, {}, 550),
        ("u@loc.al", {"to:u": "error:551 5.7.1 No mail"}, {}, 551),
        ("u@loc.al", {"to:u@loc.al": "ok", "to:@loc.al": "reject"}, {}, "ok"),
        ("u@loc.al", {"to:u": "quick:ok"}, {}, "quick:ok"),
        ("u@loc.al", {"to:u": "discard"}, {}, "discard"),
        ("u@loc.al", {"to:u": "quick:discard"}, {}, "quick:discard"),
        ("u@loc.al", {"to:u": "quick:reject"}, {}, "quick:550"),
        ("u@loc.al", NO, {"mark": "quick:relay"}, "cont"),
        ("u@loc.al", NO, {"mark": "quick:ok"}, 551),
        ("u@loc.al", NO, {"mark": "quick:ok", "relay": True}, "cont"),
        ("u@loc.al", NO, {"mark": "ok"}, 551),
        ("u@loc.al", NO, {"mark": "relay"}, 551),
        ("u@loc.al", NO, {"rules": ""}, "cont"),
        ("x@far.dom", {}, {}, 550),
        ("x@far.dom", {}, {"relay": True}, "cont"),
        ("x@far.dom", {}, {"mark": "relay"}, "cont"),
        ("x@far.dom", {}, {"mark": "quick:relay"}, "cont"),
        ("x@far.dom", {}, {"mark": "quick:ok"}, 550),
        ("x@far.dom", {}, {"mark": "ok"}, 550),
        ("x@far.dom", {"to:@far.dom": "relay"}, {}, "relay"),
        ("x@far.dom", {"to:@far.dom": "ok"}, {}, 550),
        ("x@far.dom", {"to:@far.dom": "discard"}, {}, 550),
        ("x@far.dom", {"to:x@far.dom": "relay", "to:@far.dom": "reject"}, {}, "relay"),
        ("y@far.dom", {"to:x@far.dom": "relay"}, {}, 550),
        ("x@far.dom", NO, {}, 552),
        ("x@far.dom", NO, {"relay": True}, 552),
        ("x@far.dom", {"to:@far.dom": "relay"}, {"rules": ""}, 550),
        ("no address", {}, {}, 553),
    ],
)
def test_recipients(to, entries, asked, expected):
    assert said(rcpt(to, entries, **asked)) == expected


@pytest.mark.covers("X336", "X363")
def test_private_local_domains_need_permission():
    private = "access lmtp_does_not_imply_relaying"
    refused = rcpt("u@loc.al", {}, rules=private)
    assert (refused.code, refused.status) == (550, "5.7.1")
    assert rcpt("u@loc.al", {}, rules=private, relay=True).accept
    assert rcpt("u@loc.al", {"to:@loc.al": "relay"}, rules=private).local
    assert rcpt("nobody@loc.al", {}, rules=private, relay=True).status == "5.1.1"


@pytest.mark.covers("X464", "X334")
def test_local_senders_must_exist():
    checks = Checks(TABLE, "mx.tld", access({}), Nobody())
    for sender, code in (("u@loc.al", 250), ("nobody@loc.al", 550)):
        ask = MailAsk(sender=sender, client=CLIENT)
        assert Zone().drive(checks.sender(ask)).code == code


def listed(alias, trace):
    yield from ()
    return {"staff": ["S@x", "t@x"], "outer": ["staff"]}.get(alias)


BOTH = "access allow_by_sender allow_by_client_ip"


@pytest.mark.covers(
    "X282", "X394", "X395", "X396", "X399", "X400", "X401", "X402", "X403", "X404", "X405",
    "X406", "X407", "X470",
)  # fmt: skip
@pytest.mark.parametrize(
    ("rhs", "asked", "accept"),
    [
        ("from:s@x", {"rules": BOTH}, True),
        ("from:t@x", {"rules": BOTH}, False),
        ("from:<S@X>", {"rules": "access allow_by_sender"}, True),
        ("from:s@x", {"rules": "access allow_by_client_ip"}, False),
        ("from:t@x", {"rules": "access"}, True),  # the section is not there
        ("from:t@x", {"rules": BOTH, "relay": True, "mark": "quick:relay"}, False),
        (f"cltaddr:{CLIENT}", {"rules": BOTH}, True),
        (f"cltaddr:{CLIENT}", {"rules": "access allow_by_sender"}, False),
        ("cltaddr:192.0.2", {"rules": BOTH}, False),
        ("cltaddr:192.0.2", {"rules": BOTH + " generic_lookup"}, True),
        ("cltaddr:IPv6:2001:db8:0:0:0:0:0:1", {"rules": BOTH, "client": "2001:db8::1"}, True),
        ("cltaddr:IPv6:2001:db8", {"rules": BOTH, "client": "2001:db8::1"}, False),
        ("from:a@b cltaddr:1.2.3.4 from:s@x", {"rules": BOTH}, True),
        ("from:@x", {"rules": BOTH}, False),
        ("from:@x", {"rules": BOTH + " generic_lookup"}, True),
        ("from:s@x", {"rules": BOTH + " generic_lookup", "sender": "s+d@x"}, False),
        ("from:s@x", {"rules": BOTH + " implicitly_match_detail", "sender": "s+d@x"}, True),
        ("from:<>", {"rules": BOTH, "sender": ""}, True),
        ("from:s@x", {"rules": BOTH, "sender": ""}, False),
        ("list:staff", {"rules": BOTH}, True),
        ("list:staff", {"rules": BOTH, "sender": "q@x"}, False),
        ("list:outer", {"rules": BOTH}, False),
        ("list:staff", {"rules": "access allow_by_client_ip"}, False),
        ("list:nolist", {"rules": BOTH}, False),
        ("nonsense", {"rules": BOTH}, False),
    ],
)
def test_protected_recipients(rhs, asked, accept):
    verdict = rcpt("u@loc.al", {"protectedrcpt:u": rhs}, members=listed, **asked)
    assert verdict.accept is accept
    if not accept:
        assert (verdict.code, verdict.status) == (550, "5.7.1")
    assert rcpt("u@loc.al", {"protectedrcpt:v": rhs}, members=listed, **asked).accept


@pytest.mark.covers("X408")
def test_protection_needs_the_flag_access():
    rules = "allow_by_sender"
    assert rcpt("u@loc.al", {"protectedrcpt:u": "from:q@x"}, rules=rules).accept


def test_odd_entries_are_told():
    odd = []
    zone = Zone()
    found = access({"cltaddr:1.2.3.4": "relayed", "from:@a": "relay"}, odd)
    assert zone.drive(found.client("1.2.3.4", None)) == CONT
    assert zone.drive(found.address("from", "u@a", None)) == CONT
    assert [(key, value) for key, value, _ in odd] == [
        ("cltaddr:1.2.3.4", "relayed"), ("from:@a", "relay"),
    ]  # fmt: skip


class FarZone(Zone):
    """Answers for a map that answers later."""

    def answer(self, question):
        return self._answers.get(question, Answer(outcome=Outcome.NO_NAME))


def test_a_map_that_cannot_be_asked_refuses_for_now():
    zone = FarZone()
    zone._answers[map_question("far", "cltaddr:10")] = map_answer("ok")
    zone._answers[map_question("far", "cltaddr:11.1.1.1")] = FAILED
    far = AccessMap(RemoteMap("far"))
    assert zone.drive(far.client("10.1.1.1", None)).mark == "ok"
    assert zone.drive(far.client("11.1.1.1", None)) == UNSURE
    assert zone.drive(far.client("12.1.1.1", None)) == CONT
    checks = Checks(TABLE, "mx.tld", far)
    zone._answers[map_question("far", "protectedrcpt:u@loc.al")] = FAILED
    facts = Facts(rules=BOTH)
    ask = RcptAsk(rcpt="u@loc.al", client=CLIENT, relay=False, facts=facts)
    assert zone.drive(checks.rcpt(ask)).code == 451


@pytest.mark.covers("X454", "X437")
def test_the_trace_tells_every_lookup_in_order():
    trace = Trace()
    judge = Connect(access({"cltname:.spam.dom": "error:551 5.7.1 no", "cltaddr:9": "ok"}))
    Zone(**NAMED).drive(traced(judge.client(CLIENT, trace), trace))
    assert trace.lines == [
        "check connect 1, cltaddr:",
        "  map access: cltaddr:192.0.2.7 -> -",
        "  map access: cltaddr:192.0.2 -> -",
        "  map access: cltaddr:192.0 -> -",
        "  map access: cltaddr:192 -> -",
        "check connect 3, name of the client",
        f"  dns PTR {PTR} -> mail.spam.dom",
        "  dns A mail.spam.dom -> 192.0.2.7",
        "  cltresolve ok, cltname mail.spam.dom",
        "check connect 4, cltresolve:",
        "  map access has no entry with tag cltresolve:",
        "check connect 5, cltname:",
        "  map access: cltname:mail.spam.dom -> -",
        "  map access: cltname:.spam.dom -> error:551 5.7.1 no",
    ]


_TAGS = ["from", "to", "cltaddr", "cltname", "cltresolve", "mxbadip", "protectedrcpt", "bl"]
_KEYS = st.tuples(
    st.sampled_from(_TAGS),
    st.sampled_from(["u@loc.al", "u", "@loc.al", "192", CLIENT, "no", "ok", ".dom", "127.0.0.2"]),
).map(":".join)
_VALUES = st.one_of(
    st.sampled_from(["ok", "relay", "reject", "discard", "cont", "quick:ok", "list:x", "from:a@b"]),
    st.text(max_size=12),
)


@given(
    st.dictionaries(_KEYS, _VALUES, max_size=8),
    st.text(max_size=20),
    st.text(max_size=20),
    st.sampled_from(["", "ok", "relay", "quick:ok", "quick:relay", "?"]),
    st.sampled_from(["", "access", BOTH + " generic_lookup"]),
)
def test_decisions_are_total(entries, sender, to, mark, rules):
    zone = Zone(**RECORDS)
    found = access(entries)
    facts = Facts(mark=mark, rules=rules)
    checks = Checks(TABLE, "mx.tld", found)
    for client in (CLIENT, "::1", to):
        verdict = zone.drive(Connect(found).client(client))
        assert isinstance(verdict, ConnVerdict)
    for address in (sender, "u@loc.al", "u@spam.dom"):
        ask = MailAsk(sender=address, client=CLIENT, facts=facts)
        assert isinstance(zone.drive(checks.sender(ask)), Verdict)
    for address in (to, "u@loc.al", "x@far.dom"):
        ask = RcptAsk(rcpt=address, client=CLIENT, relay=False, sender=sender, facts=facts)
        verdict = zone.drive(checks.rcpt(ask))
        assert isinstance(verdict, Verdict)
        assert verdict.accept or 400 <= verdict.code <= 599
