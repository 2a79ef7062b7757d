"""The desk: takes questions of smtps and qmgr from a channel and posts the answers.

Kind: shell.

A question that mailertable and cache can answer is answered before the handler returns, so
that all answers of one batch leave in one write.
Messages: wire.CHANNELS, smtps -> smar, qmgr -> smar, smxgrey -> smar and smxtest -> smar.
"""

from collections.abc import Callable
from typing import TypeVar

from libsmx.channel import Channel
from libsmx.clock import Clock
from libsmx.log import Log
from libsmx.wire import (
    CertAsk,
    ConnAsk,
    ConnVerdict,
    MailAsk,
    RcptAsk,
    Refusal,
    Route,
    RouteAnswer,
    RouteAsk,
    Verdict,
)
from libsmx.wire_grey import GreyAsk
from libsmx.wire_try import TryAsk
from smar.connect import Connect
from smar.events import (
    CLIENT_REFUSED,
    DECISION,
    NO_ROUTE,
    OVERLOADED,
    RCPT_REFUSED,
    SENDER_REFUSED,
)
from smar.flights import Flights
from smar.greydoor import GreyDoor
from smar.records import Steps
from smar.route import Router, no_route
from smar.trace import Trace, traced
from smar.tryout import TryError, Tryout
from smar.verdict import BUSY, Checks

T = TypeVar("T")

_EXEMPT = frozenset({"ok", "quick:ok", "quick:relay"})
"""Marks of to: after which greylisting is not asked any more: they end the stage."""
OVERLOAD_LOG_S = 60.0
"""An overload is logged at its beginning and then at most this often, with a count."""


