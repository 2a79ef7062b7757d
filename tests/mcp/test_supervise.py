"""The supervisor: restart, back-off, dependencies, give up, orderly stop."""

import signal

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from libsmx.errors import EX_CONFIG, EX_NOPERM, EX_OK, EX_STOP, EX_TEMPFAIL, EX_USAGE
from libsmx.opttab import ListenSocket
from mcp import copies, supervise
from mcp.copies import Phase, backoff_s
from mcp.moves import (
    ChildExited,
    ChildStarted,
    Exit,
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
from mcp.supervise import Supervisor

TERM, KILL, HUP = signal.SIGTERM, signal.SIGKILL, signal.SIGHUP


def service(label, *, copies=1, deps=(), passes=False, reserve=0, floor=1):
    return Service(
        label=label,
        path="/bin/true",
        argv=(label,),
        copies=copies,
        dependencies=frozenset(deps),
        reserve=reserve,
        floor=floor,
        inherits=bool(reserve),
        listen=(ListenSocket(port=25),) if passes or reserve else (),
        pass_fd_socket=label + "/fd" if passes else "",
        pass_id="-i" if copies > 1 else "",
    )


MAIL = [
    service("qmgr", deps=("smtps", "smtpc", "smar")),
    service("smtps", passes=True),
    service("smtpc", copies=2),
    service("smar", deps=("smtps", "qmgr")),
]


class Bench:
    """A supervisor with children that start at once and end when they are told to."""

    def __init__(self, services=MAIL, *, obedient=True):
        self.now_s = 100.0
        self.sup = Supervisor(services, self.now_s)
        self.obedient = obedient
        self.running = {}
        self.history = []
        self.notes = []
        self.ready = False
        self.stopping = False
        self.exit_code = None
        self.pids = 0
        self.starts = []
        self.watched = set()
        self.waiting = set()
        self.feed(Tick())

    def connections_wait(self, *labels):
        """From now on connections wait at the sockets of these services only."""
        self.waiting = set(labels)
        for label in sorted(self.watched & self.waiting):
            self.watched.discard(label)
            self.feed(Readable(label, at_once=False))

    def feed(self, *events):
        queue = list(events)
        while queue:
            for effect in self.sup.handle(self.now_s, queue.pop(0)):
                match effect:
                    case Start(slot):
                        assert slot not in self.running, "two processes in one slot"
                        self.pids += 1
                        self.running[slot] = self.pids
                        self.history.append(f"start {slot}")
                        self.starts.append((self.now_s, slot))
                        queue.append(ChildStarted(slot, self.pids))
                    case Kill(slot, signo):
                        assert slot in self.running
                        self.history.append(f"{signal.Signals(signo).name} {slot}")
                        if signo == KILL or (self.obedient and signo == TERM):
                            del self.running[slot]
                            queue.append(ChildExited(slot, 0 if signo == TERM else -KILL))
                    case Watch(label):
                        assert label not in self.watched, "two watches at one door"
                        if label in self.waiting:
                            queue.append(Readable(label, at_once=True))
                        else:
                            self.watched.add(label)
                    case Stopping():
                        assert not self.stopping
                        self.stopping = True
                    case Note(event, fields):
                        assert set(fields) == set(event.fields)
                        self.notes.append(event.name)
                    case Ready():
                        self.ready = True
                    case Exit(code):
                        assert not self.running
                        assert self.exit_code is None
                        self.exit_code = code

    def wait(self, seconds):
        """Let time pass in the steps that the supervisor asks for."""
        end_s = self.now_s + seconds
        while (wake_s := self.sup.next_wake(self.now_s)) is not None and wake_s <= end_s:
            assert wake_s >= self.now_s
            self.now_s = wake_s
            self.feed(Tick())
        self.now_s = end_s
        self.feed(Tick())

    def die(self, slot, status=-9):
        del self.running[slot]
        self.feed(ChildExited(slot, status))

    def bring_up(self):
        for slot in list(self.running):
            self.feed(SocketsPassed(slot))
        self.wait(2)
        self.history.clear()
        return self


QMGR, SMTPS, SMAR = Slot("qmgr", 0), Slot("smtps", 0), Slot("smar", 0)
SMTPC = (Slot("smtpc", 0, 2), Slot("smtpc", 1, 2))


def test_everything_is_started_at_once_in_start_order():
    assert Bench().history == [
        "start qmgr", "start smtps", "start smtpc/0", "start smtpc/1", "start smar",
    ]  # fmt: skip


@pytest.mark.covers("X147")
def test_each_copy_is_kept_running():
    bench = Bench().bring_up()
    bench.die(SMTPC[1])
    bench.wait(1)
    assert bench.history == ["start smtpc/1"]


def test_ready_needs_every_child_settled_and_sockets_passed():
    bench = Bench()
    bench.wait(5)
    assert not bench.ready
    bench.feed(SocketsPassed(SMTPS))
    assert bench.ready
    assert bench.notes[-1] == "ready"


@pytest.mark.covers("X010", "X156")
def test_child_that_dies_is_started_again_after_a_second():
    bench = Bench().bring_up()
    bench.die(SMTPC[0])
    assert SMTPC[0] not in bench.running
    bench.wait(0.9)
    assert SMTPC[0] not in bench.running
    bench.wait(0.1)
    assert SMTPC[0] in bench.running


@pytest.mark.covers("X156")
def test_exit_code_zero_unasked_is_restarted_too():
    bench = Bench().bring_up()
    bench.die(SMTPC[0], 0)
    bench.wait(1)
    assert SMTPC[0] in bench.running


def test_back_off_doubles_up_to_a_minute_and_begins_anew_after_a_steady_run():
    bench = Bench([service("a")])
    slot, delays = Slot("a", 0), []
    for _ in range(8):
        bench.die(slot, EX_TEMPFAIL)
        delays.append(bench.sup.next_wake(bench.now_s) - bench.now_s)
        bench.wait(delays[-1])
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60]
    bench.wait(supervise.STEADY_S)
    bench.die(slot)
    assert bench.sup.next_wake(bench.now_s) - bench.now_s == 1


