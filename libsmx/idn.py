"""Domain names beyond ASCII as the DNS knows them: U-labels become A-labels.

Kind: core. The door to idna, which trio brings along.

Source: RFC 5891, UTS 46 without transitional mappings; RFC 6531 3.2.
"""

import idna


def to_a_labels(domain: str) -> str | None:
    """Return a domain in A-labels, lower case; None where it has no such form.

    Args:
        domain: A-labels and U-labels, without the final dot; ASCII is returned as it is.
    """
    if domain.isascii():
        return domain
    try:
        return idna.encode(domain, uts46=True, transitional=False).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError):
        return None
