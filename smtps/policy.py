"""What holds for every session of one server: name, limits, who may relay, whether to stop.

Kind: core.
Source: SPEC rows X359, X364, X365, X379, X469; decisions D31, D32, D52.
"""

import ipaddress
from collections.abc import Iterable

from libsmx import reply
from libsmx.netkinds import Network
from libsmx.opttab import SmtpsConf
from libsmx.reply import Reply
from libsmx.version import PRODUCT


def plain_address(address: str) -> str:
    """Return an IP address in its shortest form; IPv4 inside IPv6 becomes IPv4."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(parsed)


def is_over(count: int, limit: int) -> bool:
    """Tell whether a count is more than its limit allows (D31: N allows N, 0 any number)."""
    return 0 < limit < count


def _is_in(client: str, networks: Iterable[Network]) -> bool:
    """Tell whether an IP address lies in one of some networks."""
    address = ipaddress.ip_address(client) if networks else None
    return address is not None and any(
        address in network for network in networks if network.version == address.version
    )


_TOLD = ("access", "greylisting", "lmtp_does_not_imply_relaying")


def _rules_of(conf: SmtpsConf) -> str:
    """Return the checks that the resolver shall make for this server, as Facts.rules has them."""
    words = [flag for flag in _TOLD if flag in conf.flags]
    for protected in conf.protected_recipients:
        words += sorted(
            {f"allow_by_{word.removeprefix('allow_by_')}" for word in protected.allow_by}
        )
        words += [protected.match_type] if protected.match_type != "exact" else []
    return " ".join(words)


class Policy:
    """Rules of one server process.

    Args:
        conf: options of the section.
        hostname: our name.

    Attributes:
        filtered: there are content filters.
        delaying: sessions whose errors are just being answered slowly, at most max_delaying.
        throttled: the queue manager takes no new transactions.
        access: the access map and the client's name are used.
        rules: checks that the resolver makes for this server.
        tls_ready: there is a certificate.
        auth_mechanisms: those that can be offered, before the flags are looked at.
        auth_remote: an authentication server knows the passwords.
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
        self.access = "access" in conf.flags
        self.delay_checks = "delay_checks" in conf.flags
        self.delay_greylisting = "delay_greylisting_error_until_data" in conf.flags
        self.rules = _rules_of(conf)
        self.max_size = conf.max_message_size * 1024
        hidden = conf.extensions_hidden
        self.utf8 = self.body8 and "smtputf8" not in hidden
        self.dsn = "dsn" not in hidden
        self.chunking = "chunking" not in hidden
        self.require_tls = "require_tls" in conf.flags
        self.require_auth = "require_auth" in conf.flags
        self.tls_ready = False
        self.auth_mechanisms: tuple[str, ...] = ()
        self.auth_remote = False
        self.filtered = bool(conf.policy_milter or conf.milter)
        self.delaying = 0
        self.max_delaying = max(1, conf.max_sessions // 10)
        offered = {
            "pipelining": "PIPELINING",
            "size": f"SIZE {self.max_size}",
            "8bitmime": "8BITMIME" if self.body8 else "",
            "enhancedstatuscodes": "ENHANCEDSTATUSCODES",
            "dsn": "DSN",
            "chunking": "CHUNKING",
            "smtputf8": "SMTPUTF8" if self.utf8 else "",
        }
        words = [word for name, word in offered.items() if word and name not in hidden]
        self.ehlo = Reply(250, "", "\n".join([hostname, *words]))
        self.helo = Reply(250, "", hostname)
        self.greeting = reply.GREETING.fill(hostname, conf.banner or PRODUCT)

    def may_relay(self, client: str) -> bool:
        """Tell whether a client with this IP address may send to any domain."""
        return _is_in(client, self.conf.relay_clients)

    def may_xclient(self, client: str) -> bool:
        """Tell whether a client with this IP address may speak for others."""
        return _is_in(client, self.conf.xclient_clients)

    def is_proxy(self, client: str) -> bool:
        """Tell whether connections from this IP address begin with a PROXY header."""
        return _is_in(client, self.conf.proxy_clients)
