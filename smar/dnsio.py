"""DNS resolver: one question to the configured name servers, one answer.

Kind: shell. The only module that imports dns (dnspython).

Follows CNAME chains that the name server delivers, falls back to TCP for truncated answers,
goes to the next name server after a time-out, and asks a server that fell silent last until it
had time to recover, so that a dead first server does not slow down every lookup.
Source: SPEC rows X240, X248, decision D53; RFC 2308 (lifetime of negative answers).
"""

from collections.abc import Callable, Sequence
from typing import Any

import dns.asyncbackend
import dns.asyncresolver
import dns.exception
import dns.message
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver
import trio

from smar.records import MAX_RECORDS, Answer, Outcome, Question, is_dns_name

RESOLV_CONF = "/etc/resolv.conf"
DNS_PORT = 53
SILENCE_S = 30.0
"""How long a silent name server is asked only after the others."""
EDNS_PAYLOAD = 1232
"""Largest UDP answer asked for, bytes: fits every path without fragments (RFC 9715)."""
_LONGEST_TRY_S = 2.0
_SHORTEST_TRY_S = 0.2
_MAX_DETAIL = 300

OnServer = Callable[[str, bool], None]
"""(address:port, alive): a name server fell silent or answers again."""


class _Server(dns.nameserver.Do53Nameserver):
    """A name server that remembers whether it answers."""

    def __init__(self, address: str, port: int, on_server: OnServer) -> None:
        super().__init__(address, port)
        self._on_server = on_server
        self._heard_at = -1.0
        self.silent_until = 0.0

    async def async_query(
        self,
        request: dns.message.QueryMessage,
        timeout: float,  # noqa: ASYNC109 - the signature of dnspython
        source: str | None,
        source_port: int,
        max_size: bool,  # noqa: FBT001 - the signature of dnspython
        backend: Any,  # noqa: ANN401 - dnspython does not export its type
        one_rr_per_rrset: bool = False,  # noqa: FBT001, FBT002 - the signature of dnspython
        ignore_trailing: bool = False,  # noqa: FBT001, FBT002 - the signature of dnspython
    ) -> dns.message.Message:
        """Ask this server once and note whether it is alive."""
        sent_at = trio.current_time()
        try:
            response = await super().async_query(
                request,
                timeout,
                source,
                source_port,
                max_size,
                backend,
                one_rr_per_rrset,
                ignore_trailing,
            )
        except (dns.exception.Timeout, OSError):
            # One slow lookup is no sign: the server is silent if it answered nothing meanwhile.
            if self._heard_at < sent_at:
                self._note(alive=False)
            raise
        except dns.message.Truncated:
            self._note(alive=True)
            raise
        self._note(alive=True)
        return response

    def _note(self, *, alive: bool) -> None:
        """Remember what was seen and report a change."""
        now = trio.current_time()
        was_alive = self.silent_until == 0
        if alive:
            self._heard_at = now
            self.silent_until = 0
        else:
            self.silent_until = now + SILENCE_S
        if alive != was_alive:
            self._on_server(f"{self.address}:{self.port}", alive)


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
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers = self._servers
        resolver.lifetime = timeout_s
        # Every server gets two tries, unless the time is too short for that.
        each = timeout_s / (2 * len(self._servers))
        resolver.timeout = min(max(each, _SHORTEST_TRY_S), _LONGEST_TRY_S)
        resolver.use_edns(0, 0, EDNS_PAYLOAD)
        self._resolver = resolver
        self._backend = dns.asyncbackend.get_backend("trio")

    async def ask(self, question: Question) -> Answer:
        """Return what the DNS says, FAILED when nothing usable came within timeout_s."""
        if not is_dns_name(question.name):
            return Answer(outcome=Outcome.NO_NAME)
        now = trio.current_time()
        order = sorted(self._servers, key=lambda server: server.silent_until > now)
        self._resolver.nameservers = order
        name = dns.name.from_text(question.name + ".")
        try:
            # dnspython measures with the wall clock, which may jump; trio's does not.
            with trio.move_on_after(self._timeout_s):
                found = await self._resolver.resolve(
                    name,
                    dns.rdatatype.from_text(question.kind),
                    raise_on_no_answer=False,
                    search=False,
                    backend=self._backend,
                )
                return _convert(question, found)
        except dns.resolver.NXDOMAIN as error:
            response = error.response(name)  # type: ignore[no-untyped-call]
            ttl = response.resolve_chaining().minimum_ttl
            return Answer(outcome=Outcome.NO_NAME, ttl_s=ttl)
        except dns.exception.DNSException as error:
            return Answer(outcome=Outcome.FAILED, detail=_explain(error))
        return Answer(outcome=Outcome.FAILED, detail=f"no answer within {self._timeout_s:g} s")


def _convert(question: Question, found: dns.resolver.Answer) -> Answer:
    """Return an answer of dnspython as one of ours."""
    ttl = found.chaining_result.minimum_ttl
    records: list[Any] = list(found)
    if not records:
        return Answer(outcome=Outcome.NO_DATA, ttl_s=ttl)
    if question.kind == "MX":
        hosts = sorted((record.preference, _host(record.exchange)) for record in records)
        return Answer(outcome=Outcome.FOUND, mx=tuple(hosts[:MAX_RECORDS]), ttl_s=ttl)
    addresses = tuple(str(record.address) for record in records[:MAX_RECORDS])
    return Answer(outcome=Outcome.FOUND, addresses=addresses, ttl_s=ttl)


def _host(name: dns.name.Name) -> str:
    """Return a name in lower case without its final dot, "" for the root."""
    return "" if name == dns.name.root else name.to_text(omit_final_dot=True).lower()


def _explain(error: dns.exception.DNSException) -> str:
    """Return why a lookup failed, in one short line."""
    if isinstance(error, dns.exception.Timeout):
        return "no answer from any name server in time"
    text = str(error) or type(error).__name__
    return text[:_MAX_DETAIL]
