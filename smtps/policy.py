"""What holds for every session of one server: name, limits, who may relay, whether to stop.

Kind: core.
Source: SPEC rows X359, X364, X365, X379, X469; decisions D31, D32, D52.
"""

import ipaddress

from libsmx.opttab import SmtpsConf
from libsmx.reply import Reply


def plain_address(address: str) -> str:
    """Return an IP address in its shortest form; IPv4 inside IPv6 becomes IPv4."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(parsed)


def is_over(count: int, limit: int) -> bool:
    """Tell whether a count is more than its limit allows (D31: N allows N, 0 any number)."""
    return 0 < limit < count


class Policy:
    """Rules of one server process.

    Args:
        conf: options of the section.
        hostname: our name.

    Attributes:
        throttled: the queue manager takes no new transactions.
        stopping: the process ends; sessions are told so at their next command.
    """

    def __init__(self, conf: SmtpsConf, hostname: str) -> None:
        self.conf = conf
        self.hostname = hostname
        self.throttled = False
        self.stopping = False
        self.soft_bounce = "soft_bounce" in conf.flags
        self.strict_ehlo = "strict_ehlo_checks" in conf.flags
        self.body8 = "8bitmime" in conf.flags
        self.max_size = conf.max_message_size * 1024
        extensions = ["PIPELINING", f"SIZE {self.max_size}", "ENHANCEDSTATUSCODES", "DSN"]
        if self.body8:
            extensions.insert(2, "8BITMIME")
        self.ehlo = Reply(250, "", "\n".join([hostname, *extensions]))
        self.helo = Reply(250, "", hostname)

    def may_relay(self, client: str) -> bool:
        """Tell whether a client with this IP address may send to any domain."""
        address = ipaddress.ip_address(client)
        return any(
            address in network
            for network in self.conf.relay_clients
            if network.version == address.version
        )
