"""Options of the address resolver.

Kind: table.

Source: SPEC rows X120-X124, X250; D05, D11.
"""
# ruff: noqa: RUF009 (option() and section() declare fields, they are no shared defaults)

import attrs

from libsmx.kinds import ListOf, Path, String
from libsmx.netkinds import Endpoint, EndpointKind
from libsmx.opt_shared import SECONDS, LogConf, ServiceConf, log_level, log_section
from libsmx.opt_smar_dns import DnsblConf, DnsConf
from libsmx.opt_smar_grey import GreylistConf
from libsmx.opt_smar_maps import AccessMapConf, MapConf
from libsmx.opt_smar_users import AliasesConf, LocalUserMapConf
from libsmx.options import option, section, shared


@attrs.frozen
class MailertableConf:
    """Routes that go before DNS."""

    file: str = option(
        "file",
        Path(beside_conf=True),
        "mt",
        rows="X120 X121 X123 X124 X250",
        doc="The mailertable, a text file that must exist, though it may be empty. It is read "
        "at start only.",
    )
    name: str = option(
        "name",
        String("map name"),
        "",
        rows="X246 X247",
        doc="A declared map of type hash, text, regex or cidr to use instead of file, or a "
        "sequence of such; its changes are noticed.",
    )


@attrs.frozen
class SmarConf:
    """Options of section smar."""

    map: tuple[MapConf, ...] = section(
        "map",
        MapConf,
        named=True,
        doc="A map with a name, map NAME { ... }, declared before its first use.",
    )
    access_map: AccessMapConf = section(
        "access_map", AccessMapConf, doc="Who may send, to whom, and who may relay."
    )
    address_delimiter: str = option(
        "address_delimiter",
        String("delimiter", r"[!#$%&'+./=?^_`|~-]", "one character, as + or -"),
        "+",
        rows="X222 X453",
        doc="The character between user and detail in a local part (user+detail).",
    )
    nameserver: tuple[Endpoint, ...] = option(
        "nameserver",
        ListOf(EndpointKind(53), 4),
        (),
        doc="Name servers, asked in order. Empty: those of /etc/resolv.conf.",
    )
    dns_timeout: int = option(
        "DNS_timeout",
        SECONDS,
        "10s",
        low="1s",
        high="5m",
        doc="Longest time for one look-up in DNS, over all name servers.",
    )
    shutdown_timeout: int = option(
        "shutdown_timeout",
        SECONDS,
        "10s",
        low="1s",
        high="10m",
        doc="How long an orderly stop waits for questions that are under way.",
    )
    log_level: int = log_level()
    log: LogConf = log_section()
    mailertable: MailertableConf = section(
        "mailertable", MailertableConf, doc="Routes that go before DNS."
    )
    aliases: AliasesConf = section(
        "aliases", AliasesConf, doc="Addresses that stand for others, and valid local addresses."
    )
    local_user_map: LocalUserMapConf = section(
        "local_user_map", LocalUserMapConf, doc="A map of valid local addresses."
    )
    dnsbl: tuple[DnsblConf, ...] = section(
        "dnsbl",
        DnsblConf,
        repeat=True,
        doc="A DNS blacklist; clients are looked up in all of them at the same time when they "
        "connect, if the server has the flag access. The access map says what follows; the lists "
        "are looked up there in their order, and the first entry found decides.",
    )
    greylisting: tuple[GreylistConf, ...] = section(
        "greylisting",
        GreylistConf,
        repeat=True,
        doc="A client that is not known has to come again before it may send mail. In effect "
        "if this section is given, an empty one for the defaults, for the servers that have the "
        "flag greylisting. Given once at most.",
    )
    dns: DnsConf = shared(DnsConf)
    service: ServiceConf = shared(ServiceConf)
