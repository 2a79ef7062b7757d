"""What a delivery session tells of its work: log lines, times of its phases, results.

Kind: shell.

Source: SPEC rows X017, X434; RFC 3464 2.3.5.
"""

from libsmx.clock import Clock
from libsmx.envelope import MAX_TEXT
from libsmx.log import Log
from libsmx.wire import Attempt, Delivered, RcptResult, Target
from smtpc.events import CONNECT_FAILED, TLS_STARTED
from smtpc.job import Job
from smtpc.phases import Phase
from smtpc.report import log_results
from smtpc.result import clean
from smtpc.tlspolicy import Secured


class Account:
    """The account of one delivery session.

    Attributes:
        log: where to.
        target: address that is talked to, or was last.
    """

    def __init__(self, log: Log, clock: Clock, da_sess: int, lmtp_socket: str) -> None:
        self.log = log
        self.target = Target(host="", address="", port=0)
        self._clock = clock
        self._da_sess = da_sess
        self._lmtp_socket = lmtp_socket
        self._took_s: dict[str, float] = {}
        self._phase = ""
        self._since_s = 0.0

    # --- times -----------------------------------------------------------------------------

    def begin(self, now_s: float) -> None:
        """A transaction or a connection begins, at this loop time."""
        self._took_s = {}
        self._phase, self._since_s = "", now_s

    def connected(self, now_s: float) -> None:
        """The connection stands."""
        self._took_s["connect"] = now_s - self._since_s
        self._since_s = now_s

    def enter(self, phase: Phase, now_s: float) -> None:
        """A wait ends and another one begins."""
        if self._phase:
            took_s = self._took_s
            took_s[self._phase] = took_s.get(self._phase, 0.0) + now_s - self._since_s
        self._phase, self._since_s = phase.name, now_s

    def took(self, now_s: float) -> str:
        """Return how long each phase took, seconds: ``connect:0.002 mail:0.010 dot:0.300``."""
        self.enter(Phase.IDLE, now_s)
        return " ".join(f"{name.lower()}:{took_s:.3f}" for name, took_s in self._took_s.items())

    # --- names -----------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """Address of the target, or the path of the LMTP socket."""
        return self.target.address or self._lmtp_socket

    @property
    def where(self) -> str:
        """The target as results and logs name it."""
        target = self.target
        if not target.address:
            return self._lmtp_socket
        return f"{target.host}[{target.address}]:{target.port}"

    # --- events ----------------------------------------------------------------------------

    def secured(self, secure: Secured) -> None:
        """Note that the connection is under TLS."""
        facts, cert = secure.facts, secure.facts.cert
        self.log.emit(
            TLS_STARTED, da_sess=self._da_sess, host=self.target.host, address=self.address,
            version=facts.version, cipher=facts.cipher, bits=facts.bits,
            verify=facts.verify, name="yes" if secure.named else "no", why=facts.why,
            resumed=int(facts.resumed),
            subject=cert.subject if cert else "", issuer=cert.issuer if cert else "",
            fingerprint=cert.fingerprint if cert else "",
        )  # fmt: skip

    def host_failed(self, job: Job, reason: str, *, refused: bool) -> None:
        """Note that an address could not be used."""
        text = clean(f"{self.where}: {reason}", MAX_TEXT)
        job.attempts.append(Attempt(address=self.target.address, text=text, refused=refused))
        self.log.emit(
            CONNECT_FAILED, da_sess=self._da_sess, host=self.target.host,
            address=self.address, port=self.target.port, reason=reason,
        )  # fmt: skip

    def report(
        self,
        job: Job,
        results: list[RcptResult],
        now_s: float,
        *,
        keep: bool,
        unknown: bool,
        secure: Secured | None,
        dsn: bool,
    ) -> None:
        """Log the results of an order and answer it.

        Args:
            job: the order.
            results: one for each recipient.
            now_s: loop time.
            keep: the session can take another transaction.
            unknown: nobody knows whether the server took the message.
            secure: TLS of the session.
            dsn: the server took over to report.
        """
        tls, took = secure.describe() if secure is not None else "", self.took(now_s)
        log_results(
            self.log, job.deliver.envelope, results, host=self.target.host,
            address=self.address, now_s=self._clock.wall(), tls=tls, took=took,
        )  # fmt: skip
        job.answer(
            Delivered(
                da_sess=self._da_sess,
                da_ta=job.deliver.da_ta,
                open=keep,
                host=self.target.host,
                address=self.target.address,
                results=results,
                attempts=job.attempts,
                dsn=dsn,
                tls=tls,
                took=took,
                unknown=unknown,
            )
        )
