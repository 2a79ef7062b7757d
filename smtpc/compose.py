"""Delivery status notifications as text: the report around the original message.

Kind: core.

A DSN travels through the queue as its facts (libsmx.envelope.DsnReport) and becomes a message
only here, while it is sent. The same facts give the same bytes, apart from the boundary, so
that a second attempt sends the same message. Texts of strangers go through ``_line``: no
control character, no line end and nothing that is not ASCII gets out of it, so nobody can add
a field or a part.
Source: RFC 3461, RFC 3464, RFC 6522, RFC 5321 4.5.5, RFC 3834 (Auto-Submitted); SPEC rows
X165-X168, D18.
"""

import datetime
import email.utils
import re

import attrs

from libsmx.envelope import DsnReport, Envelope, ReportedRcpt

MAX_FULL = 50 * 1024
"""Originals up to this size come back whole, of larger ones the header only; bytes."""
MAX_HEADER = 50 * 1024
"""Longest part of a header that comes back, bytes."""
MAX_LINE = 900
"""Longest line written, characters; RFC 5322 2.1.1 allows 998."""

_UNSAFE = re.compile(r"[^ -~]+")
_REPLY_RE = re.compile(r"[2-5][0-9][0-9][ -]")
_TYPE_RE = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,31}")
_CLASS = {"failed": 5, "delayed": 4, "relayed": 2, "delivered": 2}
"""Actions, and the class of the status code where none fits."""
_STATUS_RE = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}")


@attrs.frozen
class Original:
    """What is known of the message that is reported on.

    Attributes:
        data: its first bytes, ``MAX_FULL`` or all.
        whole: data is all of it.
    """

    data: bytes
    whole: bool


@attrs.frozen
class Composed:
    """A finished notification.

    Attributes:
        data: header and body, all line ends CRLF.
        body8: data has 8-bit bytes.
    """

    data: bytes
    body8: bool


@attrs.frozen
class _Words:
    """What a report says to people, by the sort of its news."""

    subject: str
    opening: tuple[str, ...]
    name: str


_FAILED = _Words(
    "Undelivered mail returned to sender",
    (
        "Your message could not be delivered to the recipients below, and no",
        "further attempt will be made.",
    ),
    "undelivered message",
)
_DELAYED = _Words(
    "Delivery of your mail is delayed",
    (
        "Your message could not be delivered to the recipients below until now.",
        "It is still in the queue and will be tried again; there is no need to",
        "send it once more.",
    ),
    "delayed message",
)
_SUCCESS = _Words(
    "Your mail was delivered",
    ("Your message was delivered to the recipients below, as you asked to be told.",),
    "delivered message",
)
_RELAYED = _Words(
    "Your mail was relayed",
    (
        "Your message was relayed to the recipients below, as you asked to be told.",
        "The mail systems that took it tell nothing of what becomes of it.",
    ),
    "relayed message",
)
_WORDS = {"delayed": _DELAYED, "delivered": _SUCCESS, "relayed": _RELAYED}


def _words(report: DsnReport) -> _Words:
    return _WORDS.get(report.rcpts[0].action, _FAILED) if report.rcpts else _FAILED


def compose(
    envelope: Envelope, report: DsnReport, boundary: str, original: Original | None
) -> Composed:
    """Return the notification.

    Args:
        envelope: that of the notification; its id and its time become Message-ID and Date.
        report: what is reported.
        boundary: printable, and not in the original; random. Plain text has no use for it.
        original: None where the content file is gone: the report goes without it.
    """
    if original is not None and report.headers_only:
        original = attrs.evolve(original, whole=False)
    returned = _returned(original)
    body8 = not returned.isascii()
    reporter = _atom(report.reporter) or "localhost"
    head = [
        f"From: Mail Delivery System <MAILER-DAEMON@{reporter}>",
        f"To: {_line(report.sender)}",
        f"Subject: {_words(report).subject}",
        f"Date: {_date(envelope.received_at)}",
        f"Message-ID: <{envelope.ta_id}@{reporter}>",
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
    ]
    encoding = f"Content-Transfer-Encoding: {'8bit' if body8 else '7bit'}"
    if report.mime:
        data = _multipart(head, encoding, report, reporter, boundary, original, returned)
    else:
        data = _plain(head, encoding, report, reporter, original, returned)
    return Composed(data, body8)


def _multipart(
    head: list[str],
    encoding: str,
    report: DsnReport,
    reporter: str,
    boundary: str,
    original: Original | None,
    returned: bytes,
) -> bytes:
    """Return the notification as multipart/report (RFC 6522, RFC 3464)."""
    words = _words(report)
    parts = [
        *head,
        "Content-Type: multipart/report; report-type=delivery-status;",
        f'\tboundary="{boundary}"',
        encoding,
        "",
        "This is a report in MIME format.",
        "",
        f"--{boundary}",
        "Content-Type: text/plain; charset=us-ascii",
        "Content-Description: Notification",
        "",
        *_for_people(report, reporter, original),
        "",
        f"--{boundary}",
        "Content-Type: message/delivery-status",
        "Content-Description: Delivery report",
        "",
        *_for_programs(report, reporter),
        "",
    ]
    if original is not None:
        full = _is_full(original)
        parts += [
            f"--{boundary}",
            f"Content-Type: {'message/rfc822' if full else 'text/rfc822-headers'}",
            f"Content-Description: {'' if full else 'Header of the '}{words.name}",
            encoding,
            "",
            "",
        ]
    text = "\r\n".join(parts).encode("ascii")
    return text + returned + f"\r\n--{boundary}--\r\n".encode("ascii")


