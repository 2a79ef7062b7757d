"""The commands in README and documents are commands that there are, with options that they have."""

import re
import shlex

import pytest
from smxtools import eventpage

from libsmx import createmap, smxconf, smxpasswd
from libsmx.man import man_page
from libsmx.submission import parse_arguments
from libsmx.version import PRODUCT, VERSION
from libsmx.wire_control import ACTIONS
from qmgr import ctlargs
from tests.system import ROOT

PAGES = ("README.md", *(f"misc/doc/{name}.md" for name in (
    "howto", "coming-from", "resources", "security", "operating")))  # fmt: skip
OURS = {"qmgrctl", "smxconf", "createmap", "smxpasswd", "mcp.sh", "sendmail", "make"}
FOREIGN = {
    "cp", "chown", "chgrp", "chmod", "touch", "apt-get", "systemd-analyze", "systemctl", "swaks",
    "groupadd", "useradd", "$EDITOR", "smxq-check", "mailq", "misc/sm.check.sh",
}  # fmt: skip


def commands(page):
    """(line, words) of each command in the blocks for a shell of a page."""
    fenced = False
    for line in (ROOT / page).read_text().splitlines():
        if line.startswith("```"):
            fenced = line == "```sh"
            continue
        indented = page == "README.md" and line.startswith("    ")
        if not (fenced or indented):
            continue
        for part in re.split(r"&&|;", line.split("# ")[0]):
            words = shlex.split(part)
            if words:
                yield line, words


def inline(page):
    """Words of commands of ours that stand in back-quotes."""
    for text in re.findall(r"`([^`\n]+)`", (ROOT / page).read_text()):
        words = text.replace("ID", "S" + "0" * 18).replace("S00...", "S" + "0" * 18).split()
        if words[0] in ("qmgrctl", "smxconf", "sendmail") and "..." not in text:
            yield text, shlex.split(" ".join(words))


def check(words):
    """Raise unless a command of ours would be understood."""
    name, rest = words[0].removeprefix(".venv/bin/"), words[1:]
    match name:
        case "qmgrctl" if rest[:1] and rest[0] in ACTIONS and not rest[1:]:
            pass  # the name of the command alone, in the text
        case "qmgrctl":
            ctlargs.parse(rest)
        case "smxconf":
            smxconf._arguments().parse_args(rest)
        case "createmap":
            createmap._arguments().parse_args(rest)
        case "smxpasswd":
            smxpasswd._arguments().parse_args(rest)
        case "sendmail":
            if rest[:1] not in (["-bd"], ["-bt"]):  # told in the table of sendmail 8
                parse_arguments(rest)
        case "mcp.sh":
            usage = (ROOT / "misc/mcp.sh").read_text().splitlines()[2]
            assert rest[0] in usage.split("mcp.sh ")[1].replace("|", " ").split()
        case "make":
            text = (ROOT / "Makefile").read_text()
            for word in rest:
                assert "=" in word or re.search(rf"^{word}:", text, re.MULTILINE), word
        case _:
            raise AssertionError(f"{name} is no command that the documents may use")


@pytest.mark.parametrize("page", PAGES)
def test_a_command_in_a_block_is_understood(page):
    seen = 0
    for line, words in commands(page):
        seen += 1
        if words[0] in FOREIGN:
            continue
        try:
            check(words)
        except (SystemExit, AssertionError) as error:
            raise AssertionError(f"{page}: {line}: {error}") from error
    assert seen or page.endswith(("coming-from.md", "operating.md"))


@pytest.mark.parametrize("page", PAGES)
def test_a_command_in_the_text_is_understood(page):
    for text, words in inline(page):
        if text in ("qmgrctl", "smxconf", "sendmail") or "domain..." in text or "ADDRESS" in text:
            continue
        if words[0] == "sendmail" and not words[1:]:
            continue
        try:
            check(words)
        except (SystemExit, AssertionError) as error:
            raise AssertionError(f"{page}: {text}: {error}") from error


@pytest.mark.parametrize("page", PAGES)
def test_a_link_leads_to_a_page(page):
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if "://" not in target:
            assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"


def test_options_that_the_documents_name_are_there():
    examples = sorted((ROOT / "conf/examples").iterdir())
    known = man_page() + "".join(path.read_text() for path in examples)
    words = set()
    for page in PAGES[1:]:
        words |= set(re.findall(r"`([a-z_]+(?:_[a-z]+)+)`", (ROOT / page).read_text()))
    events = eventpage.render()
    numbers = (ROOT / "libsmx/stattab.py").read_text()
    foreign = (ROOT / "misc/doc/coming-from.md").read_text()
    unknown = {
        word
        for word in words - {"no_new_privs"}  # a word of the kernel
        if word not in known
        and f"`{word}`" not in events
        and word not in numbers
        and not re.search(rf"^\|[^|]*`[^|]*{word}", foreign, re.MULTILINE)
    }
    assert not unknown


@pytest.mark.covers("X484")
def test_versions_are_named_as_the_changelog_says():
    text = (ROOT / "misc/doc/changelog.md").read_text()
    assert re.fullmatch(r"smX\.\d+\.\d+\.\d+\.\d+", PRODUCT)
    assert PRODUCT == f"smX.{VERSION}"
    assert "smX.a.b.c.d" in text
    assert f"\n## {VERSION}" in text


@pytest.mark.covers("X068")
def test_variables_of_the_tests_are_documented():
    used = set()
    for path in (ROOT / "tests").rglob("*.py"):
        used |= set(re.findall(r"environ[^\n]{0,6}\"(SMX?_[A-Z_]+)\"", path.read_text()))
    told = (ROOT / "misc/doc/hacking.md").read_text()
    assert len(used) > 2
    assert not {name for name in used if f"`{name}" not in told}
