"""The administrator's window, through the real processes."""

import grp
import json
import os
import pwd
import socket
import subprocess

import pytest

from libsmx.errors import EX_DATAERR, EX_NOPERM, EX_OK, EX_UNAVAILABLE, EX_USAGE
from tests.sink import Sink
from tests.system import free_port, wait_for


def answers(system, *words):
    """What a command prints as JSON."""
    return [json.loads(line) for line in system.ctl(*words, "--json").splitlines()]


def places(system, *words):
    """Address -> place of everything in the queue that a selection means."""
    return {
        rcpt["address"]: rcpt["place"]
        for entry in answers(system, "queue", *words)
        for rcpt in entry["rcpts"]
    }


def count(system, *words):
    """How many recipients a change meant."""
    return answers(system, *words)[0]["count"]


def start(smx, sink, **kwargs):
    """A system that can reach everything but dead.example."""
    mt = f"dead.example {free_port()}^esmtp:[127.0.0.1]\n. {sink.port}^esmtp:[127.0.0.1]\n"
    return smx(mt=mt, **kwargs).start()


def defer(system, *rcpts, sender="a@client.example"):
    """Send a message for each recipient and wait until all are deferred."""
    for rcpt in rcpts:
        system.send(sender=sender, rcpts=[rcpt])
    wait_for("deferral", lambda: {places(system).get(rcpt) for rcpt in rcpts} == {"deferred"})


@pytest.mark.covers("X162", "X477")
def test_recipients_are_held_released_redirected_returned_and_removed(smx):
    with Sink() as sink:
        system = start(smx, sink)
        defer(system, *(f"{name}@dead.example" for name in ("one", "two", "three", "four")))
        ids = {entry["rcpts"][0]["address"][:-13]: entry["ta_id"] for entry in system.queue()}

        assert count(system, "hold", "--domain", "dead.example", "--dry-run") == 4
        assert set(places(system).values()) == {"deferred"}, "a dry run changes nothing"
        assert count(system, "hold", ids["one"], ids["two"]) == 2
        assert count(system, "hold", "--domain", "DEAD.example") == 2, "those not held yet"
        assert count(system, "hold", "--all") == 0
        system.ctl("flush")
        assert set(places(system).values()) == {"held"}, "what is held is not flushed"

        system.kill("qmgr")
        wait_for("a greeting", system.greets)
        wait_for("the queue", lambda: set(places(system).values()) == {"held"})
        assert len(places(system, "--state", "held", "--to", "t*@dead.example")) == 2
        assert not places(system, "--state", "held", "--older", "1h")
        assert not places(system, "--from", "<>")

        assert count(system, "release", ids["one"]) == 1
        wait_for("another try", lambda: places(system)["one@dead.example"] == "deferred")
        assert count(system, "redirect", "good@fine.example", ids["one"]) == 1
        sink.wait(1)
        assert sink.messages[0].rcpts == ["good@fine.example"]

        assert count(system, "bounce", ids["two"]) == 1
        sink.wait(2)
        assert sink.messages[1].sender == ""
        assert sink.messages[1].rcpts == ["a@client.example"]
        assert b"two@dead.example" in sink.messages[1].data
        assert b"postmaster" in sink.messages[1].data

        assert count(system, "remove", "--to", "*@dead.example") == 2
        system.wait_empty()
        wait_for("the contents to go", lambda: not system.contents())
        assert len(sink.messages) == 2, "what is removed is told to nobody"
        log = [line for line in system.log("qmgr") if "queue_changed" in line]
        assert all(f"uid={os.getuid()}" in line for line in log)
        assert any("action=remove" in line and "rcpts=2" in line for line in log)


