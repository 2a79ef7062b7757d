"""Binding listening sockets."""

import os
import socket
import stat

import pytest

from libsmx.errors import EX_NOPERM, EX_UNAVAILABLE, StartError
from libsmx.opttab import ListenSocket
from mcp.sockets import bind


def free_port(family=socket.AF_INET, address="127.0.0.1"):
    with socket.socket(family) as sock:
        sock.bind((address, 0))
        return sock.getsockname()[1]


@pytest.mark.covers("X131", "X132", "X133")
def test_inet_socket_listens_on_its_address_only():
    listener = bind(ListenSocket(type="inet", port=free_port(), address="127.0.0.1"))
    assert listener.sock.getsockname()[0] == "127.0.0.1"
    assert listener.name.startswith("127.0.0.1:")
    assert not listener.sock.getblocking()
    listener.close()


@pytest.mark.covers("X133")
def test_without_address_all_addresses_are_served():
    listener = bind(ListenSocket(type="inet", port=free_port()))
    assert listener.sock.getsockname()[0] == "0.0.0.0"
    listener.close()


def test_both_families_share_a_port():
    try:
        port = free_port(socket.AF_INET6, "::1")
    except OSError:
        pytest.skip("this machine has no IPv6")
    six = bind(ListenSocket(type="inet6", port=port))
    four = bind(ListenSocket(type="inet", port=port))
    assert six.name == f"[::]:{port}"
    six.close()
    four.close()


def test_port_in_use_names_address_and_remedy():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        with pytest.raises(StartError, match=rf"127\.0\.0\.1:{port}: another program.*port") as no:
            bind(ListenSocket(port=port, address="127.0.0.1"))
    assert no.value.code == EX_UNAVAILABLE


def test_address_of_another_machine():
    with pytest.raises(StartError, match="no such address") as caught:
        bind(ListenSocket(port=free_port(), address="192.0.2.1"))
    assert caught.value.code == EX_UNAVAILABLE


@pytest.mark.covers("X151", "X159")
def test_privileged_port_without_rights(monkeypatch):
    def refuse(_self, _address):
        raise PermissionError(13, "Permission denied")

    class Refusing(socket.socket):
        bind = refuse

    monkeypatch.setattr(socket, "socket", Refusing)
    with pytest.raises(StartError, match="port 25 is privileged; start mcp as root") as caught:
        bind(ListenSocket(port=25))
    assert caught.value.code == EX_NOPERM


@pytest.mark.covers("X134", "X135", "X136")
def test_unix_socket_has_its_mode_and_its_file_goes_with_it(tmp_path):
    path = tmp_path / "s"
    listener = bind(ListenSocket(type="unix", path=str(path), umask=0o177))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    listener.close()
    assert not path.exists()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.covers("X137", "X138")
def test_unix_socket_gets_owner_and_group(tmp_path):
    path = tmp_path / "s"
    listener = bind(ListenSocket(type="unix", path=str(path), user="nobody", group="12"))
    assert path.stat().st_uid not in (0, -1)
    assert path.stat().st_gid == 12
    listener.close()


def test_stale_unix_socket_is_replaced_and_a_live_one_is_not(tmp_path):
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(path)
        old.listen()
        with pytest.raises(StartError, match="another program"):
            bind(ListenSocket(type="unix", path=path))
    bind(ListenSocket(type="unix", path=path)).close()


def test_file_in_the_way_is_kept(tmp_path):
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(StartError, match="in the way"):
        bind(ListenSocket(type="unix", path=str(path)))
    assert path.read_text() == "precious"
