"""Disk syncs off the loop or on it, whichever is cheaper on this disk.

Kind: shell.

Handing a sync to a thread costs about 100 us of processor time and as much delay. Where the
disk syncs faster than that, waiting in the loop is better for everybody: whatever arrives
meanwhile lies in socket buffers and shares the next sync. Where it is slow, the loop must not
stand still. So the time of each sync is measured and decides about the next.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

import trio

from libsmx.clock import Clock
from libsmx.errors import StoreError

INLINE_BELOW_S = 0.0005
"""Syncs are done in the loop while they are expected to be shorter than this."""
ALONE_BELOW_S = 0.003
"""The same where only the client that waits for the sync has anything to do."""
_DECAY = 0.9


class Syncable(Protocol):
    """A file with unsynced bytes."""

    def sync(self) -> None:
        """Put it on disk; raises OSError."""


def sync_all(files: Sequence[Syncable]) -> OSError | None:
    """Sync files in order; stop at the first failure and return it."""
    for file in files:
        try:
            file.sync()
        except OSError as error:
            return error
    return None


class Syncer:
    """Runs one sync at a time and reports its end in the trio thread.

    Args:
        on_done: called with None or the error, once for each ``begin``, from the trio thread.
        clock: measures the syncs.
    """

    def __init__(self, on_done: Callable[[OSError | None], None], clock: Clock) -> None:
        self._clock = clock
        self._on_done = on_done
        self._token = trio.lowlevel.current_trio_token()
        self._jobs: queue.SimpleQueue[Sequence[Syncable] | None] = queue.SimpleQueue()
        self._expected_s = INLINE_BELOW_S * 2  # the first few go to the thread and are measured
        threading.Thread(target=self._work, name="ibdb-sync", daemon=True).start()

    def begin(self, files: Sequence[Syncable], *, alone: bool = False) -> None:
        """Sync files in order; ``on_done`` may be called before this returns.

        Args:
            files: what is to be synced.
            alone: nobody else is kept waiting while the loop stands still.
        """
        if self._expected_s < (ALONE_BELOW_S if alone else INLINE_BELOW_S):
            began = self._clock.mono()
            error = sync_all(files)
            self._measured(self._clock.mono() - began)
            self._on_done(error)
        else:
            self._jobs.put(files)

    def _measured(self, seconds: float) -> None:
        # Rises at once and falls slowly: one stall sends the next dozens to the thread.
        self._expected_s = max(seconds, self._expected_s * _DECAY + seconds * (1 - _DECAY))

    def _work(self) -> None:
        while (files := self._jobs.get()) is not None:
            began = self._clock.mono()
            error = sync_all(files)
            seconds = self._clock.mono() - began
            try:
                self._token.run_sync_soon(self._report, error, seconds)
            except trio.RunFinishedError:
                return  # nobody is left to tell

    def _report(self, error: OSError | None, seconds: float) -> None:
        self._measured(seconds)
        self._on_done(error)

    def stop(self) -> None:
        """End the thread after the sync that is running."""
        self._jobs.put(None)


def store_error(what: str, error: OSError) -> StoreError:
    """Return the error that those who wait for a write are given."""
    return StoreError(f"{what}: {error.strerror or error}")
