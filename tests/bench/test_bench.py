"""The bench itself: its rows, what it refuses, how it counts, and its clients."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench import __main__ as bench
from tests.bench.client import fan_out, percentile, time_replies
from tests.bench.machine import Memory, cpu_s, tree
from tests.bench.measure import RUNNERS, count_syncs
from tests.bench.report import BEGIN, END, compare, heading, medians, replace, table
from tests.bench.rows import ROWS, Row, Work, quick_rows
from tests.conftest import ROOT
from tests.sink import Sink

WORK = Work("load", 1, 10)
MORE = Row("more is better", WORK, goal=1.5)
LESS = Row("less is better", WORK, "seconds", "s", 0.5, lower=True)
OWN = Row("against itself", WORK, "share", "", 0.95, own=True)


class Smx:
    name = "smx"


class Peer:
    name = "peer"


def test_every_row_has_a_runner_and_a_name_of_its_own():
    assert {row.work.kind for row in ROWS} == set(RUNNERS)
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert {row.figure for row in ROWS} >= {
        "rate", "cpu_ms", "peak_mb", "seconds", "reply_p50_ms", "reply_p99_ms", "restart_s",
        "listing_s", "backlog_ratio",
    }  # fmt: skip


def test_a_quick_run_does_less_of_every_kind_that_is_not_long():
    full = {row.name: row.work for row in ROWS}
    rows = quick_rows()
    assert {row.work.kind for row in rows} == {"load", "latency", "fan-out"}
    for row in rows:
        assert 2 * row.work.sessions <= row.work.messages < full[row.name].messages


@pytest.mark.parametrize(
    "words", ["--runs -1", "--part 0", "--only nothing-has-this-name", "--servers qmail"]
)
def test_bad_options_are_refused(words, capsys):
    with pytest.raises(SystemExit) as caught:
        bench.parse(words.split())
    assert caught.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_options():
    options = bench.parse([])
    assert (options.runs, len(options.rows), len(options.wanted)) == (5, len(ROWS), 3)
    options = bench.parse(["--quick"])
    assert (options.runs, options.wanted) == (1, ["smx", "postfix-tuned"])
    options = bench.parse(["--only", "fan-out", "--runs", "2", "--servers", "smx"])
    assert ([row.figure for row in options.rows], options.wanted) == (["seconds"], ["smx"])


def runs_with(*noises):
    """A measurement that gives runs with so much noise, one after the other."""
    left = list(noises)
    return lambda server, work, tools: {"rate": 1.0, "noise": left.pop(0)}


@pytest.mark.parametrize(
    ("noises", "noise", "disturbed"),
    [((0.1,), 0.1, False), ((0.9, 0.2), 0.2, False), ((0.9, 0.5, 0.7), 0.5, True)],
)
def test_a_disturbed_run_is_repeated_and_the_quietest_counts(noises, noise, disturbed):
    figures = bench.one_run(Smx, WORK, None, measure=runs_with(*noises))
    assert (figures["noise"], figures["disturbed"]) == (noise, disturbed)


def test_servers_take_turns():
    order = []

    def measure(server, work, tools):
        order.append(server.name)
        return {"rate": len(order), "noise": 0.0}

    figures = bench.run_work(WORK, [Smx, Peer], None, runs=3, measure=measure)
    assert order == ["smx", "peer"] * 3
    assert [run["rate"] for run in figures["peer"]] == [2, 4, 6]


def test_servers_of_different_durability_are_not_compared():
    def count(server, tools, *, accept_only):
        return 0.5 if server is Peer and accept_only else 2.0

    assert bench.check_durability([Smx], None, count=count) == {"smx": 2.0}
    with pytest.raises(SystemExit, match=r"peer syncs 0\.50 times a message that it only accepts"):
        bench.check_durability([Smx, Peer], None, count=count)


def test_syncs_are_counted_once_each():
    trace = """\
