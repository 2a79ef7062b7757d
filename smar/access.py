"""The access map: which rule holds for a client, an address, a certificate.

Kind: core.

A lookup is a tag and the keys of what is looked up; the first key that the map has decides. A
right-hand side that cannot be obeyed is told to the log and taken as cont (decision D54).
Where the map cannot be asked for now the rule is a temporary error: nobody slips through.
Source: README 3.9.3; SPEC rows X273 to X307; decisions D21, D54.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

import attrs

from libsmx.accessrhs import CONT, RELAY_TAGS, Action, Rule, parse_rhs
from libsmx.maptext import fold
from smar.lookuporder import DELIMITER, address_keys, client_keys, domain_keys
from smar.maps import Map, find
from smar.records import Steps
from smar.trace import Trace

UNSURE = Rule(Action.ERROR, code=451, status="4.3.0", text="access rules cannot be looked up now")
OnOdd = Callable[[str, str, str], None]
"""(key, value, why): an entry cannot be obeyed."""

_parse = lru_cache(maxsize=4096)(parse_rhs)


def _nobody(_key: str, _value: str, _why: str) -> None:
    pass


@attrs.frozen
class AccessMap:
    """The map with tags.

    Attributes:
        source: the map.
        hostname: lower case, the domain of ``postmaster`` alone.
        delimiter: address_delimiter.
        on_odd: told of entries that cannot be obeyed.
    """

    source: Map
    hostname: str = ""
    delimiter: str = DELIMITER
    on_odd: OnOdd = _nobody

    def has(self, tag: str) -> bool:
        """Tell whether the map may hold entries of a tag; False only where it holds none."""
        return self.source.starts(f"{tag}:")

    def value(self, tag: str, keys: Sequence[str], trace: Trace | None) -> Steps[str | None]:
        """Return the right-hand side of the first key as it stands, None where there is none.

        Raises:
            LookupError: the map cannot be asked for now.
        """
        if not self.has(tag):
            if trace is not None:
                trace.note(f"map {self.source.name} has no entry with tag {tag}:")
            return None
        found = yield from find(self.source, [f"{tag}:{key}" for key in keys], trace)
        if found is None:
            return None
        if found.unsure:
            raise LookupError(found.unsure)
        return found.value

    def rule(self, tag: str, keys: Sequence[str], trace: Trace | None) -> Steps[Rule]:
        """Return the rule of the first key, CONT where there is none."""
        if not self.has(tag):
            if trace is not None:
                trace.note(f"map {self.source.name} has no entry with tag {tag}:")
            return CONT
        found = yield from find(self.source, [f"{tag}:{key}" for key in keys], trace)
        if found is None:
            return CONT
        return UNSURE if found.unsure else self._obeyed(tag, found.key, found.value)

    def keyed(self, keys: Sequence[str], trace: Trace | None) -> Steps[Rule | None]:
        """Return the rule of the first of several whole keys, None where there is none."""
        found = yield from find(self.source, [fold(key) for key in keys], trace)
        if found is None:
            return None
        if found.unsure:
            return UNSURE
        return self._obeyed(found.key.partition(":")[0], found.key, found.value)

    def _obeyed(self, tag: str, key: str, value: str) -> Rule:
        try:
            rule = _parse(value)
        except ValueError as error:
            self.on_odd(key, value, str(error))
            return CONT
        if rule.action is Action.RELAY and tag not in RELAY_TAGS:
            self.on_odd(key, value, f"{tag}: cannot permit relaying")
            return CONT
        return rule

    def client(self, address: str, trace: Trace | None) -> Steps[Rule]:
        """Return the rule of ``cltaddr:``."""
        return self.rule("cltaddr", client_keys(address), trace)

    def name(self, name: str, trace: Trace | None) -> Steps[Rule]:
        """Return the rule of ``cltname:``."""
        return self.rule("cltname", domain_keys(fold(name)), trace)

    def keys_of(self, address: str, *, implicit_detail: bool = False) -> list[str]:
        """Return the keys of a mail address for the tags from:, to: and protectedrcpt:."""
        return address_keys(
            address,
            delimiter=self.delimiter,
            implicit_detail=implicit_detail,
            local_part=True,
            hostname=self.hostname,
        )

    def address(self, tag: str, address: str, trace: Trace | None) -> Steps[Rule]:
        """Return the rule of ``from:`` or ``to:``."""
        return self.rule(tag, self.keys_of(address), trace)
