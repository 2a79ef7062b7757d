"""Subsections of the SMTP server: protected recipients and content filters.

Kind: table.

Source: SPEC rows X384-X401; decisions D33, D45.
"""
# ruff: noqa: RUF009 (option() and section() declare fields, they are no shared defaults)

import attrs

from libsmx.kinds import Choice, Count, Flags, Path
from libsmx.netkinds import IpAddress
from libsmx.opt_shared import SECONDS, WORD
from libsmx.options import option, section


@attrs.frozen
class ProtectedConf:
    """Who may send to recipients that the access map protects."""

    allow_by: frozenset[str] = option(
        "allow_by",
        Flags(
            {
                "sender": "the restrictions from: and list: count",
                "client_ip": "the restriction cltaddr: counts",
                "allow_by_sender": "another name of sender",
                "allow_by_client_ip": "another name of client_ip",
            }
        ),
        (),
        rows="X394 X395 X396 X397 X398",
        doc="Which restrictions in entries protectedrcpt: count; at least one is required.",
    )
    match_type: str = option(
        "match_type",
        Choice("exact", "generic_lookup", "implicitly_match_detail"),
        "exact",
        rows="X399 X400 X401",
        doc="How restrictions match: as they stand, in the lookup orders of maps, or so that a "
        "detail in the address matches as well.",
    )


@attrs.frozen
class MilterSocket:
    """Where a filter listens."""

    type: str = option(
        "type",
        Choice("inet", "inet6", "unix"),
        "inet",
        rows="X385",
        doc="Kind of socket.",
    )
    port: int = option(
        "port",
        Count(),
        "0",
        low="1",
        high="65535",
        rows="X386",
        doc="TCP port; required for inet and inet6.",
    )
    address: str = option(
        "address",
        IpAddress(),
        "",
        rows="X387",
        doc="IP address. Empty: this host.",
    )
    path: str = option(
        "path", Path(), "", rows="X388", doc="Name of a unix socket; required for that type."
    )


CHANGES = Flags(
    {
        "header": "add, change and remove header fields",
        "body": "replace the body",
        "recipients": "add and remove recipients",
        "sender": "change the sender",
        "quarantine": "hold the message",
    }
)


@attrs.frozen
class MilterConf:
    """One content filter that speaks the milter protocol."""

    name: str = option("name", WORD, "", doc="Name of the filter, for logs.")
    socket: MilterSocket = section("socket", MilterSocket, doc="Where the filter listens.")
    connect_timeout: int = option(
        "connect_timeout",
        SECONDS,
        "30s",
        low="1s",
        high="1h",
        rows="X389",
        doc="How long to wait for a connection to the filter.",
    )
    send_timeout: int = option(
        "send_timeout",
        SECONDS,
        "30s",
        low="1s",
        high="1h",
        rows="X389",
        doc="How long to wait until the filter takes what is sent to it.",
    )
    reply_timeout: int = option(
        "reply_timeout",
        SECONDS,
        "30s",
        low="1s",
        high="1h",
        rows="X389",
        doc="How long to wait for a reply of the filter.",
    )
    end_timeout: int = option(
        "end_timeout",
        SECONDS,
        "3m",
        low="1s",
        high="1h",
        rows="X389",
        doc="How long to wait for the reply after the end of a message; each sign of life of the "
        "filter begins it anew.",
    )
    on_failure: str = option(
        "on_failure",
        Choice("accept", "tempfail", "reject", "quarantine"),
        "tempfail",
        rows="X390",
        doc="What happens to mail when the filter does not answer or breaks the protocol: it is "
        "taken without the filter, refused for now, refused, or taken and held in the queue.",
    )
    changes: frozenset[str] = option(
        "changes",
        CHANGES,
        ("header", "body", "recipients", "sender", "quarantine"),
        doc="What the filter may change; it is told so, and what it asks for beyond is not done.",
    )


@attrs.frozen
class PolicyMilterConf:
    """The policy filter, which comes before the others."""

    socket: MilterSocket = section("socket", MilterSocket, doc="Where the filter listens.")
    timeout: int = option(
        "timeout",
        SECONDS,
        "30s",
        low="1s",
        high="1h",
        rows="X389",
        doc="How long to wait for the filter, whatever is waited for.",
    )
    flags: frozenset[str] = option(
        "flags",
        Flags(
            {
                "abort": "end the session with 421 when the filter fails",
                "accept_but_reconnect": "go on without the filter, the next session tries again",
            }
        ),
        (),
        rows="X390 X391 X392 X393",
        doc="What happens when the filter fails; at most one. Without one, the session goes on "
        "without the filter, as it does with accept_but_reconnect.",
    )
    changes: frozenset[str] = option(
        "changes",
        CHANGES,
        ("header", "body", "recipients", "sender", "quarantine"),
        doc="What the filter may change.",
    )
