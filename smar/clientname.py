"""The name of a client: from its address to a name that leads back to the address.

Kind: core.

The names of the address (PTR) are looked up again; only a name with the client's address among
its own is the client's name, because whoever holds an address can write any name there.
Limits: MAX_NAMES names of an address are tried.
Source: SPEC rows X288 to X292, X457; decision D28; RFC 1912 2.1.
"""

import ipaddress

import attrs

from smar.records import Answer, Kind, Outcome, Question, Steps, is_dns_name

MAX_NAMES = 5

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@attrs.frozen
class ClientName:
    """What became of the look-up.

    Attributes:
        key: the key of ``cltresolve:``: ok, no, tempptr or tempa.
        name: the verified name, "" unless key is ok.
        forged: there are names, and all of their addresses are others (key is no).
    """

    key: str
    name: str = ""
    forged: bool = False

    @property
    def resolve(self) -> str:
        """What smtps is told: ok, no, temp or forged."""
        if self.forged:
            return "forged"
        return "temp" if self.key.startswith("temp") else self.key


NO_NAME = ClientName("no")
_TEMPORARY_PTR = ClientName("tempptr")
_TEMPORARY_A = ClientName("tempa")
_FORGED = ClientName("no", forged=True)


def client_address(text: str) -> IPAddress | None:
    """Return a client's address, the IPv4 address of one inside IPv6; None for other text."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def name_question(client: str) -> Question | None:
    """Return the question for the names of an address, None for text that is none.

    Asked ahead, it makes find_client_name faster.
    """
    address = client_address(client)
    return None if address is None else Question(_reverse(address), "PTR")


def _reverse(address: IPAddress) -> str:
    # A scope (fe80::1%eth0) means nothing to the DNS.
    return type(address)(int(address)).reverse_pointer


def find_client_name(client: str) -> Steps[ClientName]:
    """Find the name of a client.

    Args:
        client: IPv4 or IPv6 address in text form; anything else has no name.
    """
    address = client_address(client)
    if address is None:
        return NO_NAME
    (found,) = yield (Question(_reverse(address), "PTR"),)
    if found.outcome is Outcome.FAILED:
        return _TEMPORARY_PTR
    names = [name for name in dict.fromkeys(found.names) if is_dns_name(name)][:MAX_NAMES]
    if not names:
        return NO_NAME
    kind: Kind = "A" if address.version == 4 else "AAAA"
    answers = yield tuple(Question(name, kind) for name in names)
    for name, answer in zip(names, answers, strict=True):
        if _holds(answer, address):
            return ClientName("ok", name)
    if any(answer.outcome is Outcome.FAILED for answer in answers):
        return _TEMPORARY_A
    return _FORGED


def _holds(answer: Answer, address: IPAddress) -> bool:
    """Tell whether an address is among those of an answer."""
    return any(client_address(text) == type(address)(int(address)) for text in answer.addresses)
