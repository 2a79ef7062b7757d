"""Supervision: which child is to be started, stopped, or started again, and when.

Kind: core. Feed events with the monotonic time to ``Supervisor.handle`` and carry out the
effects in order; ``next_wake`` tells when a Tick is due.

A slot is one copy of a service; it holds at most one process. Rules:

* A child that ends unasked is started again after a delay that doubles from 1 s to 60 s and
  begins anew once a child has run for 60 s. Exit codes that say that another start is useless
  (EX_USAGE, EX_CONFIG, EX_NOPERM) end the slot; if that happens before the system was ever
  ready, the system stops with that code, because half a mail system helps nobody.
* Its restart_dependencies are stopped at once, and started when it runs again, in start order.
  Only the listed services are, not those that they list in turn: two services may list each
  other, and the others reconnect by themselves.
* Slots above ``copies`` are idle until connections wait at the service's sockets. Up to
  ``floor`` are started at once, one more whenever connections keep waiting although all run.
  One that ends with 0 goes idle again, any other end is a failure and starts the back-off;
  none is started twice within a second, so that a program that takes no connection cannot
  make mcp spin. When one copy is given up, the idle ones are too.
* A child that ends with EX_STOP asks for an orderly stop of everything.
* An orderly stop goes service by service: those that accept connections first, because they
  bring new work, then the others in file order, qmgr last. A second request stops all at once.
  Whoever does not end in time is killed.

Source: SPEC rows X010, X128, X129, X143, X147, X148, X154-X158; D01-D03.
"""

import signal

from libsmx.errors import EX_CONFIG, EX_NOPERM, EX_OK, EX_STOP, EX_USAGE
from libsmx.logtab import Event
from mcp import events
from mcp.copies import BACKOFF_MIN_S, Copy, Door, Phase, backoff_s
from mcp.moves import (
    ChildExited,
    ChildStarted,
    Effect,
    Exit,
    Input,
    Kill,
    Note,
    Readable,
    Ready,
    ReloadRequested,
    SocketsPassed,
    Start,
    StartFailed,
    Stopping,
    StopRequested,
    Tick,
    Watch,
)
from mcp.services import Service, Slot

USELESS_TO_RESTART = frozenset({EX_USAGE, EX_CONFIG, EX_NOPERM})
STEADY_S = 60.0
"""A child that ran this long is taken to be well: its back-off begins anew."""
SETTLE_S = 1.0
"""A child that runs this long has passed its configuration and start-up checks."""
STOP_GRACE_S = 30.0
"""From SIGTERM to SIGKILL; above the shutdown_timeout of every service."""
HURRY_GRACE_S = 5.0
"""The same after a second stop request."""
LOOK_S = 0.2
"""Pause between looks at the sockets of a service that may get another copy."""
BUSY_LOOKS = 6
"""So many looks in a row that find connections waiting call for another copy."""


def status_text(status: int) -> str:
    """Return an exit status in words: ``exit 78`` or ``signal SIGKILL``."""
    if status >= 0:
        return f"exit {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"


