"""Reports to senders: who is told what, and in which form.

Kind: core.

A report is a transaction of our own: null sender, one recipient (the sender of the message),
the content of the message, and the facts of who failed, waits or has it. smtpc writes the
text. The null sender is never answered (RFC 5321 4.5.5), so that reports cannot bounce; mail
with the null sender that fails may be reported to one address of this system, and a failure at
that address is told to nobody.
Source: RFC 3461, RFC 3464; SPEC rows X165-X170; D56.
"""

from collections.abc import Callable, Sequence

import attrs

from libsmx.dsnparam import wants
from libsmx.envelope import MAX_TEXT, DsnReport, Envelope, Recipient, ReportedRcpt
from qmgr.limits import Limits

FAILED = "failed"
DELAYED = "delayed"
RELAYED = "relayed"
DELIVERED = "delivered"
EXPANDED = "expanded"

_CASE = {
    FAILED: "FAILURE",
    DELAYED: "DELAY",
    RELAYED: "SUCCESS",
    DELIVERED: "SUCCESS",
    EXPANDED: "SUCCESS",
}


@attrs.frozen
class News:
    """What is said of one recipient.

    Attributes:
        action: one of the words above.
        status: enhanced status code.
        text: what the remote host said, or what we found.
        remote: host that said it, or empty.
        attempt_at: wall time of the attempt; 0: there was none.
        retry_until: wall time until which a delayed recipient is tried, else 0.
    """

    action: str
    status: str
    text: str
    remote: str = ""
    attempt_at: float = 0.0
    retry_until: float = 0.0

    def about(self, rcpt: Recipient) -> ReportedRcpt:
        """Return it as it stands in a report; texts are cut to what a record holds."""
        return ReportedRcpt(
            address=rcpt.address,
            status=self.status,
            text=self.text[:MAX_TEXT],
            remote=self.remote,
            action=self.action,
            orcpt=rcpt.orcpt,
            attempt_at=self.attempt_at,
            retry_until=self.retry_until,
        )


def addressee(envelope: Envelope, rcpt: Recipient, action: str, double_bounce: str) -> str:
    """Return who is told about a recipient, empty for nobody.

    Args:
        envelope: its message.
        rcpt: the recipient.
        action: what became of it.
        double_bounce: who is told when mail with the null sender fails, or empty.
    """
    if envelope.sender:
        return envelope.sender if wants(rcpt.notify, _CASE[action]) else ""
    if action == FAILED and rcpt.address.lower() != double_bounce.lower():
        return double_bounce
    return ""


def carries_whole(envelope: Envelope, action: str, limits: Limits) -> bool:
    """Tell whether the next report brings the whole message back (SPEC rows X166, X167).

    RFC 3461 4.3: only where something failed, and as RET says; without RET the first time.
    A message that is too large never comes back whole.
    """
    if envelope.size > limits.dsn_max_returned:
        return False
    if action != FAILED or limits.dsn_header_only or envelope.ret == "HDRS":
        return False
    return envelope.ret == "FULL" or not envelope.returned


def make_reports(
    envelope: Envelope,
    told: Sequence[ReportedRcpt],
    to: str,
    *,
    limits: Limits,
    now_s: float,
    next_id: Callable[[], str],
) -> list[Envelope]:
    """Return the envelopes that carry news of one sort.

    Args:
        envelope: the message they are about; only the first report may carry it whole.
        told: recipients and what became of them, at least one, all with the same action.
        to: who is told.
        limits: form of reports, and how many recipients one of them lists.
        now_s: wall time; the age of the reports counts from here.
        next_id: returns a transaction id never used before.
    """
    limit = limits.max_errors_per_dsn
    made = []
    for at in range(0, len(told), limit):
        whole = carries_whole(envelope, told[0].action, limits) and (
            at == 0 or envelope.ret == "FULL"
        )
        made.append(
            Envelope(
                ta_id=next_id(),
                cdb_id=envelope.cdb_id,
                sender="",
                rcpts=[Recipient(idx=0, address=to, notify="NEVER")],
                size=envelope.size,
                body8=envelope.body8,
                # Only the field To of a report can need it.
                smtputf8=envelope.smtputf8 and not to.isascii(),
                received_at=now_s,
                dsn=DsnReport(
                    ta_id=envelope.ta_id,
                    sender=to,
                    received_at=envelope.received_at,
                    reporter=limits.hostname,
                    rcpts=list(told[at : at + limit]),
                    envid=envelope.envid,
                    headers_only=not whole,
                    mime=limits.dsn_mime,
                    utf8=envelope.smtputf8,
                ),
            )
        )
    return made
