"""Changes: what operators do to the queue, carried out and logged.

Kind: shell.

Each change is logged with the user who asked. A change of recipients is answered when it is on
disk, or after a while if the disk is slow; it is begun in any case.
Source: SPEC rows X162, X477; architecture.md.
"""

from collections.abc import Callable

import msgspec
import trio

from libsmx import wire, wire_control
from libsmx.address import AddressError, parse_mailbox
from libsmx.errors import StoreError
from libsmx.log import Log
from libsmx.wire_control import REDIRECT, Done, Select, Suspension
from qmgr import events, suspendfile
from qmgr.admin import Change, Chosen, apply, choose_deferred, choose_new, is_there
from qmgr.engine import Engine
from qmgr.ta import Rcpt

SETTLE_S = 10.0
"""Longest wait for the disk before an answer."""
EXPIRE_S = 5.0
BY_TIME = -1
"""In place of the uid where time ended a suspension."""
_IN_MEMORY, _ON_DISK = "m", "d"

_NOT_YET = wire.Refusal(code=451, status="4.3.0", text="The deferred queue cannot be read now")
_FULL = wire.Refusal(code=452, status="4.3.1", text="Too many suspensions, resume some")
_UNKNOWN = wire.Refusal(code=550, status="5.1.0", text="It is not suspended")


def _bad(text: str) -> wire.Refusal:
    return wire.Refusal(code=501, status="5.5.4", text=text)


