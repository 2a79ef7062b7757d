"""The greylist's door: settles verdicts on recipients, and answers the operator's smxgrey.

Kind: shell.

Messages: GreyAsk.
Source: SPEC rows X241, X266 to X272; decision D29.
"""

from collections.abc import Callable

import attrs
import trio

from libsmx.channel import Channel
from libsmx.clock import Clock
from libsmx.errors import StoreError
from libsmx.log import Log
from libsmx.process import Context
from libsmx.wire import RcptAsk, Refusal, Verdict
from libsmx.wire_grey import GreyAnswer, GreyAsk, GreyClient
from smar.events import GREYLIST_CHANGED, GREYLISTED
from smar.grey import Entry, show_key, state_of
from smar.greygate import concerns, refusal
from smar.greystore import Greylist

Post = Callable[[Verdict], None]
_OFF = Refusal(code=554, status="5.5.4", text="there is no section greylisting in smar's section")
_UNKNOWN = Refusal(code=550, status="5.1.0", text="the greylist does not know this client")


@attrs.frozen
class GreyDoor:
    """What the desk asks; without a greylist every verdict stands.

    Attributes:
        greylist: opened; None without the section.
        refusal: what a client that has to come again is told.
        nursery: runs the operator's requests.
        clock: tells what has expired.
        log: gets refusals and changes.
    """

    greylist: Greylist | None
    refusal: Verdict
    nursery: trio.Nursery
    clock: Clock
    log: Log

    def settle(self, ask: RcptAsk, verdict: Verdict, post: Post) -> None:
        """Hand the final verdict on a recipient to post, now or when the client was looked up.

        Args:
            ask: the question.
            verdict: of all other checks.
            post: gets the verdict, or the greylist's refusal.
        """
        if self.greylist is None or not verdict.accept or verdict.discard or not concerns(ask):
            post(verdict)
            return

        def done(accepted: bool) -> None:  # noqa: FBT001 - the callback's signature
            if not accepted:
                self.log.emit(
                    GREYLISTED, client=ask.client, rcpt=ask.rcpt, session=ask.facts.session
                )
            post(verdict if accepted else self.refusal)

        self.greylist.check(ask.client, done)

    def handle(self, channel: Channel, ask: GreyAsk, rid: int) -> None:
        """Answer smxgrey."""
        if self.greylist is None:
            channel.post(_OFF, rid)
            return
        self.nursery.start_soon(self._answer, self.greylist, channel, ask, rid)

    async def _answer(self, grey: Greylist, channel: Channel, ask: GreyAsk, rid: int) -> None:
        try:
            answer = await self._work(grey, ask)
        except StoreError as error:
            answer = Refusal(code=451, status="4.3.0", text=str(error))
        channel.post(answer, rid)

    async def _work(self, grey: Greylist, ask: GreyAsk) -> GreyAnswer | Refusal:
        """Do what an operator asks for."""
        if ask.action == "list":
            try:
                start = bytes.fromhex(ask.after)
            except ValueError:
                return Refusal(code=501, status="5.5.4", text="no such page")
            page = await grey.page(start, ask.limit)
            return GreyAnswer(
                clients=[self._shown(grey, key, entry) for key, entry in page.entries],
                next=(page.entries[-1][0] + b"\0").hex() if page.more else "",
                count=page.total,
            )
        if ask.action == "show":
            found = await grey.show(ask.client)
            if found is None:
                return _UNKNOWN
            return GreyAnswer(clients=[self._shown(grey, *found)], count=1)
        if ask.action == "remove":
            if not await grey.remove(ask.client):
                return _UNKNOWN
            self.log.emit(GREYLIST_CHANGED, action=ask.action, client=ask.client, count=1)
            return GreyAnswer(clients=[], count=1)
        if ask.action == "expire":
            count = await grey.expire()
            self.log.emit(GREYLIST_CHANGED, action=ask.action, client="", count=count)
            return GreyAnswer(clients=[], count=count)
        return Refusal(code=501, status="5.5.4", text="no such action")

    def _shown(self, grey: Greylist, key: bytes, entry: Entry) -> GreyClient:
        return GreyClient(
            client=show_key(key),
            state=state_of(entry, int(self.clock.wall()), grey.times),
            first=entry.first_s,
            last=entry.last_s,
            mails=entry.mails,
        )


async def open_door(ctx: Context, nursery: trio.Nursery) -> GreyDoor:
    """Open the greylist that the configuration asks for; its tasks run in the nursery.

    Raises:
        StartError: its databases cannot be made.
    """
    conf = next(iter(ctx.conf.greylisting), None)
    greylist = None
    if conf is not None:
        greylist = Greylist(conf, ctx.clock, ctx.log, nursery)
        await greylist.open()
        nursery.start_soon(greylist.run)
    code = int(conf.reply_code) if conf is not None else 0
    return GreyDoor(greylist, refusal(code), nursery, ctx.clock, ctx.log)
