"""Commands as sent and extensions as offered.

Kind: core.

Nothing is put on the wire that could end its line early: an address with a control character
is refused here, whoever let it in. 8-bit text leaves in a transaction under SMTPUTF8 only. A
server without it gets such a message where nothing in it needs the extension; a domain can be
written in A-labels, a local part or a header field cannot be changed and is refused.
Source: RFC 5321 4.1, RFC 1870, RFC 3461, RFC 6152, RFC 6531 3.2 to 3.5; decision D49.
"""

import unicodedata

from libsmx.dsnparam import encode_xtext, write_notify, write_orcpt
from libsmx.envelope import Recipient
from smtpc.effects import Transaction
from smtpc.result import Outcome, permanent

Extensions = dict[str, str]
_NO_UTF8 = "the server does not offer SMTPUTF8"


def parse_extensions(text: str) -> Extensions:
    """Return keyword -> arguments from the text of an EHLO reply (RFC 5321 4.1.1.1)."""
    found: Extensions = {}
    for line in text.split("\n")[1:]:
        keyword, _, argument = line.strip().partition(" ")
        if keyword:
            found.setdefault(keyword.upper(), argument.strip())
    return found


def speaks_utf8(ta: Transaction, extensions: Extensions) -> bool:
    """Tell whether a transaction goes out under SMTPUTF8."""
    return ta.utf8 and "SMTPUTF8" in extensions


def refuse_rcpt(rcpt: Recipient, ta: Transaction, extensions: Extensions) -> Outcome | None:
    """Return why a recipient cannot be named in a command, None if it can."""
    address = rcpt.address
    if address and is_sendable(address):
        return None
    if ta.utf8 and address.isprintable() and address:
        if speaks_utf8(ta, extensions) or is_sendable(in_a_labels(address)):
            return None
        return permanent(553, "5.6.7", f"the address is not ASCII and {_NO_UTF8}")
    return permanent(553, "5.1.3", "the recipient address cannot be sent by SMTP")


def refuse_transaction(ta: Transaction, extensions: Extensions) -> Outcome | None:
    """Return why a transaction need not be tried with this server, None if it may be.

    A message beyond the SIZE that the server takes is not sent at all (RFC 1870 6.1).
    """
    if not is_sendable(ta.sender) or ta.utf8_header:
        refusal = _refuse_8bit(ta, extensions)
        if refusal is not None:
            return refusal
    limit = extensions.get("SIZE", "")[:20]  # more digits cannot be a smaller limit
    if limit.isascii() and limit.isdigit() and 0 < int(limit) < ta.size:
        text = f"message size {ta.size} exceeds the size limit {int(limit)} of the server"
        return permanent(552, "5.3.4", text)
    return None


def _refuse_8bit(ta: Transaction, extensions: Extensions) -> Outcome | None:
    """Judge a sender that is not plain ASCII, or a header that is not."""
    if not ta.sender.isprintable() or not (ta.utf8 or is_sendable(ta.sender)):
        return permanent(553, "5.1.7", "the sender address cannot be sent by SMTP")
    if speaks_utf8(ta, extensions):
        return None
    if not is_sendable(in_a_labels(ta.sender)):
        return permanent(553, "5.6.7", f"the sender address is not ASCII and {_NO_UTF8}")
    if ta.utf8_header:
        return permanent(554, "5.6.9", f"the header is not ASCII and {_NO_UTF8}")
    return None


def is_sendable(address: str) -> bool:
    """Tell whether an address is printable ASCII, as RFC 5321 4.1.2 has it."""
    return address.isascii() and address.isprintable()


def in_a_labels(address: str) -> str:
    """Return an address with its domain in A-labels, unchanged where that is impossible."""
    local, at, domain = address.rpartition("@")
    if domain.isascii() or not local.isascii():
        return address
    try:
        return f"{local}{at}{'.'.join(_a_label(label) for label in domain.split('.'))}"
    except UnicodeError:
        return address


def _a_label(label: str) -> str:
    if label.isascii():
        return label
    plain = unicodedata.normalize("NFC", label.lower())
    return f"xn--{plain.encode('punycode').decode('ascii')}"


def mail_command(ta: Transaction, extensions: Extensions) -> bytes:
    """Return MAIL with those parameters that the server knows."""
    size = f" SIZE={ta.size}" if "SIZE" in extensions else ""
    body = " BODY=8BITMIME" if ta.body8 and "8BITMIME" in extensions else ""
    dsn = ""
    if (ta.ret or ta.envid) and "DSN" in extensions:
        dsn = " RET=FULL" if ta.ret == "FULL" else " RET=HDRS" if ta.ret else ""
        dsn += f" ENVID={encode_xtext(ta.envid)}" if ta.envid else ""
    if not ta.utf8:
        return f"MAIL FROM:<{ta.sender}>{size}{body}{dsn}\r\n".encode("ascii")
    if "SMTPUTF8" in extensions:
        return f"MAIL FROM:<{ta.sender}>{size}{body} SMTPUTF8{dsn}\r\n".encode()
    return f"MAIL FROM:<{in_a_labels(ta.sender)}>{size}{body}{dsn}\r\n".encode("ascii")


def rcpt_command(rcpt: Recipient, ta: Transaction, extensions: Extensions) -> bytes:
    """Return RCPT for one recipient, with those parameters that the server knows."""
    dsn = ""
    if (rcpt.notify or rcpt.orcpt) and "DSN" in extensions:
        notify = write_notify(rcpt.notify)
        dsn = f" NOTIFY={notify}" if notify else ""
        dsn += f" ORCPT={write_orcpt(rcpt.orcpt)}" if rcpt.orcpt else ""
    if not ta.utf8:
        return f"RCPT TO:<{rcpt.address}>{dsn}\r\n".encode("ascii")
    utf8 = "SMTPUTF8" in extensions
    address = rcpt.address if utf8 else in_a_labels(rcpt.address)
    return f"RCPT TO:<{address}>{dsn}\r\n".encode()
