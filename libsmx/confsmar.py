"""Rules of the address resolver's section: what its maps need, which names are declared.

Kind: core.

``finish_resolver`` checks the section for the resolver itself, for mcp and for smxconf.
Source: SPEC rows X208-X220, X246.
"""

from collections.abc import Iterator

from libsmx.confbuild import Built, Where
from libsmx.conffile import Place
from libsmx.kinds import nearest
from libsmx.opt_smar import SmarConf
from libsmx.opt_smar_maps import MapConf

TAGS = frozenset(
    (
        "from", "to", "cltaddr", "cltname", "cltresolve", "mxbadip", "certissuer", "certsubject",
        "protectedrcpt",
    )
)  # fmt: skip
"""Tags of the access map that have a meaning of their own."""
_FILES = ("hash", "text", "regex", "cidr")
_USES: dict[str, frozenset[str]] = {
    "hash": frozenset({"file"}),
    "text": frozenset({"file"}),
    "regex": frozenset({"file"}),
    "cidr": frozenset({"file"}),
    "passwd": frozenset(),
    "sequence": frozenset({"maps"}),
    "socket": frozenset({"mapname", "address", "port", "path", "timeout"}),
}
"""Options that mean something to each type."""


def finish_resolver(conf: SmarConf, built: Built, label: str, origin: Place) -> None:
    """Complain about what is wrong between the options of the section.

    Args:
        conf: its options.
        built: gets problems, has the places.
        label: of the section, for messages.
        origin: place for options that nobody wrote.
    """
    for where, text in _problems(conf, built):
        place = next((built.places[at] for at in _outwards(where) if at in built.places), origin)
        built.complain(place, f"{label}.{text}")


def _outwards(where: Where) -> Iterator[Where]:
    for length in range(len(where), 0, -1):
        yield where[:length]


def _problems(conf: SmarConf, built: Built) -> Iterator[tuple[Where, str]]:
    declared: list[str] = []
    for number, one in enumerate(conf.map):
        at: Where = ("map", number)
        for option, text in _map_problems(one, declared, at, built):
            yield (*at, option), f"map.{one.name}{text}"
        declared.append(one.name)
    yield from _reference_problems(conf, built, declared)
    yield from _blacklist_problems(conf)
    yield from _greylist_problems(conf)
    if not conf.address_delimiter:
        yield ("address_delimiter",), "address_delimiter: one character is required"


def _reference_problems(
    conf: SmarConf, built: Built, declared: list[str]
) -> Iterator[tuple[Where, str]]:
    """Yield what is wrong where a section names a declared map."""
    for section in ("access_map", "aliases", "mailertable", "local_user_map"):
        name = getattr(conf, section).name
        where: Where = (section, "name")
        text = _undeclared(name, declared) if name else ""
        if text:
            yield where, f"{section}.name: {text}"
        if name and (section, "file") in built.places:
            yield where, f"{section}: give file or name, not both"
    slow = _answer_later(conf)
    if conf.mailertable.name in slow:
        text = "a mailertable must answer at once: hash, text, regex or cidr"
        yield ("mailertable", "name"), f"mailertable.name: {text}"


def _answer_later(conf: SmarConf) -> set[str]:
    """Return the names of maps that another program or the user database answers for."""
    slow: set[str] = set()
    for one in conf.map:
        if one.type in ("socket", "passwd") or slow.intersection(one.maps):
            slow.add(one.name)
    return slow


def _blacklist_problems(conf: SmarConf) -> Iterator[tuple[Where, str]]:
    """Yield what is wrong in the sections dnsbl."""
    for number, blacklist in enumerate(conf.dnsbl):
        for option in ("domain", "tag"):
            if not getattr(blacklist, option):
                yield ("dnsbl", number, option), f"dnsbl.{option}: is required"
        if blacklist.tag.lower() in TAGS:
            text = f"dnsbl.tag: {blacklist.tag} is a tag of other entries; choose another"
            yield ("dnsbl", number, "tag"), text


def _greylist_problems(conf: SmarConf) -> Iterator[tuple[Where, str]]:
    """Yield what is wrong in the sections greylisting."""
    for number, grey in enumerate(conf.greylisting):
        if number:
            yield ("greylisting", number), "greylisting: given twice; one section holds everything"
        if grey.grey_wait >= grey.grey_expire:
            text = "grey_wait must be smaller than grey_expire, else nobody can ever confirm"
            yield ("greylisting", number, "grey_expire"), f"greylisting: {text}"
        if grey.white_expire > grey.white_timeout:
            text = "white_expire must not be larger than white_timeout"
            yield ("greylisting", number, "white_timeout"), f"greylisting: {text}"
        if (~grey.netmask & 0xFFFFFFFF) & ((~grey.netmask & 0xFFFFFFFF) + 1):
            text = f"netmask: 0x{grey.netmask:08X} has a gap; as 0xFFFFFF00"
            yield ("greylisting", number, "netmask"), f"greylisting.{text}"
        if grey.main_db_name == grey.secondary_db_name:
            text = "main_DB_name and secondary_DB_name must differ"
            yield ("greylisting", number, "secondary_db_name"), f"greylisting: {text}"


def _undeclared(name: str, declared: list[str]) -> str:
    """Return what is wrong with a reference to a map, "" if nothing is."""
    if name in declared:
        return ""
    return f"no map {name} is declared before{nearest(name, declared)}"


def _map_problems(
    one: MapConf, declared: list[str], at: Where, built: Built
) -> Iterator[tuple[str, str]]:
    """Yield (option, what is wrong) of one map."""
    for option in ("file", "maps", "mapname", "address", "port", "path", "timeout"):
        if option not in _USES[one.type] and (*at, option) in built.places:
            yield option, f".{option}: means nothing to a map of type {one.type}"
    if one.type in _FILES and not one.file:
        yield "file", f".file: is required for type {one.type}"
    if one.type == "sequence":
        if not one.maps:
            yield "maps", ".maps: is required for type sequence"
        for name in one.maps:
            text = _undeclared(name, declared)
            if text:
                yield "maps", f".maps: {text}"
    if one.type == "socket" and bool(one.path) == bool(one.address or one.port):
        yield "path", ": give either path, or address and port"
    elif one.type == "socket" and not one.path and not (one.address and one.port):
        yield "address", ": address and port are needed together"
