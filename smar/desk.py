"""The desk: takes questions of smtps and qmgr from a channel and posts the answers.

Kind: shell.

A question that mailertable and cache can answer is answered before the handler returns, so
that all answers of one batch leave in one write.
Messages: wire.CHANNELS, smtps -> smar, qmgr -> smar and smxgrey -> smar.
"""

from libsmx.channel import Channel
from libsmx.clock import Clock
from libsmx.log import Log
from libsmx.wire import (
    CertAsk,
    ConnAsk,
    ConnVerdict,
    MailAsk,
    RcptAsk,
    Route,
    RouteAnswer,
    RouteAsk,
    Verdict,
)
from libsmx.wire_grey import GreyAsk
from smar.events import NO_ROUTE, OVERLOADED, RCPT_REFUSED, SENDER_REFUSED
from smar.flights import Flights
from smar.greydoor import GreyDoor
from smar.route import Router, no_route
from smar.verdict import BUSY, Checks

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
    """

    def __init__(
        self,
        checks: Checks,
        router: Router,
        flights: Flights,
        log: Log,
        clock: Clock,
        door: GreyDoor,
    ) -> None:
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
                self._door.settle(
                    message, self._rcpt(message), lambda verdict: channel.post(verdict, rid)
                )
            case GreyAsk():
                self._door.handle(channel, message, rid)
            case MailAsk():
                self._mail(channel, message, rid)
            case RouteAsk():
                self._route(channel, message, rid)
            case ConnAsk():
                channel.post(ConnVerdict(accept=True), rid)
            case CertAsk():
                channel.post(Verdict(accept=True), rid)
            case _:
                pass  # a repeated Hello asks for nothing

    def _rcpt(self, ask: RcptAsk) -> Verdict:
        verdict = self._checks.rcpt(ask.rcpt, relay=ask.relay)
        if not verdict.accept:
            self._log.emit(
                RCPT_REFUSED,
                rcpt=ask.rcpt,
                client=ask.client,
                code=verdict.code,
                status=verdict.status,
                text=verdict.text,
            )
        return verdict

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

        if not self._flights.decide(self._checks.sender(ask.sender), done):
            self._overloaded()
            channel.post(BUSY, rid)

    def _route(self, channel: Channel, ask: RouteAsk, rid: int) -> None:
        def done(routes: list[Route]) -> None:
            for rcpt, route in zip(ask.rcpts, routes, strict=True):
                if route.code:
                    self._log.emit(
                        NO_ROUTE, rcpt=rcpt, code=route.code, status=route.status, text=route.text
                    )
            channel.post(RouteAnswer(routes=routes), rid)

        if not self._flights.decide(self._router.routes(ask.rcpts), done):
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
