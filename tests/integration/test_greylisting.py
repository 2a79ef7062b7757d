"""Greylisting in the running system, and smxgrey."""

import json
import smtplib
import subprocess

import pytest

from tests.system import wait_for

MT = "local.test lmtp:\nclient.test [127.0.0.1]\n"


def make(smx, greylisting, flags="greylisting", relay="192.0.2.0/24"):
    """A running system that knows one local user and greylists."""
    system = smx(
        mt=MT,
        aliases={"user": "local:"},
        options={
            "smar": greylisting,
            "smtps": f"flags = {{ {flags} }}; relay_clients = {{ {relay} }};",
        },
    )
    return system.start()


def attempt(system, rcpt="user@local.test", upto="rcpt"):
    """Reply codes of one session up to a command, None where the server has hung up."""
    codes = []
    with smtplib.SMTP("127.0.0.1", system.port, timeout=60) as client:
        client.ehlo()
        try:
            codes.append(client.mail("a@client.test")[0])
            codes.append(client.rcpt(rcpt)[0])
            if upto == "data":
                codes.append(client.docmd("DATA")[0])
            codes.append(client.noop()[0])
        except smtplib.SMTPServerDisconnected:
            codes.append(None)
    return codes


def grey(system, programs, *words):
    done = subprocess.run(
        [programs / "smxgrey", "-f", system.conf, "-s", system.spool / "qmsmar/smarsock", *words],
        capture_output=True, text=True, check=False, cwd=system.spool, timeout=60,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def states(system, programs):
    code, text = grey(system, programs, "--json", "list")
    assert code == 0, text
    return {one["client"]: one["state"] for one in map(json.loads, text.splitlines())}


@pytest.mark.covers("X241", "X253", "X255", "X256", "X261", "X262", "X267", "X272", "X471")
@pytest.mark.slow
def test_a_stranger_waits_and_is_known_from_then_on(smx, programs):
    system = make(smx, "greylisting { grey_wait = 1s; }")
    assert attempt(system) == [250, 421, None]
    wait_for("the confirmation", lambda: attempt(system) == [250, 250, 250])
    assert states(system, programs) == {"127.0.0.1": "white"}
    names = {path.name for path in (system.spool / "smar").iterdir()}
    assert names == {"greylist.db", "greyindex.db"}
    old = system.kill("smar", 15)
    wait_for("another resolver", lambda: [p for _, p in system.pids("smar") if p != old])
    wait_for("the same verdict", lambda: attempt(system) == [250, 250, 250])
    assert states(system, programs) == {"127.0.0.1": "white"}


@pytest.mark.covers("X254", "X266", "X268")
@pytest.mark.slow
def test_the_wait_is_kept_and_the_error_may_come_at_data(smx, programs):
    system = make(
        smx,
        "greylisting { grey_wait = 1h; reply_code = 451; netmask = 0xFFFFFF00; }",
        "greylisting, delay_greylisting_error_until_DATA",
    )
    assert attempt(system, "nobody@local.test")[1] == 550
    assert states(system, programs) == {}
    for _ in range(2):
        assert attempt(system) == [250, 250, 250]
        assert attempt(system, upto="data")[:2] == [250, 250]
        assert 400 <= attempt(system, upto="data")[2] < 500
    assert states(system, programs) == {"127.0.0.0": "waiting"}
    assert grey(system, programs, "show", "127.0.0.9")[0] == 0
    assert grey(system, programs, "remove", "127.0.0.9")[0] == 0
    code, text = grey(system, programs, "remove", "127.0.0.9")
    assert (code, "does not know" in text) == (65, True)
    assert grey(system, programs, "expire") == (0, "0 clients removed\n")
    assert states(system, programs) == {}


@pytest.mark.covers("X270", "X271")
@pytest.mark.slow
def test_who_may_relay_is_exempt_and_both_sides_must_want_it(smx, programs):
    system = make(smx, "greylisting { }", relay="127.0.0.1")
    assert attempt(system) == [250, 250, 250]
    assert states(system, programs) == {}
    system.stop()
    other = make(smx, "greylisting { }", flags="8bitmime")
    assert attempt(other) == [250, 250, 250]
    other.stop()
    third = make(smx, "")
    assert attempt(third) == [250, 250, 250]
    code, text = grey(third, programs, "list")
    assert (code, "no section greylisting" in text) == (64, True)