def test_back_off_is_bounded_for_any_count():
    assert [backoff_s(n) for n in (0, 5, 6, 1000, 10**9)] == [1, 32, 60, 60, 60]


@pytest.mark.covers("X143", "X158")
def test_dependencies_are_stopped_and_started_after_the_service():
    bench = Bench().bring_up()
    bench.die(QMGR)
    assert bench.history == [
        "SIGTERM smtps", "SIGTERM smtpc/0", "SIGTERM smtpc/1", "SIGTERM smar",
    ]  # fmt: skip
    assert not bench.running
    bench.wait(1)
    assert bench.history[4:] == [
        "start qmgr", "start smtps", "start smtpc/0", "start smtpc/1", "start smar",
    ]  # fmt: skip


def test_dependency_is_not_started_before_it_has_ended():
    bench = Bench().bring_up()
    bench.obedient = False
    bench.die(QMGR)
    bench.wait(1)
    assert bench.sup.phase(QMGR) is Phase.RUNNING
    assert bench.sup.phase(SMAR) is Phase.STOPPING
    bench.die(SMAR, 0)
    assert bench.sup.phase(SMAR) is Phase.RUNNING


def test_services_that_depend_on_each_other_do_not_bounce_for_ever():
    bench = Bench().bring_up()
    bench.die(SMAR)
    assert bench.history == ["SIGTERM qmgr", "SIGTERM smtps"]
    bench.wait(100)
    assert bench.history[2:] == ["start smar", "start qmgr", "start smtps"]


def test_leader_and_dependent_that_die_together_come_back():
    bench = Bench().bring_up()
    bench.obedient = False
    bench.die(QMGR)
    bench.die(SMAR)
    bench.die(SMTPS)
    for slot in SMTPC:
        bench.die(slot)
    bench.wait(5)
    assert len(bench.running) == 5


def test_dependency_that_ignores_sigterm_is_killed():
    bench = Bench().bring_up()
    bench.obedient = False
    bench.die(SMAR)
    bench.wait(supervise.STOP_GRACE_S)
    assert "SIGKILL qmgr" in bench.history
    assert len(bench.running) == 5


@pytest.mark.covers("X157")
@pytest.mark.parametrize("code", [EX_USAGE, EX_CONFIG, EX_NOPERM])
def test_useless_exit_code_is_not_restarted_once_the_system_was_ready(code):
    bench = Bench().bring_up()
    bench.die(SMTPC[0], code)
    bench.wait(1000)
    assert SMTPC[0] not in bench.running
    assert len(bench.running) == 4
    assert "child_given_up" in bench.notes


