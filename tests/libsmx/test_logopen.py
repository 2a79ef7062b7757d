"""What a section's log asks of syslog, and the standard output for debugging."""

import subprocess
import sys
import syslog

import pytest

from libsmx.config import load
from libsmx.logopen import open_log
from libsmx.logtab import Event
from tests.system import ROOT

TESTED = Event("tested", 9, "For this test.", ("one",))
SECTIONS = b"""
smtps MTA { log { ident = "smX-MTA"; facility = local3; options = { pid, ndelay }; } }
smtps MSA { log { options = { }; } }
"""


@pytest.fixture
def opened(monkeypatch):
    """What openlog(3) and syslog(3) were called with."""
    calls = []
    monkeypatch.setattr(syslog, "openlog", lambda *args: calls.append(args))
    monkeypatch.setattr(syslog, "syslog", lambda *args: calls.append(args))
    return calls


@pytest.mark.covers("X114", "X115", "X116", "X117")
def test_each_section_has_an_identification_facility_and_options_of_its_own(opened):
    for name in ("MTA", "MSA"):
        loaded = load("f", SECTIONS, "smtps", name)
        log = open_log(loaded.conf.log, loaded.conf.log_level, "smtps")
        log.emit(TESTED, one=1)
    assert opened == [
        ("smX-MTA", syslog.LOG_PID | syslog.LOG_NDELAY, syslog.LOG_LOCAL3),
        (syslog.LOG_INFO, "tested one=1"),
        ("smtps", 0, syslog.LOG_MAIL),
        (syslog.LOG_INFO, "tested one=1"),
    ]


@pytest.mark.parametrize(
    ("level", "priority"),
    [(0, syslog.LOG_CRIT), (3, syslog.LOG_ERR), (4, syslog.LOG_WARNING), (6, syslog.LOG_NOTICE),
     (9, syslog.LOG_INFO), (12, syslog.LOG_DEBUG)],
)  # fmt: skip
def test_a_level_is_a_priority_of_syslog(opened, level, priority):
    log = open_log(load("f", b"", "smar").conf.log, 15, "smar")
    log.emit(Event("odd", level, "For this test.", ()))
    assert opened[-1] == (priority, "odd")


def test_the_lines_of_other_programs_have_their_names_in_the_style_of_postfix(opened):
    log = open_log(load("f", b"", "smtps").conf.log, 9, "smtps", "postfix")
    fields = dict.fromkeys(("ss_ta", "ss_sess", "client", "mail"), "x") | {"rcpts": 1, "size": 5}
    log.emit(Event("ta_accepted", 9, "For this test.", tuple(fields)), **fields)
    log.emit(TESTED, one=1)
    assert [call[0] for call in opened if isinstance(call[0], str)] == [
        "smx/smtpd", "smx/qmgr", "smx/smtpd",
    ]  # fmt: skip


@pytest.mark.covers("X118")
def test_output_for_debugging_goes_to_the_standard_output():
    code = (
        "import syslog, sys; syslog.syslog = lambda *args: sys.exit(9);"
        "from libsmx.logopen import open_log; from libsmx.opttab import LogConf;"
        "from libsmx.logtab import STOPPED; log = open_log(LogConf(file='-'), 15, 'smar');"
        "log.emit(STOPPED, status=0); log.flush()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.endswith(": stopped status=0\n")
