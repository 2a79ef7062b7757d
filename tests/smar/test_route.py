"""Routes of recipients."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libsmx.errors import StoreError
from libsmx.rcb import MAX_FRAME, encode
from libsmx.wire import MAX_TARGETS, RouteAnswer, Target
from smar.aliases import Aliases, Rules
from smar.mailertable import MapMailertable, read_mailertable
from smar.records import Question
from smar.route import MAX_DEST, Router, dest_key, domain_of
from smar.site import Site
from smar.trace import Trace
from smar.tryout import route_lines
from tests.smar.zone import FAILED, NO_NAME, Zone, mx


def router(table="", shuffle=lambda _: None, **site):
    return Router(read_mailertable(table, "mt"), Site("gw.example", shuffle, **site))


def route(rcpt, zone=None, table="", shuffle=lambda _: None, **site):
    (found,) = (zone or Zone()).drive(router(table, shuffle, **site).routes([rcpt]))
    return found


def places(found):
    return [(target.host, target.address, target.port) for target in found.targets]


TWO = {
    "MX": {"example.org": mx("20 b.x", "10 a.x"), "example.net": mx("5 a.x", "9 b.x")},
    "A": {"a.x": "192.0.2.1", "b.x": "192.0.2.2"},
    "AAAA": {"b.x": "2001:db8::2"},
}


@pytest.mark.covers("X320")
def test_without_entry_mx_decides():
    found = route("u@example.org", Zone(**TWO))
    assert places(found) == [
        ("a.x", "192.0.2.1", 25),
        ("b.x", "192.0.2.2", 25),
        ("b.x", "2001:db8::2", 25),
    ]
    assert (found.dest, found.lmtp, found.code) == ("esmtp:25:a.x+b.x", False, 0)


def test_domains_behind_the_same_hosts_share_a_destination():
    zone = Zone(**TWO)
    dests = {route(f"u@{domain}", zone).dest for domain in ("example.org", "example.net")}
    assert dests == {"esmtp:25:a.x+b.x"}


def test_random_order_changes_targets_but_not_the_destination():
    zone = Zone(MX={"example.org": mx("10 a.x", "10 b.x")}, A=TWO["A"])
    plain, turned = route("u@example.org", zone), route("u@example.org", zone, "", list.reverse)
    assert plain.dest == turned.dest
    assert places(plain) == places(turned)[::-1]


@pytest.mark.covers("X319")
def test_mailertable_goes_before_mx_and_needs_no_dns():
    zone = Zone(**TWO)
    found = route("u@example.org", zone, "example.org 2525^esmtp:[127.0.0.1]\n")
    assert places(found) == [("127.0.0.1", "127.0.0.1", 2525)]
    assert found.dest == "esmtp:2525:[127.0.0.1]"
    assert zone.asked == []


@pytest.mark.covers("X314", "X315")
def test_mailer_esmtp_is_the_default():
    with_mailer = route("u@a.b", None, "a.b esmtp:[192.0.2.7]\n")
    assert with_mailer == route("u@a.b", None, "a.b [192.0.2.7]\n")


@pytest.mark.covers("X317")
def test_local_lmtp_socket():
    found = route("u@example.org", None, "example.org lmtp:\n")
    assert (found.dest, found.lmtp, places(found)) == ("lmtp:", True, [("lmtp:", "", 0)])


@pytest.mark.covers("X318")
def test_lmtp_over_a_network():
    found = route("u@example.org", None, "example.org 24^lmtp:[10.0.0.1]\n")
    assert (found.dest, found.lmtp) == ("lmtp:24:[10.0.0.1]", True)
    assert places(found) == [("10.0.0.1", "10.0.0.1", 24)]


@pytest.mark.covers("X313")
def test_host_name_in_the_table_is_subject_to_mx():
    found = route("u@any.where", Zone(**TWO), "any.where 26^esmtp:example.org\n")
    assert [place[1:] for place in places(found)][:2] == [("192.0.2.1", 26), ("192.0.2.2", 26)]
    assert found.dest == "esmtp:26:a.x+b.x"


def test_host_name_in_brackets_is_not():
    zone = Zone(MX={"mx.x": mx("1 other.x")}, A={"mx.x": "192.0.2.3", "other.x": "192.0.2.4"})
    found = route("u@any.where", zone, "any.where [mx.x]\n")
    assert places(found) == [("mx.x", "192.0.2.3", 25)]
    assert found.dest == "esmtp:25:[mx.x]"
    assert Question("mx.x", "MX") not in zone.asked


@pytest.mark.covers("X312")
def test_several_hosts_in_their_order():
    zone = Zone(**TWO)
    found = route("u@any.where", zone, "any.where [192.0.2.9] [b.x] example.org\n")
    assert [place[1] for place in places(found)] == [
        "192.0.2.9",
        "192.0.2.2",
        "2001:db8::2",
        "192.0.2.1",
    ]
    assert found.dest == "esmtp:25:[192.0.2.9]+[b.x]+a.x+b.x"


@pytest.mark.covers("X312")
def test_host_that_cannot_be_found_does_not_hide_the_next():
    zone = Zone(MX={"a.a": FAILED}, A={"b.x": "192.0.2.2"})
    found = route("u@any.where", zone, "any.where a.a none.x [b.x]\n")
    assert places(found) == [("b.x", "192.0.2.2", 25)]


def test_one_host_that_may_come_back_makes_the_failure_temporary():
    zone = Zone(MX={"a.a": FAILED})
    found = route("u@any.where", zone, "any.where none.x a.a\n")
    assert (found.code, found.status) == (451, "4.4.3")


@pytest.mark.parametrize(
    ("records", "code", "status"),
    [
        ({}, 550, "5.1.2"),
        ({"MX": {"example.org": NO_NAME}}, 550, "5.1.2"),
        ({"TXT": {"example.org": "x"}}, 550, "5.1.2"),
        ({"MX": {"example.org": mx("0 .")}}, 556, "5.1.10"),
        ({"MX": {"example.org": FAILED}}, 451, "4.4.3"),
        ({"A": {"example.org": FAILED}}, 451, "4.4.3"),
        ({"MX": {"example.org": mx("10 none.x")}}, 550, "5.4.4"),
        ({"MX": {"example.org": mx("10 192.0.2.1")}}, 550, "5.4.4"),
        ({"MX": {"example.org": mx("10 a.x")}, "A": {"a.x": FAILED}}, 451, "4.4.3"),
        (
            {"MX": {"example.org": mx("10 none.x", "20 a.x")}, "A": {"a.x": FAILED}},
            451,
            "4.4.3",
        ),
    ],
)
def test_no_route(records, code, status):
    found = route("u@example.org", Zone(**records))
    assert (found.code, found.status, found.targets) == (code, status, [])
    assert found.text


@pytest.mark.parametrize(
    ("rcpt", "address"),
    [("u@[192.0.2.1]", "192.0.2.1"), ("u@[IPv6:2001:DB8::1]", "2001:db8::1")],
)
@pytest.mark.covers("X483")
def test_address_literal_is_its_own_target(rcpt, address):
    zone = Zone()
    found = route(rcpt, zone)
    assert places(found) == [(address, address, 25)]
    assert zone.asked == []


@pytest.mark.covers("X310")
def test_default_route_holds_for_literals_too():
    found = route("u@[192.0.2.1]", None, ". esmtp:[10.0.0.1]\n")
    assert places(found) == [("10.0.0.1", "10.0.0.1", 25)]


@pytest.mark.parametrize(
    "rcpt", ["", "u", "u@", "@a.b", "u@a b", "u@a..b", "u@[1.2.3]", "\x00@\xff"]
)
def test_what_is_no_address_has_no_route(rcpt):
    found = route(rcpt)
    assert (found.code, found.status) == (553, "5.1.3")


@pytest.mark.parametrize(
    ("address", "domain"),
    [
        ("u@Example.ORG", "example.org"),
        ('"a@b"@c.d', "c.d"),
        ("PostMaster", "gw.example"),
        ("u@[IPv6:2001:DB8:0:0::1]", "[IPv6:2001:db8::1]"),
        ("nobody", None),
    ],
)
def test_domain_that_decides(address, domain):
    assert domain_of(address, "gw.example") == domain


def test_answers_stand_in_the_order_of_the_recipients_and_domains_are_asked_once():
    zone = Zone(**TWO)
    rcpts = ["a@example.org", "b@none.x", "c@example.org", "bad", "d@loc.al"]
    found = zone.drive(router("loc.al lmtp:\n").routes(rcpts))
    assert [r.dest for r in found][::2] == ["esmtp:25:a.x+b.x", "esmtp:25:a.x+b.x", "lmtp:"]
    assert [r.code for r in found] == [0, 550, 0, 553, 0]
    assert zone.asked.count(Question("example.org", "MX")) == 1


def test_many_hosts_stay_within_the_limits_of_the_message():
    mxs = mx(*(f"{n} {'h' * 60}{n}.x" for n in range(30)))
    many = " ".join(f"192.0.2.{n}" for n in range(1, 100))
    hosts = {f"{'h' * 60}{n}.x": many for n in range(30)}
    found = route("u@example.org", Zone(MX={"example.org": mxs}, A=hosts))
    assert len(found.targets) <= MAX_TARGETS
    assert len(found.dest) <= MAX_DEST
    assert encode(RouteAnswer(routes=[found]))


def test_one_address_behind_two_names_is_tried_once():
    zone = Zone(
        MX={"example.org": mx("10 a.x", "20 b.x")}, A={"a.x": "192.0.2.1", "b.x": "192.0.2.1"}
    )
    assert route("u@example.org", zone).targets == [
        Target(host="a.x", address="192.0.2.1", port=25, rank=1)
    ]


def test_exchangers_of_equal_preference_are_told_as_equal():
    zone = Zone(
        MX={"example.org": mx("10 a.x", "10 b.x", "20 c.x"), "second.org": mx("5 d.x")},
        A={"a.x": "192.0.2.1 192.0.2.2", "b.x": "192.0.2.3", "c.x": "192.0.2.4",
           "d.x": "192.0.2.5"},
    )  # fmt: skip
    ranks = [(t.host, t.rank) for t in route("u@example.org", zone).targets]
    assert ranks == [("a.x", 1), ("a.x", 1), ("b.x", 1), ("c.x", 2)]
    listed = route("u@other.org", zone, table="other.org second.org example.org\n").targets
    assert [t.host for t in listed] == ["d.x", "a.x", "a.x", "b.x", "c.x"]
    assert [t.rank for t in listed] == sorted(t.rank for t in listed)
    assert listed[0].rank < listed[1].rank == listed[3].rank < listed[4].rank


names = st.lists(st.text("ab.", min_size=1, max_size=90), min_size=1, max_size=8)


@given(names, names, st.integers(1, 65535))
def test_keys_are_bounded_and_differ_where_the_hosts_differ(one, two, port):
    keys = [dest_key(lmtp=False, port=port, names=n) for n in (one, two)]
    assert all(len(key) <= MAX_DEST for key in keys)
    assert (keys[0] == keys[1]) == (one == two)
    assert dest_key(lmtp=True, port=port, names=one) != keys[0]


SELF = {
    "MX": {"example.org": mx("10 a.x", "20 gw.example", "20 b.x", "30 c.x")},
    "A": {
        "a.x": "192.0.2.1",
        "b.x": "192.0.2.2",
        "c.x": "192.0.2.3",
        "gw.example": "198.51.100.1",
        "other.x": "198.51.100.1",
    },
}


def test_this_host_ends_the_list_of_exchangers():
    found = route("u@example.org", Zone(**SELF))
    assert places(found) == [("a.x", "192.0.2.1", 25)]
    assert found.dest == "esmtp:25:a.x"


@pytest.mark.parametrize(
    "site",
    [
        {"names": frozenset({"c.x"})},
        {"is_own": lambda address: address == "192.0.2.3"},
    ],
)
def test_other_names_and_addresses_of_this_host_end_it_too(site):
    records = {**SELF, "MX": {"example.org": mx("10 a.x", "20 b.x", "20 c.x")}}
    assert places(route("u@example.org", Zone(**records), **site)) == [("a.x", "192.0.2.1", 25)]


@pytest.mark.parametrize(
    "records",
    [
        {**SELF, "MX": {"example.org": mx("10 gw.example", "20 a.x")}},
        {**SELF, "MX": {"example.org": mx("10 a.x", "10 gw.example")}},
        {"A": {"example.org": "198.51.100.1"}},
    ],
)
def test_best_exchanger_being_this_host_is_a_mistake_that_the_report_names(records):
    found = route("u@example.org", Zone(**records), is_own=lambda a: a == "198.51.100.1")
    assert (found.code, found.status, found.targets) == (554, "5.3.5", [])
    assert "example.org: its best mail exchanger is this host" in found.text
    assert "mistake in the configuration" in found.text


def test_on_another_port_this_host_is_another_server():
    found = route("u@a.b", Zone(**SELF), "a.b 10025^esmtp:other.x\n", is_own=lambda _: True)
    assert places(found) == [("other.x", "198.51.100.1", 10025)]


def test_other_hosts_of_an_entry_go_on_where_one_is_this_host():
    found = route("u@a.b", Zone(**SELF), "a.b gw.example [b.x]\n")
    assert places(found) == [("b.x", "192.0.2.2", 25)]


@pytest.mark.parametrize(
    ("families", "wanted"),
    [
        (("ipv4", "ipv6"), ["192.0.2.2", "2001:db8::2", "192.0.2.3"]),
        (("ipv6", "ipv4"), ["2001:db8::2", "192.0.2.2", "192.0.2.3"]),
        (("ipv4",), ["192.0.2.2", "192.0.2.3"]),
        (("ipv6",), ["2001:db8::2"]),
    ],
)
def test_families_of_addresses(families, wanted):
    zone = Zone(A={"example.org": "192.0.2.2 192.0.2.3"}, AAAA={"example.org": "2001:db8::2"})
    found = route("u@example.org", zone, families=families)
    assert [place[1] for place in places(found)] == wanted
    kinds = {question.kind for question in zone.asked} - {"MX"}
    assert kinds == {{"ipv4": "A", "ipv6": "AAAA"}[name] for name in families}


def test_domain_without_addresses_of_the_families_in_use_has_no_route():
    zone = Zone(AAAA={"example.org": "2001:db8::2"})
    assert route("u@example.org", zone, families=("ipv4",)).code == 550


class Entries:
    """A map in memory, which may fail."""

    name = "m"
    later = False

    def __init__(self, entries, error=""):
        self.entries = entries
        self.error = error

    @property
    def members(self):
        return (self,)

    def get(self, key):
        if self.error:
            raise StoreError(self.error)
        return self.entries.get(key)

    def starts(self, prefix):
        return True


def map_router(entries, told=None, **options):
    odd = (lambda *what: told.append(what)) if told is not None else lambda *_: None
    table = MapMailertable(Entries(entries, **options), odd)
    return table, Router(table, Site("gw.example", lambda _: None))


@pytest.mark.covers("X246", "X247")
def test_mailertable_in_a_map_is_looked_up_each_time():
    entries = {"a.b": "2525^esmtp:[192.0.2.1]", ".b": "lmtp:", ".": "[192.0.2.9] [192.0.2.8]"}
    table, made = map_router(entries)

    def addresses_of(rcpt):
        return places(Zone().drive(made.routes([rcpt]))[0])

    assert addresses_of("u@A.B") == [("192.0.2.1", "192.0.2.1", 2525)]
    assert addresses_of("u@x.b") == [("lmtp:", "", 0)]
    assert [place[1] for place in addresses_of("u@x.y")] == ["192.0.2.9", "192.0.2.8"]
    assert table.is_local("x.b")
    assert not table.is_local("a.b")
    entries["a.b"] = "[192.0.2.7]"
    assert addresses_of("u@a.b") == [("192.0.2.7", "192.0.2.7", 25)]


@pytest.mark.parametrize(
    ("entries", "options"),
    [({"a.b": "smtp:[1.2.3.4]"}, {}), ({}, {"error": "damaged"}), ({"a.b": "lmtp:x.y"}, {})],
)
def test_mail_waits_where_the_map_is_wrong(entries, options):
    told = []
    table, made = map_router(entries, told, **options)
    (found,) = Zone(MX={"a.b": mx("10 a.x")}).drive(made.routes(["u@a.b"]))
    assert (found.code, found.status) == (451, "4.3.5")
    assert "mailertable: " in found.text
    assert not table.is_local("a.b")
    assert bool(told) == bool(entries)


def alias_router(entries, *flags):
    aliases = Aliases(
        Entries(entries),
        Rules(frozenset(flags or ("localpart",)), "gw.example"),
        lambda domain: domain == "loc.al",
        lambda *_: None,
    )
    return Router(
        read_mailertable("loc.al lmtp:\n", "mt"), Site("gw.example", lambda _: None), aliases
    )


@pytest.mark.covers("X321", "X324")
def test_recipient_that_stands_for_others_has_no_route_but_members():
    made = alias_router(
        {"list": "<a@example.org> <b@loc.al>", "owner-list": "b", "b": "local:", "x": "<y@z.z>"}
    )
    rcpts = ["list@loc.al", "b@loc.al", "x@loc.al", "list@example.org"]
    zone = Zone(**TWO)
    found = zone.drive(made.routes(rcpts))
    assert [route.expand for route in found] == [["a@example.org", "b@loc.al"], [], ["y@z.z"], []]
    assert [route.owner for route in found] == ["owner-list@loc.al", "", "", ""]
    assert [bool(route.targets) for route in found] == [False, True, False, True]
    assert [zone.drive(made.routes([rcpt]))[0] for rcpt in rcpts] == found
    assert encode(RouteAnswer(routes=found))


@pytest.mark.covers("X328")
def test_circle_of_aliases_ends_as_a_failure_for_good():
    made = alias_router({"a": "<b@loc.al>", "b": "<a@loc.al>"})
    (found,) = Zone().drive(made.routes(["a@loc.al"]))
    assert (found.code, found.status, found.expand) == (550, "5.4.6", [])


def test_postmaster_alone_stands_for_its_alias():
    (found,) = Zone().drive(alias_router({"postmaster": "<me@x.y>"}).routes(["Postmaster"]))
    assert found.expand == ["me@x.y"]


def test_domain_beyond_ascii_is_asked_for_by_its_a_labels():
    zone = Zone(MX={"xn--bcher-kva.example": mx("10 a.x")}, A=TWO["A"])
    found = route("u\u00f6@B\u00fccher.example", zone)
    assert places(found) == [("a.x", "192.0.2.1", 25)]
    assert domain_of("u@\u2603\u00fc.\u0000", "gw") is None


def test_domain_that_has_no_a_labels_is_no_address():
    assert route("u@xn\u00fc--\u0640.example").code in {550, 553}


def test_a_trace_tells_every_lookup_of_an_alias():
    trace = Trace()
    made = alias_router({"list": "<a@x.y> <in@loc.al>", "in": "<b@x.y>", "owner-list": "b"})
    (found,) = Zone().drive(made.routes(["list@loc.al"], trace))
    assert "  map m: list -> <a@x.y> <in@loc.al>" in trace.lines
    assert "  map m: in -> <b@x.y>" in trace.lines
    assert route_lines(found) == [
        "stands for 2, mailed in the name of owner-list@loc.al",
        "  a@x.y",
        "  b@x.y",
    ]


def test_answer_with_large_lists_fits_into_a_frame():
    """A list alone has its bound; of several together the last ones wait."""
    part = " ".join(f"<{'u' * 180}{{0}}-{n}@example.org>" for n in range(300))
    entries = {f"p{k}": part.format(k) for k in range(60)}
    entries |= {f"list{k}": " ".join(f"<p{n}@loc.al>" for n in range(30)) for k in range(8)}
    entries["huge"] = " ".join(f"<p{n}@loc.al>" for n in range(60))
    made = alias_router(entries)
    found = Zone().drive(made.routes([*(f"list{k}@loc.al" for k in range(8)), "huge@loc.al"]))
    assert len(encode(RouteAnswer(routes=found))) < MAX_FRAME
    assert [route.code for route in found] == [0] + [451] * 7 + [550]
    assert len(found[0].expand) == 30 * 300
