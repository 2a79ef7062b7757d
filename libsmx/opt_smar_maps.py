"""Options of the address resolver: maps.

Kind: table.

Source: SPEC rows X208-X221; decisions D19, D20.
"""

import attrs

from libsmx.kinds import Choice, Count, ListOf, Path, String
from libsmx.netkinds import IpAddress
from libsmx.opt_shared import SECONDS
from libsmx.options import option

MAX_MEMBERS = 16


@attrs.frozen
class MapConf:
    """One declared map; ``name`` is that of its section."""

    name: str = ""
    type: str = option(
        "type",
        Choice("hash", "sequence", "socket", "passwd", "text", "regex", "cidr"),
        "hash",
        rows="X209 X210 X211 X212",
        doc="How it answers. hash: a file made by createmap. sequence: several maps, the "
        "first that has a key answers. socket: another program answers, in the "
        "protocol of sendmail's socket maps. "
        "passwd: the login names of the system. text: the text that createmap reads, kept in "
        "memory. regex: lines of a regular expression between slashes and a value, the first "
        "that matches answers. cidr: lines of a network and a value, the smallest network that "
        "holds the address answers.",
    )
    file: str = option(
        "file",
        Path(),
        "",
        rows="X213",
        doc="The map's file with its extension, for hash, text, regex and cidr. A change of the "
        "file is noticed within seconds.",
    )
    mapname: str = option(
        "mapname",
        String("map name", r"[!-~]{1,100}", "1 to 100 printable characters"),
        "",
        rows="X214",
        doc="For socket: the map's name in the protocol. Empty: the name of this section.",
    )
    address: str = option(
        "address",
        IpAddress(),
        "",
        rows="X215 X219",
        doc="For socket: the server's IP address; with port, or path instead of both.",
    )
    port: int = option(
        "port",
        Count(),
        "0",
        low="0",
        high="65535",
        rows="X217 X219",
        doc="For socket: the server's port.",
    )
    path: str = option(
        "path",
        Path(),
        "",
        rows="X216 X219",
        doc="For socket: the server's Unix domain socket.",
    )
    timeout: int = option(
        "timeout",
        SECONDS,
        "5s",
        low="1s",
        high="5m",
        doc="For socket: longest time for an answer; after it the lookup has failed for now.",
    )
    maps: tuple[str, ...] = option(
        "maps",
        ListOf(String("map name"), MAX_MEMBERS),
        (),
        rows="X210 X218 X220",
        doc="For sequence: the names of its maps, declared before it.",
    )


@attrs.frozen
class AccessMapConf:
    """The access map; looked at for servers with the flag access."""

    file: str = option(
        "file",
        Path(beside_conf=True),
        "access.db",
        rows="X221 X251 X273",
        doc="The access map, made by createmap; it need not exist. A change of the file is "
        "noticed within seconds.",
    )
    name: str = option(
        "name",
        String("map name"),
        "",
        doc="A declared map to use instead of file.",
    )
