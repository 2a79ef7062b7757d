"""Asking maps: the first of several keys that a map has.

Kind: core.

A map answers at once (files, which are in memory or mapped) or later (another program, the
user database): the latter are asked like the DNS, by a Question of kind MAP, so that their
answers are shared, bounded and timed like those. A sequence is asked key by key: the closest
key of any member wins, and between members the order of the configuration.
Source: SPEC rows X208 to X220; README 3.9.1.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

import attrs

from libsmx.errors import StoreError
from smar.records import Answer, Outcome, Question, Steps
from smar.trace import Trace

_SEPARATOR = "\0"


class Map(Protocol):
    """A map as decisions see it."""

    @property
    def name(self) -> str:
        """Name of its section, or what it is for."""

    @property
    def later(self) -> bool:
        """It, or a member of it, answers later: ``get`` must not be called."""

    @property
    def members(self) -> Sequence["Map"]:
        """The maps of a sequence, else the map itself."""

    def get(self, key: str) -> str | None:
        """Return the value of a folded key; StoreError where it cannot be told."""

    def starts(self, prefix: str) -> bool:
        """Tell whether a key may begin so; False only where none does."""


@attrs.frozen
class Found:
    """The first key that was there.

    Attributes:
        key: the key.
        value: its value.
        unsure: why it cannot be told for now what the map holds; else empty.
    """

    key: str
    value: str
    unsure: str = ""


@attrs.frozen
class RemoteMap:
    """A map that answers later."""

    name: str
    later: bool = True

    @property
    def members(self) -> Sequence[Map]:
        """The map itself."""
        return (self,)

    def get(self, key: str) -> str | None:
        """Never called."""
        raise StoreError(f"map {self.name} cannot answer {key} at once")

    def starts(self, prefix: str) -> bool:
        """Return True: it would have to be asked."""
        return bool(prefix) or True


@attrs.frozen
class SequenceMap:
    """Several maps, asked in order."""

    name: str
    members: tuple[Map, ...]

    @property
    def later(self) -> bool:
        """Tell whether one of them is."""
        return any(member.later for member in self.members)

    def get(self, key: str) -> str | None:
        """Return the value of the first member that has the key."""
        for member in self.members:
            value = member.get(key)
            if value is not None:
                return value
        return None

    def starts(self, prefix: str) -> bool:
        """Tell whether a member may have such a key."""
        return any(member.starts(prefix) for member in self.members)


def flatten(maps: Iterable[Map]) -> tuple[Map, ...]:
    """Return the maps that sequences consist of, each once, in order."""
    return tuple(dict.fromkeys(member for one in maps for member in one.members))


def find(source: Map, keys: Sequence[str], trace: Trace | None = None) -> Steps[Found | None]:
    """Return the first key that a map has, None where it has none.

    Args:
        source: the map.
        keys: folded, the closest first.
        trace: told of every lookup.
    """
    if not source.later:
        return find_now(source, keys, trace)
    for key in keys:
        for member in source.members:
            if member.later:
                (answer,) = yield (map_question(member.name, key),)
                if answer.outcome is Outcome.FAILED:
                    if trace is not None:
                        trace.lookup(member.name, key, f"unknown for now: {answer.detail}")
                    return Found(key, "", answer.detail or "no answer")
                found = Found(key, answer.text) if answer.outcome is Outcome.FOUND else None
                if trace is not None:
                    trace.lookup(member.name, key, found.value if found else None)
            else:
                found = find_now(member, (key,), trace)
            if found is not None:
                return found
    return None


def find_now(source: Map, keys: Sequence[str], trace: Trace | None = None) -> Found | None:
    """Return the first key that a map has which answers at once; see ``find``."""
    for key in keys:
        try:
            value = source.get(key)
        except StoreError as error:
            if trace is not None:
                trace.lookup(source.name, key, f"unknown for now: {error}")
            return Found(key, "", str(error))
        if trace is not None:
            trace.lookup(source.name, key, value)
        if value is not None:
            return Found(key, value)
    return None


def map_question(name: str, key: str) -> Question:
    """Return the question that asks a map which answers later."""
    return Question(f"{name}{_SEPARATOR}{key}", "MAP")


def map_and_key(question: Question) -> tuple[str, str]:
    """Return map and key of a question of kind MAP."""
    name, _, key = question.name.partition(_SEPARATOR)
    return name, key


def map_answer(value: str | None) -> Answer:
    """Return the answer of a map: its value, or that it has no such key."""
    if value is None:
        return Answer(outcome=Outcome.NO_NAME)
    return Answer(outcome=Outcome.FOUND, text=value)
