"""Expansion: a recipient that stands for others gives way to them.

Kind: core.

The members become transactions of our own that share the content file. One record ends the
recipient and opens them, so that after a crash either the recipient is still there or all of
its members are; none of them is tried before that record is on disk.

A recipient with an owner is a list: it counts as delivered, and its members get the message from
the owner, who hears of their failures; the sender's wishes about reports end here. Without an
owner it is an alias: sender and wishes go on to the members, but for SUCCESS where there are
several of them, which is answered with the action "expanded". The null sender stays as it is:
nobody answers reports (RFC 5321 4.5.5).
Limits: MAX_DEPTH expansions one after another; a large one waits until there is room for it.
Source: RFC 3461 5.2.7; SPEC rows X324, X325, X327, X328; architecture.md.
"""

from collections.abc import Callable, Sequence

import attrs

from libsmx.envelope import MAX_RCPTS, Envelope, Recipient
from libsmx.wire import Route
from qmgr import events
from qmgr.bounce import DELIVERED, EXPANDED, News
from qmgr.closing import Closing, Recorder
from qmgr.iqdb import Iqdb
from qmgr.ta import Home, Rcpt

MAX_DEPTH = 10
"""The resolver follows aliases by itself; what comes back so often has no end."""
MAX_MEMBERS = 1000
"""Recipients in one transaction of members."""
MAX_NAMED = 1000
"""So many members at most carry the address that they come from, if its sender gave none."""
ROOM_PAUSE_S = 60.0
"""An expansion that finds no room is tried again after this time."""

_STATUS = "2.1.5"


class Expansion:
    """See the module.

    Args:
        closing: ends the recipient.
        iqdb: has room for the members, or not.
        record: logs an event.
        next_id: returns a transaction id never used before.
        pause_s: retries are not sooner than this.
    """

    def __init__(
        self,
        closing: Closing,
        iqdb: Iqdb,
        record: Recorder,
        next_id: Callable[[], str],
        pause_s: float,
    ) -> None:
        self._closing = closing
        self._iqdb = iqdb
        self._record = record
        self._next_id = next_id
        self._pause_s = min(ROOM_PAUSE_S, pause_s)

    def expand(self, now_s: float, rcpt: Rcpt, route: Route) -> None:
        """Let the members of a route take the place of a recipient that has no other way."""
        envelope = rcpt.ta.envelope
        if envelope.expanded >= MAX_DEPTH:
            text = "The expansion of this address does not come to an end"
            self._closing.fail(rcpt, status="5.4.6", text=text)
            return
        members = list({address.lower(): address for address in route.expand}.values())
        if rcpt.ta.home is Home.IBDB:
            if not self._iqdb.room_to_expand(len(members)):
                text = "Its expansion is large and waits for room"
                at = now_s + self._pause_s
                self._closing.postpone(rcpt, at, dest=rcpt.dest, status="4.3.1", text=text)
                return
            self._iqdb.spilling += len(members)
        into = make_members(envelope, rcpt.recipient, members, route.owner, self._next_id)
        self._closing.expand(rcpt, into, news_of(len(members), now_s, is_list=bool(route.owner)))
        self._record(
            events.RCPT_EXPANDED,
            ta=envelope.ta_id,
            rcpt=rcpt.address,
            into=into[0].ta_id,
            tas=len(into),
            members=len(members),
            sender=into[0].sender,
        )


def news_of(members: int, now_s: float, *, is_list: bool) -> News | None:
    """Return what a sender is told who asked for it, None: nothing, the member's server will."""
    if is_list:
        return News(DELIVERED, _STATUS, "The mailing list has it", attempt_at=now_s)
    if members > 1:
        text = "This address stands for several others, the message is on its way to them"
        return News(EXPANDED, _STATUS, text, attempt_at=now_s)
    return None


def make_members(
    envelope: Envelope,
    recipient: Recipient,
    members: Sequence[str],
    owner: str,
    next_id: Callable[[], str],
) -> list[Envelope]:
    """Return the transactions that take the place of a recipient.

    Args:
        envelope: that of the recipient.
        recipient: the list or alias.
        members: at least one address, each once.
        owner: new sender, empty where it is an alias.
        next_id: returns a transaction id never used before.
    """
    notify, orcpt = "", ""
    if not owner:
        notify, orcpt = recipient.notify, recipient.orcpt
        if len(members) > 1:
            notify = without_success(notify)
        if not orcpt and recipient.address.isascii() and len(members) <= MAX_NAMED:
            orcpt = f"rfc822;{recipient.address}"[:500]
    return [
        attrs.evolve(
            envelope,
            ta_id=next_id(),
            sender=owner if owner and envelope.sender else envelope.sender,
            rcpts=[
                Recipient(idx=idx, address=address, notify=notify, orcpt=orcpt)
                for idx, address in enumerate(members[at : at + MAX_MEMBERS])
            ],
            expanded=envelope.expanded + 1,
            returned=False,
            hold="",
            ret="" if owner else envelope.ret,
            envid="" if owner else envelope.envid,
        )
        for at in range(0, min(len(members), MAX_RCPTS), MAX_MEMBERS)
    ]


def without_success(notify: str) -> str:
    """Return a NOTIFY value that asks for no reports of success (RFC 3461 5.2.7.2 c)."""
    words = [word for word in notify.split(",") if word and word.upper() != "SUCCESS"]
    return ",".join(words) or ("NEVER" if notify else "")