class Desk:
    """Answers requests.

    Args:
        checks: judges senders and recipients.
        router: finds routes.
        flights: gets what the DNS has to say.
        log: gets refusals.
        clock: spaces the log lines of an overload.
        door: the greylist's.
        connects: judges clients; None: all are accepted.
        tryout: answers smxtest.
    """

    def __init__(
        self,
        checks: Checks,
        router: Router,
        flights: Flights,
        log: Log,
        clock: Clock,
        door: GreyDoor,
        connects: Connect | None = None,
        tryout: Tryout | None = None,
    ) -> None:
        self._connects = connects
        self._tryout = tryout
        self._door = door
        self._checks = checks
        self._router = router
        self._flights = flights
        self._log = log
        self._clock = clock
        self._put_off = 0
        self._logged_at: float | None = None

    def handle(self, channel: Channel, message: object, rid: int) -> None:
        """Answer one request, now or when the DNS has answered."""
        match message:
            case RcptAsk():
                self._rcpt(channel, message, rid)
            case GreyAsk():
                self._door.handle(channel, message, rid)
            case MailAsk():
                self._mail(channel, message, rid)
            case RouteAsk():
                self._route(channel, message, rid)
            case ConnAsk():
                self._connect(channel, message, rid)
            case TryAsk():
                self._try(channel, message, rid)
            case CertAsk():
                self._certificate(channel, message, rid)
            case _:
                pass  # a repeated Hello asks for nothing

    def _decide(
        self, make: Callable[[Trace | None], Steps[T]], done: Callable[[T], None], about: str
    ) -> bool:
        """Run a decision, with a trace in the log where the log level asks for it.

        Returns:
            False when too many wait already; done is then never called.
        """
        if self._log.level < DECISION.level:
            return self._flights.decide(make(None), done)
        trace = Trace()

        def traced_done(result: T) -> None:
            self._log.emit(DECISION, about=about, trace="; ".join(map(str.strip, trace.lines)))
            done(result)

        return self._flights.decide(traced(make(trace), trace), traced_done)

    def _rcpt(self, channel: Channel, ask: RcptAsk, rid: int) -> None:
        def done(verdict: Verdict) -> None:
            if not verdict.accept:
                self._log.emit(
                    RCPT_REFUSED,
                    rcpt=ask.rcpt,
                    client=ask.client,
                    code=verdict.code,
                    status=verdict.status,
                    text=verdict.text,
                )
            if ask.facts.delayed or verdict.mark in _EXEMPT:
                channel.post(verdict, rid)
            else:
                self._door.settle(ask, verdict, lambda final: channel.post(final, rid))

        if not self._decide(
            lambda trace: self._checks.rcpt(ask, trace), done, f"RCPT {ask.rcpt} of {ask.client}"
        ):
            self._overloaded()
            channel.post(BUSY, rid)

    def _mail(self, channel: Channel, ask: MailAsk, rid: int) -> None:
        def done(verdict: Verdict) -> None:
            if not verdict.accept:
                self._log.emit(
                    SENDER_REFUSED,
                    mail=ask.sender,
                    client=ask.client,
                    code=verdict.code,
                    status=verdict.status,
                    text=verdict.text,
                )
            channel.post(verdict, rid)

        if not self._decide(
            lambda trace: self._checks.sender(ask, trace), done, f"MAIL {ask.sender}"
        ):
            self._overloaded()
            channel.post(BUSY, rid)

    def _connect(self, channel: Channel, ask: ConnAsk, rid: int) -> None:
        connect = self._connects
        if connect is None:
            channel.post(ConnVerdict(accept=True), rid)
            return

        def done(verdict: ConnVerdict) -> None:
            if not verdict.accept:
                self._log.emit(
                    CLIENT_REFUSED,
                    client=ask.client,
                    code=verdict.code,
                    status=verdict.status,
                    text=verdict.text,
                )
            channel.post(verdict, rid)

        if not self._decide(
            lambda trace: connect.client(ask.client, trace), done, f"client {ask.client}"
        ):
            self._overloaded()
            busy = ConnVerdict(accept=False, code=BUSY.code, status=BUSY.status, text=BUSY.text)
            channel.post(busy, rid)

    def _certificate(self, channel: Channel, ask: CertAsk, rid: int) -> None:
        connect = self._connects
        if connect is None or not self._decide(
            lambda trace: connect.certificate(ask.issuer, ask.subject, trace),
            lambda verdict: channel.post(verdict, rid),
            f"certificate {ask.subject}",
        ):
            channel.post(Verdict(accept=True), rid)

    def _try(self, channel: Channel, ask: TryAsk, rid: int) -> None:
        busy = Refusal(code=BUSY.code, status=BUSY.status, text=BUSY.text)
        if self._tryout is None:
            channel.post(busy, rid)
            return
        try:
            if not self._flights.decide(
                self._tryout.run(ask.words), lambda answer: channel.post(answer, rid)
            ):
                channel.post(busy, rid)
        except TryError as error:
            channel.post(Refusal(code=501, status="5.5.4", text=str(error)), rid)

    def _route(self, channel: Channel, ask: RouteAsk, rid: int) -> None:
        def done(routes: list[Route]) -> None:
            for rcpt, route in zip(ask.rcpts, routes, strict=True):
                if route.code:
                    self._log.emit(
                        NO_ROUTE, rcpt=rcpt, code=route.code, status=route.status, text=route.text
                    )
            channel.post(RouteAnswer(routes=routes), rid)

        if not self._decide(
            lambda trace: self._router.routes(ask.rcpts, trace),
            done,
            f"routes of {', '.join(ask.rcpts[:5])}",
        ):
            self._overloaded()
            busy = no_route("", BUSY.code, BUSY.status, BUSY.text)
            channel.post(RouteAnswer(routes=[busy] * len(ask.rcpts)), rid)

    def _overloaded(self) -> None:
        """Count a request that was put off, and tell the log from time to time."""
        self._put_off += 1
        now = self._clock.mono()
        if self._logged_at is None or now - self._logged_at >= OVERLOAD_LOG_S:
            self._log.emit(OVERLOADED, count=self._put_off)
            self._logged_at, self._put_off = now, 0
