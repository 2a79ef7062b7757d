"""The page of log events holds every event that the code declares."""

import ast

import pytest
from smxtools import eventpage

from tests.system import ROOT

PACKAGES = ("libsmx", "mcp", "smtps", "qmgr", "smar", "smtpc")


def declaring_modules():
    """Modules that call logtab.event, from their sources."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            tree = ast.parse(path.read_text())
            imported = {
                alias.name
                for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom) and node.module == "libsmx.logtab"
                for alias in node.names
            }
            if "event" in imported:
                yield ".".join(path.relative_to(ROOT).with_suffix("").parts)


def test_every_module_that_declares_events_is_on_the_page():
    assert set(declaring_modules()) <= set(eventpage.tables())


@pytest.mark.parametrize("name", ["ta_accepted", "rcpt_delivered", "child_died", "bug"])
def test_an_event_stands_there_with_its_fields(name):
    (row,) = [line for line in eventpage.render().splitlines() if f"| `{name}` |" in line]
    assert row.count("|") == 5
    assert "`" in row.split("|")[4]
