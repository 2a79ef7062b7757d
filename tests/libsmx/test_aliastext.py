"""Aliases in the forms of sendmail 8 and sendmail X."""

import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libsmx.aliastext import MAX_INCLUDES, check_alias, read_aliases
from libsmx.aliasvalue import read_value
from libsmx.errors import EX_DATAERR, EX_OK
from libsmx.maptext import MAX_VALUE
from tests.system import ROOT

FILES = {
    "/lists/one": b"a@x.y\n# nobody\n\n b@x.y, c@x.y\n",
    "/lists/nested": b":include:/lists/one\n",
    "/lists/prog": b"|/bin/sh\n",
    "/lists/huge": b"user@example.org\n" * 10_000,
}


def include(path):
    if path not in FILES:
        raise FileNotFoundError(2, "No such file or directory", path)
    return FILES[path].splitlines()


def read(text):
    return read_aliases(text.encode().splitlines(keepends=True), include=include)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("postmaster: root\n", {"postmaster": "<root>"}),
        ("Root : Ann@Example.Org\n", {"root": "<Ann@Example.Org>"}),
        ("list: a@x.y, b@x.y,joe\n", {"list": "<a@x.y> <b@x.y> <joe>"}),
        ("list: a@x.y,\n\tb@x.y,\n  c@x.y\n", {"list": "<a@x.y> <b@x.y> <c@x.y>"}),
        ("list: a@x.y, \\\nb@x.y\n", {"list": "<a@x.y> <b@x.y>"}),
        ("# a comment\n\nlist:\n  a@x.y\nnext: b\n", {"list": "<a@x.y>", "next": "<b>"}),
        ("list: a@x.y\n# between\n  , b@x.y\n", {"list": "<a@x.y> <b@x.y>"}),
        ('"my list": a@x.y\n', {"my list": "<a@x.y>"}),
        ('a: "odd one"@x.y\n', {"a": '<"odd one"@x.y>'}),
        ("a: Ann Other <ann@x.y>, <bob@x.y>\n", {"a": "<ann@x.y> <bob@x.y>"}),
        ("a: <ann@x.y> <bob@x.y>\n", {"a": "<ann@x.y> <bob@x.y>"}),
        ("bob: local:\nuser++: local:\n", {"bob": "local:", "user++": "local:"}),
        ("bob: \\bob\n", {"bob": "local:"}),
        ("bob: Bob\n", {"bob": "local:"}),
        ("list: :include:/lists/one\n", {"list": "<a@x.y> <b@x.y> <c@x.y>"}),
        ('list: ":include:/lists/one", d@x.y, a@x.y\n',
         {"list": "<a@x.y> <b@x.y> <c@x.y> <d@x.y>"}),
        ("alias*@.d: <user${extension}@${subdomain}.d>\n",
         {"alias*@.d": "<user${extension}@${subdomain}.d>"}),
        ("", {}),
    ],
)  # fmt: skip
def test_what_the_entries_say(text, wanted):
    found = read(text)
    assert found.problems == []
    assert found.entries == wanted


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("a: b\na: c\n", 2, "stands on line 1 already"),
        ("\n a@x.y\n", 2, "goes on an entry that is not there"),
        ("a:\n", 1, "is no entry"),
        ("a: |/bin/vacation\n", 1, "programs are not run"),
        ('a: "|/bin/vacation a"\n', 1, "programs are not run"),
        ("a: /var/mail/a\n", 1, "files are not written"),
        ("a: \\a, b@x.y\n", 1, "delivery here and elsewhere"),
        ("a: a, b@x.y\n", 1, "delivery here and elsewhere"),
        ("a: \\b\n", 1, "give it the value local:"),
        ("a: b c\n", 1, "put commas"),
        ("a: b@x..y\n", 1, "Bad address syntax"),
        ('a: "open@x.y\n', 1, "is not closed"),
        ("a: :include:lists/one\n", 1, "must be absolute"),
        ("a: :include:/lists/none\n", 1, "No such file"),
        ("a: :include:/lists/nested\n", 1, "is included itself"),
        ("a: :include:/lists/prog\n", 1, "programs are not run"),
        ("a: :include:/lists/huge\n", 1, "longer than"),
        ("ok: b\nlist: a@x.y,\n\x01\n", 3, "control character"),
        ("x" * 500 + ": b\n", 1, "longer than 480"),
    ],
)
def test_what_cannot_be_is_told_with_its_line(text, line, told):
    found = read(text)
    assert len(found.problems) == 1, found
    assert found.problems[0].startswith(f"line {line}: ")
    assert re.search(told, found.problems[0])


def test_shipped_aliases_are_right():
    found = read((ROOT / "conf/aliases").read_text())
    assert found.problems == []
    assert found.entries["abuse"] == "<postmaster>"


def test_bytes_that_are_no_text_are_told():
    found = read_aliases([b"a: \xff\n", b"b: c\n"], include=include)
    assert found.problems == ["line 1: it is not UTF-8"]


def test_entries_and_included_files_are_bounded():
    found = read("a: " + ",\n ".join(["user@example.org"] * 10_000) + "\n")
    assert found.problems == [f"line 1: the entry is longer than {MAX_VALUE} bytes"]
    many = "".join(f"a{n}: :include:/lists/one\n" for n in range(MAX_INCLUDES + 1))
    assert read(many).problems == [
        f"line {MAX_INCLUDES + 1}: more than {MAX_INCLUDES} files are included"
    ]


@given(st.text('ab:,<>@ \t\n\\"|/#x.', max_size=60))
def test_every_text_gives_entries_that_can_be_read_or_problems(text):
    found = read(text)
    for value in found.entries.values():
        read_value(value, "host.invalid")


@pytest.mark.covers("X322", "X329")
def test_form_of_sendmail_x_takes_no_commas(tmp_path):
    assert check_alias("a", "<a@b.c> <d@e.f>") == ""
    with pytest.raises(ValueError, match=r"no commas between them.*createmap -t aliases"):
        check_alias("a", "<a@b.c>, <d@e.f>")
    path = tmp_path / "aliases.db"

    def createmap(*words, text=""):
        done = subprocess.run(
            [sys.executable, "-I", "-m", "libsmx.createmap", *words, str(path)],
            input=text, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    code, _, said = createmap(text="ok: bob\nlist: a@b.c, d@e.f\n")
    assert (code, "line 2" in said, path.exists()) == (EX_DATAERR, True, False)
    assert createmap("-t", "aliases", text="ok: bob\nlist: a@b.c,\n d@e.f\n")[0] == EX_OK
    assert createmap("-q", "list") == (EX_OK, "<a@b.c> <d@e.f>\n", "")
    assert createmap(text="myalias: localuser\nmylist: <a@b.c> <d@e.f>\n")[0] == EX_OK
    assert createmap("-q", "myalias") == (EX_OK, "localuser\n", "")