def test_useless_exit_code_at_the_start_stops_the_system_with_that_code():
    bench = Bench()
    bench.die(SMAR, EX_CONFIG)
    assert bench.exit_code == EX_CONFIG
    assert not bench.running


def test_mcp_ends_when_the_last_service_is_given_up():
    bench = Bench([service("a")]).bring_up()
    bench.die(Slot("a", 0), EX_CONFIG)
    assert bench.exit_code == EX_CONFIG


def test_program_that_cannot_be_executed_is_tried_again_unless_useless():
    sup = Supervisor([service("a"), service("b")], 0)
    sup.handle(0, Tick())
    sup.handle(0, StartFailed(Slot("a", 0), "no such file", useless=False))
    assert sup.phase(Slot("a", 0)) is Phase.WAITING
    sup.handle(0, StartFailed(Slot("b", 0), "permission denied", useless=True))
    assert sup.phase(Slot("b", 0)) is Phase.OFF


@pytest.mark.covers("X154", "X155")
def test_orderly_stop_ends_listeners_first_and_qmgr_last():
    bench = Bench().bring_up()
    bench.feed(StopRequested("SIGTERM"))
    assert bench.history == [
        "SIGTERM smtps", "SIGTERM smtpc/0", "SIGTERM smtpc/1", "SIGTERM smar", "SIGTERM qmgr",
    ]  # fmt: skip
    assert bench.exit_code == EX_OK


def test_orderly_stop_waits_for_each_service_and_kills_the_slow():
    bench = Bench().bring_up()
    bench.obedient = False
    bench.feed(StopRequested("SIGTERM"))
    assert bench.history == ["SIGTERM smtps"]
    bench.die(SMTPS, 0)
    assert bench.history[1:] == ["SIGTERM smtpc/0", "SIGTERM smtpc/1"]
    bench.wait(3 * supervise.STOP_GRACE_S)
    assert bench.exit_code == EX_OK


def test_second_stop_request_stops_all_at_once():
    bench = Bench().bring_up()
    bench.obedient = False
    bench.feed(StopRequested("SIGINT"))
    bench.feed(StopRequested("SIGINT"))
    assert sum(line.startswith("SIGTERM") for line in bench.history) == 5
    bench.wait(supervise.HURRY_GRACE_S)
    assert bench.exit_code == EX_OK


def test_exit_stop_of_a_child_stops_everything():
    bench = Bench().bring_up()
    bench.die(QMGR, EX_STOP)
    assert bench.exit_code == EX_OK
    assert "child_asks_stop" in bench.notes
    assert not [line for line in bench.history if line.startswith("start")]


def test_nothing_is_restarted_while_stopping():
    bench = Bench().bring_up()
    bench.obedient = False
    bench.feed(StopRequested("SIGTERM"))
    for slot in list(bench.running):
        bench.die(slot)
    bench.wait(200)
    assert bench.exit_code == EX_OK
    assert "start" not in " ".join(bench.history)


def test_waiting_child_is_forgotten_at_stop():
    bench = Bench([service("a")]).bring_up()
    bench.die(Slot("a", 0))
    bench.feed(StopRequested("SIGTERM"))
    assert bench.exit_code == EX_OK


def test_reload_reaches_every_running_child():
    bench = Bench().bring_up()
    bench.feed(ReloadRequested())
    assert [line.split()[0] for line in bench.history] == ["SIGHUP"] * 5


def inetd(reserve=1, **more):
    """A bench with one service that connections start."""
    return Bench([service("pop", copies=0, reserve=reserve, **more)])


def pop(index, copies=1):
    return Slot("pop", index, copies)


@pytest.mark.covers("X129")
def test_service_on_demand_is_ready_without_a_process_and_started_by_a_connection():
    bench = inetd()
    assert bench.ready
    bench.wait(1000)
    assert bench.history == []
    bench.connections_wait("pop")
    assert bench.history == ["start pop"]


@pytest.mark.covers("X129", "X148")
def test_sockets_are_not_watched_while_the_only_copy_runs_and_are_after_it_ended():
    bench = inetd()
    bench.connections_wait("pop")
    bench.wait(1000)
    assert (bench.history, bench.watched) == (["start pop"], set())
    bench.connections_wait()
    bench.die(pop(0), 0)
    assert bench.watched == {"pop"}
    assert "child_done" in bench.notes
    bench.connections_wait("pop")
    assert bench.history == ["start pop"] * 2


