"""The resolver against a name server that misbehaves."""

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
import trio
import trio.socket

from smar.dnsio import DNS_PORT, Resolver, read_resolv_conf
from smar.records import MAX_RECORDS, Outcome, Question

MX = Question("example.org", "MX")


def reply(query, *texts, rcode=dns.rcode.NOERROR):
    """A response to a query with these records of example.org."""
    response = dns.message.make_response(query)
    response.set_rcode(rcode)
    for text in texts:
        name, ttl, kind, rest = text.split(" ", 3)
        response.answer.append(dns.rrset.from_text(name, int(ttl), "IN", kind, *rest.split("|")))
    return response


async def exchange(behave, use, timeout_s=5.0, on_server=lambda *_: None):
    """Run a name server that answers each query with the datagrams that behave returns."""
    sock = trio.socket.socket(type=trio.socket.SOCK_DGRAM)
    await sock.bind(("127.0.0.1", 0))

    async def serve():
        while True:
            data, client = await sock.recvfrom(4096)
            for datagram in behave(dns.message.from_wire(data)):
                await sock.sendto(datagram, client)

    with sock:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            result = await use(Resolver([sock.getsockname()], timeout_s, on_server))
            nursery.cancel_scope.cancel()
    return result


async def ask(behave, question=MX, timeout_s=5.0):
    return await exchange(behave, lambda resolver: resolver.ask(question), timeout_s)


async def test_forged_and_broken_datagrams_before_the_answer_are_ignored():
    def behave(query):
        other = reply(query, "example.org. 60 MX 1 evil.example.")
        other.id ^= 1
        foreign = reply(dns.message.make_query("example.net", "MX", id=query.id))
        return [
            b"",
            b"\x00",
            b"\xff" * 300,
            query.to_wire()[:11],
            other.to_wire(),
            foreign.to_wire(),
            reply(query, "example.org. 60 MX 10 good.example.").to_wire(),
        ]

    assert (await ask(behave)).mx == ((10, "good.example"),)


@pytest.mark.parametrize(
    "behave",
    [
        lambda query: [reply(query, rcode=dns.rcode.REFUSED).to_wire()],
        lambda query: [reply(query, rcode=dns.rcode.SERVFAIL).to_wire()],
        lambda query: [reply(query, rcode=dns.rcode.FORMERR).to_wire()],
        lambda query: [reply(query, rcode=dns.rcode.YXDOMAIN).to_wire()],
        lambda query: [
            reply(query, "example.org. 60 CNAME a.x.", "a.x. 60 CNAME example.org.").to_wire()
        ],
        lambda _: [b"\x00" * 12],
        lambda _: [],
    ],
)
async def test_no_usable_answer_is_a_failure_with_a_reason(behave):
    answer = await ask(behave, timeout_s=0.4)
    assert answer.outcome is Outcome.FAILED
    assert 0 < len(answer.detail) <= 300


async def test_records_of_other_names_are_no_answer():
    answer = await ask(
        lambda query: [reply(query, "evil.example. 60 MX 1 evil.example.").to_wire()]
    )
    assert answer.outcome is Outcome.NO_DATA


async def test_names_come_in_lower_case_and_the_root_is_empty():
    answer = await ask(
        lambda query: [reply(query, "example.org. 60 MX 10 A.Example.|0 .").to_wire()]
    )
    assert answer.mx == ((0, ""), (10, "a.example"))


async def test_number_of_records_is_bounded():
    many = "|".join(f"192.0.{n // 250}.{n % 250}" for n in range(400))
    answer = await ask(
        lambda query: [reply(query, f"example.org. 60 A {many}").to_wire(max_size=65535)],
        Question("example.org", "A"),
    )
    assert len(answer.addresses) == MAX_RECORDS


@pytest.mark.covers("X249")
async def test_a_hundred_questions_are_outstanding_at_once():
    """The server answers none before it has seen all."""
    held = []

    def behave(query):
        held.append(query)
        return []

    async def use(resolver):
        sock_answers = {}

        async def one(n):
            sock_answers[n] = await resolver.ask(Question(f"n{n}.example.org", "A"))

        async with trio.open_nursery() as nursery:
            for n in range(100):
                nursery.start_soon(one, n)
            while len({str(query.question[0].name) for query in held}) < 100:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        return sock_answers

    assert await exchange(behave, use, timeout_s=60) == {}


async def test_server_that_answers_again_is_reported():
    changes = []
    silent = [True]

    def behave(query):
        return [] if silent[0] else [reply(query).to_wire()]

    async def use(resolver):
        outcomes = [(await resolver.ask(MX)).outcome]
        silent[0] = False
        outcomes.append((await resolver.ask(MX)).outcome)
        return outcomes

    outcomes = await exchange(behave, use, 0.4, lambda _, alive: changes.append(alive))
    assert outcomes == [Outcome.FAILED, Outcome.NO_DATA]
    assert changes == [False, True]


async def test_name_that_cannot_exist_is_not_asked_for():
    resolver = Resolver([("127.0.0.1", 1)], 1.0, lambda *_: None)
    for name in ("", "a..b", "x" * 64, "a b", ".".join(["a" * 60] * 5)):
        assert (await resolver.ask(Question(name, "MX"))).outcome is Outcome.NO_NAME


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        (
            "nameserver 192.0.2.1\nnameserver 2001:db8::1\nsearch a.b\n",
            ["192.0.2.1", "2001:db8::1"],
        ),
        ("search a.b\n", ["127.0.0.1"]),
        ("", ["127.0.0.1"]),
        (None, ["127.0.0.1"]),
    ],
)
def test_name_servers_of_the_system(tmp_path, text, servers):
    path = tmp_path / "resolv.conf"
    if text is not None:
        path.write_text(text)
    assert read_resolv_conf(str(path)) == [(server, DNS_PORT) for server in servers]
