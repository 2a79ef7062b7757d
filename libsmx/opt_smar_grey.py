"""Options of the address resolver: greylisting.

Kind: table.

Source: README 3.9.2 item 6, 3.9.4; SPEC rows X241, X252 to X272; decisions D29, D30.
"""

import attrs

from libsmx.kinds import Choice, Count, Path
from libsmx.opt_shared import SECONDS
from libsmx.options import option


@attrs.frozen
class GreylistConf:
    """Section greylisting."""

    grey_wait: int = option(
        "grey_wait",
        SECONDS,
        "5m",
        low="0s",
        high="1d",
        rows="X256",
        doc="How long a client that came for the first time has to wait before it may confirm "
        "by trying again.",
    )
    grey_expire: int = option(
        "grey_expire",
        SECONDS,
        "12h",
        low="1s",
        high="30d",
        rows="X257",
        doc="A client that has not tried again by then is unknown again.",
    )
    white_expire: int = option(
        "white_expire",
        SECONDS,
        "14d",
        low="1s",
        high="10w",
        rows="X258",
        doc="A confirmed client that sent nothing for so long may be forgotten when there are "
        "more than expire_limit entries.",
    )
    white_timeout: int = option(
        "white_timeout",
        SECONDS,
        "36d",
        low="1s",
        high="100w",
        rows="X259 X260",
        doc="A confirmed client that sent nothing for so long is unknown again.",
    )
    main_db_name: str = option(
        "main_DB_name",
        Path(),
        "smar/greylist.db",
        rows="X261 X272",
        doc="The database of clients: an LMDB environment, which is a directory of this name, "
        "made if it is missing.",
    )
    secondary_db_name: str = option(
        "secondary_DB_name",
        Path(),
        "smar/greyindex.db",
        rows="X262 X272",
        doc="The index of that database by time of expiry, likewise.",
    )
    expire_limit: int = option(
        "expire_limit",
        Count("entries"),
        "100000",
        low="0",
        high="1000000000",
        rows="X263 X264",
        doc="Expired entries are removed only while there are more entries than this; their "
        "number grows beyond it as long as none has expired.",
    )
    reply_code: str = option(
        "reply_code",
        Choice("421", "451"),
        "421",
        rows="X267",
        doc="Reply code for a client that has to come again: with 421 the session ends.",
    )
    netmask: int = option(
        "netmask",
        Count(),
        "0xFFFFFFFF",
        low="0",
        high="0xFFFFFFFF",
        rows="X265",
        doc="The part of an IPv4 address that tells clients apart, as 0xFFFFFF00 to take the "
        "servers of a farm in one /24 net for one client.",
    )
    ipv6_prefix: int = option(
        "ipv6_prefix",
        Count("bits"),
        "64",
        low="1",
        high="128",
        doc="The same for IPv6, as the number of leading bits.",
    )
