"""Decisions driven by cache and DNS."""

import pytest
import trio

from libsmx.clock import FakeClock
from smar import flights as module
from smar.cache import FAILURE_TTL_S, Cache
from smar.flights import Flights
from smar.records import BEGUN, Ahead, Answer, Outcome, Question
from tests.smar.zone import addresses

TIMEOUT_S = 10.0


class SlowDns:
    """Answers when told to; counts what is under way."""

    def __init__(self):
        self.asked = []
        self.under_way = 0
        self.most = 0
        self.open = trio.Event()
        self.answer = addresses("192.0.2.1")

    async def ask(self, question):
        self.asked.append(question)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.open.wait()
        finally:
            self.under_way -= 1
        return self.answer


class Bench:
    """Flights on a slow DNS with a log of failures and results."""

    def __init__(self, nursery, stale_s=0):
        self.dns = SlowDns()
        self.clock = FakeClock()
        self.failures = []
        self.results = []
        self.flights = Flights(
            nursery,
            self.dns.ask,
            Cache(10_000_000, stale_s),
            self.clock,
            TIMEOUT_S,
            lambda question, why: self.failures.append((question, why)),
        )

    def decide(self, *rounds):
        return self.flights.decide(asks(*rounds), self.results.append)


def asks(*rounds):
    """A decision that asks for names, round by round, and returns the outcomes."""
    outcomes = []
    for names in rounds:
        answers = yield tuple(Question(name, "A") for name in names)
        outcomes += [answer.outcome for answer in answers]
    return outcomes


async def test_decision_without_questions_is_finished_at_once():
    async with trio.open_nursery() as nursery:
        bench = Bench(nursery)
        assert bench.decide()
        assert bench.results == [[]]
        assert not nursery.child_tasks


async def test_what_the_cache_knows_is_finished_at_once_without_a_task():
    async with trio.open_nursery() as nursery:
        bench = Bench(nursery)
        bench.dns.open.set()
        bench.decide(["a", "b"], ["c"])
        assert bench.results == []
        await bench.flights.drained()
        assert len(bench.results) == 1
        bench.decide(["b"], ["c", "a"])
        assert bench.results == [[Outcome.FOUND] * 3] * 2
        assert len(bench.dns.asked) == 3


async def test_equal_questions_share_one_lookup(autojump_clock):
    async with trio.open_nursery() as nursery:
        bench = Bench(nursery)
        for _ in range(50):
            bench.decide(["a"])
        await trio.testing.wait_all_tasks_blocked()
        bench.decide(["a", "b"])
        bench.dns.open.set()
        await bench.flights.drained()
        assert len(bench.results) == 51
        assert bench.dns.asked == [Question("a", "A"), Question("b", "A")]


@pytest.mark.covers("X249")
async def test_slow_lookups_of_different_names_run_at_the_same_time(autojump_clock):
    async with trio.open_nursery() as nursery:
        bench = Bench(nursery)
        for n in range(100):
            bench.decide([f"n{n}"])
        await trio.testing.wait_all_tasks_blocked()
        assert bench.dns.under_way == 100
        bench.dns.open.set()
        await bench.flights.drained()
        assert len(bench.results) == 100


@pytest.mark.covers("X240")
async def test_lookup_without_answer_fails_at_the_time_out(autojump_clock):
    async with trio.open_nursery() as nursery:
        bench = Bench(nursery)
        start = trio.current_time()
        bench.decide(["a"])
        await bench.flights.drained()
        assert bench.results == [[Outcome.FAILED]]
        assert trio.current_time() - start == pytest.approx(TIMEOUT_S)
        assert bench.failures == [(Question("a", "A"), "no answer within 10 s")]


async def test_failure_is_not_repeated_for_a_while(autojump_clock):
    async with trio.open_nursery() as nursery:
        bench = Bench(nursery)
        bench.dns.answer = Answer(outcome=Outcome.FAILED, detail="SERVFAIL")
        bench.dns.open.set()
        bench.decide(["a"])
        await bench.flights.drained()
        bench.clock.advance(FAILURE_TTL_S - 1)
        bench.decide(["a"])
        assert bench.results == [[Outcome.FAILED]] * 2
        bench.clock.advance(2)
        bench.decide(["a"])
        await bench.flights.drained()
        assert len(bench.dns.asked) == 2


