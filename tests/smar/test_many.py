"""One message to very many recipients."""

import pytest
import trio

from libsmx.clock import FakeClock
from smar.cache import Cache
from smar.flights import Flights
from smar.mailertable import read_mailertable
from smar.route import Router
from smar.site import Site
from tests.smar.zone import addresses, mx

RCPTS, DOMAINS, ASK = 10_000, 4_000, 1000
CACHE_BYTES = 1_000_000


@pytest.mark.slow
async def test_ten_thousand_recipients_in_four_thousand_domains():
    """As the queue manager asks: 1,000 recipients in a question."""
    most = 0

    async def ask(question):
        nonlocal most
        most = max(most, cache.used_bytes)
        await trio.lowlevel.checkpoint()
        return mx("10 host.x") if question.kind == "MX" else addresses("192.0.2.1")

    cache = Cache(CACHE_BYTES)
    router = Router(read_mailertable("", "mt"), Site("gw.x", lambda _: None))
    counts = []
    async with trio.open_nursery() as nursery:
        flights = Flights(nursery, ask, cache, FakeClock(), 60.0, lambda *_: None)
        for start in range(0, RCPTS, ASK):
            rcpts = [f"u{n}@d{n % DOMAINS}.x" for n in range(start, start + ASK)]
            assert flights.decide(
                router.routes(rcpts),
                lambda routes: counts.append(sum(bool(route.targets) for route in routes)),
            )
            await flights.drained()
    assert counts == [ASK] * (RCPTS // ASK)
    assert most <= CACHE_BYTES
