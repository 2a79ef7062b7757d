"""The end of a turn of the loop: what its events made possible together is done there, once.

Kind: shell.

A turn is what runs between two waits for input. Whoever has work that is cheaper once a turn
than once an event (a write for all records, a send for all messages) registers a hook instead of
keeping a task: a task that is woken runs one turn later, with another wait in between, and a
lone client pays for each. Hooks may use all of trio that does not wait; a task that they wake
while the loop is about to sleep is noticed.
Limits: _MAX_ROUNDS calls of each hook; what is left then is done in the next turn.
"""

import sys
from collections.abc import Callable
from typing import NoReturn, Protocol

import trio

Hook = Callable[[], bool]
"""Called at the end of each turn; returns whether it did something that others may act upon."""

_MAX_ROUNDS = 8


class Flushable(Protocol):
    """Something that collects what is to be sent."""

    def flush(self) -> Callable[[], None] | None:
        """Send; return what must be done in the next turn, if anything."""


class TurnEnd(trio.abc.Instrument):
    """The hooks of one run of the loop, and those who have something to send."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._posted: list[Flushable] = []
        self._hooks: list[Hook] = []

    def add(self, sender: Flushable) -> None:
        """Have a sender flushed after the hooks of this turn, or earlier; once."""
        self._posted.append(sender)

    def hook(self, hook: Hook) -> None:
        """Call a hook at the end of each turn from now on, after those that are there."""
        self._hooks.append(hook)

    def unhook(self, hook: Hook) -> None:
        """Call a hook no more."""
        self._hooks.remove(hook)

    def flush(self) -> None:
        """Send what was posted up to now."""
        posted, self._posted = self._posted, []
        for sender in posted:
            later = sender.flush()
            if later is not None:
                self._token.run_sync_soon(later)

    def before_io_wait(self, timeout: float) -> None:
        """End the turn: hooks until none has anything more to do, then everything leaves."""
        try:
            did = bool(self._hooks) and self._call_hooks()
            # The loop found nothing to run and would sleep; a hook may have changed that.
            if did and timeout > 0 and trio.lowlevel.current_statistics().tasks_runnable:
                self._token.run_sync_soon(_nothing)
            if self._posted:
                self.flush()
        finally:
            error = sys.exc_info()[1]
            if error is not None:  # trio would log it and go on without us
                self._token.run_sync_soon(_raise, error)

    def _call_hooks(self) -> bool:
        """Call the hooks; tell whether any did something."""
        for rounds in range(_MAX_ROUNDS):
            did = False
            for hook in self._hooks:
                did = hook() or did
            if not did:
                return rounds > 0
        self._token.run_sync_soon(_nothing)
        return True


def _nothing() -> None:
    """Make the loop turn once more."""


def _raise(error: BaseException) -> NoReturn:
    """End the run: the end of a turn failed, and nothing can be relied on."""
    raise error


_of_run: trio.lowlevel.RunVar[TurnEnd] = trio.lowlevel.RunVar("libsmx.turnend")


def turn_end() -> TurnEnd:
    """Return the one of this run of the loop, made at its first use."""
    try:
        return _of_run.get()
    except LookupError:
        made = TurnEnd()
        trio.lowlevel.add_instrument(made)
        _of_run.set(made)
        return made
