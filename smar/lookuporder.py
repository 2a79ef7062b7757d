"""Lookup orders: under which keys a name or an address stands in a map, the closest one first.

Kind: core.

Domains: ``sub2.sub1.tld``, ``.sub1.tld``, ``.tld`` and, for maps that ask for it, ``.``; a
subdomain is matched only by an entry that begins with a dot. IPv4 addresses: ``A.B.C.D``,
``A.B.C``, ``A.B``, ``A``. IPv6 addresses: ``ipv6:`` and the address in its short form, then all
its groups, then one group less each time. Mail addresses: for each key of the domain the
details of the local part (``address_keys``), then, for maps that ask for it, the local part
alone. A client name is looked up as a domain.

All keys are lower case, as createmap folds them. Domains of other scripts stand in A-labels
(``xn--``), whichever way the address was given, so that a rule has one form.
Source: README 3.12.1; SPEC rows X286, X287, X437 to X453; decisions D21 to D23, D38, D48.
"""

import ipaddress

from libsmx.address import AddressError, Mailbox, parse_mailbox
from libsmx.idn import to_a_labels
from libsmx.maptext import fold

DELIMITER = "+"
"""Default of address_delimiter."""


def domain_keys(domain: str, *, default: bool = False) -> list[str]:
    """Return the keys of a domain, in order.

    Args:
        domain: lower case, without the final dot; or an address literal, which has no parent
            domains.
        default: end with ``.``, the entry for everything else.
    """
    keys = [domain]
    if not domain.startswith("["):
        at = domain.find(".")
        while at >= 0:
            keys.append(domain[at:])
            at = domain.find(".", at + 1)
    if default:
        keys.append(".")
    return keys


def client_keys(address: str) -> list[str]:
    """Return the keys of an IPv4 or IPv6 address, in order.

    An IPv4 address inside IPv6 (``::ffff:192.0.2.1``) is looked up as the IPv4 address that it
    is. Text that is no address has itself as its only key.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return [fold(address)]
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is None:
            return _ipv6_keys(parsed)
        parsed = parsed.ipv4_mapped
    parts = str(parsed).split(".")
    return [".".join(parts[:count]) for count in range(4, 0, -1)]


def _ipv6_keys(address: ipaddress.IPv6Address) -> list[str]:
    groups = [f"{int(group, 16):x}" for group in address.exploded.split("%")[0].split(":")]
    keys = [f"ipv6:{ipaddress.IPv6Address(int(address))}"]
    keys += ["ipv6:" + ":".join(groups[:count]) for count in range(8, 0, -1)]
    return list(dict.fromkeys(keys))


def split_detail(local: str, delimiter: str = DELIMITER) -> tuple[str, str | None]:
    """Return user and detail of a local part, detail None where there is no delimiter.

    A local part that has to be quoted is never split, nor one that begins with the delimiter:
    the delimiter would leave no user.
    """
    if local.startswith('"'):
        return local, None
    user, found, detail = local.partition(delimiter)
    if not found or not user:
        return local, None
    return user, detail


def local_keys(
    local: str, *, delimiter: str = DELIMITER, implicit_detail: bool = False
) -> list[str]:
    """Return the keys of a local part, in order: 2a to 2e of README 3.12.1.

    A user whose name ends with ``*`` has no key of step e: it would read as the pattern of the
    user without the star.

    Args:
        local: folded, quoted where it has to be.
        delimiter: the character between user and detail.
        implicit_detail: step e holds with a detail, too.
    """
    user, detail = split_detail(local, delimiter)
    keys = []
    if detail is not None:
        keys.append(local)
        if detail:
            keys.append(f"{user}{delimiter}+")
        keys.append(f"{user}{delimiter}*")
    keys.append(f"{user}*")
    if (detail is None or implicit_detail) and not user.endswith("*"):
        keys.append(user)
    return list(dict.fromkeys(keys))


def address_keys(
    address: str,
    *,
    delimiter: str = DELIMITER,
    implicit_detail: bool = False,
    local_part: bool = False,
    hostname: str = "",
) -> list[str]:
    """Return the keys of a mail address, in order.

    Args:
        address: without angle brackets. The null path has the one key ``<>``.
        delimiter: address_delimiter.
        implicit_detail: ``user@host`` matches ``user+detail@host`` (implicitly_match_detail).
        local_part: the map asks for the local part alone after all domains.
        hostname: domain of ``postmaster`` without one (decision D41).

    Returns:
        At most seven keys for each label of the domain; the folded text alone for what is no
        address.
    """
    if not address:
        return ["<>"]
    try:
        box = parse_mailbox(address, utf8=True)
    except AddressError:
        return [fold(address)]
    local = fold(str(Mailbox(box.local, "")))
    mine = local_keys(local, delimiter=delimiter, implicit_detail=implicit_detail)
    keys = []
    domain = fold(box.domain or hostname)
    domain = to_a_labels(domain) or domain
    if domain:
        for part in domain_keys(domain):
            keys += [f"{key}@{part}" for key in mine]
            keys.append(f"@{part}")
    return keys + mine if local_part else keys
