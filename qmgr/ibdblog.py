"""Incoming queue backup database: the log on disk, with group commit.

Kind: shell.
Owns: the segment files in its directory, locked against a second queue manager.

What is committed or noted in one turn of the loop is written together at its end
(libsmx/turnend.py), so a note survives the death of this process at once; a task makes segments
and acts on failures. A sync begins as soon as a commit waits and no other sync runs, and serves
everything written before it began: a lone client waits for no batch, many share one. Notes alone
are synced after a moment.

A failed write or sync is final for its segment. Commits that only bring new mail are refused;
entries that close recipients tell what has happened already, so they cannot be refused and
are written again into the next segment, in order. Refused transactions are closed there as
discarded, because their records may have reached the disk all the same.

A segment is removed when neither it nor an older one holds an open transaction.
Source: SPEC rows X013, X171 to X174; architecture.md.
"""

from collections import deque
from collections.abc import Callable

import trio

from libsmx.bell import Bell
from libsmx.clock import Clock
from libsmx.envelope import Envelope
from libsmx.errors import StoreError
from libsmx.log import Log
from libsmx.turnend import turn_end
from qmgr.ibdb import OVERHEAD, OpenTas
from qmgr.ibdbrecover import Lock, Recovery, forget, read_log
from qmgr.pending import OnDone, Pending, part, seal_queued, segments_of
from qmgr.records import Entry
from qmgr.segments import Segments
from qmgr.storeevents import IBDB_FAILED, IBDB_NO_SEGMENT
from qmgr.syncer import Syncer, store_error, sync_all

NOTE_DELAY_S = 0.1
"""Notes wait so long for a commit whose sync they can share."""
RETRY_S = 1.0
"""Pause after a segment could not be made."""
MAX_HELD = 16
"""More segments than this are rolled forward, see ``oldest_open``."""


