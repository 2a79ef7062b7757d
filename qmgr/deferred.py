"""Deferred envelope database: the queue of what must be tried again, on disk.

Kind: shell.
Owns: the LMDB environment in its directory. Nothing is kept in memory but two counts; opening
after a clean end takes the same time whatever its size.

What is found damaged is set aside and logged, never delivered and never a reason to stop.
Source: SPEC row X015; architecture.md.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from time import gmtime, strftime
from typing import TypeVar

from libsmx.clock import Clock
from libsmx.envelope import Envelope
from libsmx.errors import EX_CONFIG, StartError
from libsmx.log import Log
from libsmx.sealed import DamagedValue
from libsmx.store import DamagedStore, Store, Txn
from qmgr import defedb, survey
from qmgr.defedb import DefedbBatch, DefedbResult, Page, RcptId
from qmgr.records import DeferredRcpt
from qmgr.storeevents import (
    DEFEDB_DAMAGED,
    DEFEDB_MENDED,
    DEFEDB_OPENED,
    DEFEDB_PROBED,
    DEFEDB_REBUILT,
)

T = TypeVar("T")

_CHUNK = 2000
"""Keys handled in one transaction; bounds how long a commit waits."""


class Defedb:
    """The deferred queue.

    Args:
        directory: made if missing.
        log: for events.
        clock: dates what is set aside.

    Attributes:
        tas, rcpts: transactions and recipients in it.
    """

    def __init__(self, directory: str, log: Log, clock: Clock) -> None:
        self._store = Store(directory, defedb.TABLES)
        self._directory = directory
        self._log = log
        self._clock = clock
        self.tas = 0
        self.rcpts = 0
        self.commits = 0
        self._suspect = False

    async def open(self, *, suspect: bool = False) -> None:
        """Open it; after an unclean stop it is read whole before, if damaged also rebuilt.

        May be called again while it is open, when it turned out to be damaged.

        Args:
            suspect: have it read whole also after a clean stop.

        Raises:
            StartError: it was written by a version with another schema.
            StoreError: it cannot be used.
        """
        kept_as = ""
        try:
            state = await self._store.open(suspect=suspect or self._suspect)
        except DamagedStore as error:
            self._log.emit(DEFEDB_PROBED, result=str(error))
            kept_as = strftime("damaged-%Y%m%dT%H%M%S.mdb", gmtime(self._clock.wall()))
            await self._store.rebuild(defedb.PRIMARY, kept_as)
            state = await self._store.open()
        self._suspect = False
        if state == "checked" and not kept_as:
            self._log.emit(DEFEDB_PROBED, result="intact")
        schema = await self._read(lambda txn: txn.get("meta", b"schema"))
        if schema is None:  # new, or a rebuild that has not ended yet
            await self._reindex()
            await self._write(lambda txn: txn.put("meta", b"schema", b"%d" % defedb.SCHEMA))
        elif schema != b"%d" % defedb.SCHEMA:
            raise StartError(
                f"{self._directory}: schema {schema.decode('ascii', 'replace')}, this version "
                f"reads {defedb.SCHEMA}: let the version that wrote it empty the queue first",
                EX_CONFIG,
            )
        self.tas, self.rcpts = await self._read(defedb.counts)
        if kept_as:
            lost = await self._read(lambda txn: txn.count("aside"))
            self._log.emit(
                DEFEDB_REBUILT, kept_as=kept_as, tas=self.tas, rcpts=self.rcpts, lost=lost
            )
        self._log.emit(DEFEDB_OPENED, tas=self.tas, rcpts=self.rcpts)

    async def _reindex(self) -> None:
        position = b""
        while True:
            keys = await self._read(
                partial(defedb.list_keys, table="rcpt", start=position, prefix=b"", limit=_CHUNK)
            )
            if not keys:
                return
            await self._change(partial(defedb.reindex, keys=keys))
            position = keys[-1] + b"\0"

    async def tidy(self) -> None:
        """Free what readers that died left behind; call it now and then.

        Raises:
            StoreError: it cannot be used.
        """
        await self._store.forget_dead_readers()

    async def clip(self, latest_s: float) -> int:
        """Make due at ``latest_s`` what would be due later; return how many those were.

        No retry is planned that far ahead: the clock was set back since.
        """
        return await self._reschedule("due", b"", defedb.pack_time(latest_s) + b"\xff", latest_s)

    async def close(self) -> None:
        """Close it and mark its end as clean."""
        await self._store.close()

    # --- changing ------------------------------------------------------------------------

    async def apply(self, batch: DefedbBatch) -> DefedbResult:
        """Carry out a batch, on disk as a whole when this returns; not cancellable.

        Batches given at the same time share a commit.

        Raises:
            StoreError: nothing of it is stored.
        """
        await self._check()
        result = await self._change(lambda txn: defedb.apply_batch(txn, batch))
        self.commits += 1
        self.tas, self.rcpts = result.tas, result.rcpts
        return result

    async def make_due(self, now_s: float, match: str = "") -> int:
        """Make recipients due that would be tried later.

        Args:
            now_s: wall clock.
            match: only those whose destination or domain this is, any case; empty for all.

        Returns:
            How many were changed.
        """
        if match:
            prefix = defedb.name_prefix(match)
            return await self._reschedule("name", prefix, prefix, now_s)
        return await self._reschedule("due", b"", defedb.pack_time(now_s), now_s)

    async def _reschedule(self, table: str, prefix: bytes, start: bytes, at_s: float) -> int:
        """Bring recipients whose keys stand in an index forward, piece by piece."""
        moved = 0
        while True:
            keys = await self._read(
                partial(defedb.list_keys, table=table, start=start, prefix=prefix, limit=_CHUNK)
            )
            if not keys:
                return moved
            rcpts = [defedb.rcpt_key(*defedb.parse_rcpt_key(key)) for key in keys]
            moved += await self._change(partial(defedb.reschedule, keys=rcpts, now_s=at_s))
            start = keys[-1] + b"\0"

    async def _read(self, function: Callable[[Txn], T]) -> T:
        with self._watched():
            return await self._store.read(function)

    async def _write(self, function: Callable[[Txn], T]) -> T:
        with self._watched():
            return await self._store.write(function)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Note that the store turns out to be damaged where nothing can be set aside."""
        try:
            yield
        except DamagedStore:
            self._suspect = True
            raise
        except DamagedValue as error:
            self._suspect = self._suspect or error.table not in defedb.PRIMARY
            raise

    async def _check(self) -> None:
        """Have a store that turned out to be damaged read whole, and rebuilt if need be."""
        if self._suspect:
            await self.open()

    async def _change(self, function: Callable[[Txn], T]) -> T:
        """Run a function in a write transaction; set aside what it finds damaged and retry."""
        while True:
            try:
                return await self._write(function)
            except DamagedValue as error:
                await self._set_aside([(error.table, error.key)], error)

    async def _set_aside(
        self, bad: Iterable[tuple[str, bytes]], why: DamagedValue | None = None
    ) -> None:
        for table, key in bad:
            if table not in defedb.PRIMARY and why is not None:
                raise why  # nothing to set aside: the store itself must be rebuilt
            text = key[:19].decode("ascii", "replace")
            self._log.emit(DEFEDB_DAMAGED, ta=text, what=f"{table} {key[19:].hex()}")
            await self._write(partial(defedb.set_aside, table=table, key=key))
        self.tas, self.rcpts = await self._read(defedb.counts)

    # --- reading -------------------------------------------------------------------------

    async def due(self, now_s: float, limit: int, skip: Callable[[str, int], bool]) -> Page:
        """Return recipients that are due, earliest first, by transaction.

        Args:
            now_s: wall clock.
            limit: most recipients returned.
            skip: called in the loop's thread: True for those that are under delivery.
        """
        await self._check()
        wanted: list[RcptId] = []
        start = b""
        size = limit + 100
        while len(wanted) < limit:
            keys = await self._read(partial(defedb.list_due, start=start, now_s=now_s, limit=size))
            ids = map(defedb.parse_rcpt_key, keys)
            wanted += islice((rcpt for rcpt in ids if not skip(*rcpt)), limit - len(wanted))
            if len(keys) < size:
                break
            start = keys[-1] + b"\0"
            size = _CHUNK  # most of the first were skipped: look at more at a time
        return await self._load(lambda txn: defedb.load(txn, wanted)) if wanted else []

    async def _load(self, function: Callable[[Txn], tuple[Page, list[tuple[str, bytes]]]]) -> Page:
        page, bad = await self._read(function)
        if bad:
            await self._set_aside(bad)
        return page

    async def next_due(self, after_s: float = 0.0) -> float | None:
        """Return when the next recipient becomes due, None if there is none.

        Args:
            after_s: look only at those that are due later than this, wall clock; what is due
                already and under delivery stands in the queue until it is done.
        """
        start = defedb.pack_time(after_s) + b"\xff" * 24 if after_s else b""
        first = await self._read(lambda txn: next(txn.keys("due", start), None))
        return None if first is None else defedb.unpack_time(first)

    async def oldest(self) -> float | None:
        """Return about when the oldest message came, wall clock; None if there is none."""
        return await self._read(survey.oldest)

    async def backlog(self, names: Sequence[str], limit: int) -> list[int]:
        """Return how many recipients have each of these destinations or domains, <= limit."""
        return await self._read(partial(survey.backlog, wanted=names, limit=limit))

    async def names(self, after: str, limit: int) -> tuple[list[str], str]:
        """Return destinations that have recipients here, a page of them.

        Args:
            after: position that the last page gave, empty to begin.
            limit: names looked at; some are of domains only, so a page may have fewer, or none.

        Returns:
            The page, in no order of use, and the next position, which is empty at the end.
        """
        start = bytes.fromhex(after) if re.fullmatch(r"(?:[0-9a-f]{2}){1,40}", after) else b""
        found, following = await self._read(partial(survey.names, start=start, limit=limit))
        return found, following.hex()

    async def scan(
        self, after: str, limit: int, *, name: str = "", ta_id: str = ""
    ) -> tuple[Page, str]:
        """Return a page of the queue in the order of transaction ids.

        Args:
            after: position that the last page gave, empty to begin.
            limit: most recipients in the page; a transaction may go on in the next.
            name: only recipients with this destination or domain; takes time for those only.
            ta_id: only this transaction.

        Returns:
            The page and the next position, which is empty at the end.
        """
        only = ta_id
        ta_id, _, idx = after.partition(".")
        if only:
            table, prefix = "rcpt", only.encode("ascii", "replace")
        else:
            table, prefix = ("name", defedb.name_prefix(name)) if name else ("rcpt", b"")
        start = b""
        if ta_id.isascii() and idx.isascii() and idx.isdecimal():
            place = defedb.rcpt_key(ta_id, min(int(idx), 0xFFFFFFFF)) + b"\0"
            start = (prefix if table == "name" else b"") + place
        keys = await self._read(
            partial(defedb.list_keys, table=table, start=start, prefix=prefix, limit=limit)
        )
        ids = [defedb.parse_rcpt_key(key) for key in keys]
        page = await self._load(lambda txn: defedb.load(txn, ids)) if ids else []
        return page, f"{ids[-1][0]}.{ids[-1][1]}" if len(ids) == limit else ""

    async def get(self, ta_id: str) -> tuple[Envelope, list[DeferredRcpt]] | None:
        """Return a transaction with all its recipients here, None if it has none."""
        page = await self._load(lambda txn: defedb.load_ta(txn, ta_id))
        return page[0] if page else None

    async def has_content(self, cdb_ids: Iterable[str]) -> set[str]:
        """Return those contents that a transaction here needs.

        Of those that the index does not know the transactions are asked, and the index is
        mended: an entry that was lost must not cost a message its content.
        """
        asked = list(cdb_ids)
        named = await self._indexed(asked)
        unknown = [cdb_id for cdb_id in asked if cdb_id not in named]
        start, more = b"", bool(unknown)
        while more:
            step = partial(survey.unindexed, cdb_ids=unknown, start=start, limit=_CHUNK)
            missing, start = await self._read(step)
            if missing:
                await self._change(partial(survey.index_contents, missing=missing))
                self._log.emit(DEFEDB_MENDED, count=len(missing))
                named |= {key[:19].decode("ascii") for key in missing}
            more = bool(start)
        return named

    async def _indexed(self, asked: list[str]) -> set[str]:
        return await self._read(
            lambda txn: {cdb_id for cdb_id in asked if defedb.is_referenced(txn, cdb_id)}
        )

    async def known(self, ids: Iterable[RcptId]) -> set[RcptId]:
        """Return those recipients that are here."""
        asked = list(ids)
        return await self._read(
            lambda txn: {rcpt for rcpt in asked if txn.has("rcpt", defedb.rcpt_key(*rcpt))}
        )
