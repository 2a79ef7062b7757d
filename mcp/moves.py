"""Events and effects of the supervisor: what it is told and what it wants done.

Kind: core.
"""

import attrs

from libsmx.logtab import Event
from mcp.services import Slot


@attrs.frozen
class ChildStarted:
    """The program of a slot was executed."""

    slot: Slot
    pid: int


@attrs.frozen
class StartFailed:
    """The program of a slot could not be executed."""

    slot: Slot
    error: str
    useless: bool
    """Trying again cannot help, e.g. no permission."""


@attrs.frozen
class ChildExited:
    """The process of a slot is gone."""

    slot: Slot
    status: int  # exit code, or minus the number of the signal


@attrs.frozen
class SocketsPassed:
    """The process of a slot has its listening sockets."""

    slot: Slot


@attrs.frozen
class Readable:
    """Connections wait at a service's sockets; the answer to Watch.

    Attributes:
        label: of the service.
        at_once: they did already when the watch began.
    """

    label: str
    at_once: bool


@attrs.frozen
class StopRequested:
    """Stop everything in order; a second one: stop everything now."""

    reason: str


@attrs.frozen
class ReloadRequested:
    """Tell all children to read their files again."""


@attrs.frozen
class Tick:
    """Time has passed."""


Input = (
    ChildStarted
    | StartFailed
    | ChildExited
    | SocketsPassed
    | Readable
    | StopRequested
    | ReloadRequested
    | Tick
)


@attrs.frozen
class Start:
    """Execute the slot's program; answer with ChildStarted or StartFailed."""

    slot: Slot


@attrs.frozen
class Kill:
    """Send a signal to the slot's process."""

    slot: Slot
    signo: int


@attrs.frozen
class Watch:
    """Wait until connections wait at the service's sockets; answer with Readable, once."""

    label: str


@attrs.frozen
class Note:
    """Write a log event."""

    event: Event
    fields: dict[str, str | int | float]


@attrs.frozen
class Ready:
    """For the first time all services run and have their sockets."""


@attrs.frozen
class Stopping:
    """The system is being stopped; said once."""


@attrs.frozen
class Exit:
    """Nothing runs any more; leave with this code."""

    code: int


Effect = Start | Kill | Watch | Note | Ready | Stopping | Exit