@pytest.mark.covers("X477")
def test_show_explain_and_destinations_tell_why_mail_waits(smx):
    with Sink() as sink:
        system = start(smx, sink)
        defer(system, "x@dead.example", "y@dead.example")
        [one, two] = [entry["ta_id"] for entry in system.queue()]
        [shown] = answers(system, "show", one)
        [rcpt] = shown["rcpts"]
        assert shown["envelope"]["sender"] == "a@client.example"
        assert rcpt["tries"] == len(rcpt["history"]) == 1
        assert "refused" in rcpt["history"][0]["text"].lower()
        assert "next try in" in rcpt["next"]
        text = system.ctl("explain", one, two)
        assert text.count("because") >= 2
        assert "refused" in text.lower()
        system.ctl("hold", one)
        assert "operator holds it" in system.ctl("explain", one)
        text = system.ctl("destinations")
        assert "127.0.0.1" in text
        assert "left alone for" in text
        [row, *_] = answers(system, "destinations", "dead.example")
        assert row["deferred"] == 2
        status = system.status()
        assert status["accepted_last_minute"] == 2
        assert status["state"] == "normal"


@pytest.mark.covers("X477")
def test_a_suspended_domain_waits_over_a_restart_and_goes_when_resumed(smx):
    with Sink() as sink:
        system = start(smx, sink)
        system.ctl("suspend", "slow.example", "--reason", "their request")
        system.send(rcpts=["s@slow.example", "f@fine.example"])
        sink.wait(1)
        assert sink.messages[0].rcpts == ["f@fine.example"]
        wait_for("deferral", lambda: places(system) == {"s@slow.example": "deferred"})
        system.kill("qmgr")
        wait_for("a greeting", system.greets)
        wait_for("the queue", lambda: places(system) == {"s@slow.example": "deferred"})
        [one] = answers(system, "suspensions")
        assert (one["name"], one["reason"], one["uid"]) == (
            "slow.example", "their request", os.getuid(),
        )  # fmt: skip
        [entry] = system.queue()
        assert "their request" in system.ctl("explain", entry["ta_id"])
        system.ctl("flush")
        wait_for("deferral", lambda: places(system) == {"s@slow.example": "deferred"})
        assert len(sink.messages) == 1
        assert count(system, "resume", "slow.example") <= 1
        sink.wait(2)
        system.wait_empty()
        assert answers(system, "suspensions") == []


@pytest.mark.covers("X477")
def test_what_is_wrong_is_told_by_the_exit_code(smx):
    with Sink() as sink:
        system = start(smx, sink)

        def code(*words):
            done = subprocess.run(
                [system.programs / "qmgrctl", "-f", system.conf,
                 "-s", system.spool / "qmgrctl/control", *words],
                capture_output=True, check=False, cwd=system.spool,
            )  # fmt: skip
            return done.returncode

        assert code("show", "S00000000000000FF00") == EX_DATAERR
        assert code("show", "../../etc") == EX_USAGE
        assert code("remove") == EX_USAGE, "everything must be asked for"
        assert code("remove", "--all", "--to", "a@b") == EX_USAGE
        assert code("redirect", "no address", "--all") == EX_USAGE
        assert code("suspend", "x.org", "--for", "soon") == EX_USAGE
        assert code("resume", "x.org") == EX_DATAERR
        assert code("loglevel", "12") == EX_OK
        assert code("reload") == EX_OK
        assert system.status()["state"] == "normal"


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become somebody else")
@pytest.mark.covers("X162")
def test_a_stranger_may_look_and_not_change(smx):
    with Sink() as sink:
        system = start(smx, sink)
        control = system.spool / "qmgrctl/control"
        os.chmod(control.parent, 0o755)
        os.chmod(control, 0o666)

        def code(*words):
            # setpriv: also without the groups of root
            done = subprocess.run(
                ["setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups",
                 system.programs / "qmgrctl", "-f", system.conf, "-s", control, *words],
                capture_output=True, check=False, cwd="/",
            )  # fmt: skip
            return done.returncode

        assert code("status") == EX_OK
        assert code("queue") == EX_OK
        for words in (["flush"], ["hold", "--all"], ["suspend", "x.org"], ["stop"], ["reload"]):
            assert code(*words) == EX_NOPERM
        assert not answers(system, "suspensions")

        def lines():
            return [line for line in system.log("qmgr") if "control_refused" in line]

        # Lines are written a moment after the event.
        wait_for("the log lines", lambda: len(lines()) >= 5)
        refused = lines()
        assert len(refused) == 5
        assert all("uid=12345" in line for line in refused)


