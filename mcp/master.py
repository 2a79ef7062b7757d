"""The master: carries out what the supervisor decides.

Kind: shell. One loop turn per event; nothing here waits but the event loop itself.
"""

import select
import signal
import time
from collections import deque
from typing import Protocol

import attrs
import trio

from libsmx.errors import EX_SOFTWARE, StartError
from libsmx.log import Log
from mcp import events
from mcp.identity import Identity
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
from mcp.notify import Notifier
from mcp.passfd import LATE_S, PassRefused, pass_sockets
from mcp.services import Service, Slot
from mcp.sockets import Listener, bind
from mcp.spawn import Child, spawn
from mcp.status import status_text
from mcp.statusfile import StatusFile
from mcp.supervise import Supervisor

_PASS_RETRY_S = 1.0


class ReadySignal(Protocol):
    """Who wants to know that the system is up."""

    def ready(self) -> None:
        """Take note; called at most once."""


@attrs.frozen
class Plan:
    """All that the master needs to run a system.

    Attributes:
        services: in start order.
        identities: by label of the service.
        own_uid: of mcp, which children have that have no identity.
        leash: descriptor that children hold, see mcp/lock.py.
        status_path: of the file for ``mcp.sh status``, "" for none.
    """

    services: list[Service]
    identities: dict[str, Identity | None]
    own_uid: int
    leash: int
    status_path: str = ""


