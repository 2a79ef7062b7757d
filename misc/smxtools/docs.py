"""Generated documentation: every page, or part of one, that is made from code.

Kind: shell. Reads the tree and writes its pages; each page is made by a core.

``python -m smxtools.docs`` (make docs) rewrites what is out of date, ``--check`` only says what
is and exits 1. Writes: the files of PAGES. Exit codes: 0, 1 with --check, EX_DATAERR when a page
cannot be made.
To add a page: one row in PAGES, with a function that gets the top of the tree and returns the
whole text.
"""

import argparse
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

from libsmx.confsample import sample
from libsmx.man import man_page
from smxtools import conformance, eventpage

TOP = Path(__file__).resolve().parents[2]


@attrs.frozen
class Page:
    """A file that is generated, wholly or in part.

    Attributes:
        path: below the top of the tree.
        make: returns its text; gets the top of the tree.
    """

    path: str
    make: Callable[[Path], str]

    def is_stale(self, top: Path) -> bool:
        """Tell whether the file is not what it should be."""
        path = top / self.path
        return not path.exists() or path.read_text(encoding="utf-8") != self.make(top)

    def write(self, top: Path) -> None:
        """Make the file anew."""
        (top / self.path).write_text(self.make(top), encoding="utf-8")


def collect_covers(top: Path) -> dict[str, list[str]]:
    """Return row number -> tests that cover it, from the sources of the tests.

    Raises:
        MarkerError: a marker without meaning.
    """
    covers: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted((top / "tests").rglob("test_*.py")):
        name = path.relative_to(top).as_posix()
        for number, test in conformance.find_markers(name, path.read_text(encoding="utf-8")):
            covers[number].append(test)
    return dict(covers)


def make_conformance(top: Path) -> str:
    """Return the conformance page with the state that the tests show."""
    page = (top / conformance.PAGE).read_text(encoding="utf-8")
    return conformance.render(page, collect_covers(top))


PAGES = (
    Page("conf/smx.conf", lambda _top: sample()),
    Page("misc/man/smx.conf.5", lambda _top: man_page()),
    Page(conformance.PAGE, make_conformance),
    Page(eventpage.PAGE, lambda _top: eventpage.render()),
)


def stale_pages(top: Path) -> list[Page]:
    """Return the pages that are out of date below the top of a tree."""
    return [page for page in PAGES if page.is_stale(top)]


def main(argv: Sequence[str] | None = None) -> int:
    """Rewrite or check all pages; return the exit code."""
    parser = argparse.ArgumentParser(prog="smxtools.docs", description="Make the generated pages.")
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if out of date")
    check: bool = parser.parse_args(argv).check
    try:
        stale = stale_pages(TOP)
        for page in stale:
            if not check:
                page.write(TOP)
            print(f"{page.path}: {'out of date, run make docs' if check else 'written'}")
    except (conformance.MarkerError, OSError) as error:
        print(f"smxtools.docs: {error}", file=sys.stderr)
        return os.EX_DATAERR
    return 1 if stale and check else os.EX_OK


if __name__ == "__main__":
    sys.exit(main())
