"""Engine: carries the core's effects out and brings it the world's events.

Kind: shell.

Messages of smtps and smtpc and outcomes of the stores are handed to the core as they come and
answered at once; what they make possible together (routes, deliveries, records) leaves at the
end of the turn of the loop (libsmx/turnend.py), without a task. Changes of the DEFEDB and loads
from it alternate in a task, never both at a time: a load must not see what a batch under way
removes.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import attrs
import trio

from libsmx import wire
from libsmx.bell import Bell
from libsmx.channel import Channel
from libsmx.clock import Clock
from libsmx.errors import StoreError
from libsmx.link import Link
from libsmx.log import Log
from libsmx.turnend import turn_end
from qmgr import effects as fx
from qmgr import events
from qmgr.core import QueueManager
from qmgr.defedb import DefedbBatch
from qmgr.deferred import Defedb
from qmgr.ibdblog import Ibdb
from qmgr.places import Delivery
from qmgr.retry import SteadyWall
from qmgr.spool import Remover

ROUTE_TIMEOUT_S = 300.0
"""smar bounds its lookups itself; this is for one that hangs."""
DELIVERY_TIMEOUT_S = 12 * 3600.0
"""smtpc bounds its sessions itself; this is for one that hangs."""
TICK_S = 1.0
GATHER_S = 0.05
"""Temporary failures are collected for so long before they are written."""
GATHER_RCPTS = 500
TIDY_S = 60.0
LOAD_RCPTS = 1000
"""Most recipients loaded at a time."""


class Engine:
    """See the module.

    Args:
        core: the queue manager.
        ibdb, defedb: the stores; the DEFEDB need not be open yet.
        remover: removes content files.
        log, clock: of the process.
    """

    def __init__(
        self,
        core: QueueManager,
        ibdb: Ibdb,
        defedb: Defedb,
        remover: Remover,
        log: Log,
        clock: Clock,
    ) -> None:
        self.core = core
        self.ibdb = ibdb
        self.defedb = defedb
        self.smar: Link | None = None
        self._remover = remover
        self._log = log
        self._clock = clock
        self._wall = SteadyWall(clock.wall(), clock.mono())
        self._channels: dict[int, Channel] = {}
        self._numbers: dict[Channel, int] = {}
        self._last_channel = 0
        self.defedb_open = False
        self.defedb_lock = trio.Lock()
        """Held while recipients come from, or go to, the DEFEDB: who holds it sees each of them
        either there or in memory."""
        self.settled = trio.lowlevel.ParkingLot()
        """Those who wait until recipients have left memory; woken when some have."""
        self._wanted = False
        self._held: list[fx.Deliver] = []  # until the results before them are written
        self._bell = Bell()
        ibdb.alone = lambda: core.iqdb.sessions <= 1
        self._defedb_wanted = trio.Event()
        self._perform_by_type: dict[type, Callable[[Any], None]] = {
            fx.Answer: self._answer,
            fx.Commit: self._commit,
            fx.Note: self._note,
            fx.AskRoute: self._ask_route,
            fx.RemoveContents: self._remove,
            fx.Record: self._record,
        }

    def now_s(self) -> float:
        """Return steady wall time."""
        return self._wall.now_s(self._clock.wall(), self._clock.mono())

    # --- turns -----------------------------------------------------------------------------

    def wake(self) -> None:
        """Have the turn ended once everything that is ready has been handled."""
        self._wanted = True

    def perform(self) -> None:
        """Carry out what the core wants now, and see to the end of the turn."""
        by_type = self._perform_by_type
        for effect in self.core.take():
            by_type[type(effect)](effect)
        self._wanted = True

    async def run_turns(self) -> None:
        """End turns, for ever; wait for the log where it cannot be written at once."""
        turn_end().hook(self._end_turn)
        try:
            while True:
                if not self._held:
                    await self._bell.wait()
                await self.ibdb.write_now()
                self._release()
        finally:
            turn_end().unhook(self._end_turn)

    def _end_turn(self) -> bool:
        """Start what the events of this turn made possible; tell whether there was any."""
        if not self._wanted:
            return False
        self._wanted = False
        self.core.turn(self.now_s())
        by_type = self._perform_by_type
        for effect in self.core.take():
            if type(effect) is fx.Deliver:
                self._held.append(effect)
            else:
                by_type[type(effect)](effect)
        # Results first, then the work that follows from them, also where the results need
        # a new segment: if we die in between, no session has two deliveries open.
        if self._held:
            if self.ibdb.write():
                self._release()
            else:
                self._bell.ring()
        if self.core.closing.batch_waits:
            self._defedb_wanted.set()
        return True

    def _release(self) -> None:
        """Let the deliveries go that waited for the results before them."""
        held, self._held = self._held, []
        for effect in held:
            self._deliver(effect)

    async def run_ticks(self) -> None:
        """Tell the core about time, for ever."""
        while True:
            await trio.sleep(TICK_S)
            self.core.tick(self.now_s())
            held = self.ibdb.oldest_open()
            if held:
                self.core.segment_held(self.now_s(), held)
            self.perform()
            self._defedb_wanted.set()

    # --- effects ---------------------------------------------------------------------------

    def _answer(self, effect: fx.Answer) -> None:
        channel = self._channels.get(effect.channel)
        if channel is not None:
            channel.post(effect.message, effect.rid)

    def _commit(self, effect: fx.Commit) -> None:
        self.ibdb.commit(effect.entry, partial(self._committed, effect))

    def _committed(self, effect: fx.Commit, error: StoreError | None) -> None:
        self.core.committed(self.now_s(), effect, error)
        self.perform()

    def _note(self, effect: fx.Note) -> None:
        self.ibdb.note(effect.entry, partial(self._noted, effect))

    def _noted(self, effect: fx.Note, error: StoreError | None) -> None:
        self.core.noted(self.now_s(), effect, error)
        if self.settled:
            self.settled.unpark_all()
        self.perform()

    def _ask_route(self, effect: fx.AskRoute) -> None:
        channel = self.smar.channel if self.smar is not None else None
        if channel is None:
            self.core.route_failed(self.now_s(), effect)
            return
        ask = wire.RouteAsk(rcpts=[rcpt.address for rcpt in effect.rcpts])
        channel.request(ask, partial(self._routed, effect), ROUTE_TIMEOUT_S)

    def _routed(self, effect: fx.AskRoute, answer: object | None) -> None:
        if isinstance(answer, wire.RouteAnswer):
            self.core.routed(self.now_s(), effect, answer)
        elif isinstance(answer, wire.Refusal):
            self.core.route_refused(self.now_s(), effect, answer)
        else:
            self.core.route_failed(self.now_s(), effect)
        self.perform()

    def _deliver(self, effect: fx.Deliver) -> None:
        channel = self._channels.get(effect.channel)
        if channel is None:
            return  # it went away meanwhile, and the core has taken the work back
        delivery = effect.delivery
        session = delivery.session
        envelope = delivery.ta.envelope
        if len(delivery.rcpts) != len(envelope.rcpts) or delivery.ta.redirected:
            envelope = attrs.evolve(envelope, rcpts=[r.recipient for r in delivery.rcpts])
        message = wire.Deliver(
            da_sess=session.id,
            da_ta=delivery.id,
            lmtp=session.dest.lmtp,
            dest=session.dest.key,
            targets=delivery.targets,
            envelope=envelope,
        )
        channel.request(message, partial(self._delivered, delivery), DELIVERY_TIMEOUT_S)

    def _delivered(self, delivery: Delivery, answer: object | None) -> None:
        if isinstance(answer, wire.Delivered):
            self.core.delivered(self.now_s(), delivery, answer)
        elif isinstance(answer, wire.Refusal):
            self.core.delivery_refused(self.now_s(), delivery, answer)
        else:
            self.core.delivery_lost(self.now_s(), delivery)
        self.perform()

    def _remove(self, effect: fx.RemoveContents) -> None:
        self._remover.remove(effect.cdb_ids)

    def _record(self, effect: fx.Record) -> None:
        self._log.emit(effect.event, **effect.fields)

    # --- channels --------------------------------------------------------------------------

    def _number(self, channel: Channel) -> int:
        self._last_channel += 1
        self._numbers[channel] = self._last_channel
        self._channels[self._last_channel] = channel
        return self._last_channel

    def smtps_opened(self, channel: Channel) -> None:
        """A smtps process said hello."""
        self.core.smtps_opened(self._number(channel))
        self.perform()

    def smtps_closed(self, channel: Channel) -> None:
        """A smtps process went away."""
        number = self._numbers.pop(channel)
        del self._channels[number]
        self.core.smtps_closed(number)
        self.perform()

    def smtps_message(self, channel: Channel, message: object, rid: int) -> None:
        """A smtps process asks."""
        core, number = self.core, self._numbers[channel]
        match message:
            case wire.TaOpen():
                core.ta_open(number, rid, message)
            case wire.TaCommit():
                core.ta_commit(self.now_s(), number, rid, message)
            case wire.SessionOpen():
                core.session_open(self.now_s(), number, rid, message)
            case wire.SessionClose():
                core.session_close(number, message)
            case wire.TaAbort():
                core.ta_abort(number, message)
            case _:
                channel.close(f"{type(message).__name__} has no meaning here")
                return
        self.perform()

    def smtpc_opened(self, channel: Channel) -> None:
        """A smtpc process said hello."""
        self.core.smtpc_opened(self._number(channel), channel.capacity)
        self.perform()

    def smtpc_closed(self, channel: Channel) -> None:
        """A smtpc process went away."""
        number = self._numbers.pop(channel)
        self.core.smtpc_closed(self.now_s(), number)
        del self._channels[number]
        self.perform()

    def smtpc_message(self, channel: Channel, message: object, _rid: int) -> None:
        """A smtpc process tells something unasked."""
        if isinstance(message, wire.SessionLost):
            self.core.session_lost(self._numbers[channel], message)
            self.perform()
        else:
            channel.close(f"{type(message).__name__} has no meaning here")

    def smar_opened(self, _channel: Channel) -> None:
        """The resolver is there."""
        self.core.smar_opened()
        self.perform()

    def smar_closed(self, _channel: Channel) -> None:
        """The resolver is away."""
        self.core.smar_closed()

    # --- DEFEDB ----------------------------------------------------------------------------

    def load_soon(self) -> None:
        """Look for due mail now."""
        self._defedb_wanted.set()

    async def run_defedb(self) -> None:
        """Write batches and load due mail, for ever; the DEFEDB is open."""
        tidy_at = 0.0
        while True:
            await self._defedb_wanted.wait()
            self._defedb_wanted = trio.Event()
            try:
                await self._write_batches()
                while await self._load():
                    await self._write_batches()
                if self.now_s() >= tidy_at:
                    tidy_at = self.now_s() + TIDY_S
                    await self.defedb.tidy()
            except StoreError as error:
                self._log.emit(events.DEFEDB_FAILED, error=str(error))
                await trio.sleep(TICK_S)

    async def _write_batches(self) -> None:
        while self.core.closing.batch_waits:
            if self.core.closing.batch_size < GATHER_RCPTS and not self.core.stopping:
                await trio.sleep(GATHER_S)
            batch = self.core.closing.take_batch()
            if batch is None:
                return
            try:
                async with self.defedb_lock:
                    unreferenced = await self._apply(batch)
                    self.core.applied(batch, unreferenced)
            except StoreError as error:
                self.core.apply_failed(batch, error)
                self.perform()
                await trio.sleep(TICK_S)
            else:
                self.settled.unpark_all()
                self.perform()

    async def _apply(self, batch: fx.Batch) -> Sequence[str]:
        result = await self.defedb.apply(DefedbBatch(batch.put, batch.remove, batch.returned))
        return result.unreferenced

    async def _load(self) -> bool:
        """Load due mail; tell whether there may be more and room for it."""
        room = self.core.aq.room_to_load()
        if room <= 0 or self.core.stopping:
            return False
        limit = min(room, LOAD_RCPTS)
        async with self.defedb_lock:
            loaded = await self.defedb.due(self.now_s(), limit, self.core.tas.holds)
            if not loaded:
                return False
            self.core.loaded(loaded)
        self.perform()
        return sum(len(rcpts) for _, rcpts in loaded) >= limit

    async def drain(self, timeout_s: float) -> bool:
        """Stop starting things; tell whether what was under way ended in time."""
        self.core.stop()
        with trio.move_on_after(timeout_s):
            while not self.core.idle():
                self.perform()
                self._defedb_wanted.set()
                await trio.sleep(0.02)
            return True
        return False
