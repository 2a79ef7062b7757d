"""Greylisting as the last check of a recipient, and the operator's questions."""

import pytest
import trio

from libsmx.clock import FakeClock
from libsmx.errors import StoreError
from libsmx.log import NullLog
from libsmx.wire import Facts, RcptAsk, Refusal, Verdict
from libsmx.wire_grey import GreyAnswer, GreyAsk
from smar.greydoor import GreyDoor
from smar.greygate import refusal
from tests.smar.test_greystore import EXPIRE_S, WAIT_S, Bench

ON = Facts(rules="access greylisting")
YES = Verdict(accept=True, status="2.1.5")
NO = Verdict(accept=False, code=550, status="5.1.1", text="no such user")


def ask(client="192.0.2.1", relay=False, facts=ON):
    return RcptAsk(rcpt="u@loc.al", client=client, relay=relay, facts=facts)


class Posted:
    def __init__(self):
        self.answers = []

    def post(self, message, rid=0):
        self.answers.append(message)


class Door:
    def __init__(self, grey, nursery, clock):
        self.log = NullLog()
        self.door = GreyDoor(grey, refusal(421), nursery, clock, self.log)

    async def settle(self, question, verdict=YES):
        found = []
        self.door.settle(question, verdict, found.append)
        while not found:
            await trio.sleep(0.001)
        return found[0]

    async def operate(self, **words):
        channel = Posted()
        self.door.handle(channel, GreyAsk(**words), 1)
        while not channel.answers:
            await trio.sleep(0.001)
        return channel.answers[0]


async def using(place, function):
    bench = Bench(place)

    async def use(grey):
        async with trio.open_nursery() as nursery:
            return await function(Door(grey, nursery, bench.clock), bench)

    return await bench.use(use)


@pytest.mark.covers("X267", "X472")
async def test_a_stranger_is_sent_away_once_and_let_in_later(tmp_path):
    async def use(door, bench):
        verdict = await door.settle(ask())
        assert (verdict.accept, verdict.code, verdict.status) == (False, 421, "4.7.1")
        assert verdict.greylisted
        assert [event.name for event, _ in door.log.records] == ["greylisted"]
        bench.clock.advance(WAIT_S)
        assert await door.settle(ask()) == YES

    await using(tmp_path, use)


@pytest.mark.parametrize(
    "question",
    [
        ask(relay=True),
        ask(facts=Facts(rules="greylisting", mark="ok")),
        ask(facts=Facts(rules="greylisting", mark="relay")),
        ask(facts=Facts(rules="greylisting", mark="quick:ok")),
        ask(facts=Facts(rules="greylisting", mark="quick:relay")),
        ask(facts=Facts(rules="access")),
        ask(facts=Facts()),
        ask(client=""),
    ],
)
@pytest.mark.covers("X269", "X270", "X271")
async def test_who_is_exempt(tmp_path, question):
    async def use(door, _):
        assert await door.settle(question) == YES
        assert (await door.operate(action="list")).count == 0

    await using(tmp_path, use)


@pytest.mark.covers("X266")
@pytest.mark.parametrize("verdict", [NO, Verdict(accept=True, discard=True)])
async def test_what_is_refused_or_dropped_makes_no_entry(tmp_path, verdict):
    async def use(door, _):
        assert await door.settle(ask(), verdict) == verdict
        assert (await door.operate(action="list")).count == 0

    await using(tmp_path, use)


@pytest.mark.covers("X271")
async def test_without_the_section_nobody_is_greylisted():
    async with trio.open_nursery() as nursery:
        door = Door(None, nursery, FakeClock())
        assert await door.settle(ask()) == YES
        assert isinstance(await door.operate(action="list"), Refusal)


async def test_operator(tmp_path):
    async def use(door, bench):
        for n in range(5):
            await door.settle(ask(f"192.0.2.{n}"))
        bench.clock.advance(WAIT_S)
        await door.settle(ask("192.0.2.3"))
        pages, after = [], ""
        while True:
            page = await door.operate(action="list", after=after, limit=2)
            pages.append([client.client for client in page.clients])
            after = page.next
            if not after:
                break
        assert pages == [["192.0.2.0", "192.0.2.1"], ["192.0.2.2", "192.0.2.3"], ["192.0.2.4"]]
        (one,) = (await door.operate(action="show", client="192.0.2.3")).clients
        assert (one.state, one.mails, one.last - one.first) == ("white", 1, WAIT_S)
        assert await door.operate(action="remove", client="192.0.2.3") == GreyAnswer(
            clients=[], count=1
        )
        for action in ("show", "remove"):
            assert (await door.operate(action=action, client="192.0.2.3")).status == "5.1.0"
        bench.clock.advance(EXPIRE_S)
        assert (await door.operate(action="expire")).count == 4
        assert (await door.operate(action="list")).clients == []
        for words in ({"action": "dance"}, {"action": "list", "after": "no hex"}):
            assert (await door.operate(**words)).status == "5.5.4"

    await using(tmp_path, use)


async def test_operator_is_told_of_a_broken_disk(tmp_path, monkeypatch):
    async def broken(_):
        raise StoreError("the disk is broken")

    async def use(door, _):
        monkeypatch.setattr(door.door.greylist._main, "read", broken)
        answer = await door.operate(action="list")
        assert (answer.code, answer.text) == (451, "the disk is broken")
        monkeypatch.undo()

    await using(tmp_path, use)