class Changes:
    """See the module.

    Args:
        engine: the queue.
        log: for changes; its level is one of them.
        directory: of the DEFEDB, where the file of suspensions is.
        stop: begins the stop of the whole system.
        reload: does what SIGHUP does.
    """

    def __init__(
        self,
        engine: Engine,
        log: Log,
        directory: str,
        stop: Callable[[], None],
        reload: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._log = log
        self._directory = directory
        self._stop = stop
        self._reload = reload

    async def make(self, uid: int, message: object) -> object:
        """Make a change for a user who may, and return the answer.

        Raises:
            StoreError: the disk does not let us.
        """
        match message:
            case wire_control.ChangeAsk():
                return await self._change(uid, message)
            case wire_control.FlushAsk():
                return await self._flush(uid, message.dest)
            case wire_control.SuspendAsk():
                return await self._suspend(uid, message)
            case wire_control.ResumeAsk():
                return await self._resume(uid, message.name)
            case wire_control.LogLevelAsk():
                self._log.emit(events.LOG_LEVEL_SET, uid=uid, level=message.level)
                old, self._log.level = self._log.level, message.level
                return Done(count=old)
            case wire_control.ReloadAsk():
                self._log.emit(events.RELOAD_ASKED, uid=uid)
                self._reload()
                return Done()
            case wire_control.StopAsk():
                self._log.emit(events.STOP_ASKED, uid=uid)
                self._stop()
                return Done()
            case _:
                return wire.Refusal(code=500, status="5.5.1", text="Not a change")

    # --- recipients ------------------------------------------------------------------------

    async def _change(self, uid: int, ask: wire_control.ChangeAsk) -> object:
        """Change one page of recipients."""
        if ask.action not in wire_control.ACTIONS:
            return _bad(f"{ask.action} is none of {', '.join(wire_control.ACTIONS)}")
        address = ask.address if ask.action == REDIRECT else ""
        if ask.action == REDIRECT:
            try:
                address = str(parse_mailbox(address))
            except AddressError as error:
                return _bad(str(error)[:500])
        engine, change = self._engine, Change(ask.action, address)
        if not engine.defedb_open:
            return _NOT_YET
        async with engine.defedb_lock:
            chosen, following = await self._choose(ask, change)
            count = len(chosen)
            closing: list[Rcpt] = []
            if count and not ask.dry_run:
                closing = apply(engine.core, change, chosen, engine.now_s())
        if count and not ask.dry_run:
            self._log.emit(
                events.QUEUE_CHANGED,
                uid=uid,
                action=ask.action,
                select=describe(ask.select),
                address=address,
                rcpts=count,
            )
            engine.perform()
            engine.load_soon()
            await self._settle(closing)
            engine.load_soon()
        return Done(count=count, next=following)

    async def _choose(self, ask: wire_control.ChangeAsk, change: Change) -> tuple[Chosen, str]:
        """Return a page of recipients and the position behind it."""
        engine, select, now_s = self._engine, ask.select, self._engine.now_s()
        where, position = ask.after[:1], ask.after[1:]
        if where != _ON_DISK:
            chosen, following = choose_new(engine.core, select, change, now_s, position, ask.limit)
            if following or len(chosen):
                return chosen, _IN_MEMORY + following if following else _ON_DISK
            position = ""
        page, following = await engine.defedb.scan(
            position, ask.limit, name=select.domain, ta_id=select.ta_id
        )
        chosen = choose_deferred(engine.core, select, change, now_s, page)
        return chosen, _ON_DISK + following if following else ""

    async def _settle(self, rcpts: list[Rcpt]) -> None:
        """Wait until what became of recipients is on disk, but not for ever."""
        with trio.move_on_after(SETTLE_S):
            while any(is_there(rcpt) for rcpt in rcpts):
                await self._engine.settled.park()

    async def _flush(self, uid: int, match: str) -> object:
        engine = self._engine
        if not engine.defedb_open:
            return _NOT_YET
        engine.core.flush(engine.now_s(), match)
        count = await engine.defedb.make_due(engine.now_s(), match)
        engine.load_soon()
        self._log.emit(events.FLUSHED, uid=uid, match=match, rcpts=count)
        return Done(count=count)

    # --- suspensions -----------------------------------------------------------------------

    async def load(self) -> None:
        """Let the suspensions of the last run hold; call before deliveries begin."""
        try:
            stored = await trio.to_thread.run_sync(suspendfile.read, self._directory)
        except StoreError as error:
            self._log.emit(events.SUSPENSIONS_BAD, error=str(error))
            return
        self._engine.core.dispatch.suspensions.load(stored)

    async def expire(self) -> None:
        """End suspensions whose time is over, for ever."""
        while True:
            await trio.sleep(EXPIRE_S)
            suspensions = self._engine.core.dispatch.suspensions
            for name in suspensions.expired(self._engine.now_s()):
                try:
                    await self._resume(BY_TIME, name)
                except StoreError as error:
                    self._log.emit(events.DEFEDB_FAILED, error=str(error))

    async def _write(self) -> None:
        names = self._engine.core.dispatch.suspensions.names
        await trio.to_thread.run_sync(suspendfile.write, self._directory, list(names.values()))

    async def _suspend(self, uid: int, ask: wire_control.SuspendAsk) -> object:
        if not ask.name:
            return _bad("A suspension needs the name of a domain, destination, host or address")
        engine = self._engine
        suspensions, now_s = engine.core.dispatch.suspensions, engine.now_s()
        name = ask.name.lower()
        before = suspensions.names.get(name)
        one = Suspension(
            name=name,
            reason=ask.reason,
            since=now_s,
            until=now_s + ask.for_s if ask.for_s else 0.0,
            uid=uid,
        )
        if not suspensions.add(one):
            return _FULL
        try:
            await self._write()
        except StoreError:
            suspensions.names.pop(name, None)
            if before is not None:
                suspensions.add(before)
            raise
        self._log.emit(events.SUSPENDED, uid=uid, name=name, seconds=ask.for_s, reason=ask.reason)
        count = engine.core.dispatch.suspend(now_s)
        engine.perform()
        return Done(count=count)

    async def _resume(self, uid: int, name: str) -> object:
        """End a suspension and make due what waited for it."""
        engine = self._engine
        suspensions = engine.core.dispatch.suspensions
        before = suspensions.names.get(name.lower())
        if before is None:
            return _UNKNOWN
        suspensions.remove(name)
        try:
            await self._write()
        except StoreError:
            suspensions.add(before)
            raise
        self._log.emit(events.RESUMED, uid=uid, name=name.lower())
        count = 0
        if engine.defedb_open:
            count = await engine.defedb.make_due(engine.now_s(), name)
            engine.load_soon()
        return Done(count=count)


def describe(select: Select) -> str:
    """Return a selection for the log, as compact JSON of what is not left open."""
    values = msgspec.to_builtins(select)
    return msgspec.json.encode({k: v for k, v in values.items() if v}).decode()
