"""Handing over descriptors."""

import array
import os
import socket

import pytest
import trio

from mcp.passfd import LATE_S, PassRefused, pass_sockets, try_pass


def door(path):
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen()
    return sock


def take(listener):
    connection, _ = listener.accept()
    with connection:
        data, rights, _flags, _address = connection.recvmsg(1, socket.CMSG_SPACE(4 * 64))
    fds = array.array("i", rights[0][2])
    return data[0], list(fds)


@pytest.mark.covers("X127", "X139")
def test_descriptors_arrive_with_their_count(tmp_path):
    with door(tmp_path / "s") as listener, socket.socket() as one, socket.socket() as two:
        assert try_pass(str(tmp_path / "s"), os.geteuid(), [one.fileno(), two.fileno()])
        count, fds = take(listener)
        assert count == len(fds) == 2
        assert [os.fstat(fd).st_ino for fd in fds] == [
            os.fstat(s.fileno()).st_ino for s in (one, two)
        ]
        for fd in fds:
            os.close(fd)


def test_nobody_listens_yet(tmp_path):
    path = str(tmp_path / "s")
    assert not try_pass(path, os.geteuid(), [0])
    door(path).close()  # the file of a process that died
    assert not try_pass(path, os.geteuid(), [0])


def test_wrong_user_gets_nothing(tmp_path):
    with door(tmp_path / "s") as listener:
        with pytest.raises(PassRefused, match="instead of user"):
            try_pass(str(tmp_path / "s"), os.geteuid() + 1, [0])
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(10) == b""


def test_other_file_at_the_path_is_refused_or_waited_for(tmp_path):
    (tmp_path / "s").write_text("")
    assert not try_pass(str(tmp_path / "s"), os.geteuid(), [0])
    with pytest.raises(PassRefused):
        try_pass(str(tmp_path / ("x" * 200)), os.geteuid(), [0])


async def test_service_that_comes_late_is_reported_once_and_served(tmp_path, autojump_clock):
    path, late = tmp_path / "s", []

    async def come_late():
        await trio.sleep(3 * LATE_S)
        return door(path)

    async with trio.open_nursery() as nursery:
        with socket.socket() as sock:
            nursery.start_soon(
                pass_sockets, str(path), os.geteuid(), [sock.fileno()], lambda: late.append(1)
            )
            listener = await come_late()
            await trio.testing.wait_all_tasks_blocked()
            with listener:
                while nursery.child_tasks:
                    await trio.sleep(1)
                _count, fds = take(listener)
        for fd in fds:
            os.close(fd)
    assert late == [1]
