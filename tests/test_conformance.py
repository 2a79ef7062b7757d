"""The conformance page says what the tests show, no more and no less."""

import textwrap

import pytest
from smxtools import conformance, docs

PAGE = (docs.TOP / conformance.PAGE).read_text()
ROWS = conformance.read_rows(PAGE)


def test_every_row_stands_once_and_in_order():
    assert [row.number for row in ROWS] == [f"X{number:03}" for number in range(1, 485)]


@pytest.mark.parametrize("page", docs.PAGES, ids=lambda page: page.path)
def test_generated_pages_are_up_to_date(page):
    assert not page.is_stale(docs.TOP), f"{page.path}: run make docs"


def test_every_marker_names_a_row_and_belongs_to_a_test():
    covers = docs.collect_covers(docs.TOP)
    assert set(covers) <= {row.number for row in ROWS}
    for tests in covers.values():
        for test in tests:
            assert (docs.TOP / test.split("::")[0]).is_file()


def test_every_row_has_words_of_its_own():
    assert all(row.asks.strip().endswith(".") for row in ROWS)


def test_what_does_not_apply_says_why_and_has_no_test():
    found = {row.number: row for row in ROWS if row.state == "n/a"}
    assert set(found) == {"X027", "X028", "X030", "X031"}
    for row in found.values():
        assert len(row.asks.partition("Not applicable:")[2].split()) > 5
        assert row.tests == "-"


def test_a_row_of_which_something_is_missing_is_never_done():
    assert not [row for row in ROWS if "Missing:" in row.asks and row.state == "done"]


MARKED = textwrap.dedent("""
    import pytest
    from pytest import mark

    CASES = [pytest.param(1, marks=pytest.mark.covers("X005"))]

    @pytest.mark.covers("X001", "X002")
    def test_plain(): ...

    @mark.covers("X003")
    async def test_async(): ...

    @pytest.mark.parametrize("n", [pytest.param(1, marks=[pytest.mark.covers("X004")])])
    def test_param(n): ...

    @pytest.mark.parametrize("n", CASES)
    def test_list(n): ...

    @pytest.mark.covers("X006")
    class TestClass:
        @pytest.mark.covers("X007")
        def test_method(self): ...

    TestModel = pytest.mark.covers("X008")(Model.TestCase)
    """)


def test_markers_are_found_wherever_pytest_takes_them():
    assert sorted(conformance.find_markers("t.py", MARKED)) == [
        ("X001", "t.py::test_plain"),
        ("X002", "t.py::test_plain"),
        ("X003", "t.py::test_async"),
        ("X004", "t.py::test_param"),
        ("X005", "t.py::test_list"),
        ("X006", "t.py::TestClass"),
        ("X007", "t.py::TestClass::test_method"),
        ("X008", "t.py::TestModel"),
    ]


def test_a_mark_of_the_module_stands_for_the_file():
    source = 'import pytest\npytestmark = [pytest.mark.slow, pytest.mark.covers("X009")]\n'
    assert list(conformance.find_markers("t.py", source)) == [("X009", "t.py")]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ('@pytest.mark.covers("X485")\ndef test_a(): ...', "t.py:1: 'X485' is no row"),
        ('@pytest.mark.covers("X000")\ndef test_a(): ...', "'X000' is no row"),
        ('@pytest.mark.covers("x001")\ndef test_a(): ...', "'x001' is no row"),
        ("@pytest.mark.covers(ROW)\ndef test_a(): ...", "ROW is no row"),
        ('\n@pytest.mark.covers("X001")\ndef no_test(): ...', "t.py:2: this covers marker"),
    ],
)
def test_a_marker_without_meaning_is_an_error(source, text):
    with pytest.raises(conformance.MarkerError, match=text):
        list(conformance.find_markers("t.py", source))


@pytest.mark.parametrize(
    ("number", "asks", "tests", "state"),
    [
        ("X001", "Mail.", [], "open"),
        ("X001", "Mail.", ["tests/t.py::test_a"], "done"),
        ("X001", "Mail. Missing: mail.", ["tests/t.py::test_a"], "part"),
        ("X001", "Mail. Missing: mail.", [], "open"),
        ("X027", "Switch. Not applicable: no.", [], "n/a"),
        ("X079", "A limit.", ["tests/libsmx/test_opttab.py::test_a"], "part"),
        ("X079", "A limit.", ["tests/libsmx/test_opttab.py::a", "tests/t.py::b"], "done"),
        ("X092", "Case.", ["tests/libsmx/test_opttab.py::test_a"], "done"),
    ],
)
def test_states(number, asks, tests, state):
    assert conformance.state_of(number, asks, tests) == state


def test_rendering_keeps_what_people_wrote_and_makes_the_rest():
    page = textwrap.dedent("""\
        Words | with a bar.
        <!-- generated: counts -->
        old
        <!-- end -->
        ## A. One
        | X001 | First. |  |  |
        | X002 | Second. | done | `gone` |
        ## Decisions
        | D01 | a | b |
        """)
    once = conformance.render(page, {"X001": ["t.py::b", "t.py::a", "t.py::a"]})
    assert "| X001 | First. | done | `t.py::a`, `t.py::b` |\n" in once
    assert "| X002 | Second. | open | - |\n" in once
    assert "| A. One | 1 | 0 | 1 | 0 |\n| all | 1 | 0 | 1 | 0 |\n" in once
    assert "old" not in once
    assert once.startswith("Words | with a bar.\n")
    assert once.endswith("| D01 | a | b |\n")
    assert conformance.render(once, {"X001": ["t.py::a", "t.py::b"]}) == once


def test_check_says_what_is_out_of_date_and_writes_nothing(tmp_path, monkeypatch, capsys):
    (tmp_path / "page").write_text("old")
    monkeypatch.setattr(docs, "TOP", tmp_path)
    monkeypatch.setattr(docs, "PAGES", (docs.Page("page", lambda _top: "new"),))
    assert docs.main(["--check"]) == 1
    assert "page: out of date" in capsys.readouterr().out
    assert (tmp_path / "page").read_text() == "old"
    assert docs.main([]) == 0
    assert (tmp_path / "page").read_text() == "new"
    assert docs.main(["--check"]) == 0
