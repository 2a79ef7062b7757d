"""The conformance page: which demand of the sendmail X README which tests show.

Kind: core.

A row of the page is one line, ``| X052 | what is asked | state | tests |``. People write the
first two cells; the others, and the counts, are made here from the ``covers`` markers of the
tests, which are read and not imported. The text of a row may end with ``Missing: ...`` (the row
is only part done) or ``Not applicable: ...``.
Limits: a marker's arguments must be literal row numbers, and it must belong to a test.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import attrs

PAGE = "misc/doc/conformance.md"
LAST_ROW = 484
STATES = ("done", "part", "open", "n/a")
COUNTS = re.compile(r"<!-- generated: counts -->\n.*?<!-- end -->\n", re.DOTALL)

_ROW = re.compile(r"\| (X\d{3}) \| ([^|]*) \| ([^|]*) \| ([^|]*) \|")
_AREA = re.compile(r"## ([A-Z]\. .*)")

CONFIG_TESTS = frozenset(
    f"tests/libsmx/test_{name}.py"
    for name in ("cmdline", "conffile", "confshow", "man", "options", "opttab", "smxconf")
)
"""Tests that see values of smx.conf and the command line, but no process that heeds them."""
CONFIG_ROWS = frozenset(
    f"X{number:03}"
    for number in (
        *range(70, 78), *range(85, 106), *range(120, 125), 125, 130, 144, 145, 160, 170, 176, 429,
    )
)  # fmt: skip
"""Rows that ask for nothing beyond that: how options are written, which values are refused."""

Covers = Mapping[str, Iterable[str]]


class MarkerError(Exception):
    """A marker that says nothing that could be shown on the page; the text tells where."""


@attrs.frozen
class Row:
    """One line of the page."""

    number: str
    asks: str
    state: str
    tests: str


def find_markers(path: str, source: str) -> Iterator[tuple[str, str]]:
    """Yield (row number, name of the test) for each ``covers`` marker of a test file.

    Understood are marks on functions, methods and classes, on ``pytest.param`` inside a
    decorator or in a module's list that a decorator names, ``TestModel = mark(...)`` and
    ``pytestmark``, for which the file's own name stands.

    Args:
        path: of the file, as it is to be shown.
        source: its text.

    Raises:
        MarkerError: no literal row number, or no test that it belongs to.
    """
    tree = ast.parse(source)
    lists = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    used: set[int] = set()
    for owner, name in _owners(tree, path):
        expressions = [owner, *(lists[word] for word in _names(owner) if word in lists)]
        for expression in expressions:
            for call in _calls(expression):
                used.add(id(call))
                for number in _numbers(path, call):
                    yield number, name
    for call in _calls(tree):
        if id(call) not in used:
            raise MarkerError(f"{path}:{call.lineno}: this covers marker belongs to no test")


def _owners(tree: ast.Module, path: str) -> Iterator[tuple[ast.AST, str]]:
    """Yield (expression that may hold marks, name of the test that they are of)."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name == "pytestmark":
                yield node.value, path
            elif name.startswith("Test"):
                yield node.value, f"{path}::{name}"
        yield from _decorators(node, path)


def _decorators(node: ast.AST, prefix: str) -> Iterator[tuple[ast.AST, str]]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test"):
        yield from ((mark, f"{prefix}::{node.name}") for mark in node.decorator_list)
    elif isinstance(node, ast.ClassDef):
        name = f"{prefix}::{node.name}"
        yield from ((mark, name) for mark in node.decorator_list)
        for inner in node.body:
            yield from _decorators(inner, name)


def _names(node: ast.AST) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}


def _calls(node: ast.AST) -> Iterator[ast.Call]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Attribute):
            function = inner.func
            if function.attr == "covers" and ast.unparse(function.value).endswith("mark"):
                yield inner


def _numbers(path: str, call: ast.Call) -> Iterator[str]:
    for argument in call.args:
        value = argument.value if isinstance(argument, ast.Constant) else None
        if not isinstance(value, str) or not is_row(value):
            text = ast.unparse(argument)
            raise MarkerError(f"{path}:{call.lineno}: {text} is no row, 'X001' to 'X{LAST_ROW}'")
        yield value


def is_row(number: str) -> bool:
    """Tell whether there is a row of this number."""
    return re.fullmatch(r"X\d{3}", number) is not None and 1 <= int(number[1:]) <= LAST_ROW


def read_rows(page: str) -> list[Row]:
    """Return the rows of the page in their order."""
    found = map(_ROW.fullmatch, page.splitlines())
    return [Row(*match.groups()) for match in found if match]


def state_of(number: str, asks: str, tests: Iterable[str]) -> str:
    """Return the state of a row, one of STATES.

    Args:
        number: of the row.
        asks: its text.
        tests: names of the tests that cover it.
    """
    files = {test.split("::")[0] for test in tests}
    if "Not applicable:" in asks:
        return "n/a"
    if not files:
        return "open"
    if "Missing:" in asks or (files <= CONFIG_TESTS and number not in CONFIG_ROWS):
        return "part"
    return "done"


def render(page: str, covers: Covers) -> str:
    """Return the page with its generated parts made anew.

    Args:
        page: the present text.
        covers: row number -> names of the tests that show it.
    """
    lines = []
    counts: dict[str, Counter[str]] = {}
    area: Counter[str] = Counter()
    for line in page.splitlines():
        heading = _AREA.fullmatch(line)
        found = _ROW.fullmatch(line)
        if heading:
            area = counts.setdefault(heading[1], Counter())
        if found is None:
            lines.append(line)
            continue
        number, asks = found[1], found[2].strip()
        tests = sorted(set(covers.get(number, ())))
        state = state_of(number, asks, tests)
        area[state] += 1
        shown = ", ".join(f"`{test}`" for test in tests) or "-"
        lines.append(f"| {number} | {asks} | {state} | {shown} |")
    table = "".join(_count_lines(counts))
    text = "\n".join(lines) + "\n"
    return COUNTS.sub(lambda _: f"<!-- generated: counts -->\n{table}<!-- end -->\n", text, count=1)


def _count_lines(counts: Mapping[str, Counter[str]]) -> Iterator[str]:
    rows = {area: count for area, count in counts.items() if count}
    yield f"| area | {' | '.join(STATES)} |\n|---|{'---|' * len(STATES)}\n"
    for area, count in rows.items():
        yield f"| {area} | {' | '.join(str(count[state]) for state in STATES)} |\n"
    total = sum(rows.values(), Counter[str]())
    yield f"| all | {' | '.join(str(total[state]) for state in STATES)} |\n"
