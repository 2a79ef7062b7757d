"""Delivery status notifications as text: the report around the original message.

Kind: core.

A DSN travels through the queue as its facts (libsmx.envelope.DsnReport) and becomes a message
only here, while it is sent. The same facts give the same bytes, apart from the boundary, so
that a second attempt sends the same message. Texts of strangers go through ``_line``: no
control character and no line end gets out of it, and what is not ASCII only where the message
came with SMTPUTF8 (RFC 6533), so nobody can add a field or a part. A large original is not held
here: the report ends before it and goes on behind it.
Source: RFC 3461, RFC 3464, RFC 6522, RFC 6533, RFC 5321 4.5.5, RFC 3834 (Auto-Submitted); SPEC
rows X165-X168, D18.
"""

import datetime
import email.utils
import re

import attrs

from libsmx.envelope import DsnReport, Envelope, ReportedRcpt

MAX_HEADER = 50 * 1024
"""Longest part of a header that comes back, bytes."""
MAX_LINE = 900
"""Longest text in a line, bytes; RFC 5322 2.1.1 allows lines of 998."""

_UNSAFE = re.compile(r"[^ -~]+")
_ESCAPED = re.compile(r"[ +=\\]")
_ESCAPED_7BIT = re.compile(r"[ +=\\]|[^ -~]")
_REPLY_RE = re.compile(r"[2-5][0-9][0-9][ -]")
_TYPE_RE = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,31}")
_CLASS = {"failed": 5, "delayed": 4, "relayed": 2, "expanded": 2, "delivered": 2}
"""Actions, and the class of the status code where none fits."""
_STATUS_RE = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}")


@attrs.frozen
class Original:
    """What is known of the message that is reported on.

    Attributes:
        data: its first bytes, MAX_HEADER at least, or all.
        whole: data is all of it.
        body8: it was declared to have 8-bit bytes; looked at where data is not all.
    """

    data: bytes
    whole: bool
    body8: bool = False


@attrs.frozen
class Composed:
    """A finished notification.

    Attributes:
        data: header and body, all line ends CRLF; up to the original where that is not held.
        body8: it has 8-bit bytes.
        tail: what comes behind the original that is not held.
        streamed: the original's file stands between data and tail.
    """

    data: bytes
    body8: bool
    tail: bytes = b""
    streamed: bool = False


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
_EXPANDED = _Words(
    "Your mail was passed on",
    (
        "Your message was passed on to the addresses that the recipients below stand",
        "for, as you asked to be told.",
    ),
    "message",
)
_WORDS = {
    "delayed": _DELAYED,
    "delivered": _SUCCESS,
    "relayed": _RELAYED,
    "expanded": _EXPANDED,
}


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
    returned = _Returned(original, report)
    reporter = _atom(report.reporter) or "localhost"
    head = [
        f"From: Mail Delivery System <MAILER-DAEMON@{reporter}>",
        f"To: {_line(report.sender, utf8=report.utf8)}",
        f"Subject: {_words(report).subject}",
        f"Date: {_date(envelope.received_at)}",
        f"Message-ID: <{envelope.ta_id}@{reporter}>",
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
    ]
    people = _for_people(report, reporter, returned)
    programs = _for_programs(report, reporter)
    body8 = returned.body8 or not "".join((*head, *people, *programs)).isascii()
    encoding = f"Content-Transfer-Encoding: {'8bit' if body8 else '7bit'}"
    if report.mime:
        lines = _multipart([*head, encoding], boundary, people, programs)
        lines += returned.part(boundary, _words(report).name)
        tail = f"\r\n--{boundary}--\r\n".encode("ascii")
    else:
        lines = _plain([*head, encoding], people, programs, body8=body8) + returned.heading()
        tail = b""
    data = "\r\n".join(lines).encode("utf-8", "replace")
    if returned.streamed:
        return Composed(data, body8, tail, streamed=True)
    return Composed(data + returned.data + tail, body8)


class _Returned:
    """The part of the original that comes back.

    Attributes:
        data: it, with CRLF line ends; empty where it is streamed.
        streamed: all of the file comes back, and is not held here.
        full: all of the message comes back.
        body8: it has 8-bit bytes, or may have.
        missing: there is no original.
    """

    def __init__(self, original: Original | None, report: DsnReport) -> None:
        self.missing = original is None
        self.full = original is not None and not report.headers_only
        self.streamed = original is not None and self.full and not original.whole
        self.data = b""
        self.body8 = self._global = False
        if original is None:
            return
        header, separator, _ = original.data.partition(b"\r\n\r\n")
        self._global = report.utf8 and not header.isascii()
        self.body8 = self._global
        if self.streamed:
            self.body8 |= original.body8
            return
        self.data = original.data
        if not self.full:
            header, separator, _ = original.data[:MAX_HEADER].partition(b"\r\n\r\n")
            # A header cut in the middle ends with its last whole line.
            self.data = header + b"\r\n" if separator else header[: header.rfind(b"\r\n") + 2]
        # Content is stored with CRLF only; a damaged file shall not make us send anything else.
        data = self.data
        if data.count(b"\n") != data.count(b"\r\n") or data.count(b"\r") != data.count(b"\r\n"):
            self.data = re.sub(rb"\r\n|\r|\n", b"\r\n", data)
        self.body8 = not self.data.isascii()

    def part(self, boundary: str, name: str) -> list[str]:
        """Return the lines before it in a multipart/report (RFC 6522 3, RFC 6533 4)."""
        if self.missing:
            return []
        if self._global:
            kind = "message/global" if self.full else "message/global-headers"
        else:
            kind = "message/rfc822" if self.full else "text/rfc822-headers"
        return [
            f"--{boundary}",
            f"Content-Type: {kind}",
            f"Content-Description: {'' if self.full else 'Header of the '}{name}",
            f"Content-Transfer-Encoding: {'8bit' if self.body8 else '7bit'}",
            "",
            "",
        ]

    def heading(self) -> list[str]:
        """Return the lines before it in plain text."""
        if self.missing:
            return []
        return ["----- Message -----" if self.full else "----- Header -----", "", ""]


