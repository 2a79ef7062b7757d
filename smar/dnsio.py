"""DNS resolver: one question to the configured name servers, one answer.

Kind: shell. The only module that imports dns (dnspython).

Each query leaves from a socket of its own, so that its port is as random as its id (RFC 5452),
with EDNS and room for 1232 bytes; a truncated answer is fetched again by TCP. CNAME chains are
followed as far as the name server delivers them. What is no answer to the question is ignored.

A server that does not answer in time is left for the next one. One that answered nothing at all
meanwhile is silent: it is asked last, and after a pause, which doubles each time, one single
question tries it again. A dead server so costs one fail-over, not one a query. A server that
refuses a question is not asked it again; when all do, the lookup has failed.
Limits: timeout_s for a question over all servers; one answer of 64 KB.
Source: SPEC rows X240, X248, decision D53; RFC 2308 (lifetime of negative answers), RFC 6891 6.2.2
(servers without EDNS), RFC 9715 (size).
"""

import secrets
import struct
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.resolver
import trio
import trio.socket

from smar.records import MAX_RECORDS, Answer, Outcome, Question, is_dns_name

RESOLV_CONF = "/etc/resolv.conf"
DNS_PORT = 53
SILENCE_S = 30.0
"""How long a silent name server is asked only after the others, at first."""
MAX_SILENCE_S = 300.0
EDNS_PAYLOAD = 1232
"""Largest UDP answer asked for, bytes: fits every path without fragments (RFC 9715)."""
_LONGEST_TRY_S = 2.0
_SHORTEST_TRY_S = 0.2
_MAX_DETAIL = 300
_MAX_DATAGRAM = 65_535
_KINDS = {
    "MX": dns.rdatatype.MX,
    "A": dns.rdatatype.A,
    "AAAA": dns.rdatatype.AAAA,
    "PTR": dns.rdatatype.PTR,
}
_OPT = struct.pack("!BHHIH", 0, dns.rdatatype.OPT, EDNS_PAYLOAD, 0, 0)
_WITHOUT_QUESTION = (dns.rcode.FORMERR, dns.rcode.SERVFAIL, dns.rcode.NOTIMP, dns.rcode.REFUSED)
_NO_EDNS = (dns.rcode.FORMERR, dns.rcode.NOTIMP, dns.rcode.BADVERS)
_REFUSALS = (dns.rcode.REFUSED, dns.rcode.FORMERR, dns.rcode.NOTIMP, dns.rcode.NOTAUTH)
_UNREADABLE = (dns.exception.DNSException, ValueError, LookupError, struct.error, OverflowError)
"""What the decoder may raise for bytes from the network."""

_SILENT = "silent"
_CLOSED = "closed"
_Refusal = tuple[int, str]
"""Response code (-1 for none) and what to tell."""

OnServer = Callable[[str, bool], None]
"""(address:port, alive): a name server fell silent or answers again."""


@attrs.frozen
class _Query:
    """One query as it is sent, and what an answer to it must repeat."""

    number: int
    name: dns.name.Name
    kind: int
    wire: bytes


class _Server:
    """A name server that remembers whether it answers."""

    def __init__(self, address: str, port: int, on_server: OnServer) -> None:
        self.place = (address, port)
        self._family = trio.socket.AF_INET6 if ":" in address else trio.socket.AF_INET
        self._on_server = on_server
        self._heard_at = -1.0
        self._silence_s = 0.0
        self._silent_until = 0.0
        self._noted_at = 0.0
        self.edns = True

    def __str__(self) -> str:
        address, port = self.place
        return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"

    def is_silent(self, now: float) -> bool:
        """Tell whether others are to be asked first. True for all but one once its pause is over.

        Args:
            now: trio's clock, seconds.
        """
        if not self._silence_s:
            return False
        if self._silent_until > now:
            return True
        self._silent_until = now + self._silence_s  # whoever is told False tries it for all
        return False

    def note(self, *, alive: bool, sent_at: float) -> None:
        """Remember what came of a query sent at that time and report a change."""
        now = trio.current_time()
        was_alive = not self._silence_s
        if alive:
            self._heard_at = now
            self._silence_s = 0.0
        elif self._heard_at >= sent_at:
            return  # one slow lookup is no sign: it answered others meanwhile
        elif was_alive or sent_at > self._noted_at:
            # Queries that were under way when it fell silent say nothing new.
            self._silence_s = min(self._silence_s * 2 or SILENCE_S, MAX_SILENCE_S)
            self._silent_until = now + self._silence_s
            self._noted_at = now
        if alive != was_alive:
            self._on_server(str(self), alive)

    async def by_datagram(self, query: _Query) -> dns.message.Message:
        """Return the answer to a query; raises OSError. Waits for ever for what does not come."""
        with trio.socket.socket(self._family, trio.socket.SOCK_DGRAM) as sock:
            await sock.connect(self.place)
            await sock.send(query.wire)
            while True:
                found = _read(await sock.recv(_MAX_DATAGRAM), query)
                if found is not None:
                    return found

    async def by_stream(self, query: _Query) -> dns.message.Message:
        """Return the answer to a query by TCP; raises OSError."""
        with trio.socket.socket(self._family, trio.socket.SOCK_STREAM) as sock:
            await sock.connect(self.place)
            stream = trio.SocketStream(sock)
            await stream.send_all(struct.pack("!H", len(query.wire)) + query.wire)
            (length,) = struct.unpack("!H", await _exactly(stream, 2))
            found = _read(await _exactly(stream, length), query)
            if found is None:
                raise OSError("the answer by TCP is none to the question")
            return found


