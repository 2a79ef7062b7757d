"""Aliases and local users."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libsmx.aliasvalue import read_value, replace_macros
from libsmx.maptext import fold
from smar.aliases import AliasError, Aliases, Expansion, Rules
from smar.maps import RemoteMap, map_and_key, map_answer
from smar.records import Answer, Outcome
from smar.users import LocalUsers
from tests.smar.zone import Zone

HOST = "gw.my.dom"
LOCAL_DOMAINS = {"my.dom", "first.dom", "second.dom", HOST}


class DictMap:
    """A map in memory that counts what it is asked."""

    name = "aliases"
    later = False

    def __init__(self, entries):
        self.entries = {fold(key): value for key, value in entries.items()}
        self.asked = []

    @property
    def members(self):
        return (self,)

    def get(self, key):
        self.asked.append(key)
        return self.entries.get(key)

    def starts(self, prefix):
        return True


def make(entries, *flags, source=None, **rules):
    return Aliases(
        source or DictMap(entries),
        Rules(frozenset(flags or ("localpart",)), HOST, **rules),
        LOCAL_DOMAINS.__contains__,
        lambda *_: None,
    )


def expand(aliases, address):
    found = Zone().drive(aliases.expand(address))
    return None if found is None else sorted(found.members)


def refusal(aliases, address, users=None, sender=False, **options):
    found = LocalUsers(aliases, users, aliases._rules, **options)
    verdict = Zone().drive(found.refusal(address, sender=sender))
    return None if verdict is None else (verdict.code, verdict.status)


@pytest.mark.covers("X224", "X322", "X323")
def test_keys_that_are_local_parts_hold_for_local_addresses_only():
    aliases = make({"user": "bob", "list": "<a@x.y> <b@x.y>"})
    assert expand(aliases, "user@my.dom") == [f"bob@{HOST}"]
    assert expand(aliases, "User@First.Dom") == [f"bob@{HOST}"]
    assert expand(aliases, "list@my.dom") == ["a@x.y", "b@x.y"]
    assert expand(aliases, "user@remote.tld") is None


@pytest.mark.covers("X225", "X321", "X326")
def test_keys_with_local_domains_are_virtual_users():
    aliases = make(
        {
            "myalias@first.dom": "user1",
            "another@second.dom": "user2",
            "a@remote.tld": "<x@y.z>",
            "plain": "nobody",
        },
        "local_domains",
    )
    assert expand(aliases, "myalias@first.dom") == [f"user1@{HOST}"]
    assert expand(aliases, "another@second.dom") == [f"user2@{HOST}"]
    assert expand(aliases, "myalias@second.dom") is None
    assert expand(aliases, "a@remote.tld") is None
    assert expand(aliases, "plain@first.dom") is None
    assert refusal(aliases, "myalias@second.dom") == (550, "5.1.1")
    assert refusal(aliases, "another@first.dom") == (550, "5.1.1")
    assert refusal(aliases, "myalias@first.dom") is None


@pytest.mark.covers("X226")
def test_keys_for_all_domains_redirect_relayed_mail():
    aliases = make({"a@remote.tld": "<b@other.tld>"}, "all_domains")
    assert expand(aliases, "a@remote.tld") == ["b@other.tld"]
    assert aliases.may_know("any.where")
    assert not make({}).may_know("any.where")


def test_keys_with_domain_go_before_local_parts():
    aliases = make({"user@my.dom": "<one@x.y>", "user": "<two@x.y>"}, "local_domains", "localpart")
    assert expand(aliases, "user@my.dom") == ["one@x.y"]
    assert expand(aliases, "user@first.dom") == ["two@x.y"]


@pytest.mark.covers("X227")
def test_detail_is_matched_implicitly_only_with_the_flag():
    entries = {"user@my.dom": "<x@y.z>"}
    assert expand(make(entries, "local_domains"), "user+d@my.dom") is None
    with_flag = make(entries, "local_domains", "implicitly_match_detail")
    assert expand(with_flag, "user+d@my.dom") == ["x@y.z"]


@pytest.mark.covers("X228", "X340", "X341", "X342", "X343", "X344", "X345", "X346", "X347")
def test_macros():
    entries = {
        "alias*@.domain": "<user${extension}@${subdomain}.domain>",
        "all*@my.dom": "<${user}.${detail}.${delimiter}${tag}x@${domain}>",
    }
    flags = "all_domains", "replace_macros"
    aliases = make(entries, *flags)
    assert expand(aliases, "alias@host.domain") == ["user@host.domain"]
    assert expand(aliases, "alias+detail@host2.domain") == ["user+detail@host2.domain"]
    assert expand(aliases, "all+d@my.dom") == ["all.d.+x@my.dom"]
    minus = make(entries, *flags, delimiter="-")
    assert expand(minus, "all-d@my.dom") == ["all.d.-x@my.dom"]
    assert expand(minus, "alias-d@a.b.domain") == ["user-d@a.b.domain"]
    literal = make({"u@my.dom": "<${user}@z.tld>"}, "all_domains")
    assert expand(literal, "u@my.dom") == ["${user}@z.tld"]


@pytest.mark.covers("X229")
def test_domain_of_unqualified_values():
    entries = {"list": "joe", "two": "<joe> <ann@x.y>"}
    assert expand(make(entries), "list@first.dom") == [f"joe@{HOST}"]
    preserving = make(entries, "localpart", "preserve_domain")
    assert expand(preserving, "list@first.dom") == ["joe@first.dom"]
    assert expand(preserving, "two@first.dom") == ["ann@x.y", "joe@first.dom"]


def chain(levels):
    entries = {f"a{n}": f"a{n + 1}" for n in range(1, levels)}
    return {**entries, f"a{levels}": "<user@far.away>"}


@pytest.mark.covers("X327")
def test_five_levels_work_and_six_do_not():
    assert expand(make(chain(5)), f"a1@{HOST}") == ["user@far.away"]
    with pytest.raises(AliasError, match="deeper than 5"):
        expand(make(chain(6)), f"a1@{HOST}")
    assert refusal(make(chain(6)), f"a1@{HOST}") == (550, "5.4.6")
    assert refusal(make(chain(6)), f"a2@{HOST}") is None
    assert expand(make(chain(6), max_depth=6), f"a1@{HOST}") == ["user@far.away"]


def test_levels_are_counted_along_the_longest_way():
    entries = {**chain(5), "wide": "<a1@gw.my.dom> <a2@gw.my.dom>", "late": "<a3@gw.my.dom> <wide>"}
    with pytest.raises(AliasError):
        expand(make(entries), f"wide@{HOST}")
    assert expand(make(entries, max_depth=6), f"wide@{HOST}") == ["user@far.away"]
    with pytest.raises(AliasError):
        expand(make(entries, max_depth=6), f"late@{HOST}")


@pytest.mark.covers("X328")
@pytest.mark.parametrize(
    "entries",
    [
        {"a": "b", "b": "a"},
        {"a": "a"},
        {"a": "<x@y.z> <b>", "b": "<c>", "c": "<x@y.z> <a>"},
        {"a": "<b>", "b": "<a>", "owner-b": "<x@y.z>"},
    ],
)
def test_circles_are_refused(entries):
    with pytest.raises(AliasError) as caught:
        expand(make(entries), f"a@{HOST}")
    assert (caught.value.code, caught.value.status) == (550, "5.4.6")


def test_equal_members_stand_once_and_one_alias_may_stand_in_two():
    entries = {
        "all": "<one> <two> <Ann@x.y>",
        "one": "<ann@x.y> <both>",
        "two": "<ANN@X.Y> <both>",
        "both": "<bob@x.y>",
    }
    assert expand(make(entries), "all@my.dom") == ["ann@x.y", "bob@x.y"]


@pytest.mark.covers("X324", "X325")
def test_owner_is_that_of_the_addressed_list_in_its_domain():
    aliases = make({"list": "<a@x.y> <b@x.y>", "owner-list": "someuser", "plain": "<a@x.y>"})

    def owner(address):
        return Zone().drive(aliases.expand(address)).owner

    assert owner("list@first.dom") == "owner-list@first.dom"
    assert owner("list@my.dom") == "owner-list@my.dom"
    assert owner("plain@my.dom") == ""
    assert owner("owner-list@my.dom") == ""
    assert expand(aliases, "owner-list@my.dom") == [f"someuser@{HOST}"]


def test_entry_for_a_whole_domain_is_nobodys_owner():
    aliases = make({"list@my.dom": "<a@x.y>", "@my.dom": "<all@x.y>"}, "local_domains")
    assert Zone().drive(aliases.expand("list@my.dom")) == Expansion(["a@x.y"])


def test_nested_list_with_an_owner_is_left_for_its_own_turn():
    entries = {
        "outer": "<inner@my.dom> <a@x.y>",
        "owner-outer": "<o@x.y>",
        "inner": "<b@x.y> <a@x.y>",
        "owner-inner": "<i@x.y>",
    }
    aliases = make(entries)
    assert Zone().drive(aliases.expand("outer@my.dom")) == Expansion(
        ["inner@my.dom", "a@x.y"], "owner-outer@my.dom"
    )
    assert Zone().drive(aliases.expand("inner@my.dom")) == Expansion(
        ["b@x.y", "a@x.y"], "owner-inner@my.dom"
    )


def test_alias_inside_an_owned_list_and_outside_is_expanded_outside():
    entries = {
        "outer": "<owned@my.dom> <shared@my.dom>",
        "owned": "<shared@my.dom>",
        "owner-owned": "<o@x.y>",
        "shared": "<a@x.y>",
    }
    assert expand(make(entries), "outer@my.dom") == ["a@x.y", "owned@my.dom"]


@pytest.mark.covers("X330", "X331", "X333")
def test_valid_local_addresses():
    aliases = make(
        {
            "postmaster": "<user@host.domain>",
            "abuse": "user+abuse",
            "user++": "local:",
            "user": "local:",
        }
    )
    for address in ("user", "user+x", "abuse", "postmaster"):
        assert refusal(aliases, f"{address}@my.dom") is None
    for address in ("unknown", "unknown+x", "user1", "user+"):
        assert refusal(aliases, f"{address}@my.dom") == (550, "5.1.1")
    assert expand(aliases, "user+x@my.dom") is None
    assert expand(aliases, "abuse@my.dom") == [f"user+abuse@{HOST}"]


@pytest.mark.covers("X334", "X464")
def test_local_senders_must_exist_too():
    aliases = make({"user": "local:", "deep": "deep"})
    assert refusal(aliases, "user@my.dom", sender=True) is None
    assert refusal(aliases, "nosuch@my.dom", sender=True) == (550, "5.1.0")
    assert refusal(aliases, "deep@my.dom", sender=True) is None  # nothing is expanded


@pytest.mark.covers("X242", "X243")
def test_map_of_local_users():
    users = DictMap({"bob": "x", "ann@my.dom": "x"})
    aliases = make({"alias": "bob"})
    assert refusal(aliases, "bob@my.dom", users) is None
    assert refusal(aliases, "alias@my.dom", users) is None
    assert refusal(aliases, "ann@my.dom", users) is None
    assert refusal(aliases, "ann@first.dom", users) == (550, "5.1.1")
    assert refusal(aliases, "carol@my.dom", users) == (550, "5.1.1")
    assert refusal(aliases, "bob@my.dom", users, sender=True) is None
    for address in ("bob+x@my.dom", "ann+x@my.dom"):
        assert refusal(aliases, address, users) == (550, "5.1.1")
        assert refusal(aliases, address, users, implicit_detail=True) is None


def test_postmaster_exists_everywhere_and_alone_is_local():
    aliases = make({})
    assert refusal(aliases, "Postmaster@my.dom") is None
    assert refusal(aliases, "postmaster") is None
    strange = Aliases(
        DictMap({"postmaster": "<me@x.y>"}),
        Rules(frozenset({"localpart"}), "host.not.local"),
        lambda _: False,
        lambda *_: None,
    )
    assert expand(strange, "Postmaster") == ["me@x.y"]
    assert expand(strange, "postmaster@any.where") is None


@pytest.mark.covers("X405")
def test_members_of_a_list_are_not_expanded():
    aliases = make({"list1": "<u@x.y> <list2@my.dom>", "list2": "<v@x.y>", "user": "local:"})
    assert Zone().drive(aliases.members("list1@my.dom")) == ["u@x.y", "list2@my.dom"]
    assert Zone().drive(aliases.members("user@my.dom")) is None
    assert Zone().drive(aliases.members("none@my.dom")) is None


class LaterZone:
    """Answers questions for a map that answers later."""

    def __init__(self, entries, failing=()):
        self.entries = entries
        self.failing = failing

    def drive(self, steps):
        try:
            asked = next(steps)
            while True:
                asked = steps.send(tuple(self.answer(question) for question in asked))
        except StopIteration as stop:
            return stop.value

    def answer(self, question):
        _, key = map_and_key(question)
        if key in self.failing:
            return Answer(outcome=Outcome.FAILED, detail="down")
        return map_answer(self.entries.get(key))


def test_aliases_behind_a_socket_and_when_it_is_down():
    aliases = make({}, source=RemoteMap("aliases"))
    zone = LaterZone({"list": "<a@x.y> <in>", "in": "<b@x.y>"}, failing={"down"})
    assert zone.drive(aliases.expand("list@my.dom")).members == ["a@x.y", "b@x.y"]
    with pytest.raises(AliasError) as caught:
        zone.drive(aliases.expand("down@my.dom"))
    assert (caught.value.code, caught.value.status) == (451, "4.3.0")
    users = LocalUsers(aliases, RemoteMap("users"), aliases._rules)
    verdict = zone.drive(users.refusal("down@my.dom", sender=False))
    assert (verdict.code, verdict.status) == (451, "4.3.0")


def test_wrong_entry_is_a_temporary_failure_and_told():
    told = []
    aliases = Aliases(
        DictMap({"odd": "a@b.c, d@e.f"}),
        Rules(frozenset({"localpart"}), HOST),
        lambda _: True,
        lambda *what: told.append(what),
    )
    with pytest.raises(AliasError) as caught:
        expand(aliases, "odd@my.dom")
    assert (caught.value.code, caught.value.status) == (451, "4.3.5")
    assert told[0][:2] == ("odd@my.dom", "odd")
    assert "angle brackets" in told[0][2]


def test_number_of_members_is_bounded():
    many = " ".join(f"<u{n}@x.y>" for n in range(50))
    assert len(expand(make({"all": many}, max_members=50), "all@my.dom")) == 50
    with pytest.raises(AliasError, match="more than 49"):
        expand(make({"all": many}, max_members=49), "all@my.dom")


def test_domains_beyond_ascii_are_known_by_their_a_labels():
    aliases = Aliases(
        DictMap({"user@xn--bcher-kva.example": "<x@y.z>"}),
        Rules(frozenset({"local_domains"}), HOST),
        {"xn--bcher-kva.example"}.__contains__,
        lambda *_: None,
    )
    assert expand(aliases, "user@b\u00fccher.example") == ["x@y.z"]


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("local:", None),
        (" LOCAL: ", None),
        ("bob", ["bob@h.d"]),
        ("bob@x.y", ["bob@x.y"]),
        ("<bob>", ["bob@h.d"]),
        ("<a@b.c>  <d@e.f><g@h.i>", ["a@b.c", "d@e.f", "g@h.i"]),
        ('<"a b@c"@d.e> <"x y">', ['"a b@c"@d.e', '"x y"@h.d']),
        ("<a@b.c> <a@b.c>", ["a@b.c"]),
    ],
)
def test_values(value, wanted):
    assert read_value(value, "h.d") == wanted


@pytest.mark.parametrize(
    "value",
    ["", "a b", "a, b", "<a@b.c>,<d@e.f>", "<a@b.c", "a@b.c>", "<>", "<a b>", "|prog", "local: <a>",
     ":include:/x", "a@@b", "<a@b..c>", '"/file"'],
)  # fmt: skip
def test_values_that_are_none(value):
    if value == "|prog":  # an address, odd as it looks
        assert read_value(value, "h.d") == ["|prog@h.d"]
        return
    with pytest.raises(ValueError, match=r"\w"):
        read_value(value, "h.d")


def test_unknown_macro_is_told():
    with pytest.raises(ValueError, match=r"\$\{usr\}; known: user"):
        replace_macros("${usr}", {"user": "x"})


words = st.sampled_from(["a", "b", "c", "d", "e", "owner-a", "owner-b", "u@x.y", "v@x.y", "w"])
values = st.one_of(
    st.just("local:"),
    words,
    st.lists(words, min_size=1, max_size=4).map(lambda many: " ".join(f"<{w}>" for w in many)),
    st.text("<>@ab ,:", max_size=12),
)
maps = st.dictionaries(words, values, max_size=10)


@given(maps, words, st.integers(1, 6), st.integers(1, 8), st.booleans())
def test_every_expansion_ends_within_its_bounds(entries, start, depth, most, virtual):
    flags = ("localpart", "all_domains") if virtual else ("localpart",)
    aliases = make(entries, *flags, max_depth=depth, max_members=most)
    address = start if "@" in start else f"{start}@{HOST}"
    found = None
    with contextlib.suppress(AliasError):
        found = Zone().drive(aliases.expand(address))
    if found is not None:
        folded = [fold(member) for member in found.members]
        assert len(set(folded)) == len(folded)
        assert 0 < len(folded) <= most
        for member in found.members:
            inner = Zone().drive(aliases.find(member))
            if inner is not None and inner.members is not None:  # a list with its own owner
                assert Zone().drive(aliases.expand(member)).owner
    # Every address is asked for a few times at most, each under a few keys.
    assert len(aliases._source.asked) <= 8 * 4 * (most + 2) * (depth + 1)
