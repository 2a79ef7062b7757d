"""DNS questions and answers as the cores of smar see them.

Kind: table.

A decision that needs the DNS is written as ``Steps``: a generator that yields the questions it
has now, gets their answers in the same order, and returns its result. Whoever drives it may
have the answers at hand (cache.py) or fetch them (flights.py); the decision cannot tell.
What will be needed later is asked for ``Ahead``, so that its lookup runs meanwhile.
"""

import enum
import re
from collections.abc import Generator
from typing import Literal, NamedTuple, TypeVar

import attrs

T = TypeVar("T")

MAX_RECORDS = 30
"""Most records kept of one answer, the best for MX: bounds what a stranger's zone can fill."""
_NAME_RE = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")

Kind = Literal["MX", "A", "AAAA", "PTR", "MAP"]
"""Types of DNS records; MAP is a question for a map that answers later (smar/maps.py)."""


class Question(NamedTuple):
    """One question for the DNS; a tuple, because the cache hashes it for every message."""

    name: str
    """Lower case, without the final dot."""
    kind: Kind


class Ahead(NamedTuple):
    """A question whose answer is wanted later: its lookup is begun and not waited for."""

    question: Question


Asked = Question | Ahead


class Outcome(enum.Enum):
    """What came of a question."""

    FOUND = "found"
    NO_DATA = "the name exists, without records of this type"
    NO_NAME = "the name does not exist"
    FAILED = "no usable answer in time"


@attrs.frozen(kw_only=True)
class Answer:
    """What the DNS said."""

    outcome: Outcome
    mx: tuple[tuple[int, str], ...] = ()
    """Preference and host, lower case without the final dot; "" is the root (null MX)."""
    addresses: tuple[str, ...] = ()
    """Text form, in the order of the response."""
    names: tuple[str, ...] = ()
    """Host names of an address (PTR), lower case without the final dot."""
    text: str = ""
    """Value of a map's key (MAP)."""
    ttl_s: float = 0
    """How long the answer may be used again."""
    detail: str = ""
    """Why the lookup failed."""
    refused: bool = False
    """FAILED, and asking again soon is of no use: every server refused the question."""


BEGUN = Answer(outcome=Outcome.FAILED, detail="asked for ahead")
"""Stands in the place of the answer to Ahead."""

Steps = Generator[tuple[Asked, ...], tuple[Answer, ...], T]
"""A decision that asks: see the module's docstring."""


def is_dns_name(name: str) -> bool:
    """Tell whether a lower-case name can be asked for: labels of letters, digits, - and _.

    Labels have up to 63 characters, names up to 253 (RFC 1035 2.3.4, without the final dot).

    Names with other characters are never host names (RFC 1123 2.1) and are not asked for, so
    that no address can carry anything odd into a query.
    """
    return _NAME_RE.fullmatch(name) is not None


def together(parts: list[Steps[T]]) -> Steps[list[T]]:
    """Run several decisions side by side, asking all their questions of one round at once."""
    results: list[T | None] = [None] * len(parts)
    waiting: list[tuple[int, Steps[T], tuple[Asked, ...]]] = []
    for index, steps in enumerate(parts):
        try:
            waiting.append((index, steps, next(steps)))
        except StopIteration as stop:
            results[index] = stop.value
    while waiting:
        answers = yield tuple(question for _, _, asked in waiting for question in asked)
        still, waiting, at = waiting, [], 0
        for index, steps, asked in still:
            mine = answers[at : at + len(asked)]
            at += len(asked)
            try:
                waiting.append((index, steps, steps.send(mine)))
            except StopIteration as stop:
                results[index] = stop.value
    return results  # type: ignore[return-value]  # every index was filled
