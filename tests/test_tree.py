"""Rules of the house that a machine can check: imports, kinds of files, names, sizes."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from libsmx.options import walk
from libsmx.opttab import COMPONENTS, GlobalConf, ServiceConf

READ_OTHERWISE = {"QmgrConf.IQDB.hash_table_entries"}
"""Kept for configurations that have it and checked against its neighbour; our tables grow."""
ROOT = Path(__file__).parent.parent
DAEMONS = ("mcp", "qmgr", "smtps", "smtpc", "smar")
PACKAGES = (*DAEMONS, "libsmx")
FILES = sorted(
    path.relative_to(ROOT)
    for top in (*PACKAGES, "misc/smxtools")
    for path in (ROOT / top).rglob("*.py")
)
IMPURE = {
    "trio", "socket", "os", "time", "random", "logging", "lmdb", "OpenSSL", "dns", "threading",
    "subprocess", "signal", "select", "shutil", "tempfile", "syslog", "setproctitle",
}  # fmt: skip
VALUES_ONLY = {"mcp/supervise.py": {"signal"}}
"""Cores that use an impure module for its names alone (SIGTERM), and nothing it does."""
DOORS = {
    "lmdb": {"libsmx/store.py", "libsmx/store_probe.py", "libsmx/mapfile.py"},
    "OpenSSL": {"libsmx/tls.py", "libsmx/tlscontext.py"},
    "dns": {"smar/dnsio.py"},
    "google_crc32c": {"libsmx/checksum.py"},
}
MAX_LINES = 400
LONGER: dict[str, str] = {}
"""Files that may be longer, and why."""


def imports(path):
    """Yield the dotted names that a file imports."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_file_imports_only_what_its_place_allows(path):
    package = path.parts[0]
    for name in imports(path):
        top = name.split(".")[0]
        if package in PACKAGES:
            assert top not in DAEMONS or top == package, f"{path} imports a sibling: {name}"
            assert top not in {"tests", "smxtools"}, f"{path} imports {name}"
        if top in DOORS:
            assert str(path) in DOORS[top], f"{path}: {top} has one door: {DOORS[top]}"


@pytest.mark.parametrize(
    "path", [p for p in FILES if p.name not in {"__init__.py", "__main__.py"}], ids=str
)
def test_a_file_says_its_kind_and_keeps_to_it(path):
    doc = ast.get_docstring(ast.parse((ROOT / path).read_text())) or ""
    kind = re.search(r"^Kind: (core|shell|table)\b", doc, re.MULTILINE)
    assert kind, f"{path}: the docstring must say 'Kind: core.', 'shell.' or 'table.'"
    if kind[1] == "core":
        allowed = VALUES_ONLY.get(str(path), set())
        wrong = {name for name in imports(path) if name.split(".")[0] in IMPURE - allowed}
        assert not wrong, f"{path} is a core and imports {wrong}"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_file_can_be_read_in_one_sitting(path):
    text = (ROOT / path).read_text()
    assert text.count("\n") <= MAX_LINES or str(path) in LONGER, f"{path}: split it by noun"
    assert path.stem not in {"utils", "helpers", "common", "misc"}
    assert not re.search(r"^\s*assert\b", text, re.MULTILINE), f"{path}: raise Bug(...) instead"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_only_the_skeleton_catches_everything(path):
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.ExceptHandler):
            names = ast.unparse(node.type) if node.type else "everything"
            if names in {"everything", "Exception", "BaseException"}:
                assert str(path) == "libsmx/process.py", f"{path}:{node.lineno} catches {names}"


def test_the_root_process_loads_no_parser_of_network_data():
    code = "import sys, mcp.daemon; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(out.stdout.split())
    assert not loaded & {"lmdb", "OpenSSL", "dns", "msgspec", "cryptography", "google_crc32c"}
    assert "trio" in loaded


def test_only_the_agreed_names_stand_at_the_top():
    out = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if out.returncode:
        names = {path.name for path in ROOT.iterdir()}
    else:
        names = {line.split("/")[0] for line in out.stdout.splitlines()}
    allowed = {"pyproject.toml", "Makefile", "README.md", "conf", "misc", "tests", *PACKAGES}
    assert {name for name in names if not name.startswith(".")} - allowed <= {"build", "run"}


def test_every_option_is_read_by_somebody():
    """A row that nobody reads is a feature that is only parsed."""
    read = set()
    for path in FILES:
        if not path.name.startswith("opt_"):
            for node in ast.walk(ast.parse((ROOT / path).read_text())):
                if isinstance(node, ast.Attribute):
                    read.add(node.attr)
    confs = (GlobalConf, *COMPONENTS.values(), ServiceConf)
    rows = {
        ".".join((conf.__name__, *dotted.split("."))): dotted
        for conf in confs
        for dotted, _row, _value in walk(conf())
    }
    unread = {name for name, dotted in rows.items() if dotted.split(".")[-1].lower() not in read}
    assert unread <= READ_OTHERWISE, unread
