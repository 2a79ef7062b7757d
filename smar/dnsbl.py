"""DNS blacklists: what the lists say of a client, as keys of the access map.

Kind: core.

A client A.B.C.D is looked up as ``D.C.B.A.domain``, an IPv6 client by its 32 nibbles in reverse
order. All lists are asked at the same time, so that they share one time-out; what they said is
looked up in the access map in the order in which the lists are configured, and the first entry
found decides. What is not listed has no key.
Source: SPEC rows X230 to X239, X456, X460; decisions D26, D48; RFC 5782 2.1, 2.4.
"""

from collections.abc import Iterable

import attrs

from smar.clientname import client_address
from smar.records import Ahead, Answer, Outcome, Question, Steps, is_dns_name


@attrs.frozen
class Blacklist:
    """One list.

    Attributes:
        domain: the zone, lower case, without the final dot.
        tag: of its keys in the access map, lower case.
    """

    domain: str
    tag: str


def reversed_address(client: str) -> str | None:
    """Return the labels of an address as lists are asked, None for text that is no address."""
    address = client_address(client)
    if address is None:
        return None
    if address.version == 4:
        return ".".join(reversed(str(address).split(".")))
    return ".".join(reversed(f"{int(address):032x}"))


class Blacklists:
    """All lists.

    Args:
        lists: in the order in which their results are looked up.
    """

    def __init__(self, lists: Iterable[Blacklist]) -> None:
        self._lists = tuple(lists)

    def __len__(self) -> int:
        return len(self._lists)

    def ahead(self, client: str) -> tuple[Ahead, ...]:
        """Return the questions, to be begun while other checks go on (SPEC row X456)."""
        return tuple(Ahead(question) for _, question in self._questions(client))

    def keys(self, client: str) -> Steps[list[str]]:
        """Return the keys under which to look into the access map, in order.

        Args:
            client: IPv4 or IPv6 address in text form; anything else is on no list.
        """
        asked = self._questions(client)
        if not asked:
            return []
        answers = yield tuple(question for _, question in asked)
        return [
            f"{one.tag}:{word}"
            for (one, _), answer in zip(asked, answers, strict=True)
            for word in _words(answer)
        ]

    def _questions(self, client: str) -> list[tuple[Blacklist, Question]]:
        """Return each list with its question."""
        labels = reversed_address(client)
        if labels is None:
            return []
        found = [(one, Question(f"{labels}.{one.domain}", "A")) for one in self._lists]
        return [(one, question) for one, question in found if is_dns_name(question.name)]


def _words(answer: Answer) -> list[str]:
    """Return what stands behind the tag for one answer."""
    if answer.outcome is Outcome.FAILED:
        return ["perm" if answer.refused else "temp"]
    # In an order of their own: the DNS shuffles the records of an answer.
    return sorted(answer.addresses, key=lambda text: [int(part) for part in text.split(".")])
