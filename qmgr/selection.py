"""Selection: whether a recipient is among those that an operator means.

Kind: core.

Everything given must hold. Addresses are compared without case, ``*`` stands for any text.
Source: SPEC row X477.
"""

from libsmx.envelope import Envelope
from libsmx.wire_control import Select

NULL_SENDER = "<>"


def fits(pattern: str, text: str) -> bool:
    """Tell whether a text fits a pattern in which ``*`` is any text; time O(len * stars).

    Both are compared without case.
    """
    head, *rest = pattern.lower().split("*")
    text = text.lower()
    if not rest:
        return text == head
    if not text.startswith(head):
        return False
    at = len(head)
    *middle, tail = rest
    for part in middle:
        found = text.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return len(text) - at >= len(tail) and text.endswith(tail)


def is_empty(select: Select) -> bool:
    """Tell whether everything is meant."""
    return select == Select()


def chooses_ta(select: Select, envelope: Envelope, now_s: float) -> bool:
    """Tell whether a transaction can have recipients that are meant.

    Args:
        select: what is meant.
        envelope: of the transaction.
        now_s: wall clock.
    """
    if select.ta_id and envelope.ta_id != select.ta_id:
        return False
    if select.sender:
        wanted = "" if select.sender == NULL_SENDER else select.sender
        if not fits(wanted, envelope.sender):
            return False
    return not select.older_s or now_s - envelope.received_at >= select.older_s


def chooses_rcpt(select: Select, address: str, dest: str, place: str) -> bool:
    """Tell whether a recipient of a transaction that fits is meant.

    Args:
        select: what is meant.
        address: of the recipient.
        dest: its destination, empty where unknown.
        place: where it is, one of wire_control.STATES.
    """
    if select.to and not fits(select.to, address):
        return False
    if select.domain:
        domain = select.domain.lower()
        if domain not in (address.rpartition("@")[2].lower(), dest.lower()):
            return False
    return not select.state or select.state == place
