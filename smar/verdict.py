"""Verdicts: may this sender or recipient be accepted?

Kind: core.

A sender must be routable, as a bounce would have to be: its domain stands in the mailertable
or has MX or address records. A recipient must be local, or the session must be allowed to
relay. Local is a domain whose mailertable entry is ``lmtp:``; which of its users exist is not
known here yet.
Source: SPEC rows X463, X467 to X469, X335; RFC 5321 4.5.1 (postmaster), RFC 7505 4.2.
"""

from libsmx.wire import Verdict
from smar.mailertable import Mailertable, literal_address
from smar.mx import Failure, Problem, find_exchangers
from smar.records import Steps
from smar.route import domain_of

SENDER_CODES: dict[Problem, tuple[int, str]] = {
    Problem.NO_DOMAIN: (553, "5.1.8"),
    Problem.NO_HOST: (553, "5.1.8"),
    Problem.NULL_MX: (550, "5.7.27"),
    Problem.UNUSABLE: (553, "5.1.8"),
    Problem.LOOKUP: (451, "4.1.8"),
}

_SENDER_OK = Verdict(accept=True, status="2.1.0")
_RCPT_OK = Verdict(accept=True, status="2.1.5")
_RCPT_LOCAL = Verdict(accept=True, status="2.1.5", local=True)
_NO_RELAY = Verdict(accept=False, code=550, status="5.7.1", text="relaying denied")
_BAD_SENDER = Verdict(accept=False, code=553, status="5.1.7", text="sender address is not valid")
_BAD_RCPT = Verdict(accept=False, code=553, status="5.1.3", text="recipient address is not valid")
BUSY = Verdict(accept=False, code=451, status="4.3.2", text="too many address lookups under way")


class Checks:
    """Judges addresses.

    Args:
        table: the mailertable.
        hostname: name of this host, lower case; the domain of ``postmaster`` alone.
    """

    def __init__(self, table: Mailertable, hostname: str) -> None:
        self._table = table
        self._hostname = hostname

    def sender(self, address: str) -> Steps[Verdict]:
        """Judge a reverse-path, "" for the null one."""
        if not address:
            return _SENDER_OK
        domain = domain_of(address, self._hostname)
        if domain is None:
            return _BAD_SENDER
        if self._table.find(domain) is not None or literal_address(domain) is not None:
            return _SENDER_OK
        found = yield from find_exchangers(domain)
        if not isinstance(found, Failure):
            return _SENDER_OK
        code, status = SENDER_CODES[found.problem]
        return Verdict(accept=False, code=code, status=status, text=f"sender: {found.text}")

    def rcpt(self, address: str, *, relay: bool) -> Verdict:
        """Judge a forward-path.

        Args:
            address: without brackets.
            relay: the session may relay.
        """
        domain = domain_of(address, self._hostname)
        if domain is None:
            return _BAD_RCPT
        entry = self._table.find(domain)
        if entry is not None and entry.local:
            return _RCPT_LOCAL
        return _RCPT_OK if relay else _NO_RELAY
