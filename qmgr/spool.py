"""Spool: content files that are not needed any more, and room for new ones.

Kind: shell.

Files are removed in a worker thread, as many as wait at a time. Files that no envelope names
(smtps died between content and commit, or we between the last record and the removal) are
removed in the background once they are old enough that nobody can still be about to name them.
Source: architecture.md; SPEC rows X052, X178, X179.
"""

import os
from collections.abc import Callable, Iterator
from itertools import islice

import trio

from libsmx.cdb import list_contents, remove_contents
from libsmx.clock import Clock
from libsmx.errors import StoreError
from libsmx.log import Log
from qmgr import events
from qmgr.deferred import Defedb
from qmgr.disk import DiskGuard

ORPHAN_AGE_S = 3600.0
ORPHAN_SCAN_S = 6 * 3600.0
DISK_CHECK_S = 10.0
_GATHER_S = 0.02
_RETRY_S = 60.0
_CHUNK = 500


class Remover:
    """Removes content files.

    Args:
        base: of the content database, see libsmx/cdb.py.
        log: for files that cannot be removed.
    """

    def __init__(self, base: str, log: Log) -> None:
        self._base = base
        self._log = log
        self._waiting: list[str] = []
        self._wanted = trio.Event()

    def remove(self, cdb_ids: list[str]) -> None:
        """Have files removed; nobody waits for it."""
        self._waiting += cdb_ids
        self._wanted.set()

    async def run(self) -> None:
        """Remove what waits, for ever."""
        while True:
            await self._wanted.wait()
            await trio.sleep(_GATHER_S)
            self._wanted = trio.Event()
            kept = await self.flush()
            if kept:
                self._log.emit(events.CONTENT_STAYS, count=len(kept))
                await trio.sleep(_RETRY_S)
                self.remove(kept)

    async def flush(self) -> list[str]:
        """Remove what waits now; return what could not be removed."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return []
        return await trio.to_thread.run_sync(remove_contents, self._base, waiting)


class Orphans:
    """Looks for content files that no envelope names.

    Args:
        base: of the content database.
        in_memory: tells whether the queue in memory knows a content.
        defedb: knows the others; must be open when ``run`` begins.
        remover: removes them.
        log, clock: of the process.
        keep: count them only: the log of envelopes was damaged, one may have named them.
    """

    def __init__(
        self,
        base: str,
        in_memory: Callable[[str], bool],
        defedb: Defedb,
        remover: Remover,
        log: Log,
        clock: Clock,
        *,
        keep: bool,
    ) -> None:
        self._base = base
        self._in_memory = in_memory
        self._defedb = defedb
        self._remover = remover
        self._log = log
        self._clock = clock
        self._keep = keep

    async def run(self) -> None:
        """Scan after the grace period, then now and then, for ever."""
        while True:
            await trio.sleep(ORPHAN_AGE_S)
            try:
                await self.scan()
            except StoreError as error:
                self._log.emit(events.DEFEDB_FAILED, error=str(error))
            await trio.sleep(ORPHAN_SCAN_S)

    async def scan(self) -> int:
        """Remove every orphan that is old enough; return how many there were."""
        found = 0
        files = list_contents(self._base)
        while chunk := await trio.to_thread.run_sync(self._old_files, files):
            unknown = [cdb_id for cdb_id in chunk if not self._in_memory(cdb_id)]
            named = await self._defedb.has_content(unknown)
            # A bounce may have carried a content from memory to the DEFEDB meanwhile or back.
            orphans = [c for c in unknown if c not in named and not self._in_memory(c)]
            found += len(orphans)
            if not self._keep:
                self._remover.remove(orphans)
        if found:
            event = events.ORPHANS_KEPT if self._keep else events.ORPHANS_REMOVED
            self._log.emit(event, count=found)
        return found

    def _old_files(self, files: Iterator[tuple[str, float]]) -> list[str]:
        """Return the next old files; empty at the end. Runs in a thread."""
        limit = self._clock.wall() - ORPHAN_AGE_S
        old = (cdb_id for cdb_id, changed_at in files if changed_at < limit)
        return list(islice(old, _CHUNK))


class DiskWatch:
    """Watches the free space of the stores.

    Args:
        guard: decides.
        paths: name of a store -> a directory on its file system.
        report: gets the guard's sentence after each look.
    """

    def __init__(
        self, guard: DiskGuard, paths: dict[str, str], report: Callable[[str], None]
    ) -> None:
        self._guard = guard
        self._paths = paths
        self._report = report

    async def run(self) -> None:
        """Look every few seconds, for ever."""
        while True:
            free_kb = await trio.to_thread.run_sync(self._look)
            self._report(self._guard.check(free_kb))
            await trio.sleep(DISK_CHECK_S)

    def _look(self) -> dict[str, int]:
        free_kb = {}
        for name, path in self._paths.items():
            try:
                info = os.statvfs(path)
            except OSError:
                continue  # not made yet, or gone: whoever writes there finds out and says so
            free_kb[name] = info.f_bavail * info.f_frsize // 1024
        return free_kb
