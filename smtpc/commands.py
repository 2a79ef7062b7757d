"""Commands as sent and extensions as offered.

Kind: core.

Nothing is put on the wire that could end its line early: an address with a control character
is refused here, whoever let it in. SMTPUTF8 is not spoken, hence neither is 8-bit text.
Source: RFC 5321 4.1, RFC 1870, RFC 3461, RFC 6152; decision D49.
"""

from libsmx.dsnparam import encode_xtext, write_notify, write_orcpt
from libsmx.envelope import Recipient
from smtpc.effects import Transaction
from smtpc.result import Outcome, permanent

Extensions = dict[str, str]


def parse_extensions(text: str) -> Extensions:
    """Return keyword -> arguments from the text of an EHLO reply (RFC 5321 4.1.1.1)."""
    found: Extensions = {}
    for line in text.split("\n")[1:]:
        keyword, _, argument = line.strip().partition(" ")
        if keyword:
            found.setdefault(keyword.upper(), argument.strip())
    return found


def refuse_rcpt(rcpt: Recipient) -> Outcome | None:
    """Return why a recipient cannot be named in a command, None if it can."""
    if is_sendable(rcpt.address) and rcpt.address:
        return None
    return permanent(553, "5.1.3", "the recipient address cannot be sent by SMTP")


def refuse_transaction(ta: Transaction, extensions: Extensions) -> Outcome | None:
    """Return why a transaction need not be tried with this server, None if it may be.

    A message beyond the SIZE that the server takes is not sent at all (RFC 1870 6.1).
    """
    if not is_sendable(ta.sender):
        return permanent(553, "5.1.7", "the sender address cannot be sent by SMTP")
    limit = extensions.get("SIZE", "")[:20]  # more digits cannot be a smaller limit
    if limit.isascii() and limit.isdigit() and 0 < int(limit) < ta.size:
        text = f"message size {ta.size} exceeds the size limit {int(limit)} of the server"
        return permanent(552, "5.3.4", text)
    return None


def is_sendable(address: str) -> bool:
    """Tell whether an address is printable ASCII, as RFC 5321 4.1.2 has it."""
    return address.isascii() and address.isprintable()


def mail_command(ta: Transaction, extensions: Extensions) -> bytes:
    """Return MAIL with those parameters that the server knows."""
    size = f" SIZE={ta.size}" if "SIZE" in extensions else ""
    body = " BODY=8BITMIME" if ta.body8 and "8BITMIME" in extensions else ""
    dsn = ""
    if (ta.ret or ta.envid) and "DSN" in extensions:
        dsn = " RET=FULL" if ta.ret == "FULL" else " RET=HDRS" if ta.ret else ""
        dsn += f" ENVID={encode_xtext(ta.envid)}" if ta.envid else ""
    return f"MAIL FROM:<{ta.sender}>{size}{body}{dsn}\r\n".encode("ascii")


def rcpt_command(rcpt: Recipient, extensions: Extensions) -> bytes:
    """Return RCPT for one recipient, with those parameters that the server knows."""
    dsn = ""
    if (rcpt.notify or rcpt.orcpt) and "DSN" in extensions:
        notify = write_notify(rcpt.notify)
        dsn = f" NOTIFY={notify}" if notify else ""
        dsn += f" ORCPT={write_orcpt(rcpt.orcpt)}" if rcpt.orcpt else ""
    return f"RCPT TO:<{rcpt.address}>{dsn}\r\n".encode("ascii")
