"""The greylist of the process: clients in memory, and on disk with an index by time of expiry.

Kind: shell.

An answer never waits for a write: entries change in memory and are written together every
FLUSH_S; what was not written when the machine stops is asked of the clients once more. A client
that is not in memory is read from the disk in a thread. Whatever fails here, mail is accepted:
greylisting is no reason to lose any.

Order of writes: index first, then the entry, then the index entries that it had before. So the
index may hold too much, which is found out when it is used, and never too little.
Owns: the two databases. Limits: MAX_KNOWN clients in memory, MAX_DIRTY changes that wait for
the disk, MAX_WAITING clients that wait to be read.
Source: README 3.9.4; SPEC rows X258, X261 to X264, X272.
"""

import os
from collections.abc import Callable, Iterable
from functools import partial

import attrs
import trio

from libsmx.clock import Clock
from libsmx.errors import EX_CANTCREAT, StartError, StoreError
from libsmx.log import Log
from libsmx.opt_smar_grey import GreylistConf
from libsmx.sealed import DamagedValue
from libsmx.store import DamagedStore, Store, Txn
from smar.events import GREYLIST_DAMAGED, GREYLIST_FAILED, GREYLIST_OPENED
from smar.grey import Entry, Mask, Times, judge, unpack

FLUSH_S = 1.0
MAX_KNOWN = 20_000
MAX_DIRTY = 50_000
MAX_WAITING = 2_000
FAILURE_LOG_S = 60.0
_TABLE = "grey"
_INDEX = "index"
_BATCH = 500
_TIME = 8

Known = Entry | None
Done = Callable[[bool], None]
"""Called with whether the client may send mail."""


@attrs.frozen
class Page:
    """Some entries, in the order of their keys.

    Attributes:
        entries: key and entry.
        more: there are entries after these.
        total: number of all entries.
    """

    entries: list[tuple[bytes, Entry]]
    more: bool
    total: int


