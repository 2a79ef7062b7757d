"""The resolver against a real name server: Knot DNS with a zone of mail set-ups."""

import socket

import pytest
import trio

from libsmx.clock import SystemClock
from libsmx.wire import MailAsk
from smar.cache import Cache
from smar.dnsio import Resolver
from smar.flights import Flights
from smar.mailertable import read_mailertable
from smar.records import MAX_RECORDS, Outcome, Question
from smar.route import Router
from smar.site import Site
from smar.verdict import Checks
from tests.interop.knot import running_knot

ZONE = """\
$ORIGIN example.
$TTL 300
@ SOA ns hostmaster 1 3600 600 86400 60
@ NS ns
ns A 127.0.0.1
two MX 20 mx2
two MX 10 mx1
mx1 A 192.0.2.1
mx1 AAAA 2001:db8::1
mx2 A 192.0.2.2
equal MX 10 mx1
equal MX 10 mx2
implicit A 192.0.2.3
six AAAA 2001:db8::6
mx6 MX 10 six
null MX 0 .
alias CNAME two
hostalias CNAME mx1
viaalias MX 10 hostalias
dangling CNAME nowhere
nomx TXT "no mail here"
lost MX 10 nowhere
elsewhere MX 10 mx.broken.
literal MX 10 192.0.2.1.
UPPER MX 10 MX1
zero 0 A 192.0.2.9
""" + "".join(f"many MX {n} host-with-a-long-name-{n}\n" for n in range(1, 101))  # fmt: skip


@pytest.fixture(scope="module")
def knot():
    """Address and port of a running Knot DNS."""
    with running_knot({"example": ZONE, "broken": None}) as port:
        yield "127.0.0.1", port


def ignore(*_):
    pass


def resolver(*servers, timeout_s=5.0, on_server=ignore):
    return Resolver(servers, timeout_s, on_server)


async def decide(server, make, table=""):
    """The result of a decision that asks this server."""
    results = []
    async with trio.open_nursery() as nursery:
        ask = resolver(server).ask
        flights = Flights(nursery, ask, Cache(1_000_000), SystemClock(), 5.0, ignore)
        mailertable = read_mailertable(table, "mt")
        flights.decide(make(mailertable), results.append)
        await flights.drained()
    return results[0]


async def route(server, rcpt, table="", shuffle=ignore):
    def make(mailertable):
        return Router(mailertable, Site("gw.example", shuffle)).routes([rcpt])

    return (await decide(server, make, table))[0]


def places(found):
    return [(target.host, target.address) for target in found.targets]


MX1 = [("mx1.example", "192.0.2.1"), ("mx1.example", "2001:db8::1")]
MX2 = [("mx2.example", "192.0.2.2")]


@pytest.mark.covers("X320")
async def test_hosts_come_in_the_order_of_preference(knot):
    found = await route(knot, "u@two.example")
    assert places(found) == MX1 + MX2
    assert found.dest == "esmtp:25:mx1.example+mx2.example"


@pytest.mark.covers("X320")
async def test_equal_preference_is_tried_in_either_order(knot):
    assert places(await route(knot, "u@equal.example")) == MX1 + MX2
    assert places(await route(knot, "u@equal.example", shuffle=list.reverse)) == MX2 + MX1


@pytest.mark.parametrize(
    ("domain", "wanted"),
    [
        ("implicit", [("implicit.example", "192.0.2.3")]),
        ("six", [("six.example", "2001:db8::6")]),
        ("mx6", [("six.example", "2001:db8::6")]),
        ("alias", MX1 + MX2),
        ("viaalias", [("hostalias.example", address) for _, address in MX1]),
        ("upper", MX1),
        ("UPPER", MX1),
    ],
)
async def test_ways_to_a_host(knot, domain, wanted):
    assert places(await route(knot, f"u@{domain}.example")) == wanted


