"""TLS policy of the client: what a recipient asks of a session, and whether one meets it.

Kind: core.

A policy is looked up for each recipient, in the map first by the address, the domain and the
domains above it (``.example.org``), then by the name of the host that is talked to in the same
way, then ``.``; what is found first holds, and where nothing is, the default of the options.
The verdict falls after the handshake and before MAIL, for each recipient: those whose policy
is not met are kept for another host or another time, whoever else the transaction has.

::

    policy ::= level {" " setting}
    level ::= "none" | "may" | "encrypt" | "verify"
    setting ::= "names=" name {":" name} | "ca=" path | "fingerprint=" sha256 {"," sha256}
              | "minimum=" ("TLSv1.2" | "TLSv1.3") | "on_connect"

A name is one that the certificate must have, ``.example.org`` for any below it, ``hostname``
(the default) for the host's own name, ``domain`` for the recipient's domain. A fingerprint is
that of the certificate or of its public key, SHA-256 in hexadecimal; it takes the place of
chain and name. ``on_connect`` begins TLS without STARTTLS (RFC 8314 3.3).

DANE and MTA-STS will be further sources of the same policies (``source`` tells which), put
between the map and the default.
Source: RFC 3207 4.1, RFC 7435 (opportunistic security), RFC 6125 6.4; SPEC rows X424-X426.
"""

import enum
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from libsmx.tlsfacts import PeerCert, TlsFacts, colons, matches_host, read_fingerprint

MAX_SETTINGS = 50
"""Most names or fingerprints of one policy."""
Strings = tuple[str, ...] | frozenset[str]
_VERSIONS = ("TLSv1.2", "TLSv1.3")
_NAME_RE = re.compile(r"\.?[a-z0-9_]([a-z0-9_.-]{0,252}[a-z0-9_])?")


class Level(enum.IntEnum):
    """How much a recipient asks for, the strictest last."""

    NONE = 0
    """TLS is not tried."""
    MAY = 1
    """TLS where it works, whoever the server is; clear text where it does not."""
    ENCRYPT = 2
    """TLS, whoever the server is."""
    VERIFY = 3
    """TLS with a server that shows who it is."""


@attrs.frozen
class TlsPolicy:
    """What is asked of a session.

    Attributes:
        level: see there.
        names: of the certificate, one of them must match; lower case.
        ca: file of the CAs that may have signed; empty: those of the options.
        fingerprints: SHA-256 of certificates or public keys, lower-case hexadecimal.
        minimum: lowest version of the protocol, empty for that of the options.
        on_connect: TLS from the first byte.
        source: where it is written, for results and logs.
    """

    level: Level = Level.MAY
    names: tuple[str, ...] = ("hostname",)
    ca: str = ""
    fingerprints: frozenset[str] = frozenset()
    minimum: str = ""
    on_connect: bool = False
    source: str = "default"


@attrs.frozen
class Secured:
    """A session under TLS as the policies see it.

    Attributes:
        facts: of the connection.
        host: name of the host that was talked to.
        ca: file of CAs against which the chain was checked, as in TlsPolicy.
    """

    facts: TlsFacts
    host: str
    ca: str = ""

    @property
    def named(self) -> bool:
        """The certificate is one of the host that was talked to."""
        cert = self.facts.cert
        return cert is not None and matches_host(cert, self.host)

    def describe(self) -> str:
        """Return the facts as the log has them."""
        facts = self.facts
        again = " resumed" if facts.resumed else ""
        name = "yes" if self.named else "no"
        cipher = f"{facts.version} {facts.cipher} {facts.bits}"
        return f"{cipher} verify={facts.verify} name={name}{again}"


def read_policy(text: str, source: str) -> TlsPolicy:
    """Return the policy that an entry of the map writes.

    Raises:
        ValueError: what is wrong and what may be written.
    """
    word, *settings = text.split()
    try:
        level = Level[word.upper()]
    except KeyError:
        raise ValueError(f"level {word[:40]!r} is none of none, may, encrypt, verify") from None
    found: dict[str, Any] = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        field = "fingerprints" if name == "fingerprint" else name
        if field in found:
            raise ValueError(f"{name} is given twice")
        found[field] = _read_setting(name, value, setting)
    if found and level < Level.ENCRYPT:
        raise ValueError(f"{level.name.lower()} takes no settings; encrypt and verify do")
    if level is not Level.VERIFY and found.keys() & {"names", "ca", "fingerprints"}:
        raise ValueError("names, ca and fingerprint need the level verify")
    if "fingerprints" in found and found.keys() & {"names", "ca"}:
        raise ValueError("a fingerprint takes the place of names and ca; give one or the other")
    return attrs.evolve(TlsPolicy(level, source=source), **found)


def _read_setting(name: str, value: str, setting: str) -> bool | str | Strings:
    if setting == "on_connect":
        return True
    if name == "names":
        names = tuple(value.lower().split(":"))
        bad = next((one for one in names if not _NAME_RE.fullmatch(one)), None)
        if bad is not None or len(names) > MAX_SETTINGS:
            raise ValueError(f"{setting[:80]!r}: names are host names with ':' between them")
        return names
    if name == "ca" and value.startswith("/"):
        return value
    if name == "fingerprint":
        return _read_fingerprints(value)
    if name == "minimum" and value in _VERSIONS:
        return value
    raise ValueError(
        f"{setting[:80]!r} is no setting (names=, ca=/PATH, fingerprint=, "
        f"minimum={' or '.join(_VERSIONS)}, on_connect)"
    )


