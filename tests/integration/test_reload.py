"""SIGHUP: what holds at once, and a clear word about what needs a restart."""

import signal

import pytest

from tests.sink import Sink
from tests.system import wait_for


def said(system, name, *words):
    return any(all(word in line for word in words) for line in system.log(name))


@pytest.mark.covers("X119", "X478")
def test_a_reload_takes_over_what_it_can_and_names_the_rest(smx):
    with Sink() as sink:
        system = smx(nexthop=sink.address).start()
        system.send()
        sink.wait(1)
        assert not said(system, "smtps", " session_opened ")
        system.options["smtps"] = "log_level = 12; max_sessions = 77;"
        system.write_conf()
        system.mcp.send_signal(signal.SIGHUP)
        wait_for("the new level", lambda: said(system, "smtps", "config_taken", "smtps.log_level"))
        wait_for("the rest", lambda: said(system, "smtps", "restart_needed", "max_sessions"))
        system.send()
        wait_for("detail", lambda: said(system, "smtps", " session_opened "))
        assert not said(system, "smtpc", " restart_needed ")

        good = system.conf.read_text()
        system.conf.write_text(good.replace("max_sessions = 77", "max_sessoins = 77"))
        system.mcp.send_signal(signal.SIGHUP)
        wait_for("the complaint", lambda: said(system, "smtps", " config_unread ", "max_sessoins"))
        system.send()  # it goes on as it was
        sink.wait(3)
