"""The process: its link to the queue manager, start and stop."""

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from libsmx.clock import FakeClock
from libsmx.envelope import Envelope, Recipient
from libsmx.errors import StartError
from libsmx.ids import content_path, format_ta_id
from libsmx.link import Server
from libsmx.log import NullLog
from libsmx.opttab import GlobalConf, SmtpcConf
from libsmx.process import Context
from libsmx.wire import Deliver, Delivered, Target
from smtpc.daemon import DAEMON, new_boundary
from tests.smtpc.peer import Peer

TA = format_ta_id(1, 0)
CONTENT = b"Subject: x\r\n\r\nhello\r\n"


def context(tmp_path, number=0, **options):
    conf = attrs.evolve(SmtpcConf(), wait_for_server=1, **options)
    names = GlobalConf(
        hostname="client.example",
        cdb_base_directory=f"{tmp_path}/",
        smtpc_socket=str(tmp_path / "sock"),
    )
    return Context(
        conf=conf, globals=names, log=NullLog(), clock=FakeClock(), id=number, name="smtpc",
        config_dir="", stop=trio.Event(),
    )  # fmt: skip


def deliver(peer, number=1):
    envelope = Envelope(
        ta_id=TA, cdb_id=TA, sender="", rcpts=[Recipient(idx=0, address="a@example.net")],
        size=len(CONTENT), received_at=0.0,
    )  # fmt: skip
    return Deliver(
        da_sess=number, da_ta=number, lmtp=False, dest="example.net", envelope=envelope,
        targets=[Target(host="peer", address="127.0.0.1", port=peer.address[1])],
    )  # fmt: skip


async def start_qmgr(nursery, tmp_path):
    """Listen as the queue manager; return a receiver of channels that came."""
    send, receive = trio.open_memory_channel(10)
    server = Server(
        str(tmp_path / "sock"), 0o600, "qmgr", lambda *_: None, clients={"smtpc": None},
        log=NullLog(), on_open=send.send_nowait,
    )  # fmt: skip
    scope = trio.CancelScope()

    async def run(task_status):
        with scope:
            await server.run(task_status)

    await nursery.start(run)
    return receive, scope


def write_content(tmp_path):
    path = tmp_path / content_path(TA)
    path.parent.mkdir()
    path.write_bytes(CONTENT)


@pytest.mark.covers("X017", "X436")
async def test_two_processes_deliver_what_each_is_told(tmp_path):
    write_content(tmp_path)
    async with trio.open_nursery() as nursery:
        peer = await Peer().listen(nursery)
        channels, _ = await start_qmgr(nursery, tmp_path)
        for number in (3, 4):
            ctx = context(tmp_path, number, max_sessions=7)
            await nursery.start(DAEMON.serve, ctx)
            channel = await channels.receive()
            assert (channel.peer, channel.peer_id, channel.capacity) == ("smtpc", number, 7)
            answer = await channel.call(deliver(peer), 10)
            assert isinstance(answer, Delivered)
            assert answer.results[0].code == 250
        assert [m.data for m in peer.messages] == [CONTENT] * 2
        assert peer.sessions == 2
        nursery.cancel_scope.cancel()


async def test_stop_ends_idle_sessions_with_quit(tmp_path):
    write_content(tmp_path)
    async with trio.open_nursery() as nursery:
        peer = await Peer().listen(nursery)
        channels, _ = await start_qmgr(nursery, tmp_path)
        ctx = context(tmp_path)
        ended = trio.Event()

        async def serve(task_status):
            await DAEMON.serve(ctx, task_status)
            ended.set()

        await nursery.start(serve)
        channel = await channels.receive()
        assert (await channel.call(deliver(peer), 10)).open
        ctx.stop.set()
        await ended.wait()
        assert peer.quits == 1
        nursery.cancel_scope.cancel()


@pytest.mark.covers("X435")
async def test_without_queue_manager_the_start_fails(tmp_path, autojump_clock):
    with pytest.raises(ExceptionGroup) as caught:
        async with trio.open_nursery() as nursery:
            await nursery.start(DAEMON.serve, context(tmp_path))
    assert caught.group_contains(StartError, match="no connection to qmgr")


async def test_queue_manager_that_comes_back_is_found_again(tmp_path):
    write_content(tmp_path)
    async with trio.open_nursery() as nursery:
        peer = await Peer().listen(nursery)
        channels, scope = await start_qmgr(nursery, tmp_path)
        await nursery.start(DAEMON.serve, context(tmp_path))
        channel = await channels.receive()
        assert (await channel.call(deliver(peer), 10)).open
        scope.cancel()
        while not peer.quits:
            await wait_all_tasks_blocked(0.01)
        channels, _ = await start_qmgr(nursery, tmp_path)
        channel = await channels.receive()
        assert (await channel.call(deliver(peer), 10)).results[0].code == 250
        assert peer.sessions == 2
        nursery.cancel_scope.cancel()


def test_boundaries_differ_and_are_valid():
    one, two = new_boundary(), new_boundary()
    assert one != two
    assert len(one) <= 70