async def _exactly(stream: trio.SocketStream, count: int) -> bytes:
    """Return so many bytes; raises OSError where the stream ends before or breaks."""
    data = bytearray()
    while len(data) < count:
        try:
            more = await stream.receive_some(count - len(data))
        except trio.BrokenResourceError as error:
            raise OSError("the connection broke") from error
        if not more:
            raise OSError("the connection ended within the answer")
        data += more
    return bytes(data)


def _read(data: bytes, query: _Query) -> dns.message.Message | None:
    """Return the message in data if it answers the query."""
    if len(data) < 12 or data[:2] != query.wire[:2]:
        return None
    try:
        # A truncated message is asked for again and may end anywhere.
        found = dns.message.from_wire(data, question_only=bool(data[2] & 0x02))
    except _UNREADABLE:
        return None
    if not found.flags & dns.flags.QR:
        return None
    if not found.question and found.rcode() in _WITHOUT_QUESTION:
        return found
    if len(found.question) != 1:
        return None
    (asked,) = found.question
    same = (
        asked.name == query.name
        and asked.rdtype == query.kind
        and asked.rdclass == dns.rdataclass.IN
    )
    return found if same else None


def _make_query(question: Question, *, edns: bool) -> _Query:
    """Return a query with a number that cannot be guessed."""
    number = secrets.randbits(16)
    labels = b"".join(
        bytes((len(label),)) + label.encode("ascii") for label in question.name.split(".")
    )
    kind = _KINDS[question.kind]
    head = struct.pack("!HHHHHH", number, dns.flags.RD, 1, 0, 0, 1 if edns else 0)
    wire = head + labels + struct.pack("!BHH", 0, kind, dns.rdataclass.IN)
    name = dns.name.from_text(question.name + ".")
    return _Query(number, name, kind, wire + _OPT if edns else wire)


def read_resolv_conf(path: str = RESOLV_CONF) -> list[tuple[str, int]]:
    """Return the name servers that the system is configured with, resolver(5).

    Without the file or any server in it that is the local host, as in the C library.
    """
    try:
        found = dns.resolver.Resolver(path).nameservers
    except (dns.resolver.NoResolverConfiguration, OSError):
        found = []
    return [(str(address), DNS_PORT) for address in found] or [("127.0.0.1", DNS_PORT)]


