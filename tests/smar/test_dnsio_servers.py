"""Name servers that are dead, slow, old or refuse."""

import struct

import dns.flags
import dns.message
import dns.rcode
import pytest
import trio
import trio.socket
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from smar import dnsio
from smar.dnsio import MAX_SILENCE_S, SILENCE_S, Resolver
from smar.records import Outcome, Question
from tests.smar.test_dnsio import ask, exchange, reply

MX = Question("example.org", "MX")
GOOD = "example.org. 60 MX 10 good.example."


@pytest.fixture
def autojump_clock():
    """Virtual time that passes while nothing has come for a moment: no stall makes a time-out."""
    return trio.testing.MockClock(autojump_threshold=0.2)


async def test_ptr_brings_names_in_lower_case(autojump_clock):
    question = Question("1.2.0.192.in-addr.arpa", "PTR")
    text = "1.2.0.192.in-addr.arpa. 60 PTR Host.Example.|other.example."
    answer = await ask(lambda query: [reply(query, text).to_wire()], question)
    assert set(answer.names) == {"host.example", "other.example"}


async def test_server_without_edns_is_asked_without_and_remembered(autojump_clock):
    seen = []

    def behave(query):
        seen.append(query.edns)
        if query.edns >= 0:
            return [struct.pack("!HHHHHH", query.id, 0x8001, 0, 0, 0, 0)]
        return [reply(query, GOOD).to_wire()]

    async def use(resolver):
        return [await resolver.ask(MX) for _ in range(2)]

    answers = await exchange(behave, use)
    assert [answer.outcome for answer in answers] == [Outcome.FOUND] * 2
    assert seen == [0, -1, -1]


@pytest.mark.parametrize(
    ("rcode", "refused"),
    [
        (dns.rcode.REFUSED, True),
        (dns.rcode.FORMERR, True),
        (dns.rcode.NOTIMP, True),
        (dns.rcode.SERVFAIL, False),
    ],
)
async def test_refusal_is_told_apart_from_a_passing_failure(rcode, refused, autojump_clock):
    answer = await ask(lambda query: [reply(query, rcode=rcode).to_wire()])
    assert (answer.outcome, answer.refused) == (Outcome.FAILED, refused)
    assert dns.rcode.to_text(rcode) in answer.detail


async def test_every_query_has_an_own_port_and_number(autojump_clock):
    seen = []

    async def name_server(sock):
        while True:
            data, client = await sock.recvfrom(4096)
            query = dns.message.from_wire(data)
            seen.append((client[1], query.id))
            await sock.sendto(reply(query).to_wire(), client)

    sock = trio.socket.socket(type=trio.socket.SOCK_DGRAM)
    await sock.bind(("127.0.0.1", 0))
    with sock:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(name_server, sock)
            resolver = Resolver([sock.getsockname()], 5.0, lambda *_: None)
            for n in range(30):
                await resolver.ask(Question(f"n{n}.example", "A"))
            nursery.cancel_scope.cancel()
    assert len({port for port, _ in seen}) > 10
    assert len({number for _, number in seen}) > 20


async def truncating(stream_says):
    """Ask a server that truncates every datagram and answers TCP with these bytes."""
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as sock:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        await sock.bind(listeners[0].socket.getsockname())

        async def datagrams():
            while True:
                data, client = await sock.recvfrom(4096)
                response = dns.message.make_response(dns.message.from_wire(data))
                response.flags |= dns.flags.TC
                await sock.sendto(response.to_wire() + b"cut of", client)

        async def stream(connection):
            (length,) = struct.unpack("!H", await connection.receive_some(2))
            query = dns.message.from_wire(await connection.receive_some(length))
            await stream_says(connection, query)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(datagrams)
            nursery.start_soon(trio.serve_listeners, stream, listeners)
            answer = await Resolver([sock.getsockname()], 2.0, lambda *_: None).ask(MX)
            nursery.cancel_scope.cancel()
    return answer


async def test_truncated_answer_comes_by_tcp(autojump_clock):
    async def whole(connection, query):
        wire = reply(query, GOOD).to_wire()
        for byte in struct.pack("!H", len(wire)) + wire:
            await connection.send_all(bytes((byte,)))

    assert (await truncating(whole)).mx == ((10, "good.example"),)


async def silent(connection, query):
    await trio.sleep_forever()


async def ends(connection, query):
    await connection.send_all(b"\xff\xff" + query.to_wire())
    await connection.aclose()


async def other(connection, query):
    wire = reply(dns.message.make_query("evil.example", "MX"), GOOD).to_wire()
    await connection.send_all(struct.pack("!H", len(wire)) + wire)
    await trio.sleep_forever()