class Supervisor:
    """The state of all slots.

    Args:
        services: in start order.
        now_s: monotonic time; all slots are due at once.
    """

    def __init__(self, services: list[Service], now_s: float) -> None:
        self._children = {
            slot: Copy(slot, service, due_s=now_s)
            for service in services
            for slot in service.slots()
        }
        for child in self._children.values():
            if child.on_demand:
                child.phase = Phase.IDLE
        self._doors = {
            service.label: Door(service, [self._children[slot] for slot in service.slots()])
            for service in services
            if service.reserve
        }
        self._stop_order = [
            service.label
            for service in (
                *(s for s in services if s.listen),
                *(s for s in services[1:] if not s.listen),
                *services[:1],
            )
        ]
        self._stopping = False
        self._hurry = False
        self._ready = False
        self._exited = False
        self._exit_code = EX_OK
        self._out: list[Effect] = []

    def phase(self, slot: Slot) -> Phase:
        """Return the phase of a slot."""
        return self._children[slot].phase

    @property
    def copies(self) -> tuple[Copy, ...]:
        """Return all copies, services in start order; for showing only."""
        return tuple(self._children.values())

    def handle(self, now_s: float, event: Input) -> list[Effect]:
        """Take one event; return what is to be done, in order.

        Any event is legal at any time; one that does not fit the slot's phase changes nothing.
        """
        self._out = []
        match event:
            case ChildStarted(slot, pid):
                self._started(self._children[slot], pid, now_s)
            case StartFailed():
                self._start_failed(self._children[event.slot], event, now_s)
            case ChildExited(slot, status):
                self._exited_child(self._children[slot], status, now_s)
            case SocketsPassed(slot):
                child = self._children[slot]
                child.has_sockets = child.phase is Phase.RUNNING
            case Readable(label, at_once):
                self._serve_door(self._doors[label], now_s, at_once=at_once)
            case StopRequested(reason):
                self._hurry = self._stopping
                self._begin_stop(reason, EX_OK)
            case ReloadRequested():
                self._note(events.RELOAD)
                self._out += [Kill(c.slot, signal.SIGHUP) for c in self._in(Phase.RUNNING)]
            case Tick():
                pass
        self._advance(now_s)
        return self._out

    def next_wake(self, now_s: float) -> float | None:
        """Return the monotonic time at which a Tick is due, or None when nothing is timed."""
        times = [c.due_s for c in self._in(Phase.WAITING) if not c.leaders]
        times += [d.look_at_s for d in self._doors.values() if self._wants_look(d, d.look_at_s)]
        times += [c.due_s for d in self._doors.values() for c in d.resting(now_s)]
        times += [c.kill_at_s for c in self._in(Phase.STOPPING) if c.kill_at_s is not None]
        if not self._ready:
            settled = (c.since_s + SETTLE_S for c in self._in(Phase.RUNNING))
            times += [at_s for at_s in settled if at_s > now_s]
        return min(times, default=None)

    def _in(self, phase: Phase) -> list[Copy]:
        return [c for c in self._children.values() if c.phase is phase]

    def _note(self, event: Event, **fields: str | float) -> None:
        self._out.append(Note(event, fields))

    # -- single events -------------------------------------------------------------------

    def _started(self, child: Copy, pid: int, now_s: float) -> None:
        if child.phase is not Phase.STARTING:
            return
        child.phase = Phase.RUNNING
        child.since_s, child.pid = now_s, pid
        child.has_sockets = False
        self._note(events.CHILD_STARTED, service=str(child.slot), pid=pid)
        self._release_followers(child)
        if child.leaders:  # one of them died between our Start and this event
            self._terminate(child, now_s, "restart_dependencies")

    def _start_failed(self, child: Copy, event: StartFailed, now_s: float) -> None:
        if child.phase is not Phase.STARTING:
            return
        if event.useless:
            self._give_up(child, EX_NOPERM, event.error)
            return
        name, delay_s = str(child.slot), self._retry_later(child, now_s, event.error)
        self._note(events.CHILD_NOT_STARTED, service=name, error=event.error, restart_in_s=delay_s)

    def _exited_child(self, child: Copy, status: int, now_s: float) -> None:
        if child.phase not in (Phase.RUNNING, Phase.STOPPING):
            return
        told, ran_s = child.phase is Phase.STOPPING, now_s - child.since_s
        child.pid = 0
        if ran_s >= STEADY_S:
            child.failures = 0
        if status == EX_STOP:
            self._note(events.CHILD_ASKS_STOP, service=str(child.slot))
            child.phase = Phase.OFF
            if not self._stopping:
                self._begin_stop(f"asked by {child.slot}", EX_OK)
        elif told or self._stopping:
            self._note(events.CHILD_STOPPED, service=str(child.slot), status=status_text(status))
            child.phase = Phase.OFF if self._stopping else child.resting_phase
            child.due_s, child.kill_at_s = now_s, None
        elif status in USELESS_TO_RESTART:
            self._give_up(child, status, status_text(status))
        elif child.on_demand and status == EX_OK:
            child.phase, child.failures = Phase.IDLE, 0
            child.due_s = child.since_s + BACKOFF_MIN_S
            self._note(events.CHILD_DONE, service=str(child.slot), ran_s=round(ran_s, 3))
        else:
            delay_s = self._retry_later(child, now_s, status_text(status))
            self._note(
                events.CHILD_DIED,
                service=str(child.slot),
                status=status_text(status),
                ran_s=round(ran_s, 3),
                restart_in_s=delay_s,
            )
            self._bounce_dependents(child, now_s)

    def _begin_stop(self, reason: str, code: int) -> None:
        if not self._stopping:
            self._note(events.MCP_STOPPING, reason=reason)
            self._exit_code = code
            self._out.append(Stopping())
        self._stopping = True
        for child in (*self._in(Phase.WAITING), *self._in(Phase.IDLE)):
            child.phase = Phase.OFF

    # -- parts of the rules --------------------------------------------------------------

    def _retry_later(self, child: Copy, now_s: float, why: str) -> float:
        delay_s = backoff_s(child.failures)
        child.ends, child.last_end = child.ends + 1, why
        child.failures += 1
        child.phase = Phase.OFF if self._stopping else child.resting_phase
        child.due_s = now_s + delay_s
        return delay_s

    def _give_up(self, child: Copy, code: int, status: str) -> None:
        self._note(events.CHILD_GIVEN_UP, service=str(child.slot), status=status)
        child.phase = Phase.OFF
        child.given_up, child.last_end = True, status
        for other in self._in(Phase.IDLE):
            if other.service is child.service:
                other.phase = Phase.OFF
        self._release_followers(child)
        alive = any(c.phase is not Phase.OFF for c in self._children.values())
        if not self._stopping and (not self._ready or not alive):
            self._begin_stop(f"{child.slot} cannot run ({status})", code)

    def _release_followers(self, leader: Copy) -> None:
        for child in self._children.values():
            child.leaders.discard(leader.slot)

    def _bounce_dependents(self, leader: Copy, now_s: float) -> None:
        for child in self._children.values():
            if child.service.label not in leader.service.dependencies:
                continue
            if child.phase is Phase.OFF or child.slot == leader.slot:
                continue
            if not leader.on_demand:  # who knows when that one runs again
                child.leaders.add(leader.slot)
            if child.phase is Phase.RUNNING:
                self._terminate(child, now_s, f"restart_dependencies of {leader.slot}")

    def _terminate(self, child: Copy, now_s: float, reason: str) -> None:
        child.phase = Phase.STOPPING
        child.has_sockets = False
        child.kill_at_s = now_s + (HURRY_GRACE_S if self._hurry else STOP_GRACE_S)
        self._out.append(Kill(child.slot, signal.SIGTERM))
        self._note(events.CHILD_STOP, service=str(child.slot), signal="SIGTERM", reason=reason)

    # -- copies on demand ----------------------------------------------------------------

    def _wants_look(self, door: Door, at_s: float) -> bool:
        """Tell whether a connection that waits at that time could start a copy."""
        return not self._stopping and not door.watching and door.next_copies(at_s) != []

    def _serve_door(self, door: Door, now_s: float, *, at_once: bool) -> None:
        if not door.watching:
            return
        door.watching = False
        door.looks = door.looks + 1 if at_once else 1
        door.look_at_s = now_s + LOOK_S
        if self._stopping or not (door.is_short(now_s) or door.looks >= BUSY_LOOKS):
            return
        for child in door.next_copies(now_s):
            self._start(child)
            door.looks, door.look_at_s = 0, now_s + SETTLE_S  # time to take what waits

    def _start(self, child: Copy) -> None:
        child.phase = Phase.STARTING
        self._out.append(Start(child.slot))

    # -- what follows from the state and the time ----------------------------------------

    def _advance(self, now_s: float) -> None:
        for child in self._in(Phase.STOPPING):
            if self._hurry and child.kill_at_s is not None:
                child.kill_at_s = min(child.kill_at_s, now_s + HURRY_GRACE_S)
            if child.kill_at_s is not None and child.kill_at_s <= now_s:
                child.kill_at_s = None
                self._out.append(Kill(child.slot, signal.SIGKILL))
                self._note(
                    events.CHILD_STOP, service=str(child.slot), signal="SIGKILL", reason="too slow"
                )
        if self._stopping:
            self._advance_stop(now_s)
            return
        for child in self._in(Phase.WAITING):
            if child.due_s <= now_s and not child.leaders:
                self._start(child)
        for door in self._doors.values():
            if door.look_at_s <= now_s and self._wants_look(door, now_s):
                door.watching = True
                self._out.append(Watch(door.service.label))
        if not self._ready and all(
            child.phase is Phase.RUNNING
            and child.since_s + SETTLE_S <= now_s
            and (child.has_sockets or not child.service.passes)
            for child in self._children.values()
            if not child.on_demand
        ):
            self._ready = True
            self._out.append(Ready())
            self._note(events.READY, services=len(self._children) - len(self._in(Phase.IDLE)))

    def _advance_stop(self, now_s: float) -> None:
        live = [c for c in self._children.values() if c.phase is not Phase.OFF]
        for label in self._stop_order:
            group = [c for c in live if c.service.label == label]
            for child in group:
                if child.phase is Phase.RUNNING:
                    self._terminate(child, now_s, "orderly stop")
            if group and not self._hurry:
                return
        if not live and not self._exited:
            self._exited = True
            self._note(events.MCP_STOPPED, status=self._exit_code)
            self._out.append(Exit(self._exit_code))
