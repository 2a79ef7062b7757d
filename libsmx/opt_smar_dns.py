"""Options of the address resolver that concern the DNS and this host's place in it.

Kind: table.

Source: SPEC rows X240, X248, X249; RFC 5321 5.1, RFC 8767.
"""

import attrs

from libsmx.kinds import SIZE_UNITS, Choice, Count, ListOf, Quantity, String
from libsmx.netkinds import IpAddress
from libsmx.opt_shared import HOST, SECONDS
from libsmx.options import option

MAX_OWN = 64
"""Most names and most addresses that a host may be given besides those that it knows itself."""


@attrs.frozen
class DnsConf:
    """Options written directly in section smar."""

    cache_max_size: int = option(
        "cache_max_size",
        Quantity("size", SIZE_UNITS, "KB"),
        "32MB",
        low="100KB",
        high="64GB",
        doc="Most memory for DNS answers that are remembered; those least recently used go first.",
    )
    dns_max_queries: int = option(
        "DNS_max_queries",
        Count("queries"),
        "400",
        low="1",
        high="10000",
        doc="Greatest number of look-ups under way at the name servers at a time; others wait "
        "for their turn. Each holds a file descriptor.",
    )
    dns_serve_stale: int = option(
        "DNS_serve_stale",
        SECONDS,
        "1h",
        low="0s",
        high="7d",
        doc="How long after its lifetime a DNS answer stands in when its renewal fails, "
        "0 for never (RFC 8767).",
    )
    address_families: tuple[str, ...] = option(
        "address_families",
        ListOf(Choice("ipv4", "ipv6"), 2),
        ("ipv4", "ipv6"),
        doc="Families of addresses that mail is sent to, the preferred one first. The addresses "
        "of a host are tried in turn, one of each family after the other.",
    )
    own_names: tuple[str, ...] = option(
        "own_names",
        ListOf(HOST, MAX_OWN),
        (),
        doc="Other names of this host. A mail exchanger with the name or an address of this host "
        "ends the list of exchangers, because mail would go in circles.",
    )
    own_addresses: tuple[str, ...] = option(
        "own_addresses",
        ListOf(IpAddress(), MAX_OWN),
        (),
        doc="Addresses under which others reach this host and that none of its interfaces has, "
        "as behind a translating router. Those of the interfaces are known.",
    )


@attrs.frozen
class DnsblConf:
    """One DNS blacklist."""

    domain: str = option(
        "domain",
        HOST,
        "",
        rows="X231",
        doc="Zone of the list: a client 192.0.2.1 is looked up as 1.2.0.192.domain. Required.",
    )
    tag: str = option(
        "tag",
        String("tag", r"[A-Za-z0-9_-]{1,40}", "1 to 40 letters, digits, _ and -"),
        "",
        rows="X232 X283",
        doc="Tag of the entries in the access map that decide about what the list says: "
        "tag:127.0.0.2 for an address it returns, tag:temp and tag:perm for look-ups that "
        "fail. Required.",
    )