class Master:
    """Runs the services of a plan until they have all ended.

    Args:
        plan: what to run.
        log: its level decides what is seen.
        starter: told when all services are ready.
        notifier: told that, and the rest that systemd wants to know.
    """

    def __init__(self, plan: Plan, log: Log, starter: ReadySignal, notifier: Notifier) -> None:
        self._plan = plan
        self._log = log
        self._starter = starter
        self._notifier = notifier
        self._services = {service.label: service for service in plan.services}
        self._listeners: dict[str, list[Listener]] = {}
        self._children: dict[Slot, Child] = {}
        self._scopes: dict[Slot, trio.CancelScope] = {}
        self._inbox: deque[Input] = deque()
        self._busy = False
        self._wake = trio.Event()
        self._exit_code = EX_SOFTWARE
        self._status = StatusFile(plan.status_path)
        self._status_failed = False

    def bind_all(self) -> None:
        """Bind the sockets of all services; raises StartError and leaves none open."""
        try:
            for service in self._plan.services:
                made = self._listeners.setdefault(service.label, [])
                for listen in service.listen:
                    made.append(bind(listen))
                    # The mode is the open socket's, and what inherits it may be simple.
                    made[-1].sock.setblocking(service.inherits)
                    self._log.emit(events.LISTENING, service=service.label, address=made[-1].name)
        except StartError:
            self._close_all()
            raise

    def _close_all(self) -> None:
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.close()
        self._listeners.clear()

    async def run(self) -> int:
        """Run the system; return mcp's exit code when all children have ended.

        Cancelling it ends mcp's own part only; the children then get SIGTERM from the kernel.
        """
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                await nursery.start(self._receive_signals)
                # After the signals: a child that dies at once must not go unseen.
                self._supervisor = Supervisor(self._plan.services, trio.current_time())
                nursery.start_soon(self._tick)
                nursery.start_soon(self._notifier.keep_alive)
                self._feed(Tick())
        finally:
            self._close_all()
            self._status.remove()
            self._log.flush()
        return self._exit_code

    async def _receive_signals(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        wanted = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
        with trio.open_signal_receiver(*wanted) as received:
            task_status.started()
            async for signo in received:
                if signo == signal.SIGCHLD:
                    self._reap()
                elif signo == signal.SIGHUP:
                    self._log.reopen()
                    self._feed(ReloadRequested())
                    self._notifier.reloading()
                else:
                    self._feed(StopRequested(signal.Signals(signo).name))

    async def _tick(self) -> None:
        while True:
            wake_s = self._supervisor.next_wake(trio.current_time())
            with trio.move_on_at(float("inf") if wake_s is None else wake_s):
                await self._wake.wait()
            self._wake = trio.Event()
            self._feed(Tick())

    def _reap(self) -> None:
        for child in list(self._children.values()):
            status = child.process.poll()
            if status is not None:
                del self._children[child.slot]
                if scope := self._scopes.pop(child.slot, None):
                    scope.cancel()
                self._read_output(child)  # its last words come before the news of its death
                self._feed(ChildExited(child.slot, status))

    def _feed(self, event: Input) -> None:
        """Hand an event to the supervisor and obey; effects that cause events queue them."""
        self._inbox.append(event)
        if self._busy:
            return
        self._busy = True
        is_news = False
        while self._inbox:
            for effect in self._supervisor.handle(trio.current_time(), self._inbox.popleft()):
                is_news |= isinstance(effect, Note)
                self._obey(effect)
        self._busy = False
        if is_news:
            self._write_status()
        if not isinstance(event, Tick):
            self._wake.set()
        self._log.flush()

    def _write_status(self) -> None:
        text = status_text(self._supervisor.copies, trio.current_time(), time.time())
        try:
            self._status.write(text)
        except OSError as error:
            if not self._status_failed:  # once: a full disk must not flood the log
                why = error.strerror or str(error)
                self._log.emit(events.STATUS_UNWRITTEN, path=self._status.path, error=why)
            self._status_failed = True
        else:
            self._status_failed = False

    def _obey(self, effect: Effect) -> None:
        match effect:
            case Start(slot):
                self._start(slot)
            case Kill(slot, signo):
                if slot in self._children:
                    self._children[slot].process.send_signal(signo)
            case Note(event, fields):
                self._log.emit(event, **fields)
            case Watch(label):
                self._nursery.start_soon(self._watch, label)
            case Ready():
                self._starter.ready()
                self._notifier.ready()
            case Stopping():
                self._notifier.stopping()
            case Exit(code):
                self._exit_code = code
                self._nursery.cancel_scope.cancel()

    def _start(self, slot: Slot) -> None:
        service = self._services[slot.label]
        identity = self._plan.identities[slot.label]
        try:
            child = spawn(service, slot, identity, self._plan.leash, self._inherited(service))
        except OSError as error:
            text = f"{service.path}: {error.strerror or error}"
            self._inbox.append(StartFailed(slot, text, isinstance(error, PermissionError)))
            return
        self._children[slot] = child
        self._inbox.append(ChildStarted(slot, child.process.pid))
        self._nursery.start_soon(self._follow_output, child)
        if service.passes:
            scope = self._scopes[slot] = trio.CancelScope()
            uid = identity.uid if identity else self._plan.own_uid
            self._nursery.start_soon(self._pass, service, slot, uid, scope)

    def _fds(self, service: Service) -> list[int]:
        return [listener.sock.fileno() for listener in self._listeners[service.label]]

    def _inherited(self, service: Service) -> list[int]:
        return self._fds(service) if service.inherits else []

    async def _watch(self, label: str) -> None:
        """Wait until a connection waits at the service's sockets, which nobody here accepts."""
        fds = self._fds(self._services[label])
        poll = select.poll()
        for fd in fds:
            poll.register(fd, select.POLLIN)
        at_once = bool(poll.poll(0))
        if not at_once:
            async with trio.open_nursery() as nursery:
                for fd in fds:
                    nursery.start_soon(_wait_readable, fd, nursery.cancel_scope)
        self._feed(Readable(label, at_once))

    async def _pass(self, service: Service, slot: Slot, uid: int, scope: trio.CancelScope) -> None:
        path = service.fd_socket(slot)
        fds = self._fds(service)
        refused = ""

        def on_late() -> None:
            self._log.emit(events.PASS_LATE, service=str(slot), path=path, waited_s=LATE_S)
            self._log.flush()

        with scope:
            while True:
                try:
                    await pass_sockets(path, uid, fds, on_late)
                except PassRefused as error:
                    if str(error) != refused:  # once for each reason, not once a second
                        refused = str(error)
                        self._log.emit(
                            events.PASS_REFUSED, service=str(slot), path=path, reason=refused
                        )
                        self._log.flush()
                    await trio.sleep(_PASS_RETRY_S)
                else:
                    break
            self._log.emit(events.SOCKETS_PASSED, service=str(slot), count=len(fds))
            self._feed(SocketsPassed(slot))

    async def _follow_output(self, child: Child) -> None:
        try:
            while child.output.fd >= 0:
                await trio.lowlevel.wait_readable(child.output.fd)
                if child.output.fd < 0 or not self._read_output(child):
                    break
        except trio.ClosedResourceError:
            return
        finally:
            child.output.close()

    def _read_output(self, child: Child) -> bool:
        """Log what the child wrote; return False when there will be no more."""
        if child.output.fd < 0:
            return False
        lines, is_open = child.output.read(trio.current_time())
        for line in lines:
            self._log.emit(
                events.CHILD_OUTPUT, service=str(child.slot), pid=child.process.pid, text=line
            )
        if dropped := child.output.take_dropped():
            self._log.emit(
                events.OUTPUT_DROPPED, service=str(child.slot), pid=child.process.pid, lines=dropped
            )
        self._log.flush()
        return is_open


async def _wait_readable(fd: int, scope: trio.CancelScope) -> None:
    await trio.lowlevel.wait_readable(fd)
    scope.cancel()
