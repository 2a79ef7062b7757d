"""What differs between two configurations, and what makes it effective."""

import pytest

from libsmx.errors import EX_CONFIG, EX_OK
from libsmx.smxconf import DIFFERENT, main

RUN = 'start_action = wait; path = "/x"; arguments = "x";'


@pytest.fixture
def diff(tmp_path, capsys):
    def run(old, new):
        paths = [tmp_path / "old", tmp_path / "new"]
        for path, text in zip(paths, (old, new), strict=True):
            path.write_text(text)
        code = main(["diff", *map(str, paths)])
        out, err = capsys.readouterr()
        return code, out.splitlines(), err

    return run


@pytest.mark.covers("X102")
@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        (f"qmgr {{ {RUN} log_level = 9; }}", f"qmgr {{ {RUN} log_level = 12; }}",
         ["-qmgr.log_level = 9", "+qmgr.log_level = 12",
          "# to make this effective: mcp.sh reload"]),
        (f"qmgr {{ {RUN} log_level = 12; }}", f"hostname = a.example; qmgr {{ {RUN} }}",
         ['-hostname = ""', "+hostname = a.example", "-qmgr.log_level = 12",
          "+qmgr.log_level = 9", "# to make this effective: mcp.sh restart"]),
        (f"qmgr {{ {RUN} AQ_max_entries = 5000; }}",
         f"# same\nqmgr {{ {RUN} aq_max_entries = 5000; }}", []),
        (f"foo {{ {RUN} }}", f"foo {{ {RUN} }} bar {{ {RUN} user = a; }}",
         ["+bar.start_action = wait", "+bar.user = a", "+bar.path = /x", "+bar.arguments = x",
          "# to make this effective: mcp.sh restart"]),
    ],
)  # fmt: skip
def test_differences(diff, old, new, lines):
    code, out, err = diff(old, new)
    assert out == lines
    assert err == ""
    assert code == (DIFFERENT if lines else EX_OK)


def test_mistakes_of_both_files_are_told(diff):
    code, out, err = diff("qmgr { nonsense = 1; }", "hostname = ;")
    assert (code, out) == (EX_CONFIG, [])
    assert len(err.splitlines()) >= 2
