"""Aliases: for whom an address stands.

Kind: core.

Which keys an address has depends on the flags of the map: addresses with domain for local or for
all addresses, local parts for local ones. An alias may stand for aliases, at most max_depth
levels of them and never in circles. Inside one expansion each address stands once; a nested
alias with an owner of its own stays as it is, because its members are mailed in its owner's
name (decision D37), and is expanded when its turn comes.

Limits: max_members addresses of an alias, and as many lookups; MAX_BYTES.
Source: README 3.9.3 (Aliases); SPEC rows X223 to X229, X321 to X331, X404, X405; decisions D22,
D35 to D38, D41.
"""

from collections.abc import Callable
from functools import lru_cache

import attrs

from libsmx.address import AddressError, Mailbox, parse_mailbox
from libsmx.aliasvalue import macros_for, read_value, replace_macros
from libsmx.errors import SmxError
from libsmx.idn import to_a_labels
from libsmx.maptext import fold
from smar.lookuporder import address_keys, local_keys, split_detail
from smar.maps import Found, Map, find
from smar.records import Steps
from smar.trace import Trace

OWNER = "owner-"
MAX_BYTES = 2 << 20
"""Most bytes of the addresses that one alias stands for: an answer has to fit into a frame."""
_ITEM_BYTES = 5