async def test_lookups_wait_for_a_slot_and_time_out_there(autojump_clock, monkeypatch):
    monkeypatch.setattr(module, "MAX_LOOKUPS", 10)
    async with trio.open_nursery() as nursery:
        bench = Bench(nursery)
        start = trio.current_time()
        for n in range(25):
            bench.decide([f"n{n}"])
        await bench.flights.drained()
        assert bench.dns.most == 10
        assert len(bench.results) == 25
        assert trio.current_time() - start == pytest.approx(TIMEOUT_S)


async def test_too_many_decisions_are_refused_and_room_returns(autojump_clock, monkeypatch):
    monkeypatch.setattr(module, "MAX_WAITING", 3)
    async with trio.open_nursery() as nursery:
        bench = Bench(nursery)
        assert [bench.decide([f"n{n}"]) for n in range(5)] == [True, True, True, False, False]
        bench.dns.open.set()
        await bench.flights.drained()
        assert len(bench.results) == 3
        assert bench.decide(["later"])


async def test_too_many_lookups_fail_at_once(autojump_clock, monkeypatch):
    monkeypatch.setattr(module, "MAX_FLIGHTS", 2)
    async with trio.open_nursery() as nursery:
        bench = Bench(nursery)
        bench.decide(["a", "b", "c"])
        await trio.testing.wait_all_tasks_blocked()
        bench.dns.open.set()
        await bench.flights.drained()
        assert bench.results == [[Outcome.FOUND, Outcome.FOUND, Outcome.FAILED]]


async def test_what_is_asked_ahead_runs_while_something_else_is_waited_for(autojump_clock):
    async def ask(question):
        asked.append((question.name, trio.current_time() - start))
        await trio.sleep(5)
        return addresses("192.0.2.1")

    def decision():
        early, first = yield Ahead(Question("later", "A")), Question("first", "A")
        assert early is BEGUN
        (second,) = yield (Question("later", "A"),)
        return first.outcome, second.outcome

    asked, results = [], []
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        clock = FakeClock()
        flights = Flights(nursery, ask, Cache(100_000), clock, TIMEOUT_S, lambda *_: None)
        flights.decide(decision(), results.append)
        await flights.drained()
        assert trio.current_time() - start == pytest.approx(5)
        assert asked == [("later", pytest.approx(0)), ("first", pytest.approx(0))]
        assert results == [(Outcome.FOUND, Outcome.FOUND)]
        flights.decide(decision(), results.append)
        assert len(results) == 2
        assert len(asked) == 2


async def test_stale_answer_goes_to_all_who_waited_for_the_failed_lookup(autojump_clock):
    async with trio.open_nursery() as nursery:
        bench = Bench(nursery, stale_s=3600)
        bench.dns.open.set()
        bench.decide(["a"])
        await bench.flights.drained()
        bench.clock.advance(301)
        bench.dns.answer = Answer(outcome=Outcome.FAILED, detail="SERVFAIL")
        bench.decide(["a"])
        bench.decide(["a"])
        await bench.flights.drained()
        assert bench.results == [[Outcome.FOUND]] * 3
        assert bench.failures == [(Question("a", "A"), "SERVFAIL")]


async def test_one_dead_name_does_not_delay_another(autojump_clock):
    async with trio.open_nursery() as nursery:
        bench = Bench(nursery)
        bench.decide(["dead"])
        await trio.testing.wait_all_tasks_blocked()
        bench.dns.open.set()
        bench.dns.open = trio.Event()
        start = trio.current_time()
        bench.decide(["x"])
        await trio.testing.wait_all_tasks_blocked()
        bench.dns.open.set()
        await bench.flights.drained()
        assert len(bench.results) == 2
        assert trio.current_time() == start
