"""Channels, servers and links over real sockets."""

import os
import socket
import struct

import pytest
import trio
import trio.testing

from libsmx import wire, wire_control
from libsmx.channel import Channel
from libsmx.errors import PeerGone, StartError
from libsmx.link import Link, Server
from libsmx.log import NullLog
from libsmx.rcb import encode
from libsmx.unixsock import bind_unix

ME = frozenset({os.getuid()})


def answer_status(channel, message, rid):
    channel.post(wire_control.StatusAnswer(state="normal", reason="", figures=[]), rid)


def make_server(path, handler=answer_status, log=None, **kwargs):
    return Server(
        str(path), 0o600, "qmgr", handler, clients={"qmgrctl": ME}, log=log or NullLog(), **kwargs
    )


def make_link(path, **kwargs):
    kwargs.setdefault("log", NullLog())
    return Link(str(path), "qmgrctl", "qmgr", **kwargs)


async def test_a_question_is_answered(tmp_path):
    async with trio.open_nursery() as nursery:
        await nursery.start(make_server(tmp_path / "s").run)
        link = make_link(tmp_path / "s")
        await nursery.start(link.run)
        answer = await link.call(wire_control.StatusAsk(), 5)
        assert answer.state == "normal"
        answers = await link.call_many([wire_control.StatusAsk()] * 50, 5)
        assert len(answers) == 50
        nursery.cancel_scope.cancel()
    assert not (tmp_path / "s").exists()


async def test_without_an_answer_the_call_ends(tmp_path):
    async with trio.open_nursery() as nursery:
        await nursery.start(make_server(tmp_path / "s", lambda *_: None).run)
        link = make_link(tmp_path / "s")
        await nursery.start(link.run)
        with pytest.raises(PeerGone, match="within"):
            await link.call(wire_control.StatusAsk(), 0.01)
        nursery.cancel_scope.cancel()


async def test_calls_end_when_the_peer_goes_and_the_link_comes_back(tmp_path):
    def hang_up(channel, message, rid):
        channel.close("enough")

    closed = trio.Event()
    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as first:
            await first.start(make_server(tmp_path / "s", hang_up).run)
            link = make_link(tmp_path / "s", on_close=lambda _: closed.set())
            await nursery.start(link.run)
            with pytest.raises(PeerGone):
                await link.call(wire_control.StatusAsk(), 30)
            await closed.wait()
            first.cancel_scope.cancel()
        await nursery.start(make_server(tmp_path / "s").run)
        while True:
            try:
                answer = await link.call(wire_control.StatusAsk(), 5)
                break
            except PeerGone:
                await trio.sleep(0.01)
        assert answer.state == "normal"
        nursery.cancel_scope.cancel()


async def test_the_last_answer_before_a_close_arrives(tmp_path):
    def bye(channel, message, rid):
        channel.post(wire_control.Done(count=7), rid)
        channel.close("told to")

    async with trio.open_nursery() as nursery:
        await nursery.start(make_server(tmp_path / "s", bye).run)
        link = make_link(tmp_path / "s")
        await nursery.start(link.run)
        assert (await link.call(wire_control.StopAsk(), 5)).count == 7
        nursery.cancel_scope.cancel()


async def test_a_strange_user_version_or_role_is_refused(tmp_path):
    log = NullLog()
    server = Server(
        str(tmp_path / "s"), 0o600, "qmgr", answer_status,
        clients={"qmgrctl": frozenset({os.getuid() + 1})}, log=log,
    )  # fmt: skip
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        link = make_link(tmp_path / "s", wait_s=0)
        with pytest.raises(StartError, match="may not act as qmgrctl"):
            await link.run()
        nursery.cancel_scope.cancel()
    assert any(event.name == "peer_refused" for event, _ in log.records)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        b"\xff" * 100,
        struct.pack(">IBI", 5, 200, 1),
        encode(wire_control.Done(), 1),
        encode(wire_control.StatusAsk(), 1),
        struct.pack(">IBI", 9, 1, 1) + b"\x93\x01\x02\x03",
    ],
)
async def test_rubbish_ends_the_connection_and_nothing_else(tmp_path, data):
    async with trio.open_nursery() as nursery:
        await nursery.start(make_server(tmp_path / "s").run)
        stranger = await trio.open_unix_socket(str(tmp_path / "s"))
        await stranger.send_all(data)
        with trio.fail_after(5):
            while True:
                try:
                    if not await stranger.receive_some(1000):
                        break
                except trio.BrokenResourceError:
                    break
        await stranger.aclose()
        link = make_link(tmp_path / "s")
        await nursery.start(link.run)
        assert (await link.call(wire_control.StatusAsk(), 5)).state == "normal"
        nursery.cancel_scope.cancel()


async def test_a_peer_that_does_not_read_is_cut_off(monkeypatch):
    monkeypatch.setattr("libsmx.channel.MAX_OUT", 1 << 20)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    channel = Channel(ours, frozenset({wire_control.Done}), answer_status)
    with theirs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(channel.run)
            await trio.testing.wait_all_tasks_blocked()
            text = "x" * 2000
            for _ in range(2000):
                channel.post(wire.Throttle(stop=True, reason=text))
            assert channel.closed
    assert "does not read" in channel.reason


async def test_a_request_on_a_closed_channel_is_answered_with_none():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    channel = Channel(ours, frozenset({wire_control.Done}), answer_status)
    theirs.close()
    await channel.run()
    got = []
    channel.request(wire_control.StatusAsk(), got.append, 5)
    assert got == []
    await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(PeerGone):
        await channel.call(wire_control.StatusAsk(), 5)
    assert got == [None]


async def test_a_socket_below_a_long_path_is_reached(tmp_path, monkeypatch):
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    async with trio.open_nursery() as nursery:
        await nursery.start(make_server("s").run)
        monkeypatch.chdir(tmp_path)
        link = make_link(deep / "s")
        await nursery.start(link.run)
        assert (await link.call(wire_control.StatusAsk(), 5)).state == "normal"
        nursery.cancel_scope.cancel()


def test_a_dead_socket_is_replaced_and_a_living_one_is_not(tmp_path):
    path = str(tmp_path / "s")
    first = bind_unix(path, 0o660)
    assert os.stat(path).st_mode & 0o777 == 0o660
    with pytest.raises(StartError, match="another process"):
        bind_unix(path, 0o600)
    first.close()
    bind_unix(path, 0o600).close()
    os.unlink(path)
    (tmp_path / "s").write_text("precious")
    with pytest.raises(StartError, match="no socket"):
        bind_unix(path, 0o600)
    assert (tmp_path / "s").read_text() == "precious"
    with pytest.raises(StartError, match="cannot listen"):
        bind_unix(str(tmp_path / "none" / "s"), 0o600)