class AliasError(SmxError):
    """An address cannot be expanded, now or ever.

    Attributes:
        code, status, text: what a client is told.
    """

    def __init__(self, code: int, status: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.status = status
        self.text = text


@attrs.frozen
class Alias:
    """An entry that an address matched.

    Attributes:
        key: its key.
        members: the addresses of its value; None for ``local:``.
    """

    key: str
    members: tuple[str, ...] | None


@attrs.frozen
class Expansion:
    """For whom an address stands.

    Attributes:
        members: each once, never empty.
        owner: the sender of mail to them; "" leaves the sender as it is.
    """

    members: list[str]
    owner: str = ""


@attrs.frozen
class Rules:
    """How the aliases are looked at.

    Attributes:
        flags: lower case, as in the configuration.
        hostname: domain of addresses without one.
        delimiter: address_delimiter.
        max_depth: levels of aliases.
        max_members: addresses of one alias.
    """

    flags: frozenset[str]
    hostname: str
    delimiter: str = "+"
    max_depth: int = 5
    max_members: int = 10_000


@attrs.define
class _Walk:
    """One expansion under way."""

    leaves: dict[str, str] = attrs.field(factory=dict)
    """Folded address -> address, in the order in which they were found."""
    heights: dict[str, int] = attrs.field(factory=dict)
    """Folded address -> levels of aliases below it, 0 for a leaf."""
    done: set[str] = attrs.field(factory=set)
    """Folded addresses whose leaves are all among leaves."""
    path: list[str] = attrs.field(factory=list)
    domains: dict[str, bool] = attrs.field(factory=dict)
    """Whether addresses of a domain have to be looked up."""
    size: int = 0
    """Bytes of all leaves."""


class Aliases:
    """Looks addresses up.

    Args:
        source: the aliases map.
        rules: see Rules.
        is_local: tells whether a domain, lower case in A-labels, is ours.
        on_odd: told (address, key, what is wrong) of entries that cannot be used.
    """

    def __init__(
        self,
        source: Map,
        rules: Rules,
        is_local: Callable[[str], bool],
        on_odd: Callable[[str, str, str], None],
    ) -> None:
        self._source = source
        self._rules = rules
        self._is_local = is_local
        self._on_odd = on_odd

    def find(self, address: str, trace: Trace | None = None) -> Steps[Alias | None]:
        """Return the entry of an address, None where there is none.

        Args:
            address: without brackets.
            trace: told of every lookup.

        Raises:
            AliasError: 4yz: it cannot be told for now, or the entry is wrong.
        """
        # ``list:`` of a protected recipient names an alias without a domain.
        box = parse_local(address) if "@" in address else Mailbox(address, "")
        if box is None:
            return None
        keys = self._keys(box)
        if not keys:
            return None
        box = self._complete(box)
        found = yield from find(self._source, keys, trace)
        return None if found is None else self._read(address, box, found)

    def may_know(self, domain: str) -> bool:
        """Tell whether addresses of a domain are looked up at all."""
        return "all_domains" in self._rules.flags or self._is_local(domain)

    def _complete(self, box: Mailbox) -> Mailbox:
        """Return an address with a domain: <postmaster> alone is ours (decision D41)."""
        return box if box.domain else Mailbox(box.local, self._rules.hostname)

    def _keys(self, box: Mailbox) -> list[str]:
        """Return the keys of an address, in order; one without a domain is local."""
        rules, flags = self._rules, self._rules.flags
        local = not box.domain or self._is_local(box.domain)
        box = self._complete(box)
        implicit = "implicitly_match_detail" in flags
        keys = []
        if "all_domains" in flags or (local and "local_domains" in flags):
            keys += address_keys(str(box), delimiter=rules.delimiter, implicit_detail=implicit)
        if local and "localpart" in flags:
            keys += local_keys(
                fold(str(Mailbox(box.local, ""))),
                delimiter=rules.delimiter,
                implicit_detail=implicit,
            )
        return keys

    def _read(self, address: str, box: Mailbox, found: Found) -> Alias:
        """Return what an entry says about an address."""
        if found.unsure:
            raise AliasError(451, "4.3.0", "the aliases cannot be looked up now")
        rules = self._rules
        local = str(Mailbox(box.local, ""))
        user, detail = split_detail(local, rules.delimiter)
        value = found.value
        try:
            if "replace_macros" in rules.flags:
                macros = macros_for(
                    user=user,
                    detail=detail,
                    domain=box.domain,
                    key=found.key,
                    delimiter=rules.delimiter,
                )
                value = replace_macros(value, macros)
            preserve = "preserve_domain" in rules.flags
            members = _members_of(value, box.domain if preserve else rules.hostname)
        except ValueError as error:
            self._on_odd(address, found.key, str(error))
            raise AliasError(451, "4.3.5", "the alias of this address is wrong") from None
        return Alias(found.key, members)

    def members(self, address: str, trace: Trace | None = None) -> Steps[list[str] | None]:
        """Return the addresses that stand in an alias itself, None where there is no such alias.

        Aliases inside it are not expanded (SPEC row X405).
        """
        try:
            alias = yield from self.find(address, trace)
        except AliasError:
            return None
        return None if alias is None or alias.members is None else list(alias.members)

    def expand(self, address: str, trace: Trace | None = None) -> Steps[Expansion | None]:
        """Return for whom an address stands, None where it stands for itself.

        Raises:
            AliasError: 550 5.4.6 for circles and too many levels, 550 5.1.0 for too many
                members; 4yz as ``find``.
        """
        _, expansion = yield from self.resolve(address, trace)
        return expansion

    def resolve(
        self, address: str, trace: Trace | None = None
    ) -> Steps[tuple[bool, Expansion | None]]:
        """Return whether an address has an entry, and for whom it stands; see ``expand``."""
        alias = yield from self.find(address, trace)
        if alias is None or alias.members is None:
            return alias is not None, None
        walk = _Walk()
        yield from self._descend(address, alias, walk, trace, collect=True)
        owner = yield from self._owner(address, alias, trace)
        return True, Expansion(list(walk.leaves.values()), owner)

    def _descend(
        self, address: str, alias: Alias, walk: _Walk, trace: Trace | None, *, collect: bool
    ) -> Steps[int]:
        """Expand the members of an alias; return how many levels there are, 1 at least."""
        mine = fold(address)
        if mine in walk.path or len(walk.path) >= self._rules.max_depth:
            raise AliasError(
                550,
                "5.4.6",
                f"aliases go in circles or deeper than {self._rules.max_depth} levels"
                f" at {address[:100]}",
            )
        walk.path.append(mine)
        highest = 0
        for member in alias.members or ():
            height = yield from self._visit(member, walk, trace, collect=collect)
            highest = max(highest, height)
        walk.path.pop()
        if len(walk.path) + 1 + highest > self._rules.max_depth:
            raise AliasError(550, "5.4.6", f"aliases go deeper than {self._rules.max_depth} levels")
        return highest + 1

    def _visit(self, member: str, walk: _Walk, trace: Trace | None, *, collect: bool) -> Steps[int]:
        """Expand one member, or keep it; return its levels."""
        key = fold(member)
        known = walk.heights.get(key)
        if known is not None and (not collect or key in walk.done):
            return known
        if len(walk.heights) >= self._rules.max_members:
            text = f"an alias stands for more than {self._rules.max_members} addresses"
            raise AliasError(550, "5.1.0", text)
        inner = None
        if known != 0 and self._may_match(member, walk):
            inner = yield from self.find(member, trace)
        owned = inner is not None and bool((yield from self._owner(member, inner, trace)))
        height = 0
        if inner is not None and inner.members is not None:
            height = yield from self._descend(
                member, inner, walk, trace, collect=collect and not owned
            )
        if collect:
            walk.done.add(key)
            if owned or not height:
                walk.leaves[key] = member
                walk.size += len(member.encode()) + _ITEM_BYTES
            if walk.size > MAX_BYTES:
                text = f"the addresses of an alias are longer than {MAX_BYTES} bytes"
                raise AliasError(550, "5.1.0", text)
        walk.heights[key] = height
        return height

    def _may_match(self, member: str, walk: _Walk) -> bool:
        """Tell whether a member needs to be looked up; lists are long and mostly of strangers."""
        domain = member.rpartition("@")[2]
        known = walk.domains.get(domain)
        if known is None:
            known = not domain.isascii() or self.may_know(domain)
            walk.domains[domain] = known
        return known

    def _owner(self, address: str, alias: Alias, trace: Trace | None) -> Steps[str]:
        """Return the owner's address of a list, "" where it has none (SPEC row X324)."""
        box = parse_local(address)
        if box is None or alias.members is None or fold(box.local).startswith(OWNER):
            return ""
        box = self._complete(box)
        local = str(Mailbox(box.local, ""))
        if local.startswith('"'):
            return ""
        user, _ = split_detail(local, self._rules.delimiter)
        owner = str(Mailbox(OWNER + user, box.domain))
        # An entry for whole domains is nobody's owner.
        keys = [key for key in self._keys(Mailbox(OWNER + user, box.domain)) if key[0] != "@"]
        found = (yield from find(self._source, keys, trace)) if keys else None
        if found is not None and found.unsure:
            raise AliasError(451, "4.3.0", "the aliases cannot be looked up now")
        return owner if found is not None else ""


@lru_cache(maxsize=64)  # long lists are the ones that cost
def _members_of(value: str, domain: str) -> tuple[str, ...] | None:
    """Return the addresses of a value; see ``read_value``."""
    members = read_value(value, domain)
    return None if members is None else tuple(members)


def parse_local(address: str) -> Mailbox | None:
    """Return an address in parts, its domain in A-labels; None for what is no address."""
    try:
        box = parse_mailbox(address, utf8=True)
    except AddressError:
        return None
    return Mailbox(box.local, to_a_labels(box.domain) or box.domain)