@pytest.mark.parametrize(
    ("domain", "code", "status"),
    [
        ("nowhere.example", 550, "5.1.2"),
        ("dangling.example", 550, "5.1.2"),
        ("nomx.example", 550, "5.1.2"),
        ("null.example", 556, "5.1.10"),
        ("lost.example", 550, "5.4.4"),
        ("literal.example", 550, "5.4.4"),
        ("x.broken", 451, "4.4.3"),
        ("elsewhere.example", 451, "4.4.3"),
        ("refused.test", 451, "4.4.3"),
    ],
)
async def test_no_way(knot, domain, code, status):
    found = await route(knot, f"u@{domain}")
    assert (found.code, found.status, found.targets) == (code, status, [])


@pytest.mark.covers("X463")
@pytest.mark.parametrize(
    ("domain", "code", "status"),
    [
        ("two.example", 250, "2.1.0"),
        ("six.example", 250, "2.1.0"),
        ("nowhere.example", 553, "5.1.8"),
        ("null.example", 550, "5.7.27"),
        ("x.broken", 451, "4.1.8"),
    ],
)
async def test_sender_domains(knot, domain, code, status):
    ask = MailAsk(sender=f"u@{domain}", client="192.0.2.9")
    verdict = await decide(knot, lambda table: Checks(table, "gw").sender(ask))
    assert (verdict.code, verdict.status) == (code, status)


@pytest.mark.covers("X313", "X319")
async def test_mailertable_host_is_looked_up(knot):
    found = await route(knot, "u@two.example", ". 2525^esmtp:upper.example [mx2.example]\n")
    assert places(found) == MX1 + MX2
    assert {target.port for target in found.targets} == {2525}


async def test_answer_too_long_for_a_datagram_comes_by_tcp(knot):
    answer = await resolver(knot).ask(Question("many.example", "MX"))
    best = tuple((n, f"host-with-a-long-name-{n}.example") for n in range(1, MAX_RECORDS + 1))
    assert answer.mx == best


@pytest.mark.parametrize(
    ("name", "kind", "outcome", "ttl_s"),
    [
        ("two.example", "MX", Outcome.FOUND, 300),
        ("zero.example", "A", Outcome.FOUND, 0),
        ("nomx.example", "MX", Outcome.NO_DATA, 60),
        ("nowhere.example", "MX", Outcome.NO_NAME, 60),
        ("x" * 64 + ".example", "MX", Outcome.NO_NAME, 0),
    ],
)
async def test_lifetimes_come_from_the_records_or_the_zone(knot, name, kind, outcome, ttl_s):
    answer = await resolver(knot).ask(Question(name, kind))
    assert (answer.outcome, answer.ttl_s) == (outcome, ttl_s)


def dead_server():
    """A name server that takes questions and never answers."""
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock


def questions_in(sock):
    count = 0
    while True:
        try:
            sock.recv(512)
        except BlockingIOError:
            return count
        count += 1


@pytest.mark.covers("X248")
async def test_dead_first_server_is_left_for_the_second_and_then_asked_last(knot):
    changes = []
    with dead_server() as dead:
        ask = resolver(
            dead.getsockname(), knot, timeout_s=8, on_server=lambda *change: changes.append(change)
        ).ask
        for name in ("mx1.example", "mx2.example", "implicit.example"):
            assert (await ask(Question(name, "A"))).outcome is Outcome.FOUND
        assert questions_in(dead) == 1
        assert changes == [(f"127.0.0.1:{dead.getsockname()[1]}", False)]


@pytest.mark.covers("X240")
async def test_dead_servers_are_a_temporary_failure():
    with dead_server() as one, dead_server() as two:
        servers = one.getsockname(), two.getsockname()
        answer = await resolver(*servers, timeout_s=0.5).ask(Question("two.example", "MX"))
        assert answer.outcome is Outcome.FAILED
        assert answer.detail
        assert questions_in(one)
        assert questions_in(two)


@pytest.mark.covers("X249")
async def test_a_hundred_lookups_at_once(knot):
    ask = resolver(knot).ask
    answers = {}

    async def one(n):
        answers[n] = await ask(Question(f"{n}.none.example" if n % 2 else "two.example", "MX"))

    async with trio.open_nursery() as nursery:
        for n in range(100):
            nursery.start_soon(one, n)
    outcomes = [answers[n].outcome for n in range(100)]
    assert outcomes == [Outcome.FOUND, Outcome.NO_NAME] * 50
