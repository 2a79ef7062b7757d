"""The operator's program: against a real socket, and its texts."""

from contextlib import asynccontextmanager

import pytest
import trio

from libsmx import wire, wire_control
from libsmx.errors import EX_CONFIG, EX_NOPERM, EX_OK, EX_TEMPFAIL, EX_UNAVAILABLE
from libsmx.link import Server
from libsmx.log import NullLog
from qmgr import ctltext, qmgrctl

ENTRY = wire_control.QueueEntry(
    ta_id="S000000000000000100",
    received_at=1000.0,
    size=512,
    sender="",
    rcpts=[
        wire_control.QueueRcpt(
            address="a b@x.org", place="deferred", next_try_at=1190.0, tries=2, error="no\nroom"
        ),
        wire_control.QueueRcpt(address="c@x.org", place="active", next_try_at=0, tries=0, error=""),
    ],
)
STATUS = wire_control.StatusAnswer(
    state="normal",
    reason="",
    figures=[wire_control.Figure(name="AQ", value=3, limit=10, unit="recipients")],
)
ANSWERS = [
    (wire_control.StatusAsk(), STATUS),
    (wire_control.FlushAsk(dest="x.org"), wire_control.Done(count=4)),
    (wire_control.FlushAsk(), wire.Refusal(code=451, status="4.3.0", text="not now")),
    (wire_control.StopAsk(), wire.Refusal(code=550, status="5.7.1", text="you may not")),
    (
        wire_control.QueueAsk(after="", limit=500),
        wire_control.QueueAnswer(entries=[ENTRY], next="d1"),
    ),
    (
        wire_control.QueueAsk(after="d1", limit=500),
        wire_control.QueueAnswer(entries=[ENTRY], next=""),
    ),
]


@asynccontextmanager
async def desk(tmp_path):
    def handle(channel, message, rid):
        channel.post(next(a for ask, a in ANSWERS if ask == message), rid)

    server = Server(
        str(tmp_path / "control"), 0o660, "qmgr", handle, clients={"qmgrctl": None}, log=NullLog()
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        yield str(tmp_path / "control")
        nursery.cancel_scope.cancel()


@pytest.mark.covers("X477")
@pytest.mark.parametrize(
    ("words", "code", "printed"),
    [
        (["status"], EX_OK, "state: normal"),
        (["--json", "status"], EX_OK, '"state":"normal"'),
        (["queue"], EX_OK, "2 transactions, 4 recipients"),
        (["queue", "--json"], EX_OK, '"size":512'),
        (["flush", "x.org"], EX_OK, "4 recipients"),
        (["flush"], EX_TEMPFAIL, "not now"),
        (["stop"], EX_NOPERM, "you may not"),
    ],
)
async def test_each_command_prints_its_answer_and_exits_with_its_code(
    tmp_path, capsys, words, code, printed
):
    async with desk(tmp_path) as path:
        argv = ["-s", path, *words]
        assert await trio.to_thread.run_sync(qmgrctl.run, argv) == code
    out = capsys.readouterr()
    assert printed in out.out + out.err


def test_no_queue_manager_is_one_clear_line(tmp_path, capsys):
    assert qmgrctl.run(["-s", str(tmp_path / "none"), "status"]) == EX_UNAVAILABLE
    assert "is qmgr running" in capsys.readouterr().err


def test_a_bad_configuration_is_told(tmp_path, capsys):
    (tmp_path / "smx.conf").write_text("qmgr { nonsense = 1; }")
    assert qmgrctl.run(["-f", str(tmp_path / "smx.conf"), "status"]) == EX_CONFIG
    assert "nonsense" in capsys.readouterr().err


@pytest.mark.covers("X162")
def test_the_socket_is_below_the_queue_directory_unless_its_path_is_absolute(tmp_path):
    conf = tmp_path / "smx.conf"
    conf.write_text('CDB_base_directory = "/spool/"; qmgr { }')
    assert qmgrctl.socket_path(str(conf)) == "/spool/qmgrctl/control"
    conf.write_text('CDB_base_directory = "/spool/"; qmgr { control_socket = "/run/c"; }')
    assert qmgrctl.socket_path(str(conf)) == "/run/c"


def test_texts_from_outside_cannot_forge_lines():
    lines = ctltext.queue_lines(ENTRY, 1100.0)
    assert lines[0] == "S000000000000000100  age 1m40s  size 512  from <>"
    assert lines[1] == '    deferred  "a b@x.org"  tries 2  next try in 1m30s'
    assert lines[2].strip() == r'"no\x0aroom"'
    assert len(lines) == 4


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (-5, "0s"), (59, "59s"), (61, "1m1s"), (3700, "1h1m"), (200_000, "2d7h")],
)
def test_ages_are_short(seconds, text):
    assert ctltext.show_age(seconds) == text