def _plain(
    head: list[str],
    encoding: str,
    report: DsnReport,
    reporter: str,
    original: Original | None,
    returned: bytes,
) -> bytes:
    """Return the notification as plain text: the same facts, no parts (SPEC row X168)."""
    charset = "us-ascii" if returned.isascii() else "unknown-8bit"
    lines = [
        *head,
        f"Content-Type: text/plain; charset={charset}",
        encoding,
        "",
        *_for_people(report, reporter, original),
        "",
        "----- Report -----",
        "",
        *_for_programs(report, reporter),
        "",
    ]
    if original is not None:
        lines += ["----- Message -----" if _is_full(original) else "----- Header -----", "", ""]
    return "\r\n".join(lines).encode("ascii") + returned


def _is_full(original: Original) -> bool:
    return original.whole and len(original.data) <= MAX_FULL


def _returned(original: Original | None) -> bytes:
    """Return the part of the original that comes back, with CRLF line ends."""
    if original is None:
        return b""
    if _is_full(original):
        data = original.data
    else:
        head, separator, _ = original.data[:MAX_HEADER].partition(b"\r\n\r\n")
        # a header cut in the middle ends with its last whole line
        data = head + b"\r\n" if separator else head[: head.rfind(b"\r\n") + 2]
    # Content is stored with CRLF only; a damaged file shall not make us send anything else.
    if data.count(b"\n") != data.count(b"\r\n") or data.count(b"\r") != data.count(b"\r\n"):
        data = re.sub(rb"\r\n|\r|\n", b"\r\n", data)
    return data


def _for_people(report: DsnReport, reporter: str, original: Original | None) -> list[str]:
    """Return the lines of the first part (RFC 6522 3)."""
    lines = [
        f"This is the mail system at {reporter}.",
        "",
        *_words(report).opening,
        "",
        f"Received here: {_date(report.received_at)}",
        f"Known here as: {report.ta_id}",
    ]
    until = max((rcpt.retry_until for rcpt in report.rcpts), default=0.0)
    if until > 0:
        lines.append(f"Tried until:   {_date(until)}")
    for rcpt in report.rcpts:
        where = f" ({_line(rcpt.remote, 150)} said)" if rcpt.remote else ""
        lines += ["", f"<{_line(rcpt.address, 800)}>{where}:", f"    {_line(rcpt.text)}"]
    lines.append("")
    if original is None:
        lines.append("The message itself is not available any more.")
    elif _is_full(original):
        lines.append("The message itself follows behind the report for programs.")
    else:
        lines.append("The header of the message follows behind the report for programs.")
    return lines


def _for_programs(report: DsnReport, reporter: str) -> list[str]:
    """Return the lines of message/delivery-status (RFC 3464 2)."""
    lines = [f"Original-Envelope-Id: {_line(report.envid)}"] if report.envid.strip() else []
    lines += [f"Reporting-MTA: dns; {reporter}", f"Arrival-Date: {_date(report.received_at)}"]
    for rcpt in report.rcpts:
        lines += ["", *_rcpt_fields(rcpt)]
    return lines


def _rcpt_fields(rcpt: ReportedRcpt) -> list[str]:
    """Return the fields of one recipient (RFC 3464 2.3)."""
    action = rcpt.action if rcpt.action in _CLASS else "failed"
    status = rcpt.status if _STATUS_RE.fullmatch(rcpt.status) else f"{_CLASS[action]}.0.0"
    kind, _, original = rcpt.orcpt.partition(";")
    fields = []
    if _TYPE_RE.fullmatch(kind) and original.strip():
        fields.append(f"Original-Recipient: {kind}; {_line(original)}")
    fields += [
        f"Final-Recipient: rfc822; {_line(rcpt.address)}",
        f"Action: {action}",
        f"Status: {status}",
    ]
    if rcpt.remote:
        fields.append(f"Remote-MTA: dns; {_line(rcpt.remote)}")
    said = bool(rcpt.remote) and _REPLY_RE.match(rcpt.text) is not None
    fields.append(f"Diagnostic-Code: {'smtp' if said else 'X-smX'}; {_line(rcpt.text) or 'none'}")
    if rcpt.attempt_at > 0:
        fields.append(f"Last-Attempt-Date: {_date(rcpt.attempt_at)}")
    if action == "delayed" and rcpt.retry_until > 0:
        fields.append(f"Will-Retry-Until: {_date(rcpt.retry_until)}")
    return fields


def _line(text: str, most: int = MAX_LINE) -> str:
    """Return a stranger's text as part of one line, at most so many characters of it."""
    plain = _UNSAFE.sub("?", text).strip()
    return plain if len(plain) <= most else plain[: most - 3] + "..."


def _atom(text: str) -> str:
    """Return a host name with nothing in it that has a meaning in a header."""
    return re.sub(r"[^A-Za-z0-9._:\[\]-]", "", text)[:255]


def _date(at_s: float) -> str:
    """Return wall seconds as an RFC 5322 date in UTC."""
    try:
        when = datetime.datetime.fromtimestamp(at_s, datetime.UTC)
    except (ValueError, OverflowError, OSError):  # a clock far off is no reason to keep a bounce
        when = datetime.datetime.fromtimestamp(0, datetime.UTC)
    return email.utils.format_datetime(when)
