"""Options of the address resolver: aliases and local users.

Kind: table.

Source: README 3.9.2 items 3 and 7; SPEC rows X223 to X229, X242, X243; decisions D35, D40.
"""

import attrs

from libsmx.kinds import Count, Flags, Path, String
from libsmx.options import option

IMPLICIT = "user@host and user also match user+detail"
ALIAS_FLAGS = Flags(
    {
        "localpart": "keys are local parts, looked up for local addresses",
        "local_domains": "keys are addresses with domain, looked up for local addresses",
        "all_domains": "keys are addresses with domain, looked up for every address",
        "implicitly_match_detail": IMPLICIT,
        "replace_macros": "replace ${user} and the like in values",
        "preserve_domain": "a value without domain gets that of the address, not our hostname",
    }
)
USER_FLAGS = Flags({"implicitly_match_detail": IMPLICIT})


@attrs.frozen
class AliasesConf:
    """The aliases map."""

    file: str = option(
        "file",
        Path(beside_conf=True),
        "aliases.db",
        rows="X223 X251",
        doc="The aliases map, made by createmap; it need not exist. A change of the file is "
        "noticed within seconds.",
    )
    name: str = option(
        "name",
        String("map name"),
        "",
        doc="A declared map to use instead of file.",
    )
    flags: frozenset[str] = option(
        "flags",
        ALIAS_FLAGS,
        ("localpart",),
        rows="X224 X225 X226 X227 X228 X229",
        doc="What the keys are, and how values are read. Keys with a domain go before local "
        "parts where both are looked up.",
    )
    max_depth: int = option(
        "max_depth",
        Count("levels"),
        "5",
        low="1",
        high="20",
        rows="X327 X328",
        doc="Most levels of aliases that stand for aliases; what goes deeper, or in circles, is "
        "refused.",
    )
    max_members: int = option(
        "max_members",
        Count("addresses"),
        "10000",
        low="1",
        high="50000",
        doc="Most addresses that one alias stands for, with all aliases inside it.",
    )


@attrs.frozen
class LocalUserMapConf:
    """A map of valid local addresses beside the aliases."""

    name: str = option(
        "name",
        String("map name"),
        "",
        rows="X242 X333",
        doc="A declared map whose keys are the local parts of valid local addresses; its values "
        "do not matter. Empty: the aliases alone tell who exists.",
    )
    flags: frozenset[str] = option(
        "flags",
        USER_FLAGS,
        (),
        rows="X243",
        doc="How the map is looked at.",
    )