11 fdatasync(7)                        = 0
12 fsync(8 <unfinished ...>
11 syncfs(3)                           = 0
12 <... fsync resumed>)                = 0
12 fsync(9)                            = -1 EBADF (Bad file descriptor)
"""
    assert count_syncs(trace) == 3


def test_medians_of_all_figures():
    runs = [{"rate": value, "parts": {"a": value, "b": 1}} for value in (5, 1, 3)]
    del runs[1]["parts"]["b"]
    assert medians(runs) == {"rate": 3, "parts": {"a": 3, "b": 1}}


@pytest.mark.parametrize(
    ("row", "ours", "theirs", "ratio", "met"),
    [
        (MORE, {"rate": 300}, [{"rate": 100}, {"rate": 200}], 1.5, True),
        (MORE, {"rate": 200}, [{"rate": 100}, {"rate": 200}], 1.0, False),
        (LESS, {"seconds": 1.0}, [{"seconds": 4.0}, {"seconds": 2.0}], 0.5, True),
        (LESS, {"seconds": 2.0}, [{"seconds": 1.0}, {"seconds": 2.0}], 2.0, False),
        (OWN, {"share": 0.9}, [{"share": 0.1}], 0.9, False),
        (MORE, {"rate": 200}, [], None, None),
    ],
)
def test_a_row_is_compared_with_the_better_peer(row, ours, theirs, ratio, met):
    servers = {"smx": ours} | {f"peer{number}": value for number, value in enumerate(theirs)}
    line = compare(row, servers)
    assert (line["ratio"], line["met"]) == (ratio, met)


def results():
    """A result with one line of each kind."""
    figures = {"rate": 300.0, "seconds": 0.5, "share": 1.0, "cpu_ms": 1.234, "peak_mb": 99.6,
               "cpu_by_process_ms": {"smtps": 0.5}}  # fmt: skip
    return {
        "date": "2026-01-02", "machine": "a machine", "file_system": "ext4", "runs": 5,
        "syncs_per_message": {"smx": 3.0, "peer": 1.0},
        "rows": [
            compare(row, {"smx": figures, "peer": figures | {"rate": 100.0}})
            for row in (MORE, LESS, OWN)
        ],
    }  # fmt: skip


def test_the_table_tells_figures_ratio_and_goal():
    lines = table(results()).splitlines()
    assert lines[2] == (
        "| more is better | 300 msg/s | 100 msg/s | 3.00 | at least 1.5 (met) "
        "| 1.23 / 1.23 | 99.6 / 99.6 |"
    )
    assert lines[3] == "| less is better | 0.50 s | 0.50 s | 1.00 | at most 0.5 |  |  |"
    assert lines[4] == "| against itself | 1.00 | 1.00 | 1.00 | at least 0.95 (met) |  |  |"


def test_the_table_finds_its_place_in_the_document():
    text = f"before\n{BEGIN}\nold figures\n{END}\nafter\n"
    new = replace(text, results())
    assert new.startswith("before\n")
    assert new.endswith("\nafter\n")
    assert "old figures" not in new
    assert heading(results()) in new
    assert table(results()) in new
    assert replace(new, results()) == new
    with pytest.raises(ValueError, match="no lines"):
        replace("nothing", results())


def test_the_document_has_that_place():
    text = (ROOT / "misc/doc/performance.md").read_text()
    assert text.count(BEGIN) == text.count(END) == 1


@given(st.lists(st.floats(0, 100), min_size=1), st.integers(1, 100))
def test_percentiles(values, part):
    found = percentile(values, part)
    assert found in values
    assert sum(value <= found for value in values) * 100 >= part * len(values)
    assert sum(value < found for value in values) * 100 < part * len(values)


@pytest.mark.parametrize(("sessions", "messages"), [(1, 3), (3, 10), (5, 2)])
def test_the_timing_client_sends_every_message_once(sessions, messages):
    with Sink() as sink:
        waits, seconds = time_replies(sink.port, sessions, messages, 1000)
        assert len(waits) == messages
        assert all(0 < wait <= seconds for wait in waits)
        assert len(sink.messages) == messages
        assert {len(message.data) for message in sink.messages} == {len(sink.messages[0].data)}


def test_the_timing_client_does_not_count_what_was_refused():
    with (
        Sink(replies={"DOT": lambda _: "451 4.3.0 later"}) as sink,
        pytest.raises(ConnectionError, match="451"),
    ):
        time_replies(sink.port, 1, 1, 100)


def test_one_message_goes_to_many_recipients_in_many_domains():
    with Sink() as sink:
        fan_out(sink.port, 250, 40)
        (message,) = sink.messages
        assert len(set(message.rcpts)) == 250
        assert len({rcpt.partition("@")[2] for rcpt in message.rcpts}) == 40


def test_processor_time_and_memory_of_a_process_tree():
    assert os.getpid() in tree(os.getpid())
    assert sum(cpu_s([os.getpid()]).values()) > 0
    memory = Memory(os.getpid())
    memory.start()
    memory.stop()
    assert memory.peak > 1_000_000
    assert memory.processes >= 1