def _read_fingerprints(value: str) -> frozenset[str]:
    prints = [read_fingerprint(one) for one in value.split(",")]
    if len(prints) > MAX_SETTINGS:
        raise ValueError(f"at most {MAX_SETTINGS} fingerprints")
    return frozenset(prints)


class PolicyTable:
    """The policies of a map, and the default.

    Attributes:
        default: where the map says nothing.
        trivial: every policy is the default.
    """

    def __init__(self, default: TlsPolicy, entries: Mapping[str, TlsPolicy] | None = None) -> None:
        self.default = default
        self._entries = dict(entries or {})
        self.trivial = not self._entries

    def find(self, address: str, host: str) -> TlsPolicy:
        """Return the policy for a recipient at a host, its names resolved."""
        domain = address.rpartition("@")[2].lower()
        found = self._entries.get(address.lower()) or self._by_domain(domain)
        found = found or self._by_domain(host.lower()) or self._entries.get(".") or self.default
        if found.level is not Level.VERIFY:
            return found
        words = {"hostname": host.lower(), "domain": domain}
        return attrs.evolve(found, names=tuple(words.get(name, name) for name in found.names))

    def _by_domain(self, domain: str) -> TlsPolicy | None:
        if not domain:
            return None
        found = self._entries.get(domain)
        rest = domain
        while found is None and "." in rest:
            rest = rest.partition(".")[2]
            found = self._entries.get(f".{rest}") if rest else None
        return found


def read_policies(
    entries: Iterable[tuple[str, str]], source: str
) -> tuple[dict[str, TlsPolicy], list[tuple[str, str]]]:
    """Return the policies of a map by key, and (key, what is wrong) of entries left out."""
    policies: dict[str, TlsPolicy] = {}
    problems: list[tuple[str, str]] = []
    for key, value in entries:
        try:
            policies[key.lower()] = read_policy(value, f"{source} {key}")
        except ValueError as error:
            problems.append((key, str(error)))
            # A policy that nobody can read may have been a strict one: mail waits until it is
            # mended, and the log says why.
            policies[key.lower()] = TlsPolicy(
                Level.VERIFY, names=(), source=f"{source} {key} (unreadable)"
            )
    return policies, problems


@attrs.frozen
class Unmet:
    """Why a session may not carry a recipient's mail.

    Attributes:
        status: enhanced status code, RFC 5248: 4.7.4 no TLS, 4.7.5 not the TLS that is asked.
        text: for results and logs.
    """

    status: str
    text: str


def judge(policy: TlsPolicy, session: Secured | None, why_clear: str = "") -> Unmet | None:
    """Return what a session lacks, None if it meets the policy.

    Args:
        policy: with its names resolved.
        session: None in clear text.
        why_clear: why it is in clear text.
    """
    if policy.level <= Level.MAY:
        return None
    wish = f"policy {policy.level.name.lower()} ({policy.source})"
    if session is None:
        return Unmet("4.7.4", f"{wish}: no TLS: {why_clear or 'it was not tried'}")
    lack = _lack(policy, session)
    return Unmet("4.7.5", f"{wish}: {lack}") if lack else None


def _lack(policy: TlsPolicy, session: Secured) -> str:
    """Say what is not as the policy wants it, under TLS."""
    facts = session.facts
    # the order of the texts is the order of the versions: TLSv1.2 < TLSv1.3
    if policy.minimum and facts.version < policy.minimum:
        return f"{facts.version} is below {policy.minimum}"
    if policy.level is Level.ENCRYPT:
        return ""
    cert = facts.cert
    if cert is None:
        return "the server has no certificate"
    if policy.fingerprints:
        if policy.fingerprints & {cert.fingerprint, cert.key_fingerprint}:
            return ""
        return f"the certificate has another fingerprint: {colons(cert.fingerprint)}"
    if policy.ca != session.ca:
        return "the certificate was checked against other CAs"
    if not facts.verified:
        return f"the certificate is not trusted: {facts.why}"
    if any(_has_name(cert, name) for name in policy.names):
        return ""
    shown = ", ".join((cert.dns or cert.ips or (cert.cn,))[:3]) or "nobody"
    return f"the certificate is for {shown}, not for {', '.join(policy.names[:3]) or 'anybody'}"


def _has_name(cert: PeerCert, name: str) -> bool:
    """Tell whether a certificate has a name, or one below ``.example.org``."""
    if name.startswith("."):
        return any(one.removeprefix("*").endswith(name) for one in cert.dns)
    return bool(name) and matches_host(cert, name)


def strictest(policies: Sequence[TlsPolicy]) -> TlsPolicy:
    """Return the policy that decides how a session is opened."""
    return max(policies, key=lambda policy: policy.level)


def may_be_clear(policies: Sequence[TlsPolicy]) -> bool:
    """Tell whether somebody may be sent in clear text; without policies everybody may."""
    return not policies or any(policy.level <= Level.MAY for policy in policies)


def is_easy(policies: Sequence[TlsPolicy]) -> bool:
    """Tell whether everybody may be sent in clear text."""
    return all(policy.level <= Level.MAY for policy in policies)
