"""Connections: from a target to a connected socket.

Kind: shell.

Sockets are plain non-blocking ones; tasks wait for them with trio's low-level calls, which
costs a fraction of what a stream object costs (one wait for each packet, nothing else).
Source: RFC 5321 5.1; SPEC rows X006, X433, X483.
"""

import errno
import ipaddress
import os
import socket

import trio

from libsmx.errors import SmxError
from libsmx.wire import Target

_PAUSE_S = 0.05
_BIND_ADDRESS_NO_PORT = 24
"""IP_BIND_ADDRESS_NO_PORT of ip(7), for IPv6 as well: else a port serves one target only."""


class DialError(SmxError):
    """No connection to this address; the text says why."""


async def dial(target: Target, lmtp_socket: str, timeout_s: float, own: str = "") -> socket.socket:
    """Return a connected, non-blocking socket.

    Args:
        target: an empty address means the LMTP socket.
        lmtp_socket: its path.
        timeout_s: longest wait in seconds.
        own: address of ours to connect from, of the target's family; empty for any.

    Raises:
        DialError: refused, no route, no socket, or not in time.
    """
    place: tuple[str, int] | str = (target.address, target.port)
    family = socket.AF_INET
    if not target.address:
        family, place = socket.AF_UNIX, lmtp_socket
    else:
        try:
            if ipaddress.ip_address(target.address).version == 6:
                family = socket.AF_INET6
        except ValueError as error:
            raise DialError("not an IP address") from error
    try:
        sock = socket.socket(
            family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
    except OSError as error:  # no descriptors left, or no such address family here
        raise DialError(error.strerror or str(error)) from error
    connected = False
    try:
        if own and target.address:
            _bind(sock, own)
        with trio.move_on_after(timeout_s):
            await _connect(sock, place)
            connected = True
    except OSError as error:
        raise DialError(error.strerror or str(error)) from error
    finally:
        if not connected:
            close(sock)
    if not connected:
        raise DialError(f"connection timed out after {timeout_s:g} s")
    return sock


def _bind(sock: socket.socket, own: str) -> None:
    """Give a socket its own address, the port to be chosen when it is connected.

    Raises:
        DialError: it is none of ours.
    """
    try:
        sock.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
        sock.bind((own, 0))
    except OSError as error:
        raise DialError(f"own address {own} cannot be used: {error.strerror}") from error


async def _connect(sock: socket.socket, place: tuple[str, int] | str) -> None:
    """Connect a non-blocking socket.

    Raises:
        OSError: as connect(2) gives it.
    """
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # A full queue of a Unix listener gives EAGAIN, and nothing tells when it has room again.
    while (code := sock.connect_ex(place)) == errno.EAGAIN:  # noqa: ASYNC110
        await trio.sleep(_PAUSE_S)
    if code == errno.EINPROGRESS:
        await trio.lowlevel.wait_writable(sock)
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))


def close(sock: socket.socket) -> None:
    """Close a socket; a task that waits for it is woken."""
    trio.lowlevel.notify_closing(sock)
    sock.close()