def _multipart(head: list[str], boundary: str, people: list[str], programs: list[str]) -> list[str]:
    """Return a multipart/report (RFC 6522, RFC 3464, RFC 6533) without its last part."""
    charset, encoding = "us-ascii", []
    if not "".join(people).isascii():
        charset, encoding = "utf-8", ["Content-Transfer-Encoding: 8bit"]
    kind, encoded = "message/delivery-status", []
    if not "".join(programs).isascii():
        kind, encoded = "message/global-delivery-status", ["Content-Transfer-Encoding: 8bit"]
    return [
        *head[:-1],
        "Content-Type: multipart/report; report-type=delivery-status;",
        f'\tboundary="{boundary}"',
        head[-1],
        "",
        "This is a report in MIME format.",
        "",
        f"--{boundary}",
        f"Content-Type: text/plain; charset={charset}",
        *encoding,
        "Content-Description: Notification",
        "",
        *people,
        "",
        f"--{boundary}",
        f"Content-Type: {kind}",
        *encoded,
        "Content-Description: Delivery report",
        "",
        *programs,
        "",
    ]


def _plain(head: list[str], people: list[str], programs: list[str], *, body8: bool) -> list[str]:
    """Return the lines of plain text: the same facts, no parts (SPEC row X168)."""
    return [
        *head[:-1],
        f"Content-Type: text/plain; charset={'unknown-8bit' if body8 else 'us-ascii'}",
        head[-1],
        "",
        *people,
        "",
        "----- Report -----",
        "",
        *programs,
        "",
    ]


def _for_people(report: DsnReport, reporter: str, returned: _Returned) -> list[str]:
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
        address = _line(rcpt.address, 800, utf8=report.utf8)
        lines += ["", f"<{address}>{where}:", f"    {_line(rcpt.text, utf8=report.utf8)}"]
    lines.append("")
    if returned.missing:
        lines.append("The message itself is not available any more.")
    elif returned.full:
        lines.append("The message itself follows behind the report for programs.")
    else:
        lines.append("The header of the message follows behind the report for programs.")
    return lines


def _for_programs(report: DsnReport, reporter: str) -> list[str]:
    """Return the lines of message/delivery-status (RFC 3464 2)."""
    lines = [f"Original-Envelope-Id: {_line(report.envid)}"] if report.envid.strip() else []
    lines += [f"Reporting-MTA: dns; {reporter}", f"Arrival-Date: {_date(report.received_at)}"]
    for rcpt in report.rcpts:
        lines += ["", *_rcpt_fields(rcpt, utf8=report.utf8)]
    return lines


def _rcpt_fields(rcpt: ReportedRcpt, *, utf8: bool) -> list[str]:
    """Return the fields of one recipient (RFC 3464 2.3, RFC 6533 3)."""
    action = rcpt.action if rcpt.action in _CLASS else "failed"
    status = rcpt.status if _STATUS_RE.fullmatch(rcpt.status) else f"{_CLASS[action]}.0.0"
    kind, _, original = rcpt.orcpt.partition(";")
    fields = []
    if _TYPE_RE.fullmatch(kind) and original.strip():
        fields.append(f"Original-Recipient: {_address(kind, original, utf8=utf8)}")
    fields += [
        f"Final-Recipient: {_address('rfc822', rcpt.address, utf8=utf8)}",
        f"Action: {action}",
        f"Status: {status}",
    ]
    if rcpt.remote:
        fields.append(f"Remote-MTA: dns; {_line(rcpt.remote)}")
    text = _line(rcpt.text, utf8=utf8)
    said = bool(rcpt.remote) and _REPLY_RE.match(rcpt.text) is not None
    fields.append(f"Diagnostic-Code: {'smtp' if said else 'X-smX'}; {text or 'none'}")
    if rcpt.attempt_at > 0:
        fields.append(f"Last-Attempt-Date: {_date(rcpt.attempt_at)}")
    if action == "delayed" and rcpt.retry_until > 0:
        fields.append(f"Will-Retry-Until: {_date(rcpt.retry_until)}")
    return fields


def _address(kind: str, address: str, *, utf8: bool) -> str:
    """Return an address with its type; one that is not ASCII in a form of RFC 6533 3."""
    if address.isascii() and kind.lower() != "utf-8":
        return f"{kind}; {_line(address)}"
    printable = "".join(char if char.isprintable() else "?" for char in address).strip()
    pattern = _ESCAPED if utf8 else _ESCAPED_7BIT
    return "utf-8; " + _cut(pattern.sub(lambda m: f"\\x{{{ord(m[0]):02X}}}", printable), MAX_LINE)


def _line(text: str, most: int = MAX_LINE, *, utf8: bool = False) -> str:
    """Return a stranger's text as part of one line, at most so many bytes of it."""
    if utf8 and not text.isascii():
        plain = "".join(char if char.isprintable() else "?" for char in text).strip()
    else:
        plain = _UNSAFE.sub("?", text).strip()
    return _cut(plain, most)


def _cut(text: str, most: int) -> str:
    """Return a text, or what of it fits into so many bytes, with dots to show it."""
    data = text.encode("utf-8", "replace")
    return text if len(data) <= most else data[: most - 3].decode("utf-8", "ignore") + "..."


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
