"""Words for systemd: the system is ready, reloads, stops, is alive.

Kind: shell.

The protocol of sd_notify(3): datagrams of KEY=value lines to the Unix socket that the
environment names. Without NOTIFY_SOCKET nothing is sent. Nobody waits for systemd: a word that
cannot be sent is lost, and a watchdog that hears nothing ends mcp, as it should.
Source: sd_notify(3), sd_watchdog_enabled(3), systemd.service(5) "Type=notify".
"""

import contextlib
import os
import socket
import time
from collections.abc import Mapping

import attrs
import trio


@attrs.define
class Notifier:
    """The way to systemd.

    Attributes:
        address: of its socket, b"" when nobody listens.
        watchdog_s: it wants a sign of life more often than this; 0 for never.
    """

    address: bytes = b""
    watchdog_s: float = 0.0
    _is_ready: bool = False

    def ready(self) -> None:
        """Say that all services run."""
        self._is_ready = True
        self._send("READY=1", "STATUS=All services run.")

    def reloading(self) -> None:
        """Say that a reload begins and, as telling the children is all of it, ends."""
        if self._is_ready:  # before, READY would be a lie
            now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            self._send("RELOADING=1", f"MONOTONIC_USEC={now_us}")
            self.ready()

    def stopping(self) -> None:
        """Say that the orderly stop begins."""
        self._is_ready = False
        self._send("STOPPING=1", "STATUS=Stopping the services.")

    async def keep_alive(self) -> None:
        """Send a sign of life twice as often as wanted; it shows that mcp's loop turns."""
        while self.address and self.watchdog_s > 0:
            self._send("WATCHDOG=1")
            await trio.sleep(self.watchdog_s / 2)

    def _send(self, *lines: str) -> None:
        if not self.address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            with contextlib.suppress(OSError):
                sock.sendto("\n".join(lines).encode("ascii"), self.address)


def from_environment(environ: Mapping[str, str], pid: int) -> Notifier:
    """Return the notifier that the environment asks for.

    Args:
        environ: NOTIFY_SOCKET is a path, or @ and an abstract name; WATCHDOG_USEC counts
            microseconds and is meant for WATCHDOG_PID, if that is set. What makes no sense is
            taken as absent: it is not the operator who sets these.
        pid: of mcp.
    """
    name = os.fsencode(environ.get("NOTIFY_SOCKET", ""))
    if name[:1] not in (b"/", b"@"):
        return Notifier()
    address = b"\0" + name[1:] if name.startswith(b"@") else name
    interval, owner = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", str(pid))
    is_ours = owner == str(pid) and interval.isdecimal()
    return Notifier(address, int(interval) / 1e6 if is_ours else 0.0)
