"""Control desk: answers qmgrctl.

Kind: shell.

Whoever can open the socket may look (its directory decides who can). To change something one
must be root, the queue manager's own user, or in group smx. Questions are answered one after
another by one task, changes by another, so that a change that waits for the disk keeps nobody
from looking; a client that asks faster is refused, mail does not wait for it. No request looks
at more recipients than a page has.
Source: SPEC rows X162, X477; architecture.md.
"""

import grp
import os
import pwd
from collections.abc import Awaitable, Callable

import attrs
import trio

from libsmx import wire, wire_control
from libsmx.channel import Channel
from libsmx.errors import StoreError
from libsmx.log import Log
from libsmx.stats import snapshot
from qmgr import events
from qmgr.changes import Changes
from qmgr.control import deferred_page, figures, memory_page, state_of
from qmgr.details import deferred_destination, destinations, show
from qmgr.engine import Engine
from qmgr.stats import StatsBook, own_rows

GROUP = "smx"
MAX_WAITING = 64
MAX_BACKLOG = 1000
"""Deferred recipients of one destination that are counted."""
MAX_DESTS = 100
"""Destinations in one answer."""
_BY_HASH = "\0"
"""First character of a position in the list of destinations that are in the DEFEDB only."""
IN_MEMORY, ON_DISK = "m", "d"
"""First character of a position in a listing."""

Request = tuple[Channel, object, int]

_BUSY = wire.Refusal(code=451, status="4.3.2", text="Too many requests wait")
_DENIED = wire.Refusal(
    code=550, status="5.7.1", text=f"Only root, the queue manager's user and group {GROUP} may"
)
_NOT_YET = wire.Refusal(code=451, status="4.3.0", text="The deferred queue cannot be read now")
_UNKNOWN = wire.Refusal(code=550, status="5.1.0", text="No such transaction is in the queue")


def may_change(uid: int) -> bool:
    """Tell whether a user may change the queue."""
    if uid in (0, os.geteuid()):
        return True
    try:
        user = pwd.getpwuid(uid)
        return grp.getgrnam(GROUP).gr_gid in os.getgrouplist(user.pw_name, user.pw_gid)
    except KeyError:
        return False