@pytest.fixture
def operators():
    """Two users of this machine for the time of a test; the first is in group smx."""
    subprocess.run(["groupadd", "-f", "smx"], check=True)
    names = ("smxtest-op", "smxtest-no")
    for name, more in zip(names, (["-G", "smx"], []), strict=True):
        subprocess.run(["userdel", name], check=False, capture_output=True)
        subprocess.run(["useradd", "-M", "-d", "/nonexistent", *more, name], check=True)
    try:
        yield [pwd.getpwnam(name) for name in names]
    finally:
        for name in names:
            subprocess.run(["userdel", name], check=False, capture_output=True)


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0, reason="needs root to make users")
@pytest.mark.covers("X162")
def test_members_of_group_smx_may_look_and_change_and_nobody_else_gets_in(smx, operators):
    with Sink() as sink:
        system = start(smx, sink)
        defer(system, "x@dead.example", "y@dead.example")
        control = system.spool / "qmgrctl/control"
        group = grp.getgrnam("smx").gr_gid
        for path, mode in ((control.parent, 0o750), (control, 0o660)):  # as it is installed
            os.chown(path, 0, group)
            os.chmod(path, mode)

        def code(user, *words):
            done = subprocess.run(
                ["setpriv", "--reuid", str(user.pw_uid), "--regid", str(user.pw_gid),
                 "--init-groups", system.programs / "qmgrctl", "-f", system.conf, "-s", control,
                 *words],
                capture_output=True, check=False, cwd="/",
            )  # fmt: skip
            return done.returncode

        member, stranger = operators
        assert code(stranger, "status") == EX_UNAVAILABLE
        assert code(member, "status") == EX_OK
        assert code(member, "remove", "--to", "x@*") == EX_OK
        assert set(places(system)) == {"y@dead.example"}
        os.chmod(control.parent, 0o755)
        os.chmod(control, 0o666)
        assert code(stranger, "status") == EX_OK
        assert code(stranger, "remove", "--to", "y@*") == EX_NOPERM
        assert set(places(system)) == {"y@dead.example"}
        lines = [line for line in system.log("qmgr") if "queue_changed" in line]
        assert [f"uid={member.pw_uid} " in line for line in lines] == [True]


@pytest.mark.covers("X477")
def test_destinations_that_have_deferred_mail_only_are_listed_without_being_named(smx):
    with Sink() as sink:
        system = start(smx, sink)
        defer(system, "x@dead.example", "y@dead.example")
        system.send(rcpts=["z@fine.example"])
        sink.wait(1)
        rows = {row["dest"]: row["deferred"] for row in answers(system, "destinations")}
        assert sorted(rows.values(), reverse=True)[:2] == [2, 0]
        [name] = [name for name, count in rows.items() if count]
        assert f"deferred {rows[name]}" in system.ctl("destinations")
        status = system.status()
        assert status["occ_idle_timeout"] == 3600


@pytest.mark.covers("X477")
def test_what_waits_for_a_suspended_host_goes_when_it_is_resumed_after_a_restart(smx):
    with Sink() as sink:
        system = start(smx, sink)
        system.ctl("suspend", "127.0.0.1")
        system.send(rcpts=["s@fine.example"])
        wait_for("deferral", lambda: places(system) == {"s@fine.example": "deferred"})
        system.kill("qmgr")
        wait_for("a greeting", system.greets)
        wait_for("the queue", lambda: places(system) == {"s@fine.example": "deferred"})
        assert not sink.messages
        system.ctl("resume", "127.0.0.1")
        sink.wait(1)
        system.wait_empty()


def test_a_stuck_client_keeps_nobody_from_looking_or_sending(smx):
    with Sink() as sink:
        system = start(smx, sink)
        stuck = []
        for _ in range(20):
            sock = socket.socket(socket.AF_UNIX)
            here = os.getcwd()
            os.chdir(system.spool)
            try:
                sock.connect("qmgrctl/control")
            finally:
                os.chdir(here)
            sock.send(b"\x00\x00")
            stuck.append(sock)
        assert system.status()["state"] == "normal"
        system.send()
        sink.wait(1)
        for sock in stuck:
            sock.close()
