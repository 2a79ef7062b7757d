"""A bell: one task sleeps until somebody rings.

Kind: shell.

Cheaper than an Event for each sleep. Ringing while nobody sleeps does nothing, so the sleeper
looks first whether there is anything to do; nothing can come between, because tasks change hands
only where they wait.
"""

import trio


class Bell:
    """See the module."""

    def __init__(self) -> None:
        self._sleeper: trio.lowlevel.Task | None = None

    def ring(self) -> bool:
        """Wake the sleeper; tell whether there was one."""
        task, self._sleeper = self._sleeper, None
        if task is not None:
            trio.lowlevel.reschedule(task)
        return task is not None

    async def wait(self) -> None:
        """Sleep until the next ring; for one task at a time."""

        def abort(_: object) -> trio.lowlevel.Abort:
            self._sleeper = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._sleeper = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)
