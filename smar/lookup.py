"""Lookup order of domains in maps.

Kind: core.

``sub2.sub1.tld``, ``.sub1.tld``, ``.tld`` and, for maps that ask for it, ``.``: a subdomain is
matched only by an entry that begins with a dot.
Source: SPEC rows X437, X438, X439.
"""


def domain_keys(domain: str, *, default: bool = False) -> list[str]:
    """Return the keys under which to look a domain up, in order.

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