@pytest.mark.parametrize("stream_says", [silent, ends, other])
async def test_answer_that_tcp_does_not_bring_is_a_failure(stream_says, autojump_clock):
    answer = await truncating(stream_says)
    assert answer.outcome is Outcome.FAILED
    assert "TCP" in answer.detail


class Servers:
    """Name servers on sockets, some of which keep silent."""

    def __init__(self):
        self.asked = []
        self.silent = set()

    async def run(self, nursery, count):
        socks = [trio.socket.socket(type=trio.socket.SOCK_DGRAM) for _ in range(count)]
        for number, sock in enumerate(socks):
            await sock.bind(("127.0.0.1", 0))
            nursery.start_soon(self._serve, number, sock)
        return [sock.getsockname() for sock in socks]

    async def _serve(self, number, sock):
        with sock:
            while True:
                data, client = await sock.recvfrom(4096)
                query = dns.message.from_wire(data)
                self.asked.append(number)
                if number not in self.silent:
                    await sock.sendto(reply(query).to_wire(), client)


@pytest.mark.covers("X248")
async def test_dead_server_costs_one_fail_over_and_is_tried_again_by_one_question(autojump_clock):
    servers = Servers()
    servers.silent = {0}
    changes = []
    async with trio.open_nursery() as nursery:
        places = await servers.run(nursery, 2)
        resolver = Resolver(places, 1.0, lambda _, alive: changes.append(alive))

        async def several(count):
            servers.asked.clear()
            async with trio.open_nursery() as questions:
                for n in range(count):
                    questions.start_soon(resolver.ask, Question(f"n{n}.example", "A"))
            return servers.asked.count(0)

        assert await several(1) == 1
        assert await several(50) == 0
        await trio.sleep(SILENCE_S + 1)
        assert await several(50) == 1
        await trio.sleep(SILENCE_S + 1)
        assert await several(50) == 0  # the pause has doubled
        await trio.sleep(MAX_SILENCE_S)
        servers.silent.clear()
        assert await several(50) == 1
        assert changes == [False, True]
        assert await several(50) == 50
        nursery.cancel_scope.cancel()


@pytest.mark.covers("X248")
async def test_four_servers_of_which_the_last_one_lives(autojump_clock):
    servers = Servers()
    servers.silent = {0, 1, 2}
    async with trio.open_nursery() as nursery:
        resolver = Resolver(await servers.run(nursery, 4), 1.6, lambda *_: None)
        assert (await resolver.ask(MX)).outcome is Outcome.NO_DATA
        assert servers.asked == [0, 1, 2, 3]
        assert (await resolver.ask(MX)).outcome is Outcome.NO_DATA
        assert servers.asked == [0, 1, 2, 3, 3]
        nursery.cancel_scope.cancel()


async def test_server_that_fails_is_left_for_the_next_and_not_asked_twice(autojump_clock):
    asked = []

    def behave(query):
        asked.append(query.id)
        return [reply(query, rcode=dns.rcode.SERVFAIL).to_wire()]

    answer = await ask(behave, timeout_s=30.0)
    assert answer.outcome is Outcome.FAILED
    assert len(asked) == 1


@pytest.mark.covers("X249", "X240")
async def test_a_hundred_lookups_at_a_dead_server_end_together(autojump_clock):
    """In virtual time: a hundred dead lookups take as long as one."""
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as dead:
        await dead.bind(("127.0.0.1", 0))
        resolver = Resolver([dead.getsockname()], 10.0, lambda *_: None)
        start = trio.current_time()
        outcomes = []

        async def one(n):
            outcomes.append((await resolver.ask(Question(f"n{n}.example", "A"))).outcome)

        async with trio.open_nursery() as nursery:
            for n in range(100):
                nursery.start_soon(one, n)
        assert outcomes == [Outcome.FAILED] * 100
        assert trio.current_time() - start == pytest.approx(10.0)


@given(st.binary(max_size=200), st.integers(0, 2**16 - 1))
def test_no_bytes_from_a_name_server_raise(tail, flags):
    query = dnsio._make_query(MX, edns=True)
    head = query.wire[:2] + struct.pack("!HHHHH", flags, 1, tail[0] if tail else 0, 0, 0)
    for data in (head + query.wire[12:-11] + tail, query.wire[:2] + tail, tail):
        found = dnsio._read(data, query)
        if found is not None:
            try:
                dnsio._convert(MX, found)
            except dnsio._UNREADABLE:
                pass
