"""The numbers of all processes, their text, and the picture of top."""

from libsmx.wire import StatValue
from libsmx.wire_control import DestState, Figure, StatRow, StatusAnswer
from qmgr.stats import ENDED, StatsBook, own_rows
from qmgr.statstext import described, stats_lines, sums
from qmgr.toptext import Look, picture


def values(**numbers):
    return [StatValue(name=name, value=value) for name, value in numbers.items()]


def table(rows):
    return {(row.daemon, row.process, row.name): row.value for row in rows}


def test_counters_of_a_process_that_ended_stay_and_gauges_go():
    book = StatsBook()
    book.take(("smtpc", 0), values(recipients_delivered=5, memory=100))
    book.take(("smtpc", 1), values(recipients_delivered=7, memory=100))
    book.gone(("smtpc", 0))
    book.take(("smtpc", 0), values(recipients_delivered=1, memory=100))
    book.gone(("smtpc", 9))  # one that never told anything
    assert table(book.rows()) == {
        ("smtpc", "0", "recipients_delivered"): 1,
        ("smtpc", "0", "memory"): 100,
        ("smtpc", "1", "recipients_delivered"): 7,
        ("smtpc", "1", "memory"): 100,
        ("smtpc", ENDED, "recipients_delivered"): 5,
    }
    assert table(sums(book.rows())) == {
        ("smtpc", "all", "recipients_delivered"): 13,
        ("smtpc", "all", "memory"): 200,
    }


def test_what_the_table_does_not_know_is_dropped():
    book = StatsBook()
    book.take(("smtps", 0), values(messages_accepted=1, nonsense=2))
    assert table(book.rows()) == {("smtps", "0", "messages_accepted"): 1}


def test_a_row_is_described_by_the_table():
    (row,) = own_rows([Figure(name="accepted", value=4)], [])
    assert described(row) == {
        "daemon": "qmgr", "process": "0", "name": "accepted", "value": 4,
        "unit": "transactions", "kind": "counter", "meaning": "Messages taken into the queue.",
    }  # fmt: skip
    head, line = stats_lines(sums([row]))
    assert head == "qmgr"
    assert line.split() == "accepted 4 transactions Messages taken into the queue.".split()


def look(at_s, accepted, cpu):
    figures = [Figure(name="aq_rcpts", value=3, limit=10), Figure(name="oldest_message", value=65)]
    status = StatusAnswer(state="slow", reason="no smtpc", figures=figures)
    rows = [
        StatRow(daemon="smtps", process="0", name="messages_accepted", value=accepted),
        StatRow(daemon="smtps", process="0", name="cpu", value=cpu),
        StatRow(daemon="smtps", process="0", name="uptime", value=100),
        StatRow(daemon="smtps", process=ENDED, name="messages_accepted", value=1000),
    ]
    dests = [
        DestState(dest=name, waiting=waiting, sessions=1, idle=0, hosts=[])
        for name, waiting in (("few.example", 1), ("evil\x1b[2J.example", 5))
    ]
    return Look(at_s, status, rows, dests)


def test_a_picture_has_levels_rates_processes_and_destinations():
    first = picture(look(10.0, 100, 1000), None, 0, 0)
    assert first[0] == 'smx: slow ("no smtpc"), oldest message 1m5s'
    assert "accepted -" in first[2]
    lines = picture(look(20.0, 150, 6000), look(10.0, 100, 1000), 0, 0)
    assert "active 3/10" in lines[1]
    assert "accepted 5.0" in lines[2]
    (process,) = [line for line in lines if line.startswith("smtps/0")]
    assert process.split()[1] == "50.0"
    names = [line.split()[0] for line in lines[-2:]]
    assert names == ['"evil\\x1b[2J.example"', "few.example"]
    assert picture(look(1.0, 0, 0), None, 20, 4)[0] == 'smx: slow ("no smtpc'
    assert len(picture(look(1.0, 0, 0), None, 20, 4)) == 4
