"""Maps: sequences, maps that answer later, networks, files that change."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libsmx.errors import StartError, StoreError
from libsmx.log import NullLog
from libsmx.mapfile import write_map
from smar.mapfiles import MAX_TEXT, FileMap, MapFileError, load_table
from smar.maps import (
    Found,
    RemoteMap,
    SequenceMap,
    find,
    find_now,
    flatten,
    map_and_key,
    map_answer,
    map_question,
)
from smar.maptables import CidrTable, TextTable, read_cidr
from smar.records import Answer, Outcome
from smar.trace import Trace


class Local:
    """A map that answers at once."""

    later = False

    def __init__(self, name, **entries):
        self.name = name
        self.entries = entries
        self.members = (self,)

    def get(self, key):
        if self.entries.get(key) == "damaged":
            raise StoreError("damaged")
        return self.entries.get(key)

    def starts(self, prefix):
        return any(key.startswith(prefix) for key in self.entries)


def drive(steps, answers):
    """Run a decision with answers by question; return its result and what was asked."""
    asked = []
    try:
        questions = next(steps)
        while True:
            asked += questions
            questions = steps.send(tuple(answers[map_and_key(one)] for one in questions))
    except StopIteration as stop:
        return stop.value, [map_and_key(one) for one in asked]


@pytest.mark.covers("X210", "X218")
def test_of_a_sequence_the_first_map_answers_and_order_matters():
    one, two = Local("one", both="1", x="x"), Local("two", both="2", y="y")
    assert SequenceMap("s", (one, two)).get("both") == "1"
    assert SequenceMap("s", (two, one)).get("both") == "2"
    assert SequenceMap("s", (two, one)).get("x") == "x"
    assert SequenceMap("s", (two, one)).get("none") is None
    assert SequenceMap("s", (one,)).starts("bo")
    assert not SequenceMap("s", (one,)).starts("q")


@pytest.mark.covers("X218", "X220")
def test_the_closest_key_wins_over_the_order_of_maps():
    one, two = Local("one", far="1"), Local("two", near="2")
    sequences = [SequenceMap("s", (one, two)), SequenceMap("t", (two, one))]
    for sequence in sequences:
        assert find_now(sequence, ["near", "far"]) == Found("near", "2")
    assert flatten(sequences) == (one, two)


@pytest.mark.covers("X210", "X211")
def test_a_map_that_answers_later_is_asked_in_its_turn():
    sequence = SequenceMap("s", (Local("one", b="1"), RemoteMap("far")))
    assert sequence.later
    trace = Trace()
    answers = {("far", "a"): map_answer(None), ("far", "b"): map_answer("no")}
    assert drive(find(sequence, ["a", "b"], trace), answers) == (Found("b", "1"), [("far", "a")])
    assert trace.lines == ["  map one: a -> -", "  map far: a -> -", "  map one: b -> 1"]
    answers["far", "a"] = map_answer("yes")
    assert drive(find(sequence, ["a", "b"]), answers)[0] == Found("a", "yes")
    answers["far", "a"] = Answer(outcome=Outcome.FAILED, detail="no server")
    assert drive(find(sequence, ["a", "b"]), answers)[0] == Found("a", "", "no server")
    assert sequence.starts("anything")
    with pytest.raises(StoreError):
        RemoteMap("far").get("a")


def test_a_damaged_value_leaves_it_open():
    assert find_now(Local("one", a="damaged"), ["a"]) == Found("a", "", "damaged")


@given(st.text(alphabet=st.characters(exclude_characters="\0")), st.text())
def test_map_and_key_travel_in_a_question(name, key):
    assert map_and_key(map_question(name, key)) == (name, key)


@pytest.mark.covers("X208")
def test_the_smallest_network_answers():
    table = CidrTable(
        {
            "10.0.0.0/8": "a", "10.1.0.0/16": "b", "10.1.2.3": "c", "2001:db8::/32": "d",
            "cltaddr:10.0.0.0/8": "e", "cltaddr:ipv6:2001:db8::/32": "f",
        }
    )  # fmt: skip
    wanted = {
        "10.9.9.9": "a", "10.1.9.9": "b", "10.1.2.3": "c", "11.0.0.1": None, "10.1.2": None,
        "ipv6:2001:db8::1": "d", "ipv6:2001:db9::1": None, "cltaddr:10.1.2.3": "e",
        "cltaddr:ipv6:2001:db8::1": "f", "cltname:10.1.2.3": None, "user@host": None, "": None,
    }  # fmt: skip
    assert {key: table.get(key) for key in wanted} == wanted
    assert table.starts("cltaddr:")
    assert not table.starts("mxbadip:")
    assert len(table) == 6


def test_what_is_no_network_is_told():
    found = read_cidr([b"10.0.0.0/8 a", b"10.0.0.1/8 b", b"host c", b"10.0.0.0/40 d"])
    assert len(found.problems) == 3
    assert "line 2: 10.0.0.1/8 is no network" in found.problems[0]


@given(st.text(max_size=40))
def test_any_key_may_be_asked_for(key):
    CidrTable({"10.0.0.0/8": "a"}).get(key)
    TextTable({"a": "b"}).get(key)


class Changing:
    """A map in a file, and what the log says of it."""

    def __init__(self, path, kind="hash", *, optional=False):
        self.log = NullLog()
        self.map = FileMap("m", kind, str(path), self.log, optional=optional)

    def look(self):
        change = self.map.look()
        if change is not None:
            self.map.apply(change)
        return change

    def events(self):
        return [event.name for event, _ in self.log.records]


def put(path, **entries):
    write_map(str(path), entries, source="x", made_at=0)


@pytest.mark.covers("X209", "X478")
def test_a_new_file_is_used_and_a_broken_one_is_not(tmp_path):
    path = tmp_path / "m.db"
    put(path, a="1")
    found = Changing(path)
    found.map.open()
    assert (found.map.get("a"), found.map.get("b")) == ("1", None)
    assert found.look() is None
    put(path, a="2")
    found.look()
    assert found.map.get("a") == "2"
    data = path.read_bytes()
    path.write_bytes(data[:-5000])
    found.look()
    assert found.map.get("a") == "2"
    assert found.look() is None  # told once
    put(path, b="3")
    found.look()
    assert (found.map.get("a"), found.map.get("b")) == (None, "3")
    path.unlink()
    found.look()
    assert found.look() is None
    assert found.map.get("b") == "3"
    assert found.events() == ["map_read", "map_read", "map_unread", "map_read", "map_gone"]


@pytest.mark.covers("X251")
def test_an_optional_file_may_come_later(tmp_path):
    path = tmp_path / "access.db"
    found = Changing(path, optional=True)
    found.map.open()
    assert found.look() is None or not found.events()
    assert found.map.get("a") is None
    assert not found.map.starts("a")
    put(path, a="1")
    found.look()
    assert found.map.get("a") == "1"
    assert found.map.starts("a")


@pytest.mark.covers("X213")
def test_a_missing_or_broken_file_is_an_error_at_start(tmp_path):
    path = tmp_path / "m.db"
    with pytest.raises(StartError, match=r"m\.db: no such file; map m needs it"):
        Changing(path).map.open()
    path.write_text("text")
    with pytest.raises(StartError, match="no map made by createmap"):
        Changing(path, optional=True).map.open()


def test_a_text_is_read_when_its_editor_is_done(tmp_path):
    path = tmp_path / "m"
    path.write_text("A 1\n")
    found = Changing(path, "text")
    found.map.open()
    assert found.map.get("a") == "1"
    path.write_text("a 2\nb")
    assert found.look() is None
    path.write_text("a 2\nb 3\nc 4\n")
    assert found.look() is None
    found.look()
    assert found.map.get("b") == "3"
    path.write_text("a 2\nb\n")
    found.look()
    found.look()
    assert found.map.get("b") == "3"
    assert "line 2: key 'b' has no value" in found.log.records[-1][1]["error"]


def test_kinds_of_text(tmp_path):
    path = tmp_path / "m"
    path.write_text("/^a.c$/ yes\n")
    assert load_table("regex", str(path)).get("abc") == "yes"
    path.write_text("10.0.0.0/8 ten\n")
    assert load_table("cidr", str(path)).get("10.1.1.1") == "ten"
    path.write_text("/(/ x\n")
    with pytest.raises(MapFileError, match="parenthesis"):
        load_table("regex", str(path))
    with path.open("wb") as file:
        os.truncate(file.fileno(), MAX_TEXT + 1)
    with pytest.raises(MapFileError, match="the limit"):
        load_table("text", str(path))
    with pytest.raises(MapFileError, match="m/x"):
        load_table("text", str(path / "x"))
