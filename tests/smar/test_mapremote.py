"""Socket maps and the system's users."""

import os
import pwd

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from libsmx.opt_smar_maps import MapConf
from smar.mapremote import PAUSE_S, PasswdAsker, SocketAsker
from smar.records import Outcome
from smar.socketmap import (
    MAX_BYTES,
    NetstringReader,
    ServerUnable,
    SocketMapError,
    netstring,
    read_reply,
    read_request,
    request,
)


@given(st.lists(st.binary(max_size=40), max_size=5), st.integers(1, 7))
def test_netstrings_in_pieces(messages, size):
    data = b"".join(netstring(one) for one in messages)
    reader = NetstringReader()
    found = [one for at in range(0, len(data), size) for one in reader.feed(data[at : at + size])]
    assert found == messages


@given(st.binary(max_size=40))
def test_any_bytes_are_messages_or_an_error(data):
    try:
        found = list(NetstringReader().feed(data))
    except SocketMapError:
        return
    for one in found:
        for function in (read_reply, read_request):
            try:
                function(one)
            except SocketMapError:
                continue


@pytest.mark.parametrize(
    "data", [b"x", b"12x", b"3:abcd,", b":", b"%d:" % (MAX_BYTES + 1), b"1234567", b"-1:,"]
)
def test_what_is_no_netstring(data):
    with pytest.raises(SocketMapError):
        list(NetstringReader().feed(data))


@pytest.mark.covers("X211", "X214")
def test_requests_and_replies():
    assert request("users", "a b") == b"9:users a b,"
    assert read_request(b"users a b") == ("users", "a b")
    assert read_reply(b"OK value with blanks") == "value with blanks"
    assert read_reply(b"OK ") == ""
    assert read_reply(b"NOTFOUND ") is None
    for word in (b"TEMP", b"TIMEOUT why", b"PERM no"):
        with pytest.raises(ServerUnable, match="server says"):
            read_reply(word)
    for bad in (b"users", b" key", b"\xff x"):
        with pytest.raises(SocketMapError):
            read_request(bad)


class Server:
    """A socket map that answers as it is told and keeps the requests."""

    def __init__(self, replies):
        self.replies = list(replies)
        self.requests = []
        self.connections = 0

    async def serve(self, stream):
        self.connections += 1
        reader = NetstringReader()
        async for data in stream:
            for one in reader.feed(data):
                self.requests.append(one)
                reply = self.replies.pop(0) if self.replies else b"NOTFOUND "
                if reply is None:
                    await stream.aclose()
                    return
                if reply == "silence":
                    await trio.sleep_forever()
                await stream.send_all(reply if reply.endswith(b"!") else netstring(reply))


@pytest.fixture
def conf():
    return MapConf(name="users", type="socket", timeout=5)


async def start(nursery, server):
    listeners = await nursery.start(
        trio.serve_tcp,
        server.serve,
        0,
    )
    return listeners[0].socket.getsockname()[1]


@pytest.mark.covers("X211", "X214", "X215", "X217")
async def test_a_server_on_an_address_gets_name_and_key(conf):
    server = Server([b"OK joe@x", b"NOTFOUND ", None, b"OK again", b"TEMP later", b"OK on"])
    async with trio.open_nursery() as nursery:
        port = await start(nursery, server)
        asker = SocketAsker(attrs.evolve(conf, mapname="Users", address="127.0.0.1", port=port))
        first = await asker.ask("joe")
        assert (first.outcome, first.text) == (Outcome.FOUND, "joe@x")
        assert (await asker.ask("sue")).outcome is Outcome.NO_NAME
        # the server closes the connection instead of answering: asked again on a new one
        assert (await asker.ask("ann")).text == "again"
        temporary = await asker.ask("tom")
        assert temporary.outcome is Outcome.FAILED
        assert "TEMP later" in temporary.detail
        assert (await asker.ask("tom")).text == "on"
        asker.close()
        nursery.cancel_scope.cancel()
    assert server.requests[:3] == [b"Users joe", b"Users sue", b"Users ann"]
    assert server.connections == 2


@pytest.mark.covers("X216")
async def test_a_server_on_a_path(conf, tmp_path):
    path = str(tmp_path / "s")
    sock = trio.socket.socket(trio.socket.AF_UNIX)
    await sock.bind(path)
    sock.listen()
    server = Server([b"OK 1"])
    async with trio.open_nursery() as nursery:
        listener = trio.SocketListener(sock)
        nursery.start_soon(trio.serve_listeners, server.serve, [listener])
        asker = SocketAsker(attrs.evolve(conf, path=path))
        assert (await asker.ask("k")).text == "1"
        asker.close()
        nursery.cancel_scope.cancel()
    assert server.requests == [b"users k"]


async def test_a_server_that_talks_nonsense_is_left(conf):
    server = Server([b"nonsense!", b"OK fine"])
    async with trio.open_nursery() as nursery:
        port = await start(nursery, server)
        asker = SocketAsker(attrs.evolve(conf, address="127.0.0.1", port=port))
        assert "no netstring" in (await asker.ask("a")).detail
        assert (await asker.ask("a")).text == "fine"
        asker.close()
        nursery.cancel_scope.cancel()
    assert server.connections == 2


async def test_no_server_is_asked_once_in_a_while(conf, autojump_clock):
    asker = SocketAsker(attrs.evolve(conf, path="/nowhere/at/all"))
    assert "nowhere" in (await asker.ask("a")).detail
    assert "left alone" in (await asker.ask("a")).detail
    await trio.sleep(PAUSE_S + 1)
    assert "nowhere" in (await asker.ask("a")).detail


async def test_a_silent_server_costs_one_time_out(conf):
    server = Server(["silence"])
    async with trio.open_nursery() as nursery:
        port = await start(nursery, server)
        asker = SocketAsker(attrs.evolve(conf, timeout=1, address="127.0.0.1", port=port))
        assert "no answer within 1 s" in (await asker.ask("a")).detail
        assert "left alone" in (await asker.ask("b")).detail
        asker.close()
        nursery.cancel_scope.cancel()


@pytest.mark.covers("X212")
async def test_logins_of_the_system():
    asker = PasswdAsker()
    me = pwd.getpwuid(os.getuid())
    assert (await asker.ask(me.pw_name)).text == me.pw_gecos
    for nobody in ("no-such-login-here", "", "a:b", "a\0b"):
        assert (await asker.ask(nobody)).outcome is Outcome.NO_NAME
