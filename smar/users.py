"""Local users: who exists in our domains.

Kind: core.

Those of the aliases, those of local_user_map, and postmaster, who exists everywhere (RFC 5321
4.5.1). What the aliases cannot expand is refused while the client can still be told.
Source: README 4.3 (Specifying Valid Local Addresses); SPEC rows X242, X243, X330 to X334, X464,
X467; decisions D40 to D42.
"""

from libsmx.maptext import fold
from libsmx.wire import Verdict
from smar.aliases import AliasError, Aliases, Rules, parse_local
from smar.lookuporder import address_keys
from smar.maps import Map, find
from smar.records import Steps
from smar.trace import Trace

POSTMASTER = "postmaster"
_UNKNOWN_RCPT = Verdict(accept=False, code=550, status="5.1.1", text="user unknown")
_UNKNOWN_SENDER = Verdict(
    accept=False, code=550, status="5.1.0", text="sender: there is no such user here"
)


class LocalUsers:
    """Tells who exists in local domains.

    Args:
        aliases: looked into first.
        users: local_user_map, None where there is none.
        implicit_detail: of that map.
        rules: hostname and delimiter.
    """

    def __init__(
        self, aliases: Aliases, users: Map | None, rules: Rules, *, implicit_detail: bool = False
    ) -> None:
        self._aliases = aliases
        self._users = users
        self._implicit = implicit_detail
        self._rules = rules

    def refusal(
        self, address: str, *, sender: bool, trace: Trace | None = None
    ) -> Steps[Verdict | None]:
        """Return why a local address cannot be accepted, None where it exists.

        Args:
            address: of a local domain.
            sender: it is an envelope's sender, whose aliases are not expanded.
            trace: told of every lookup.
        """
        try:
            if sender:
                exists = (yield from self._aliases.find(address, trace)) is not None
            else:
                # What cannot be expanded is refused now, while somebody is there to be told.
                exists, _ = yield from self._aliases.resolve(address, trace)
        except AliasError as error:
            return Verdict(accept=False, code=error.code, status=error.status, text=error.text)
        if exists:
            return None
        box = parse_local(address)
        if box is not None and fold(box.local) == POSTMASTER:
            return None
        if box is not None and self._users is not None:
            keys = address_keys(
                str(box),
                delimiter=self._rules.delimiter,
                implicit_detail=self._implicit,
                local_part=True,
                hostname=self._rules.hostname,
            )
            user = yield from find(self._users, keys, trace)
            if user is not None and user.unsure:
                return Verdict(
                    accept=False,
                    code=451,
                    status="4.3.0",
                    text="local users cannot be looked up now",
                )
            if user is not None:
                return None
        return _UNKNOWN_SENDER if sender else _UNKNOWN_RCPT
