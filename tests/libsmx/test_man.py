"""smx.conf(5) and the installed configuration follow from the table."""

import pathlib
import re
import shutil
import subprocess

import pytest

from libsmx.config import load_file
from libsmx.confsample import SETTINGS, sample
from libsmx.man import man_page
from libsmx.options import OptionRow, SectionRow, own_rows, walk
from libsmx.opttab import COMPONENTS, GlobalConf, ServiceConf

ROOT = pathlib.Path(__file__).parents[2]

PLACES = {
    "@SPOOL@": "/var/spool/smx",
    "@SYSCONFDIR@": "/etc/smx",
    "@LIBEXEC@": "/usr/local/libexec/smx",
    "@LOGDIR@": "/var/log/smx",
}


def installed(text):
    for name, directory in PLACES.items():
        text = text.replace(name, directory)
    return text.encode()


def test_the_manual_is_up_to_date():
    wanted = man_page()
    assert (ROOT / "misc/man/smx.conf.5").read_text() == wanted, "run: smxconf man > ..."


def test_the_installed_configuration_is_up_to_date():
    assert (ROOT / "conf/smx.conf").read_text() == sample(), "run: smxconf sample > ..."


def names(conf):
    for row in own_rows(conf).values():
        if isinstance(row, OptionRow):
            yield row.name
        elif isinstance(row, SectionRow) and row.name:
            yield from (f"{row.name}.{name}" for name in names(row.conf))
        elif isinstance(row, SectionRow) and row.conf is not ServiceConf:
            yield from names(row.conf)


def test_every_option_is_in_the_manual():
    entries = [
        line.removeprefix(".B ").replace("\\-", "-")
        for line in man_page().splitlines()
        if line.startswith(".B ")
    ]
    wanted = [name for conf in (GlobalConf, *COMPONENTS.values()) for name in names(conf)]
    assert sorted(entries) == sorted([*wanted, *names(ServiceConf)])


@pytest.mark.skipif(
    not shutil.which("groff"), reason="groff is not installed (Debian package groff-base)"
)
def test_the_manual_formats_without_warnings():
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-z"],
        input=man_page().encode(),
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""


@pytest.mark.covers("X047", "X062", "X127", "X143", "X146")
def test_the_installed_configuration_is_complete():
    text = installed(sample())
    assert not re.search(rb"@[A-Z]+@", text)
    whole = load_file("/etc/smx/smx.conf", text)
    assert whole.warnings == ()
    services = {facts.keyword: facts.service for facts in whole.sections}
    assert {name: service.user for name, service in services.items()} == {
        "qmgr": "smxq",
        "smar": "smxm",
        "smtps": "smxs",
        "smtpc": "smxc",
    }
    assert services["smtps"].start_action == "pass"
    assert [(one.type, one.port) for one in services["smtps"].listen_socket] == [
        ("inet", 25),
        ("inet6", 25),
    ]
    assert services["qmgr"].restart_dependencies == ("smtps", "smtpc", "smar")
    assert services["smar"].restart_dependencies == ("smtps", "qmgr")
    assert services["smtpc"].min_processes == services["smtpc"].max_processes == 2
    for facts in whole.sections:
        assert facts.conf.log.file == f"/var/log/smx/{facts.keyword}.log"
        assert facts.service.arguments[0] == facts.keyword


def uncommented(text):
    """Return the sample with every commented option made effective."""
    lines = []
    for line in text.splitlines():
        bare = line.lstrip()
        lines.append(bare[1:] if bare.startswith("#") and bare[1:2].isalpha() else line)
    return "\n".join(lines)


@pytest.mark.covers("X047")
def test_an_option_of_the_sample_means_its_default_when_it_is_uncommented():
    plain = load_file("/etc/smx/smx.conf", installed(sample()))
    full = load_file("/etc/smx/smx.conf", installed(uncommented(sample())))
    for one, other in zip(plain.sections, full.sections, strict=True):
        assert list(walk(one.conf)) == list(walk(other.conf))
    assert plain.globals == full.globals


def test_every_setting_of_the_sample_is_used():
    text = sample()
    for keyword, given in SETTINGS.items():
        for name, value in given.items():
            if name != "listen_socket":
                assert f"{name.split('.')[-1]} = {value}" in text, keyword


def test_every_option_is_described_and_shown_in_the_sample():
    page, shown = man_page(), sample()
    of_mcp = {dotted for dotted, _row, _value in walk(ServiceConf())}
    for conf in (GlobalConf, *COMPONENTS.values()):
        for dotted, row, _value in walk(conf()):
            assert f"{row.name}\n" in page, dotted
            if dotted not in of_mcp:
                assert f"{row.name} = " in shown, dotted
