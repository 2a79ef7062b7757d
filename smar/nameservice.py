"""The name service of the process: resolver, cache and flights, as the options say.

Kind: shell.

Also tells which addresses are this host's own: the kernel is asked.
Source: SPEC rows X240, X248, X249; decision D53.
"""

import random
import socket
from collections.abc import Callable, Collection
from functools import lru_cache

import trio

from libsmx.opt_smar_dns import DnsConf
from libsmx.opttab import SmarConf
from libsmx.process import Context
from smar.cache import Cache
from smar.dnsio import Resolver, read_resolv_conf
from smar.events import DNS_FAILED, MAP_FAILED, NAME_SERVER_BACK, NAME_SERVER_SILENT, NAME_SERVERS
from smar.flights import Ask, Flights
from smar.maps import map_and_key
from smar.records import Answer, Question
from smar.site import Site

_KNOWN_ADDRESSES = 4096
"""How many answers of the kernel are remembered; an interface seldom changes its addresses."""
_KB = 1024
_DISCARD_PORT = 9


def start_flights(nursery: trio.Nursery, ctx: Context, ask_map: Ask) -> Flights:
    """Return what answers questions; its tasks run in the nursery.

    Args:
        nursery: runs the lookups.
        ctx: has options, log and clock.
        ask_map: answers the questions of kind MAP; the DNS answers all others.
    """
    conf: SmarConf = ctx.conf
    log = ctx.log
    servers = [(place.address, place.port) for place in conf.nameserver] or read_resolv_conf()
    log.emit(NAME_SERVERS, servers=" ".join(f"{address}:{port}" for address, port in servers))

    def on_server(server: str, alive: bool) -> None:  # noqa: FBT001 - the callback's signature
        log.emit(NAME_SERVER_BACK if alive else NAME_SERVER_SILENT, server=server)

    def on_failure(question: Question, reason: str) -> None:
        if question.kind == "MAP":
            name, key = map_and_key(question)
            log.emit(MAP_FAILED, map=name, key=key, reason=reason)
        else:
            log.emit(DNS_FAILED, name=question.name, type=question.kind, reason=reason)

    ask_dns = Resolver(servers, conf.dns_timeout, on_server).ask

    async def ask(question: Question) -> Answer:
        return await (ask_map if question.kind == "MAP" else ask_dns)(question)

    return Flights(
        nursery,
        ask,
        Cache(conf.dns.cache_max_size * _KB, conf.dns.dns_serve_stale),
        ctx.clock,
        conf.dns_timeout,
        on_failure,
        conf.dns.dns_max_queries,
    )


def this_site(ctx: Context) -> Site:
    """Return what routes have to know of this host."""
    conf: DnsConf = ctx.conf.dns
    return Site(
        hostname=ctx.globals.hostname.lower(),
        shuffle=random.SystemRandom().shuffle,
        families=conf.address_families,
        names=frozenset(name.lower() for name in conf.own_names),
        is_own=own_addresses(conf.own_addresses),
    )


def own_addresses(named: Collection[str]) -> Callable[[str], bool]:
    """Return a function that tells whether an address in text form is this host's.

    Args:
        named: addresses that are, though no interface has them.
    """
    known = frozenset(named)

    @lru_cache(maxsize=_KNOWN_ADDRESSES)
    def is_own(address: str) -> bool:
        return address in known or address.startswith("127.") or _is_local(address)

    return is_own


def _is_local(address: str) -> bool:
    """Tell whether an interface of this host has the address; nothing is sent.

    The kernel would talk to itself from that same address. Binding to the address would not
    tell: where net.ipv4.ip_nonlocal_bind is set, every address can be bound to.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((address, _DISCARD_PORT))
            return bool(sock.getsockname()[0] == address)
    except OSError:
        return False
