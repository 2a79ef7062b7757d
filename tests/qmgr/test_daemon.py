"""The whole process but its command line: sockets, both stores, recovery, control."""

import os

import pytest
import trio

from libsmx import wire, wire_control
from libsmx.errors import EX_STOP
from libsmx.ids import content_path
from qmgr.daemon import first_bounce_id
from tests.qmgr.siblings import Spool, running
from tests.qmgr.world import DEAD, PERM, TEMP


@pytest.fixture
def spool(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Spool(tmp_path)


@pytest.mark.covers("X012", "X015")
async def test_mail_is_committed_delivered_and_its_content_removed(spool):
    async with running(spool) as (siblings, _):
        env = spool.message(["a@x.org", "b@x.org", "c@y.org"])
        assert isinstance(await siblings.send(env), wire.TaCommitted)
        await siblings.until(lambda: len(siblings.delivered) == 3 and not spool.contents())
        status = await siblings.status()
        assert status["delivered"] == 3
        assert status["defedb_rcpts"] == 0
        assert len(siblings.messages) == 2, "two recipients of one destination share one"


async def test_a_transaction_that_was_not_reserved_is_refused(spool):
    async with running(spool) as (siblings, _):
        env = spool.message(["a@x.org"])
        answer = await siblings.smtps.call(wire.TaCommit(envelope=env), 20)
        assert isinstance(answer, wire.Refusal)
        assert answer.code == 451


@pytest.mark.covers("X015", "X477")
async def test_a_temporary_failure_is_listed_and_tried_again_by_flush(spool):
    async with running(spool) as (siblings, _):
        siblings.behaviour = {"x.org": TEMP, "dead.org": DEAD}
        env = spool.message(["a@x.org", "b@dead.org", "c@y.org"])
        await siblings.send(env)
        while (status := await siblings.status())["defedb_rcpts"] != 2 or status["aq_rcpts"]:
            await trio.sleep(0.005)
        [entry] = [e for e in await siblings.queue() if e.ta_id == env.ta_id]
        assert {(r.address, r.place, r.error) for r in entry.rcpts} == {
            ("a@x.org", "deferred", "451 later"),
            ("b@dead.org", "deferred", "refused"),
        }
        siblings.behaviour = {}
        done = await siblings.control.call(wire_control.FlushAsk(dest="X.org"), 20)
        assert done == wire_control.Done(count=1)
        await siblings.until(lambda: (env.ta_id, "a@x.org") in siblings.delivered)
        done = await siblings.control.call(wire_control.FlushAsk(), 20)
        assert done == wire_control.Done(count=1)
        await siblings.until(lambda: len(siblings.delivered) == 3 and not spool.contents())


@pytest.mark.covers("X169")
async def test_a_permanent_failure_comes_back_to_the_sender(spool):
    async with running(spool) as (siblings, _):
        siblings.behaviour = {"x.org": PERM}
        env = spool.message(["a@x.org"], sender="me@back.org")
        await siblings.send(env)
        await siblings.until(lambda: siblings.delivered and not spool.contents())
        [message] = [m for m in siblings.messages if m.dest == "back.org"]
        dsn = message.envelope.dsn
        assert message.envelope.sender == ""
        assert message.envelope.cdb_id == env.cdb_id
        assert (dsn.reporter, dsn.rcpts[0].status) == ("gw.example.org", "5.1.1")


@pytest.mark.covers("X013", "X018")
async def test_what_is_open_at_a_stop_is_delivered_after_the_next_start(spool):
    async with running(spool, only=("smtps", "control")) as (siblings, _):
        envs = [spool.message([f"u{n}@x.org"]) for n in range(20)]
        for env in envs:
            assert isinstance(await siblings.send(env), wire.TaCommitted)
        assert len(await siblings.queue()) == 20
    async with running(spool) as (siblings, ctx):
        await siblings.until(lambda: len(siblings.delivered) == 20 and not spool.contents())
        assert sorted(ta_id for ta_id, _ in siblings.delivered) == [e.ta_id for e in envs]
        names = [event.name for event, _ in ctx.log.records]
        assert "recovered" in names


@pytest.mark.covers("X018")
async def test_an_envelope_without_content_stays_in_the_queue_and_is_reported(spool):
    async with running(spool, only=("smtps",)) as (siblings, _):
        env = spool.message(["a@x.org"])
        await siblings.send(env)
    os.unlink(spool.path / content_path(env.cdb_id))
    async with running(spool) as (siblings, ctx):
        while (await siblings.status())["defedb_rcpts"] != 1:
            await trio.sleep(0.005)
        [entry] = await siblings.queue()
        assert "missing" in entry.rcpts[0].error
        assert not siblings.delivered
        assert "content_missing" in [event.name for event, _ in ctx.log.records]


async def test_a_lost_smtpc_has_its_deliveries_done_by_the_next(spool):
    async with running(spool) as (siblings, _):
        siblings.hold = True
        env = spool.message(["a@x.org"])
        await siblings.send(env)
        await siblings.until(lambda: siblings.held)
        siblings.hold = False
        siblings.smtpc.channel.close("killed")
        await siblings.until(lambda: siblings.delivered)


@pytest.mark.covers("X178")
async def test_low_disk_space_refuses_new_transactions_only(spool):
    async with running(spool, "min_disk_space = 1000000GB; ok_disk_space = 2000000GB;") as (
        siblings,
        _,
    ):
        await siblings.until(lambda: siblings.pushed)
        assert siblings.pushed[0].stop
        answer = await siblings.send(spool.message(["a@x.org"]))
        assert (answer.code, answer.status) == (452, "4.3.1")


async def test_qmgrctl_stop_is_answered_and_ends_the_process_with_its_own_code(spool):
    async with running(spool) as (siblings, ctx):
        assert isinstance(
            await siblings.control.call(wire_control.StopAsk(), 20), wire_control.Done
        )
        await ctx.stop.wait()
        assert ctx.exit_code == EX_STOP


def test_bounce_ids_of_two_runs_differ():
    assert first_bounce_id(1000.0, 5) < first_bounce_id(1001.0, 0)
    assert first_bounce_id(1000.0, 5) != first_bounce_id(1000.0, 6)
    assert 0 <= first_bounce_id(-1.0, 1 << 40) < 1 << 64
