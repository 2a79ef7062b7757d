"""Lookups under way: drives decisions that ask, with the cache or the DNS.

Kind: shell.

A decision whose questions are all answered by the cache is finished at once, without a task.
Otherwise a task waits for the answers; equal questions of several decisions share one lookup.
Owns: the cache, the lookups under way. Limits: MAX_WAITING decisions, so many lookups at the
name servers as an option says and MAX_FLIGHTS that wait for their turn; each ends within the
time-out.
Source: SPEC row X249.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import attrs
import trio

from libsmx.clock import Clock
from smar.cache import Cache
from smar.records import BEGUN, Ahead, Answer, Asked, Outcome, Question, Steps

T = TypeVar("T")

MAX_WAITING = 2000
MAX_FLIGHTS = 20_000
MAX_LOOKUPS = 400
"""Most lookups at a time unless told otherwise; each holds a socket."""

Ask = Callable[[Question], Awaitable[Answer]]
OnFailure = Callable[[Question, str], None]
"""(question, why): a lookup failed."""


@attrs.define(eq=False)
class _Flight:
    """One lookup and those who wait for it."""

    landed: trio.Event
    answer: Answer


class Flights:
    """Answers the questions of decisions.

    Args:
        nursery: runs the tasks.
        ask: asks the DNS; never raises.
        cache: filled and used here only.
        clock: its monotonic side decides on lifetimes.
        timeout_s: longest time of one lookup, with the wait for its turn.
        on_failure: told of failed lookups.
        max_lookups: most lookups at the name servers at a time.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        ask: Ask,
        cache: Cache,
        clock: Clock,
        timeout_s: float,
        on_failure: OnFailure,
        max_lookups: int | None = None,
    ) -> None:
        self._nursery = nursery
        self._ask = ask
        self._cache = cache
        self._clock = clock
        self._timeout_s = timeout_s
        self._on_failure = on_failure
        self._slots = trio.Semaphore(max_lookups or MAX_LOOKUPS)
        self._under_way: dict[Question, _Flight] = {}
        self._waiting = 0
        self._idle = trio.Event()

    async def drained(self) -> None:
        """Return when no decision waits."""
        while self._waiting:
            self._idle = trio.Event()
            await self._idle.wait()

    def decide(self, steps: Steps[T], done: Callable[[T], None]) -> bool:
        """Bring a decision to its end and hand its result to done, at once where possible.

        Returns:
            False when too many decisions wait already; done is then never called.
        """
        try:
            asked = next(steps)
            while (answers := self._recall(asked)) is not None:
                asked = steps.send(answers)
        except StopIteration as stop:
            done(stop.value)
            return True
        if self._waiting >= MAX_WAITING:
            steps.close()
            return False
        self._waiting += 1
        self._nursery.start_soon(self._finish, steps, asked, done)
        return True

    def _recall(self, asked: tuple[Asked, ...]) -> tuple[Answer, ...] | None:
        """Return the cached answers, None if one is missing."""
        now = self._clock.mono()
        answers = []
        for question in asked:
            answer = (
                self._begin(question, now)
                if isinstance(question, Ahead)
                else (self._cache.get(question, now))
            )
            if answer is None:
                return None
            answers.append(answer)
        return tuple(answers)

    async def _finish(
        self, steps: Steps[T], asked: tuple[Asked, ...], done: Callable[[T], None]
    ) -> None:
        """Go on with a decision that has to wait."""
        try:
            while True:
                asked = steps.send(await self._fetch(asked))
        except StopIteration as stop:
            done(stop.value)
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._idle.set()

    def _begin(self, ahead: Ahead, now: float) -> Answer:
        """Begin a lookup that nobody waits for yet."""
        if self._cache.get(ahead.question, now) is None:
            self._fly(ahead.question)
        return BEGUN

    async def _fetch(self, asked: tuple[Asked, ...]) -> tuple[Answer, ...]:
        """Return all answers, asking the DNS for what is not cached."""
        now = self._clock.mono()
        sources = [
            self._begin(question, now)
            if isinstance(question, Ahead)
            else self._cache.get(question, now) or self._fly(question)
            for question in asked
        ]
        answers = []
        for source in sources:
            if isinstance(source, _Flight):
                await source.landed.wait()
                answers.append(source.answer)
            else:
                answers.append(source)
        return tuple(answers)

    def _fly(self, question: Question) -> _Flight | Answer:
        """Return the lookup of a question, begun if it is not under way."""
        flight = self._under_way.get(question)
        if flight is None:
            if len(self._under_way) >= MAX_FLIGHTS:
                return Answer(outcome=Outcome.FAILED, detail="too many lookups under way")
            late = f"no answer within {self._timeout_s:g} s"
            flight = _Flight(trio.Event(), Answer(outcome=Outcome.FAILED, detail=late))
            self._under_way[question] = flight
            self._nursery.start_soon(self._look_up, question, flight)
        return flight

    async def _look_up(self, question: Question, flight: _Flight) -> None:
        """Ask the DNS, keep the answer, wake who waits."""
        try:
            with trio.move_on_after(self._timeout_s):
                async with self._slots:
                    flight.answer = await self._ask(question)
            if flight.answer.outcome is Outcome.FAILED:
                self._on_failure(question, flight.answer.detail)
            flight.answer = self._cache.put(question, flight.answer, self._clock.mono())
        finally:
            del self._under_way[question]
            flight.landed.set()
