"""Listening sockets: passed over the Unix socket, bound by ourselves, refused."""

import contextlib
import os
import socket
import stat

import pytest
import trio

from libsmx.errors import EX_UNAVAILABLE, StartError
from libsmx.log import NullLog
from libsmx.opttab import ListenSocket
from smtps import listen
from smtps.listen import Listeners, bind_listeners, receive_listeners, serve_passed

HERE = ListenSocket(type="inet", address="127.0.0.1", port=0)


def listener():
    """Return a listening TCP socket on a free port."""
    (sock,) = bind_listeners([HERE])
    return sock


@pytest.mark.covers("X131", "X133")
def test_inet_and_inet6_are_bound_side_by_side():
    rows = [HERE, ListenSocket(type="inet6", address="::1", port=0)]
    socks = bind_listeners(rows)
    assert [sock.getsockname()[0] for sock in socks] == ["127.0.0.1", "::1"]
    for sock in socks:
        sock.close()


def test_port_in_use_is_told_with_address_and_port():
    with listener() as sock:
        port = sock.getsockname()[1]
        with pytest.raises(StartError, match=f"127.0.0.1 port {port}: Address already in use") as e:
            bind_listeners([HERE, ListenSocket(type="inet", address="127.0.0.1", port=port)])
        assert e.value.code == EX_UNAVAILABLE


def test_unix_listen_socket_is_no_place_for_smtp():
    with pytest.raises(StartError):
        bind_listeners([ListenSocket(type="unix", path="x")])


def test_passed_sockets_are_taken():
    ours, theirs = socket.socketpair()
    with ours, theirs, listener() as one, listener() as two:
        socket.send_fds(theirs, [b"\x02"], [one.fileno(), two.fileno()])
        socks = receive_listeners(ours)
        names = [sock.getsockname() for sock in socks]
        assert names == [one.getsockname(), two.getsockname()]
        assert not any(sock.get_inheritable() for sock in socks)
        for sock in socks:
            sock.close()


def open_fds():
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("case", ["count", "none", "pipe", "unix", "connected", "long"])
def test_what_is_not_agreed_is_refused_and_closed(case):
    ours, theirs = socket.socketpair()
    reader, writer = os.pipe()
    with ours, theirs, listener() as good, socket.socket() as plain:
        passed = {
            "count": (b"\x02", [good.fileno()]),
            "none": (b"\x00", []),
            "pipe": (b"\x02", [good.fileno(), reader]),
            "unix": (b"\x01", [theirs.fileno()]),
            "connected": (b"\x01", [plain.fileno()]),
            "long": (b"\x01\x01", [good.fileno()]),
        }
        data, fds = passed[case]
        before = open_fds()
        socket.send_fds(theirs, [data], fds)
        with pytest.raises(ValueError, match=r"descriptor"):
            receive_listeners(ours)
        assert open_fds() == before
    os.close(reader)
    os.close(writer)


async def pass_to(path, *socks):
    """Pass sockets as mcp does."""
    with trio.socket.socket(socket.AF_UNIX) as sock:
        await sock.connect(path)
        rights = [one.fileno() for one in socks]
        raw = socket.socket(fileno=os.dup(sock.fileno()))
        # A server that refuses us closes at once, perhaps before we have sent anything.
        with raw, contextlib.suppress(ConnectionResetError, BrokenPipeError):
            socket.send_fds(raw, [bytes([len(socks)])], rights)
            await sock.recv(1)  # until the server is done with it


async def greet(address):
    """Connect and return what is said."""
    with trio.socket.socket() as sock:
        await sock.connect(address)
        return await sock.recv(100)


@pytest.mark.covers("X127", "X139")
async def test_later_sockets_replace_earlier_ones(tmp_path):
    path, log = str(tmp_path / "fd"), NullLog()

    def greeter(sock, address):
        assert address == "127.0.0.1"
        with sock:
            sock.send(b"hello")

    one, two = listener(), listener()
    async with trio.open_nursery() as nursery:
        listeners = Listeners(greeter, log)
        await nursery.start(serve_passed, path, listeners, nursery, log)
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        await pass_to(path, one)
        assert await greet(one.getsockname()) == b"hello"
        await pass_to(path, two)
        assert await greet(two.getsockname()) == b"hello"
        address = one.getsockname()
        one.close()  # the last holder, if the server let go of it
        with pytest.raises(OSError, match="refused"):
            await greet(address)
        listeners.stop()
        nursery.cancel_scope.cancel()
    two.close()
    assert [event.name for event, _ in log.records] == ["listening", "listening"]


async def test_stranger_may_not_pass_sockets(tmp_path, monkeypatch):
    path, log = str(tmp_path / "fd"), NullLog()
    monkeypatch.setattr(listen, "peer_credentials", lambda _: (1, 4711, 1))
    async with trio.open_nursery() as nursery:
        listeners = Listeners(lambda *_: None, log)
        await nursery.start(serve_passed, path, listeners, nursery, log)
        with listener() as sock:
            await pass_to(path, sock)
        nursery.cancel_scope.cancel()
    (record,) = log.records
    assert record[0].name == "pass_refused"
    assert record[1]["uid"] == 4711


async def test_peer_that_passes_nothing_is_given_up(tmp_path, monkeypatch):
    path, log = str(tmp_path / "fd"), NullLog()
    async with trio.open_nursery() as nursery:
        listeners = Listeners(lambda *_: None, log)
        await nursery.start(serve_passed, path, listeners, nursery, log)
        with trio.socket.socket(socket.AF_UNIX) as sock:
            await sock.connect(path)
        while not log.records:
            await trio.sleep(0.001)
        nursery.cancel_scope.cancel()
    assert log.records[0][0].name == "pass_refused"


async def test_out_of_descriptors_is_survived(autojump_clock):
    taken, log, failures = [], NullLog(), [24, 24, 103]

    class Scarce(socket.socket):
        def accept(self):
            if failures:
                raise OSError(failures.pop(), "Too many open files")
            return super().accept()

    scarce = Scarce(fileno=listener().detach())
    with socket.create_connection(scarce.getsockname()):
        async with trio.open_nursery() as nursery:
            listeners = Listeners(lambda sock, _: taken.append(sock), log)
            listeners.use([scarce], nursery)
            while not taken:
                await trio.sleep(1)
            listeners.stop()
    taken[0].close()
    names = [event.name for event, _ in log.records]
    assert names == ["listening", "accept_failed", "accept_failed"]