class Desk:
    """See the module.

    Args:
        engine: the queue.
        log: for changes and refusals.
        changes: carries changes out.
    """

    def __init__(self, engine: Engine, log: Log, changes: Changes) -> None:
        self._engine = engine
        self._log = log
        self._changes = changes
        self.stats = StatsBook()
        self._put, self._get = trio.open_memory_channel[Request](MAX_WAITING)
        self._put_change, self._get_change = trio.open_memory_channel[Request](MAX_WAITING)

    def handle(self, channel: Channel, message: object, rid: int) -> None:
        """Take a request."""
        changes = type(message) in wire_control.CHANGES
        try:
            (self._put_change if changes else self._put).send_nowait((channel, message, rid))
        except trio.WouldBlock:
            channel.post(_BUSY, rid)

    async def run(self) -> None:
        """Answer requests, for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._serve, self._get, self._look)
            nursery.start_soon(self._serve, self._get_change, self._change)

    async def _serve(
        self,
        requests: trio.MemoryReceiveChannel[Request],
        answer_to: Callable[[int, object], Awaitable[object]],
    ) -> None:
        async for channel, message, rid in requests:
            if not channel.closed:
                try:
                    answer = await answer_to(channel.uid, message)
                except StoreError as error:
                    answer = wire.Refusal(code=451, status="4.3.0", text=str(error)[:1000])
                channel.post(answer, rid)

    async def _change(self, uid: int, message: object) -> object:
        if not may_change(uid):
            request = type(message).__name__
            self._log.emit(events.CONTROL_REFUSED, uid=uid, request=request)
            return _DENIED
        return await self._changes.make(uid, message)

    async def _look(self, _uid: int, message: object) -> object:
        match message:
            case wire_control.StatusAsk():
                return await self._status()
            case wire_control.StatsAsk():
                status = await self._status()
                own = own_rows(status.figures, snapshot(self._log.tally).values)
                return wire_control.StatsAnswer(rows=own + self.stats.rows())
            case wire_control.QueueAsk():
                return await self._queue(message)
            case wire_control.ShowAsk():
                return await self._show(message.ta_id)
            case wire_control.DestinationsAsk():
                return await self._destinations(message)
            case wire_control.SuspensionsAsk():
                names = self._engine.core.dispatch.suspensions.names
                return wire_control.SuspensionsAnswer(suspensions=[names[n] for n in sorted(names)])
            case _:
                return wire.Refusal(code=500, status="5.5.1", text="Not a request")

    async def _status(self) -> wire_control.StatusAnswer:
        engine = self._engine
        core, ibdb, defedb = engine.core, engine.ibdb, engine.defedb
        oldest = [await defedb.oldest() if engine.defedb_open else None]
        oldest += [ta.envelope.received_at for ta in core.tas.ibdb.values()]
        now_s = engine.now_s()
        age_s = max((now_s - at for at in oldest if at is not None), default=0.0)
        rows = [
            ("oldest_message", max(int(age_s), 0), "seconds"),
            ("ibdb_open_tas", ibdb.open_tas, "transactions"),
            ("ibdb_segments", ibdb.segments, "files"),
            ("ibdb_bytes", ibdb.bytes, "bytes"),
            ("defedb_tas", defedb.tas, "transactions"),
            ("defedb_rcpts", defedb.rcpts, "recipients"),
            ("defedb_commits", defedb.commits, "commits"),
        ]
        state, reason = state_of(core, defedb=engine.defedb_open)
        more = [wire_control.Figure(name=n, value=v, unit=unit) for n, v, unit in rows]
        return wire_control.StatusAnswer(
            state=state, reason=reason[:1000], figures=figures(core) + more
        )

    async def _queue(self, ask: wire_control.QueueAsk) -> object:
        """Return a page: new mail first, then deferred mail."""
        tas, now_s, select = self._engine.core.tas, self._engine.now_s(), ask.select
        where, position = ask.after[:1], ask.after[1:]
        if where != ON_DISK:
            entries, following = memory_page(tas, position, ask.limit, select, now_s)
            following = IN_MEMORY + following if following else ON_DISK
            if entries:
                return wire_control.QueueAnswer(entries=entries, next=following)
            position = ""
        if not self._engine.defedb_open:
            return _NOT_YET
        page, following = await self._engine.defedb.scan(
            position, ask.limit, name=select.domain, ta_id=select.ta_id
        )
        following = ON_DISK + following if following else ""
        entries = deferred_page(tas, page, select, now_s)
        return wire_control.QueueAnswer(entries=entries, next=following)

    async def _show(self, ta_id: str) -> object:
        engine = self._engine
        found = await engine.defedb.get(ta_id) if engine.defedb_open and ta_id else None
        answer = show(engine.core, ta_id, found, engine.now_s(), defedb=engine.defedb_open)
        if answer is None:
            return _UNKNOWN if engine.defedb_open else _NOT_YET
        return answer

    async def _destinations(self, ask: wire_control.DestinationsAsk) -> object:
        engine = self._engine
        if ask.after[:1] == _BY_HASH:
            return await self._deferred_destinations(ask)
        rows, following = destinations(
            engine.core, engine.now_s(), ask.after, ask.match, min(ask.limit, MAX_DESTS)
        )
        if engine.defedb_open:
            names = [row.dest for row in rows]
            counts = await engine.defedb.backlog([name for name in names if name], MAX_BACKLOG)
            by_name = dict(zip([name for name in names if name], counts, strict=True))
            rows = [attrs.evolve(row, deferred=by_name.get(row.dest, 0)) for row in rows]
            if not following and not ask.match:
                following = _BY_HASH
        return wire_control.DestinationsAnswer(dests=rows, next=following)

    async def _deferred_destinations(self, ask: wire_control.DestinationsAsk) -> object:
        """Return a page of the destinations that have mail in the DEFEDB only."""
        core, defedb, now_s = self._engine.core, self._engine.defedb, self._engine.now_s()
        names, following = await defedb.names(ask.after[1:], min(ask.limit, MAX_DESTS))
        names = [name for name in names if name not in core.aq.destinations]
        counts = await defedb.backlog(names, MAX_BACKLOG)
        rows = [
            attrs.evolve(deferred_destination(core, now_s, name), deferred=count)
            for name, count in zip(names, counts, strict=True)
        ]
        following = _BY_HASH + following if following else ""
        return wire_control.DestinationsAnswer(dests=rows, next=following)
