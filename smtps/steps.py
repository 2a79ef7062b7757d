"""What content filters are asked about the dialogue, and with which macros.

Kind: core.
Source: sendmail 8, libmilter/docs (smfi_getsymval), confMILTER_MACROS_*; RFC 5321 4.1.1.
"""

from collections.abc import Sequence

import attrs

from libsmx.wire import Refusal, Verdict
from smtps.effects import Answered, Said, Step
from smtps.received import format_client
from smtps.tlstalk import TlsTalk
from smtps.transaction import DataItem, HeloItem, Item, MailItem, RcptItem

Macros = tuple[tuple[str, str], ...]


def connect_step(dialogue: TlsTalk) -> Step:
    """Return the question about a client that connected."""
    literal = format_client(dialogue.client)
    name = dialogue.client_name or literal
    macros = (("j", dialogue.policy.hostname), ("_", f"{name} {literal}"), ("v", "smX"))
    return Step("connect", (name, dialogue.client), macros)


def steps_of(dialogue: TlsTalk, result: Answered) -> list[tuple[int, Step]]:
    """Return (place in the group, question) for each command that is not refused already."""
    found: list[tuple[int, Step]] = []
    answers = iter(result.answers)
    for at, item in enumerate(dialogue.group):
        answer = next(answers) if item.asked else None
        if item.refusal is not None or (item.asked and not _is_good(answer)):
            if isinstance(item, MailItem):
                break  # its recipients fall with it
            continue
        step = _step(dialogue, item, result)
        if step is not None:
            found.append((at, step))
    return found


def with_said(group: Sequence[Item], steps: Sequence[int], said: Sequence[Said]) -> list[Item]:
    """Return the group with what filters said of its commands."""
    items = list(group)
    for at, one in zip(steps, said, strict=False):
        if one.refusal is not None or one.discard:
            items[at] = attrs.evolve(items[at], refusal=one.refusal, discard=one.discard)
    return items


def _is_good(answer: Verdict | Refusal | None) -> bool:
    return isinstance(answer, Verdict) and answer.accept


def _step(dialogue: TlsTalk, item: Item, result: Answered) -> Step | None:
    ta = dialogue.ta
    if isinstance(item, HeloItem):
        return Step("helo", (dialogue.helo,), _tls_macros(dialogue))
    if ta is None:
        return None
    number = ta.ta_id or result.ta_id
    own: Macros = (("i", number),) if number else ()
    if isinstance(item, MailItem):
        login: Macros = ()
        if dialogue.auth:
            login = (("{auth_authen}", dialogue.auth), ("{auth_type}", dialogue.auth_type))
        return Step(
            "mail", (f"<{ta.sender}>", *ta.words), (*_mailbox("mail", ta.sender), *login, *own)
        )
    if isinstance(item, RcptItem):
        address = item.said.address
        return Step("rcpt", (f"<{address}>", *item.said.words), (*_mailbox("rcpt", address), *own))
    return Step("data", (), own) if isinstance(item, DataItem) else None


def _tls_macros(dialogue: TlsTalk) -> Macros:
    facts = dialogue.tls
    if facts is None:
        return ()
    macros = (
        ("{tls_version}", facts.version),
        ("{cipher}", facts.cipher),
        ("{cipher_bits}", str(facts.bits)),
        ("{verify}", facts.verify),
    )
    if facts.cert is None:
        return macros
    names = (("{cert_subject}", facts.cert.subject), ("{cert_issuer}", facts.cert.issuer))
    return (*macros, *names)


def _mailbox(kind: str, address: str) -> Macros:
    host = address.rpartition("@")[2] if "@" in address else ""
    return (
        (f"{{{kind}_mailer}}", "smtp"),
        (f"{{{kind}_host}}", host),
        (f"{{{kind}_addr}}", address),
    )
