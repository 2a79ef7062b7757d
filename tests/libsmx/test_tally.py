"""Counting log events, and the table of numbers."""

import pytest

import qmgr.events
import smar.events
import smtpc.events
import smtps.events
from libsmx.log import FileSink, Log
from libsmx.logtab import EVENTS, Event
from libsmx.stats import process_figures, snapshot
from libsmx.stattab import ALARMS, STATS
from libsmx.tally import Tally

PACKAGES = {"smtps": smtps.events, "smtpc": smtpc.events, "smar": smar.events, "qmgr": qmgr.events}
ROWS = [(daemon, stat) for daemon, stats in STATS.items() for stat in stats]


@pytest.mark.parametrize(("daemon", "stat"), ROWS, ids=[f"{d}.{s.name}" for d, s in ROWS])
def test_a_row_counts_an_event_that_its_daemon_has(daemon, stat):
    assert stat.meaning.endswith(".")
    assert stat.unit
    if stat.event:
        event = EVENTS[f"{daemon}.events", stat.event]
        assert not stat.field or stat.field in event.fields


@pytest.mark.parametrize("daemon", STATS)
def test_names_are_there_once(daemon):
    names = [stat.name for stat in STATS[daemon]]
    assert len(names) == len(set(names))


def test_events_are_counted_and_fields_added_up_whatever_the_level_of_the_log(tmp_path):
    log = Log(FileSink(str(tmp_path / "x"), "smtps"), 0)
    log.tally = Tally("smtps")
    fields = dict.fromkeys(smtps.events.TA_ACCEPTED.fields, "x")
    log.emit(smtps.events.TA_ACCEPTED, **(fields | {"rcpts": 3, "size": 500}))
    log.emit(smtps.events.TA_ACCEPTED, **(fields | {"rcpts": 1, "size": 20}))
    log.emit(Event("other", 4, "For this test.", ()))
    counts = log.tally.counts()
    assert counts["messages_accepted"] == 2
    assert counts["recipients_accepted"] == 4
    assert counts["bytes_accepted"] == 520
    assert counts["messages_refused"] == 0
    assert counts[ALARMS] == 1


def test_a_process_tells_of_itself():
    names = {one.name for one in snapshot(Tally("smar")).values}
    assert {stat.name for stat in STATS["smar"]} == names
    assert process_figures()["memory"] > 1000
