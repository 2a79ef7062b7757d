"""The kinds of values that are IP addresses, networks and ports.

Kind: core.

Source: SPEC rows X132, X133; RFC 4291 2.2, RFC 4632 3.1.
"""

import ipaddress
import re
from typing import NamedTuple

from libsmx.kinds import Kind, quote

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Endpoint(NamedTuple):
    """An IP address with a port."""

    address: str
    port: int

    def __str__(self) -> str:
        """Return ``1.2.3.4:53`` or ``[::1]:53``."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"


class IpAddress(Kind[str]):
    """An IPv4 or IPv6 address, kept as text in its usual form; ``version`` narrows it."""

    def __init__(self, version: int = 0) -> None:
        self.label = f"IPv{version} address" if version else "IP address"
        self._version = version

    def read(self, text: str) -> str:
        """Return the address in its usual form, "" unchanged."""
        if not text:
            return ""
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            raise ValueError(f"{quote(text)} is not an IP address (as 192.0.2.1, ::1)") from None
        if self._version not in {0, address.version}:
            raise ValueError(f"{quote(text)} is not an {self.label}")
        return str(address)


class IpNetwork(Kind[Network]):
    """An address or a network in CIDR form."""

    label = "network"

    def read(self, text: str) -> Network:
        """Return the network; a lone address is a network of one."""
        try:
            return ipaddress.ip_network(text)
        except ValueError as error:
            why = "host bits set" if "host bits" in str(error) else "as 192.0.2.0/24, ::1"
            raise ValueError(f"{quote(text)} is not an address or network ({why})") from None


class EndpointKind(Kind[Endpoint]):
    """An IP address with an optional port: ``192.0.2.1``, ``192.0.2.1:53``, ``[::1]:53``."""

    label = "address with port"

    def __init__(self, default_port: int) -> None:
        self._port = default_port

    def read(self, text: str) -> Endpoint:
        """Return address and port; a lone IPv6 address needs no brackets."""
        match = re.fullmatch(r"\[([^\]]*)\](?::([0-9]{1,6}))?|([^:]*)(?::([0-9]{1,6}))?", text)
        host, port = (match[1] or match[3], match[2] or match[4]) if match else (text, None)
        try:
            address = str(ipaddress.ip_address(host or ""))
            number = int(port) if port else self._port
        except ValueError:
            address, number = "", 0
        if not 0 < number < 65536:
            raise ValueError(
                f"{quote(text)} is not an address (as 192.0.2.1, 192.0.2.1:53, [::1]:53)"
            )
        return Endpoint(address, number)

    def describe(self) -> str:
        """Tell the port that is used when none is given."""
        return f"IP address, with :port where it is not {self._port}; [address]:port for IPv6"