def test_program_that_takes_no_connection_is_started_once_a_second_at_most():
    bench = inetd()
    bench.connections_wait("pop")
    for _ in range(20):
        bench.wait(0.05)
        if pop(0) in bench.running:
            bench.die(pop(0), 0)
    bench.wait(0.99)
    times = [at_s for at_s, _slot in bench.starts]
    assert times == [100, 101]


def test_back_off_holds_for_connections_too():
    bench, delays = inetd(), []
    bench.connections_wait("pop")
    for _ in range(8):
        bench.die(pop(0), EX_TEMPFAIL)
        delays.append(bench.sup.next_wake(bench.now_s) - bench.now_s)
        bench.wait(delays[-1])
        assert pop(0) in bench.running
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60]


def test_copies_that_pause_after_a_failure_are_not_replaced_by_others():
    bench = inetd(3)
    bench.connections_wait("pop")
    bench.die(pop(0, 3), 1)
    bench.wait(0.9)
    assert bench.history == ["start pop/0"]


@pytest.mark.covers("X148")
def test_another_copy_starts_when_connections_wait_although_all_run_but_never_too_many():
    bench = inetd(3)
    bench.connections_wait("pop")
    assert len(bench.running) == 1
    bench.wait(supervise.SETTLE_S)
    assert len(bench.running) == 1
    bench.wait(supervise.LOOK_S * supervise.BUSY_LOOKS)
    assert len(bench.running) == 2
    bench.wait(100)
    assert len(bench.running) == 3
    assert bench.sup.next_wake(bench.now_s) is None


@pytest.mark.covers("X148")
def test_connections_that_are_taken_in_time_start_no_other_copy():
    bench = inetd(3)
    bench.connections_wait("pop")
    for _ in range(100):
        bench.connections_wait()
        bench.wait(0.4)
        bench.connections_wait("pop")
        bench.wait(0.4)
    assert bench.history == ["start pop/0"]


@pytest.mark.covers("X147")
def test_first_connection_starts_as_many_as_min_processes():
    bench = inetd(4, floor=2)
    bench.connections_wait("pop")
    assert bench.history == ["start pop/0", "start pop/1"]
    bench.die(pop(1, 4), 0)
    bench.wait(1)
    assert bench.history[2:] == ["start pop/1"]


@pytest.mark.covers("X128", "X147", "X148")
def test_kept_copies_come_back_and_extra_ones_that_end_well_do_not():
    bench = Bench([service("pop", copies=1, reserve=1)]).bring_up()
    assert set(bench.running) == {pop(0)}
    bench.connections_wait("pop")
    bench.wait(3)
    assert set(bench.running) == {pop(0), pop(1)}
    bench.connections_wait()
    bench.die(pop(1), 0)
    bench.die(pop(0), 0)
    bench.wait(100)
    assert set(bench.running) == {pop(0)}


def test_no_copy_is_added_while_a_kept_one_is_away():
    bench = Bench([service("pop", copies=1, reserve=1)]).bring_up()
    for _ in range(5):
        bench.die(pop(0), 1)
        bench.wait(2 ** (len(bench.starts) - 1))
    bench.die(pop(0), 1)
    bench.connections_wait("pop")
    bench.wait(30)
    assert not bench.running
    bench.wait(2)
    assert set(bench.running) == {pop(0)}


def test_copy_on_demand_that_cannot_run_takes_the_idle_ones_with_it():
    bench = Bench([service("a"), service("pop", copies=0, reserve=3)]).bring_up()
    bench.connections_wait("pop")
    bench.die(pop(0, 3), EX_CONFIG)
    bench.wait(100)
    assert bench.history == ["start pop/0"]
    assert set(bench.running) == {Slot("a", 0)}


def test_copy_on_demand_waits_for_those_it_depends_on():
    bench = Bench([service("a", deps=("pop",)), service("pop", copies=0, reserve=1)]).bring_up()
    bench.connections_wait("pop")
    bench.die(Slot("a", 0))
    assert set(bench.running) == set()
    bench.wait(1)
    assert bench.history == ["start pop", "SIGTERM pop", "start a", "start pop"]