class Greylist:
    """Knows clients; ``open`` before use, ``run`` in a task, ``close`` at the end.

    Args:
        conf: times, limits and places.
        clock: its wall clock decides.
        log: gets failures.
        nursery: runs the tasks that read.
    """

    def __init__(self, conf: GreylistConf, clock: Clock, log: Log, nursery: trio.Nursery) -> None:
        self.times = Times(conf.grey_wait, conf.grey_expire, conf.white_expire, conf.white_timeout)
        self._paths = conf.main_db_name, conf.secondary_db_name
        self._main = Store(conf.main_db_name, (_TABLE,))
        self._index = Store(conf.secondary_db_name, (_INDEX,))
        self._limit = conf.expire_limit
        self._mask = Mask(conf.netmask, conf.ipv6_prefix)
        self._clock = clock
        self._log = log
        self._nursery = nursery
        self._known: dict[bytes, Known] = {}
        self._dirty: dict[bytes, Known] = {}
        self._writing: dict[bytes, Known] = {}
        self._stale: list[bytes] = []
        self._waiting: dict[bytes, list[Done]] = {}
        self._logged_at: float | None = None
        self._lock = trio.Lock()

    async def open(self) -> None:
        """Open the databases; a damaged one is put aside, and a new one begun.

        Raises:
            StartError: they cannot be made; EX_CANTCREAT.
        """
        try:
            await self._open(self._main, self._paths[0])
            fresh = await self._open(self._index, self._paths[1])
            total = await self._main.read(lambda txn: txn.count(_TABLE))
            if fresh and total:
                await self._index_all()
        except (StoreError, OSError) as error:
            raise StartError(f"greylisting: {error}", EX_CANTCREAT) from error
        self._log.emit(GREYLIST_OPENED, file=self._paths[0], entries=total)

    async def _open(self, store: Store, path: str) -> bool:
        """Open one store; return whether it is new."""
        try:
            return await store.open() == "new"
        except DamagedStore as error:
            aside = f"{path}.damaged-{int(self._clock.wall())}"
            self._log.emit(GREYLIST_DAMAGED, file=path, kept=aside, error=str(error))
            os.rename(path, aside)
        await store.open()
        return True

    async def _index_all(self) -> None:
        """Make the index anew."""
        start = b""
        while True:
            page = await self._page(start, _BATCH)
            keys = [self._index_key(key, entry) for key, entry in page.entries]
            await self._index.write(partial(_replace, old=(), new=keys))
            if not page.more:
                return
            start = page.entries[-1][0] + b"\0"

    async def run(self) -> None:
        """Write what changed, again and again."""
        while True:
            await trio.sleep(FLUSH_S)
            await self.flush()

    async def close(self) -> None:
        """Write what is left and close the databases."""
        await self.flush()
        await self._main.close()
        await self._index.close()

    def check(self, client: str, done: Done) -> None:
        """Judge a client that wants to send mail; done is called now or when it was read.

        Args:
            client: address in text form; what is none may send.
            done: gets the decision.
        """
        key = self._mask.key(client)
        if key is None:
            done(True)
            return
        entries = self._holder(key)
        if entries is not None:
            done(self._judge(key, entries[key]))
        elif key in self._waiting:
            self._waiting[key].append(done)
        elif len(self._waiting) >= MAX_WAITING or len(self._dirty) >= MAX_DIRTY:
            self._failed("too many clients at a time")
            done(True)
        else:
            self._waiting[key] = [done]
            self._nursery.start_soon(self._fetch, key)

    def _holder(self, key: bytes) -> dict[bytes, Known] | None:
        """Return what of the memory knows a client best."""
        for entries in (self._dirty, self._writing, self._known):
            if key in entries:
                return entries
        return None

    async def _fetch(self, key: bytes) -> None:
        """Read a client and judge all its requests that wait."""
        known: Known = None
        readable = True
        try:
            known = await self._read(key)
        except StoreError as error:
            self._failed(str(error))
            readable = False
        for done in self._waiting.pop(key):
            if not readable:
                done(True)
                continue
            entries = self._holder(key)  # the first of them has changed what is known
            done(self._judge(key, known if entries is None else entries[key]))

    async def _read(self, key: bytes) -> Known:
        return await self._main.read(lambda txn: _stored(txn, key))

    def _judge(self, key: bytes, known: Known) -> bool:
        accepted, entry = judge(known, int(self._clock.wall()), self.times)
        if entry != known:
            self._dirty[key] = entry
        self._remember(key, entry)
        return accepted

    def _remember(self, key: bytes, entry: Known) -> None:
        self._known.pop(key, None)
        if len(self._known) >= MAX_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[key] = entry

    async def flush(self) -> None:
        """Write what changed, and remove what expired where there is too much."""
        async with self._lock:
            self._writing, self._dirty = self._dirty, {}
            try:
                if self._writing:
                    total = await self._write(self._writing)
                    if total > self._limit:
                        await self._expire(total - self._limit)
            except StoreError as error:
                self._failed(str(error))
                self._dirty = {**self._writing, **self._dirty}
            self._writing = {}

    async def _write(self, batch: dict[bytes, Known]) -> int:
        """Write a batch; return the number of entries afterwards."""
        fresh = [self._index_key(key, entry) for key, entry in batch.items() if entry is not None]
        stale, self._stale = set(self._stale) - set(fresh), []

        def main(txn: Txn) -> tuple[int, list[bytes]]:
            before = []
            for key, entry in batch.items():
                old = _stored(txn, key)
                if old is not None:
                    before.append(self._index_key(key, old))
                if entry is None:
                    txn.delete(_TABLE, key)
                else:
                    txn.put(_TABLE, key, entry.pack())
            return txn.count(_TABLE), before

        await self._index.write(lambda txn: _replace(txn, stale, fresh))
        total, before = await self._main.write(main)
        self._stale = list(set(before) - set(fresh))
        return total

    def _index_key(self, key: bytes, entry: Entry) -> bytes:
        return entry.expires_s(self.times).to_bytes(_TIME, "big") + key

    async def _expire(self, most: int) -> int:
        """Remove expired entries, those that expired first at first; return how many."""
        removed = 0
        end = (int(self._clock.wall()) + 1).to_bytes(_TIME, "big")
        while removed < most:
            count = min(_BATCH, most - removed)
            found = await self._index.read(partial(_before, end=end, count=count))
            if not found:
                break
            gone, kept = await self._main.write(partial(self._remove, found=found))
            await self._index.write(partial(_replace, old=found, new=kept))
            for key in gone:
                self._known.pop(key, None)
            removed += len(gone)
        return removed

    def _remove(self, txn: Txn, found: list[bytes]) -> tuple[list[bytes], list[bytes]]:
        """Remove those entries that really expired; an index entry may be of an older time.

        Returns:
            The keys removed, and the right index keys of those that live on.
        """
        gone, kept = [], []
        for index_key in found:
            key = index_key[_TIME:]
            entry = _stored(txn, key)
            if entry is not None and self._index_key(key, entry) > index_key:
                kept.append(self._index_key(key, entry))
            elif txn.delete(_TABLE, key):
                gone.append(key)
        return gone, kept

    # --- for the operator ------------------------------------------------------------------

    async def page(self, start: bytes, limit: int) -> Page:
        """Return entries from a key on; raises StoreError."""
        await self.flush()
        return await self._page(start, limit)

    async def _page(self, start: bytes, limit: int) -> Page:
        def read(txn: Txn) -> Page:
            found: list[tuple[bytes, Entry]] = []
            for key in txn.keys(_TABLE, start):
                if len(found) >= limit:
                    return Page(found, True, txn.count(_TABLE))
                entry = _stored(txn, key)
                if entry is not None:
                    found.append((key, entry))
            return Page(found, False, txn.count(_TABLE))

        return await self._main.read(read)

    async def show(self, client: str) -> tuple[bytes, Entry] | None:
        """Return what is known of a client; raises StoreError."""
        key = self._mask.key(client)
        if key is None:
            return None
        await self.flush()
        entry = await self._read(key)
        return None if entry is None else (key, entry)

    async def remove(self, client: str) -> bool:
        """Forget a client; return whether it was known. Raises StoreError."""
        found = await self.show(client)
        if found is None:
            return False
        self._known.pop(found[0], None)
        self._dirty[found[0]] = None
        await self.flush()
        return True

    async def expire(self) -> int:
        """Remove all expired entries, whatever their number; raises StoreError."""
        await self.flush()
        async with self._lock:
            total = await self._main.read(lambda txn: txn.count(_TABLE))
            return await self._expire(total)

    def _failed(self, error: str) -> None:
        """Tell the log of a failure, from time to time."""
        now = self._clock.mono()
        if self._logged_at is None or now - self._logged_at >= FAILURE_LOG_S:
            self._logged_at = now
            self._log.emit(GREYLIST_FAILED, error=error)


def _replace(txn: Txn, old: Iterable[bytes], new: Iterable[bytes]) -> None:
    """Change the index."""
    for key in old:
        txn.delete(_INDEX, key)
    for key in new:
        txn.put(_INDEX, key, b"")


def _stored(txn: Txn, key: bytes) -> Known:
    """Return the entry of a key; a damaged one counts for nothing."""
    try:
        return unpack(txn.get(_TABLE, key) or b"")
    except DamagedValue:
        return None


def _before(txn: Txn, end: bytes, count: int) -> list[bytes]:
    """Return the first keys of the index that are smaller than end."""
    found: list[bytes] = []
    for key in txn.keys(_INDEX):
        if key >= end or len(found) >= count:
            break
        found.append(key)
    return found
