"""The log of the running system in each style, read by the tools that it is for."""

import json
import re
import subprocess

import pytest

from tests.conftest import need
from tests.sink import Sink
from tests.system import wait_for

DAEMONS = ("smtps", "qmgr", "smtpc")


def run_some_mail(smx, style):
    """Two messages that arrive, one recipient that fails; return the stopped system."""
    with Sink() as sink:
        system = smx(nexthop=sink.address, options={"": f"log_format = {style};"})
        system.start()
        system.send(rcpts=("b@dest.example", "c@dest.example"))
        system.send(sender="z@client.example")
        sink.wait(2)
        system.wait_empty()
        assert system.stop() == 0
    return system


@pytest.mark.covers("X119", "X480")
def test_every_line_in_json_is_an_object_with_its_ids(smx):
    system = run_some_mail(smx, "json")
    rows = {name: [json.loads(line) for line in system.log(name)] for name in DAEMONS}
    accepted = [row for row in rows["smtps"] if row["event"] == "ta_accepted"]
    delivered = [row for row in rows["smtpc"] if row["event"] == "rcpt_delivered"]
    assert {row["ss_ta"] for row in accepted} == {row["ta"] for row in delivered}
    assert sorted(row["rcpt"].strip("<>") for row in delivered) == [
        "b@dest.example", "b@dest.example", "c@dest.example",
    ]  # fmt: skip
    for line in system.mcp_lines():
        assert json.loads(line)["name"] == "mcp"


def test_pflogsumm_reads_the_style_of_postfix(smx):
    program = need("pflogsumm", "pflogsumm")
    system = run_some_mail(smx, "postfix")
    text = "\n".join(line for name in DAEMONS for line in system.log(name)) + "\n"
    done = subprocess.run(
        [program, "--syslog-name=smx"], input=text, capture_output=True, text=True, check=True
    )
    report = done.stdout
    for count, what in (("2", "received"), ("3", "delivered"), ("0", "deferred"), ("0", "bounced")):
        assert re.search(rf"^ +{count} +{what}", report, re.MULTILINE), report
    assert re.search(r"^ +2 +senders", report, re.MULTILINE), report
    assert re.search(r"^ +2 +recipients", report, re.MULTILINE), report


def test_a_log_is_opened_anew_on_reload_in_every_style(smx):
    with Sink() as sink:
        system = smx(nexthop=sink.address, options={"": "log_format = json;"}).start()
        log = system.dir / "log/smtps.log"
        log.rename(log.with_suffix(".old"))
        system.mcp.send_signal(1)
        wait_for("the new file", log.exists)
        system.send()
        sink.wait(1)
        wait_for("a line in it", lambda: any("ta_accepted" in line for line in system.log("smtps")))
