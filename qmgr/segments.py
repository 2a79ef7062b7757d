"""The segment files of a running IBDB: which is written, which comes next, which may go.

Kind: shell.
Owns: the open segments. The next one is made ahead in a thread, because zeroing it takes as
long as dozens of syncs.
Source: SPEC rows X172, X174; architecture.md.
"""

from collections import deque

import trio

from libsmx.errors import StoreError
from libsmx.log import Log
from qmgr.ibdb import HEADER_SIZE, OpenTas
from qmgr.segment import Segment, remove_segment
from qmgr.storeevents import IBDB_NO_SEGMENT, IBDB_NOT_REMOVED, IBDB_SEGMENT
from qmgr.syncer import store_error


class Segments:
    """Open segments, oldest first.

    Args:
        directory: exists and is ours.
        size: bytes of a segment.
        log: for events.

    Attributes:
        current: the one to append to, None where it failed or none was begun.
        number: highest number given to a segment.
    """

    def __init__(self, directory: str, size: int, log: Log) -> None:
        self._directory = directory
        self._size = size
        self._log = log
        self._all: deque[Segment] = deque()
        self.current: Segment | None = None
        self.number = 0
        self._next: Segment | None = None
        self._may_prepare = True  # once for each segment
        self._may_unlink = True
        self._making = trio.Lock()
        self._unlinking = trio.Lock()

    def __len__(self) -> int:
        return len(self._all)

    @property
    def bytes(self) -> int:
        """Bytes written to the segments that still exist."""
        return sum(segment.end for segment in self._all)

    @property
    def oldest(self) -> int:
        """Number of the oldest segment, 0 where there is none."""
        return self._all[0].number if self._all else 0

    async def begin(self, need: int) -> None:
        """Go on in a new segment, with room for ``need`` bytes unless one was made ahead.

        Raises:
            StoreError: it cannot be made.
        """
        try:
            await self._make(max(self._size, HEADER_SIZE + need))
        except OSError as error:
            raise store_error(f"new segment in {self._directory}", error) from error
        segment, self._next = self._next, None
        if segment is None:
            raise StoreError("another segment was begun meanwhile")
        for old in self._all:
            if not old.pending:
                old.close()
        self._all.append(segment)
        self.current = segment
        self._may_prepare = True
        self._may_unlink = True
        self._log.emit(IBDB_SEGMENT, segment=segment.number, held=len(self._all) - 1)

    async def _make(self, size: int) -> None:
        async with self._making:
            if self._next is None:
                self.number += 1
                self._next = await trio.to_thread.run_sync(
                    Segment.create, self._directory, self.number, size
                )

    def prepare(self, nursery: trio.Nursery) -> bool:
        """Have the next segment made, once, when the current one is half full; tell whether."""
        current = self.current
        if self._may_prepare and current is not None and current.end * 2 > current.size:
            self._may_prepare = False
            nursery.start_soon(self._prepare)
            return True
        return False

    async def _prepare(self) -> None:
        try:
            await self._make(self._size)
        except OSError as error:
            # Told again, with consequences, if it still fails when the segment is needed.
            self._log.emit(IBDB_NO_SEGMENT, error=str(error))

    def abandon(self) -> int:
        """Never write to the current segment again; return its number."""
        current, self.current = self.current, None
        return current.number if current is not None else 0

    def retire(self, tas: OpenTas, nursery: trio.Nursery) -> None:
        """Remove the oldest segments as long as nothing in them is open or under way."""
        gone = self._take_closed(tas)
        if gone:
            nursery.start_soon(self._unlink, gone)

    def _take_closed(self, tas: OpenTas) -> list[Segment]:
        gone: list[Segment] = []
        while self._may_unlink and self._all:
            oldest = self._all[0]
            if oldest is self.current or oldest.pending or tas.held(oldest.number):
                break
            gone.append(self._all.popleft())
            oldest.close()
        return gone

    async def _unlink(self, gone: list[Segment]) -> None:
        """Remove segments one at a time, older before newer; what stays is ours again."""
        left = deque(gone)
        try:
            async with self._unlinking:
                while left:
                    await trio.to_thread.run_sync(remove_segment, left[0].path)
                    left.popleft()
        except OSError as error:
            # The newer ones must stay too; tried again when the next segment is begun.
            self._may_unlink = False
            self._log.emit(IBDB_NOT_REMOVED, segment=left[0].number, error=str(error))
        finally:
            if left:
                self._all = deque(sorted([*left, *self._all], key=lambda item: item.number))

    async def close(self, tas: OpenTas) -> None:
        """Remove what is not needed and close the rest."""
        await self._unlink(self._take_closed(tas))
        for segment in self._all:
            segment.close()
        if self._next is not None:
            self._next.close()
