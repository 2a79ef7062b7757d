"""Requests on a channel and their answers."""

import pytest
import trio

from libsmx.clock import FakeClock
from libsmx.log import NullLog
from libsmx.wire import CertAsk, ConnAsk, Hello, MailAsk, RcptAsk, RouteAnswer, RouteAsk
from libsmx.wire_try import TryAsk
from smar import events
from smar import flights as module
from smar.access import AccessMap
from smar.cache import Cache
from smar.connect import Connect
from smar.desk import OVERLOAD_LOG_S, Desk
from smar.flights import Flights
from smar.greydoor import GreyDoor
from smar.greygate import refusal
from smar.mailertable import read_mailertable
from smar.route import Router
from smar.site import Site
from smar.tryout import Tryout
from smar.verdict import Checks
from tests.smar.test_access import Source
from tests.smar.zone import Zone, mx

TABLE = read_mailertable("loc.al lmtp:\nrelay.ed [192.0.2.8]\n", "mt")


class Posted:
    """Stands for a channel; keeps what is posted."""

    def __init__(self):
        self.answers = []

    def post(self, message, rid=0):
        self.answers.append((rid, message))


class Bench:
    def __init__(self, nursery, zone=None, greylist=None, rules=None):
        zone = zone or Zone(MX={"example.org": mx("10 a.x")}, A={"a.x": "192.0.2.1"})

        async def ask(question):
            await trio.lowlevel.checkpoint()
            return zone.answer(question)

        self.clock = FakeClock()
        self.flights = Flights(nursery, ask, Cache(1_000_000), self.clock, 10, lambda *_: None)
        self.log = NullLog()
        access = AccessMap(Source(rules or {}))
        checks, connect = Checks(TABLE, "gw.example", access), Connect(access)
        router = Router(TABLE, Site("gw.example", lambda _: None))
        find_map = {"access": access.source}.get
        self.desk = Desk(
            checks,
            router,
            self.flights,
            self.log,
            self.clock,
            GreyDoor(greylist, refusal(421), nursery, self.clock, self.log),
            connect,
            Tryout(checks, connect, router, find_map, "+", TABLE, "gw.example"),
        )
        self.channel = Posted()

    def ask(self, message, rid):
        self.desk.handle(self.channel, message, rid)

    def logged(self):
        return [event.name for event, _ in self.log.records if event.name != "decision"]


async def test_recipients_are_judged_at_once():
    async with trio.open_nursery() as nursery:
        bench = Bench(nursery)
        for rid, relay in ((1, False), (2, True)):
            bench.ask(RcptAsk(rcpt="u@example.org", client="192.0.2.99", relay=relay), rid)
        bench.ask(RcptAsk(rcpt="u@loc.al", client="192.0.2.99", relay=False), 3)
        answers = bench.channel.answers
        assert [(rid, verdict.code, verdict.local) for rid, verdict in answers] == [
            (1, 550, False),
            (2, 250, False),
            (3, 250, True),
        ]
        assert bench.logged() == ["rcpt_refused"]


async def test_sender_is_answered_when_the_dns_has_answered_and_at_once_from_then_on():
    async with trio.open_nursery() as nursery:
        bench = Bench(nursery)
        bench.ask(MailAsk(sender="u@example.org", client="192.0.2.99"), 7)
        bench.ask(MailAsk(sender="", client="192.0.2.99"), 8)
        assert [rid for rid, _ in bench.channel.answers] == [8]
        await bench.flights.drained()
        bench.ask(MailAsk(sender="v@example.org", client="192.0.2.99"), 9)
        bench.ask(MailAsk(sender="v@none.example", client="192.0.2.99"), 10)
        assert [(rid, v.code) for rid, v in bench.channel.answers] == [
            (8, 250),
            (7, 250),
            (9, 250),
        ]
        await bench.flights.drained()
        assert bench.channel.answers[-1][1].code == 553
        assert bench.logged() == ["sender_refused"]


async def test_routes_come_in_the_order_of_the_recipients():
    async with trio.open_nursery() as nursery:
        bench = Bench(nursery)
        bench.ask(RouteAsk(rcpts=["u@relay.ed", "v@loc.al"]), 1)
        bench.ask(RouteAsk(rcpts=["u@example.org", "v@none.example", "w@loc.al"]), 2)
        await bench.flights.drained()
        (_, first), (_, second) = bench.channel.answers
        assert [route.dest for route in first.routes] == ["esmtp:25:[192.0.2.8]", "lmtp:"]
        assert [route.code for route in second.routes] == [0, 550, 0]
        assert bench.logged() == ["no_route"]


async def test_empty_question_has_an_empty_answer():
    async with trio.open_nursery() as nursery:
        bench = Bench(nursery)
        bench.ask(RouteAsk(rcpts=[]), 1)
        assert bench.channel.answers == [(1, RouteAnswer(routes=[]))]


async def test_second_hello_is_ignored():
    async with trio.open_nursery() as nursery:
        bench = Bench(nursery)
        bench.ask(Hello(version=1, role="qmgr", id=0), 1)
        assert bench.channel.answers == []


@pytest.mark.covers("X009")
async def test_overload_is_a_temporary_failure_and_logged_sparingly(monkeypatch):
    monkeypatch.setattr(module, "MAX_WAITING", 0)
    async with trio.open_nursery() as nursery:
        bench = Bench(nursery)
        for rid in (1, 2, 3):
            bench.ask(MailAsk(sender="u@example.org", client="192.0.2.99"), rid)
        bench.ask(RouteAsk(rcpts=["u@example.org", "v@example.org"]), 4)
        verdicts = [message for _, message in bench.channel.answers[:3]]
        assert {(v.accept, v.code, v.status) for v in verdicts} == {(False, 451, "4.3.2")}
        routes = bench.channel.answers[3][1].routes
        assert [(r.code, r.status, r.targets) for r in routes] == [(451, "4.3.2", [])] * 2
        bench.clock.advance(OVERLOAD_LOG_S)
        bench.ask(MailAsk(sender="u@example.org", client="192.0.2.99"), 5)
        counts = [
            fields["count"] for event, fields in bench.log.records if event is events.OVERLOADED
        ]
        assert counts == [1, 4]


@pytest.mark.covers("X454")
async def test_clients_certificates_and_trials_are_answered_and_traced_at_level_14():
    async with trio.open_nursery() as nursery:
        bench = Bench(nursery, rules={"cltaddr:192.0": "reject", "certissuer:ca": "relay"})
        bench.ask(ConnAsk(client="192.0.2.99"), 1)
        bench.ask(CertAsk(issuer="CA", subject="me"), 2)
        bench.ask(TryAsk(words=["map", "access", "certissuer:ca"]), 3)
        bench.ask(TryAsk(words=["nonsense"]), 4)
        answers = [answer for _, answer in bench.channel.answers]
        assert (answers[0].accept, answers[0].code) == (False, 550)
        assert answers[1].mark == "relay"
        assert answers[2].lines[-1] == "certissuer:ca is in the map: relay"
        assert answers[3].status == "5.5.4"
        traces = [fields for event, fields in bench.log.records if event.name == "decision"]
        assert traces[0]["about"] == "client 192.0.2.99"
        assert "map access: cltaddr:192.0 -> reject" in traces[0]["trace"]
        assert bench.logged() == ["client_refused"]
        bench.log.level = 13
        bench.ask(ConnAsk(client="192.0.2.99"), 5)
        assert len([1 for event, _ in bench.log.records if event.name == "decision"]) == 2