class Resolver:
    """Asks name servers.

    Args:
        servers: address and port of each, in the order in which to ask.
        timeout_s: longest time for one question, seconds.
        on_server: told when a name server falls silent or answers again.
    """

    def __init__(
        self, servers: Sequence[tuple[str, int]], timeout_s: float, on_server: OnServer
    ) -> None:
        self._servers = [_Server(address, port, on_server) for address, port in servers]
        self._timeout_s = timeout_s
        # Every server gets two tries, unless the time is too short for that.
        each = timeout_s / (2 * len(self._servers))
        self._try_s = min(max(each, _SHORTEST_TRY_S), _LONGEST_TRY_S)

    async def ask(self, question: Question) -> Answer:
        """Return what the DNS says, FAILED when nothing usable came within timeout_s."""
        if not is_dns_name(question.name):
            return Answer(outcome=Outcome.NO_NAME)
        refusals: dict[_Server, tuple[int, str]] = {}
        now = trio.current_time()
        order = sorted(self._servers, key=lambda server: server.is_silent(now))
        with trio.move_on_after(self._timeout_s):
            try_s = self._try_s
            while True:
                closed = 0
                for server in order:
                    if server in refusals:
                        continue
                    answer = await self._ask_one(server, question, try_s)
                    if isinstance(answer, Answer):
                        return answer
                    if isinstance(answer, tuple):
                        refusals[server] = answer
                    closed += answer is _CLOSED
                if len(refusals) == len(order):
                    return _refused(refusals)
                if closed:
                    await trio.sleep(_SHORTEST_TRY_S)
                try_s = min(try_s * 2, self._timeout_s)
        silent = ", ".join(str(server) for server in order if server not in refusals)
        why = f"no answer from {silent} within {self._timeout_s:g} s"
        return Answer(outcome=Outcome.FAILED, detail=why[:_MAX_DETAIL])

    async def _ask_one(
        self, server: _Server, question: Question, try_s: float
    ) -> Answer | _Refusal | str:
        """Ask one server once; return its answer, its refusal, or why there is neither."""
        edns = server.edns
        query = _make_query(question, edns=edns)
        found = await _attempt(server, query, try_s)
        if isinstance(found, dns.message.Message) and found.rcode() in _NO_EDNS and edns:
            query = _make_query(question, edns=False)
            found = await _attempt(server, query, try_s)
            if isinstance(found, dns.message.Message) and found.rcode() not in _NO_EDNS:
                server.edns = False
        if isinstance(found, str):
            return found
        if found.flags & dns.flags.TC:
            whole: dns.message.Message | None = None
            with trio.move_on_after(try_s):
                try:
                    whole = await server.by_stream(query)
                except OSError as error:
                    return -1, f"the answer needs TCP: {error}"
            if whole is None:
                return -1, "the answer needs TCP, which is too slow"
            found = whole
        rcode = found.rcode()
        if rcode not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            return rcode, dns.rcode.to_text(rcode)
        try:
            return _convert(question, found)
        except _UNREADABLE as error:
            return -1, str(error) or type(error).__name__


async def _attempt(server: _Server, query: _Query, try_s: float) -> dns.message.Message | str:
    """Send one datagram; return the answer, or why there is none."""
    sent_at = trio.current_time()
    found: dns.message.Message | str = _SILENT
    with trio.move_on_after(try_s):
        try:
            found = await server.by_datagram(query)
        except OSError:
            found = _CLOSED
    server.note(alive=not isinstance(found, str), sent_at=sent_at)
    return found


def _refused(refusals: dict[_Server, _Refusal]) -> Answer:
    """Return the answer where no server gave a usable one."""
    why = "; ".join(f"{server}: {text}" for server, (_, text) in refusals.items())
    refused = all(rcode in _REFUSALS for rcode, _ in refusals.values())
    return Answer(outcome=Outcome.FAILED, detail=why[:_MAX_DETAIL], refused=refused)


def _convert(question: Question, found: dns.message.Message) -> Answer:
    """Return a response as an answer of ours; raises what dnspython raises for odd chains."""
    if not isinstance(found, dns.message.QueryMessage):
        raise ValueError("no response to a query")
    chain = found.resolve_chaining()
    ttl = chain.minimum_ttl
    if found.rcode() == dns.rcode.NXDOMAIN:
        return Answer(outcome=Outcome.NO_NAME, ttl_s=ttl)
    records: list[Any] = list(chain.answer or ())
    if not records:
        return Answer(outcome=Outcome.NO_DATA, ttl_s=ttl)
    if question.kind == "MX":
        hosts = sorted((record.preference, _host(record.exchange)) for record in records)
        return Answer(outcome=Outcome.FOUND, mx=tuple(hosts[:MAX_RECORDS]), ttl_s=ttl)
    if question.kind == "PTR":
        names = tuple(_host(record.target) for record in records[:MAX_RECORDS])
        return Answer(outcome=Outcome.FOUND, names=names, ttl_s=ttl)
    addresses = tuple(str(record.address) for record in records[:MAX_RECORDS])
    return Answer(outcome=Outcome.FOUND, addresses=addresses, ttl_s=ttl)


def _host(name: dns.name.Name) -> str:
    """Return a name in lower case without its final dot, "" for the root."""
    return "" if name == dns.name.root else name.to_text(omit_final_dot=True).lower()