def test_dependents_do_not_wait_for_a_leader_that_connections_start():
    bench = Bench([service("a"), service("pop", copies=0, reserve=1, deps=("a",))]).bring_up()
    bench.connections_wait("pop")
    bench.connections_wait()
    bench.die(pop(0), 1)
    assert bench.history == ["start pop", "SIGTERM a", "start a"]


def test_connections_start_nothing_while_stopping():
    bench = Bench([service("a"), service("pop", copies=0, reserve=1)]).bring_up()
    bench.obedient = False
    bench.feed(StopRequested("SIGTERM"))
    bench.connections_wait("pop")
    assert bench.history == ["SIGTERM a"]
    bench.die(Slot("a", 0), 0)
    assert bench.exit_code == EX_OK


ON_DEMAND = [
    service("pop", copies=0, reserve=2, deps=("smar",)),
    service("imap", copies=1, reserve=2, floor=1),
]


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens in whatever order: one process a slot, progress, and stop ends."""

    @initialize(obedient=st.booleans())
    def begin(self, obedient):
        self.bench = Bench([*MAIL, *ON_DEMAND], obedient=obedient)
        self.slots = [QMGR, SMTPS, *SMTPC, SMAR]
        self.slots += [slot for service in ON_DEMAND for slot in service.slots()]

    @rule(data=st.data(), status=st.sampled_from([0, 1, -9, -15, EX_TEMPFAIL, EX_USAGE, EX_CONFIG]))
    def child_dies(self, data, status):
        if self.bench.running:
            self.bench.die(data.draw(st.sampled_from(sorted(self.bench.running, key=str))), status)

    @rule(data=st.data())
    def sockets_are_passed(self, data):
        self.bench.feed(SocketsPassed(data.draw(st.sampled_from(self.slots))))

    @rule(data=st.data(), pid=st.integers(1, 9))
    def stray_event_changes_nothing(self, data, pid):
        slot = data.draw(st.sampled_from(self.slots))
        before = self.bench.sup.phase(slot)
        if slot not in self.bench.running:
            self.bench.feed(ChildExited(slot, 0))
        self.bench.feed(ChildStarted(slot, pid), StartFailed(slot, "x", useless=True))
        assert self.bench.sup.phase(slot) is before

    @rule(seconds=st.floats(0, 100))
    def time_passes(self, seconds):
        self.bench.wait(seconds)

    @rule(labels=st.sets(st.sampled_from(["pop", "imap", "smtpc"])))
    def connections_wait(self, labels):
        self.bench.connections_wait(*labels)

    @rule(label=st.sampled_from(["pop", "imap"]), at_once=st.booleans())
    def stray_readable_is_harmless(self, label, at_once):
        if label not in self.bench.watched:
            before = list(self.bench.starts)
            self.bench.feed(Readable(label, at_once=at_once))
            assert self.bench.starts == before

    @rule()
    def reload(self):
        self.bench.feed(ReloadRequested())

    @precondition(lambda self: self.bench.exit_code is None)
    @rule()
    def stop(self):
        self.bench.feed(StopRequested("SIGTERM"))

    @invariant()
    def there_are_never_more_than_max_processes(self):
        for label, most in (("pop", 2), ("imap", 3)):
            assert sum(slot.label == label for slot in self.bench.running) <= most

    @invariant()
    def phases_agree_with_processes(self):
        for slot in self.slots:
            alive = self.bench.sup.phase(slot) in (Phase.RUNNING, Phase.STOPPING)
            assert alive == (slot in self.bench.running)

    def teardown(self):
        if not hasattr(self, "bench"):
            return
        bench = self.bench
        if bench.exit_code is None and "mcp_stopping" not in bench.notes:
            # Progress: after a quiet while every service that was not given up runs.
            bench.wait(4 * supervise.STOP_GRACE_S)
            bench.wait(copies.BACKOFF_MAX_S)
            for slot in self.slots:
                assert bench.sup.phase(slot) in (Phase.RUNNING, Phase.OFF, Phase.IDLE)
            for label in bench.waiting & {"pop", "imap"}:
                mine = {bench.sup.phase(slot) for slot in self.slots if slot.label == label}
                assert mine <= {Phase.RUNNING, Phase.OFF}, "a connection was forgotten"
            bench.feed(StopRequested("end"))
        bench.wait(6 * supervise.STOP_GRACE_S)
        assert bench.exit_code is not None


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