class Ibdb:
    """The log of accepted transactions and of what became of them.

    Order of calls: recover, start, run in a task of its own; forget_recovered once everything
    recovered is safe elsewhere and before any of it is tried again; close at the end.

    Args:
        directory: made if missing; may be a symbolic link.
        size: bytes of a segment; an entry that is larger alone gets a larger one.
        max_open_tas: records written since the last sync that force the next one.
        max_commit_delay_us: notes wait for a sync so long if that is longer than 100 ms;
            commits never wait on purpose.
        log: for events.
        clock: measures how long syncs take.

    Attributes:
        alone: tells whether nobody but the client whose commit waits has a transaction open.
    """

    def __init__(
        self,
        directory: str,
        *,
        size: int,
        max_open_tas: int,
        max_commit_delay_us: int,
        log: Log,
        clock: Clock,
    ) -> None:
        self._directory = directory
        self._max_unsynced = max_open_tas
        self._note_delay_s = max(NOTE_DELAY_S, max_commit_delay_us / 1e6)
        self._log = log
        self._clock = clock
        self._lock = Lock(directory)
        self._recovery: Recovery | None = None
        self._open = OpenTas()
        self._files = Segments(directory, size, log)
        self._queue: deque[Pending] = deque()  # not written yet
        self._written: list[Pending] = []  # written, no sync begun
        self._syncing: list[Pending] = []  # their sync is running
        self._results: list[OSError | None] = []  # of the sync that ended, at most one
        self._sync_done = trio.Event()
        self._urgent = False  # what is written must be synced now
        self._ticking = False
        self._failure: OSError | None = None  # the current segment is lost
        self._stuck = False  # a moment ago no segment could be made
        self._bell = Bell()
        self._turning = False  # the task is at work, the end of a turn must not interfere
        self._syncer: Syncer | None = None
        self._nursery: trio.Nursery | None = None
        self._turned = trio.lowlevel.ParkingLot()  # those who wait for a segment
        self._run_ended: trio.Event | None = None
        self._closed = False
        self.alone: Callable[[], bool] = lambda: False
        self.commits = 0
        self.syncs = 0

    # --- start ---------------------------------------------------------------------------

    def recover(self) -> Recovery:
        """Read what the last run left; blocks.

        Raises:
            StartError: the directory cannot be used, is in use, or is of another version.
        """
        self._lock.take()
        self._recovery = read_log(self._directory, self._log)
        self._files.number = self._recovery.last_number
        return self._recovery

    async def start(self) -> None:
        """Begin a new segment.

        Raises:
            StoreError: it could not be made.
        """
        await self._files.begin(0)

    async def forget_recovered(self) -> None:
        """Remove the segments of the last run, oldest first; keep damaged ones aside.

        Raises:
            StoreError: one could not be removed; the rest stay too.
        """
        if self._recovery is not None:
            await forget(self._recovery)
            self._recovery = None

    # --- writing -------------------------------------------------------------------------

    def commit(self, entry: Entry, on_done: OnDone) -> None:
        """Put an entry on disk now.

        Args:
            entry: one record.
            on_done: called later, from the loop's thread: None when the entry is on disk,
                StoreError when it is refused; what closes something only when the log is closed.
        """
        self.commits += 1
        self._put(Pending(entry, on_done, urgent=True))

    def note(self, entry: Entry, on_done: OnDone | None = None) -> None:
        """Put an entry on disk soon; after write_now it is safe from our own death.

        on_done is as for commit; a note is refused only when the log is closed.
        """
        self._put(Pending(entry, on_done, urgent=False))

    def write(self) -> bool:
        """Write what is queued; False: that needs a moment, wait for it with write_now."""
        if not self._stuck and self._failure is None and not self._closed:
            self._append()
        return not (self._queue or self._failure) or self._stuck or self._closed

    async def write_now(self) -> None:
        """Return once what is queued is written, or cannot be for now; mostly without waiting."""
        if not self.write():
            self._bell.ring()
            while (self._queue or self._failure) and not (self._stuck or self._closed):
                await self._turned.park()

    def _put(self, pending: Pending) -> None:
        if self._closed:
            pending.tell(StoreError("the IBDB is closed"))
            return
        self._queue.append(pending)
        if self._stuck or self._failure is not None:
            self._bell.ring()  # else the end of this turn writes it

    async def run(self) -> None:
        """Write and sync until close; runs for as long as the log is used."""
        self._syncer = syncer = Syncer(self._sync_ended, self._clock)
        self._run_ended = trio.Event()
        turn_end().hook(self._end_turn)
        try:
            async with trio.open_nursery() as self._nursery:
                while not self._closed:
                    if self._idle():
                        await self._bell.wait()
                    else:
                        await trio.lowlevel.checkpoint()
                    self._turning = True
                    await self._turn(self._nursery, syncer)
                    self._turning = False
                    self._turned.unpark_all()
                self._nursery.cancel_scope.cancel()
        finally:
            turn_end().unhook(self._end_turn)
            syncer.stop()
            self._turned.unpark_all()
            self._run_ended.set()

    def _end_turn(self) -> bool:
        """Do what is due and needs no waiting; tell whether anybody was told or woken."""
        syncer, nursery = self._syncer, self._nursery
        if self._turning or self._closed or syncer is None or nursery is None:
            return False
        did = self._take_result(nursery)
        if self._queue and not self._stuck and self._failure is None and not self._append():
            did = self._bell.ring()  # a new segment is needed
        if self._failure is not None:
            return bool(not self._syncing and self._bell.ring()) or did
        if self._urgent and not self._syncing:
            turn_end().flush()  # if the loop stands still now, the others need not
        return self._sync_or_tick(nursery, syncer) or did

    def _idle(self) -> bool:
        """Tell whether nothing can be done before something happens."""
        to_write = self._queue and not self._stuck and self._failure is None
        if self._results or self._closed or to_write:
            return False
        return bool(self._syncing) or not (self._urgent or self._failure)

    async def _turn(self, nursery: trio.Nursery, syncer: Syncer) -> None:
        """Do what can be done now: finish a sync, write what is queued, begin a sync."""
        self._take_result(nursery)
        if self._failure is not None and not self._syncing:
            self._give_up(self._failure)
        try:
            await self._write()
        except StoreError as error:
            self._log.emit(IBDB_NO_SEGMENT, error=str(error))
            self._stuck = True
            self._refuse(error)
            nursery.start_soon(self._retry_later)
        self._sync_or_tick(nursery, syncer)

    def _sync_or_tick(self, nursery: trio.Nursery, syncer: Syncer) -> bool:
        """Begin a sync if one is due, now or later; tell whether anything came of it."""
        did = False
        if self._urgent and not self._syncing and self._failure is None:
            self._begin_sync(syncer)
            did = self._take_result(nursery)
        elif self._written and not self._ticking:
            self._ticking = did = True
            nursery.start_soon(self._tick)
        return self._files.prepare(nursery) or did

    def _take_result(self, nursery: trio.Nursery) -> bool:
        """Act on a sync that ended; tell whether there was one."""
        if not self._results:
            return False
        self._finish(self._results.pop())
        self._files.retire(self._open, nursery)
        return True

    async def _write(self) -> None:
        """Write what is queued, into new segments as needed.

        Raises:
            StoreError: a new segment is needed and cannot be made.
        """
        if self._stuck:
            self._refuse(StoreError("no IBDB segment can be made"))
            return
        while self._queue and self._failure is None:
            if not self._append():
                await self._files.begin(len(self._queue[0].payload) + OVERHEAD)

    def _append(self) -> bool:
        """Write queued records together; return False if the next needs a new segment."""
        segment, waiting = self._files.current, self._queue
        if segment is None:
            return False
        fitting, data = seal_queued(waiting, segment)
        self._written += fitting
        self._urgent |= any(one.urgent for one in fitting)
        self._urgent |= len(self._written) >= self._max_unsynced
        try:
            segment.append(data)
        except OSError as error:
            self._failure = error
        return not waiting or self._failure is not None

    def _refuse(self, error: StoreError) -> None:
        """Refuse the commits that are queued; facts stay."""
        refused = [pending for pending in self._queue if pending.refusable]
        self._queue = deque(pending for pending in self._queue if not pending.refusable)
        for pending in refused:
            pending.tell(error)

    async def _retry_later(self) -> None:
        await trio.sleep(RETRY_S)
        self._stuck = False

    async def _tick(self) -> None:
        """Sync notes that found no commit to share a sync with."""
        await trio.sleep(self._note_delay_s)
        self._ticking = False
        self._urgent = self._urgent or bool(self._written)

    # --- syncing -------------------------------------------------------------------------

    def _begin_sync(self, syncer: Syncer) -> None:
        self._syncing, self._written, self._urgent = self._written, [], False
        self._sync_done = trio.Event()
        self.syncs += 1
        syncer.begin(segments_of(self._syncing), alone=self.alone())

    def _sync_ended(self, error: OSError | None) -> None:
        """Take the result of a sync; the end of the turn acts on it."""
        self._results.append(error)
        self._sync_done.set()

    def _finish(self, error: OSError | None) -> None:
        """Tell those whose records are on disk; after a failure nothing more is written."""
        if error is not None:
            self._failure = error
            self._written = self._syncing + self._written
            self._syncing = []
            return
        done, self._syncing = self._syncing, []
        for pending in done:
            if pending.segment is not None:
                self._open.apply(pending.segment.number, pending.entry)
                pending.segment.pending -= 1
        for pending in done:
            pending.tell(None)

    def _give_up(self, error: OSError) -> None:
        """Abandon the current segment: refuse what can be, queue the rest again in order."""
        number, self._failure = self._files.abandon(), None
        unsure, self._written, self._urgent = self._written, [], False
        refused, carried = part(unsure)
        self._queue.extendleft(reversed(carried))
        self._log.emit(IBDB_FAILED, segment=number, refused=len(refused), error=str(error))
        for pending in refused:
            pending.tell(store_error("IBDB", error))

    # --- figures and end -----------------------------------------------------------------

    @property
    def open_tas(self) -> int:
        """Transactions on disk with open recipients."""
        return len(self._open)

    @property
    def segments(self) -> int:
        """Segment files of this run."""
        return len(self._files)

    @property
    def bytes(self) -> int:
        """Bytes of records in them."""
        return self._files.bytes

    @property
    def waiting(self) -> int:
        """Entries that are not certain yet."""
        return len(self._queue) + len(self._written) + len(self._syncing)

    def oldest_open(self) -> list[tuple[Envelope, list[int]]]:
        """Return what holds all but the newest MAX_HELD segments, until it is noted elsewhere."""
        until = self._files.number - MAX_HELD
        return self._open.list_open(until) if until >= self._files.oldest > 0 else []

    async def close(self) -> None:
        """Put everything on disk that was given, answer everybody, close the files.

        What is still open stays in the log for the next recovery. Not cancelled from outside.
        """
        self._closed = True
        self._bell.ring()
        with trio.CancelScope(shield=True):
            if self._run_ended is not None:
                await self._run_ended.wait()
            if self._syncing and not self._results:
                await self._sync_done.wait()
            self._stuck = False
            for _ in range(2):  # once more after a failure, in a new segment
                await self._settle()
            await self._files.close(self._open)
        left = [*self._written, *self._queue]
        self._written, self._queue = [], deque()
        for pending in left:
            pending.tell(StoreError("the IBDB could not be written before its end"))
        self._lock.release()

    async def _settle(self) -> None:
        """Finish the running sync, then write and sync what waits."""
        if self._results:
            self._finish(self._results.pop())
        if self._failure is not None:
            self._give_up(self._failure)
        try:
            await self._write()
        except StoreError as error:
            self._refuse(error)
        if self._written and self._failure is None:
            self._syncing, self._written = self._written, []
            files = segments_of(self._syncing)
            self._finish(await trio.to_thread.run_sync(sync_all, files))
