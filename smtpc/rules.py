"""What the configuration says of a delivery: policies, logins, own addresses, waits.

Kind: core.

Source: SPEC rows X017, X422-X426, X432.
"""

from collections.abc import Mapping

import attrs

from libsmx.envelope import Envelope
from libsmx.opt_smtpc import TimeoutsConf
from libsmx.wire import Target
from smtpc.logins import LoginTable
from smtpc.phases import TIMEOUT_S, Phase
from smtpc.plan import Login, Plan
from smtpc.sources import SourceTable
from smtpc.tlspolicy import Level, PolicyTable, TlsPolicy, strictest


@attrs.frozen
class Wishes:
    """What the mail of one transaction asks of a session with one host.

    Attributes:
        policies: one for each recipient; empty: all have the default, which takes any session.
        login: as whom it is delivered.
    """

    policies: tuple[TlsPolicy, ...] = ()
    login: Login | None = None

    @property
    def ca(self) -> str:
        """File of the CAs against which the server's certificate is checked."""
        return strictest(self.policies).ca if self.policies else ""


NO_WISHES = Wishes()


@attrs.frozen
class Rules:
    """The configuration as it holds now; replaced as a whole when files were changed.

    Attributes:
        sources: own addresses and names.
        policies: of TLS.
        logins: at next hops.
        prefer: family of addresses that is tried first.
        chunking: use BDAT.
        timeouts: waits of SMTP, seconds.
        lmtp_timeouts: waits of LMTP, seconds.
        connect_first_s, connect_s: waits for the connection to the first address, to others.
        all_connects_s: after this long no further address is tried.
        longest_session_s: a session takes no transaction after this long.
    """

    sources: SourceTable
    policies: PolicyTable = attrs.field(factory=lambda: PolicyTable(TlsPolicy()))
    logins: LoginTable = attrs.field(factory=LoginTable)
    prefer: str = "any"
    chunking: bool = True
    timeouts: Mapping[Phase, float] = attrs.field(default=TIMEOUT_S, repr=False)
    lmtp_timeouts: Mapping[Phase, float] = attrs.field(default=TIMEOUT_S, repr=False)
    connect_first_s: float = 30.0
    connect_s: float = 30.0
    all_connects_s: float = 600.0
    longest_session_s: float = 300.0

    def wishes(self, envelope: Envelope, target: Target) -> Wishes:
        """Return what a transaction asks of a session with a target."""
        if not target.address:
            return NO_WISHES  # nobody listens to a socket in our own directory
        login = self.logins.find(target.host, envelope.sender)
        table = self.policies
        if login is None and table.trivial and table.default.level <= Level.MAY:
            return NO_WISHES
        policies = tuple(table.find(rcpt.address, target.host) for rcpt in envelope.rcpts)
        if login is not None and not login.clear:
            policies = tuple(_for_login(policy, target.host) for policy in policies)
        return Wishes(policies, login)

    def plan(
        self, target: Target, wishes: Wishes, *, lmtp: bool, nonce: str, why_clear: str
    ) -> Plan:
        """Return how a connection to a target is opened.

        Args:
            target: where to.
            wishes: of the transaction for which it is.
            lmtp: speak LMTP.
            nonce: fresh and random.
            why_clear: why TLS must not be tried, empty if it may.
        """
        level = strictest(wishes.policies or (self.policies.default,)).level
        if level is Level.NONE and not why_clear:
            why_clear = "the policy is not to try it"
        return Plan(
            helo=self.sources.find(target).helo,
            lmtp=lmtp,
            starttls=bool(target.address) and not why_clear,
            on_connect=any(policy.on_connect for policy in wishes.policies) and not why_clear,
            why_clear=why_clear,
            login=wishes.login,
            nonce=nonce,
            chunking=self.chunking,
            timeouts=self.lmtp_timeouts if lmtp else self.timeouts,
        )


def _for_login(policy: TlsPolicy, host: str) -> TlsPolicy:
    """A password goes to nobody who did not show who he is, unless the map says otherwise."""
    if policy.source != "default" or policy.level is Level.VERIFY:
        return policy
    return TlsPolicy(Level.VERIFY, names=(host.lower(),), source="a login needs it")


def read_timeouts(conf: TimeoutsConf, most_s: float, *, lmtp: bool) -> dict[Phase, float]:
    """Return the waits of all phases, each cut to ``most_s`` (IO_timeout)."""
    hello_s = conf.lhlo if lmtp else conf.helo
    waits: dict[Phase, float] = {
        Phase.GREETING: conf.initial,
        Phase.HELLO: hello_s,
        Phase.TLS: conf.starttls,
        Phase.AUTH: conf.auth,
        Phase.RSET: conf.rset,
        Phase.MAIL: conf.mail,
        Phase.RCPT: conf.rcpt,
        Phase.DATA: conf.datainit,
        Phase.CONTENT: conf.datablock,
        Phase.DOT: conf.datafinal,
        Phase.QUIT: conf.quit,
    }
    return TIMEOUT_S | {phase: min(wait_s, most_s) for phase, wait_s in waits.items()}
