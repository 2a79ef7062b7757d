"""opendkim as a content filter of the whole system: one process signs, the next one verifies."""

import re
import subprocess

import pytest

from tests.conftest import need
from tests.sink import Sink
from tests.system import reachable_dir, wait_for

COMMON = """\
Syslog no
UMask 000
RequireSafeKeys no
Canonicalization relaxed/simple
AuthservID mx.smx.test
PidFile {dir}/{name}.pid
Socket local:{dir}/{name}.sock
BaseDirectory {dir}
"""
SIGN = COMMON + """\
Mode s
Domain client.example
Selector test
KeyFile {dir}/test.private
"""  # fmt: skip
VERIFY = COMMON + """\
Mode v
InternalHosts 192.0.2.1
AlwaysAddARHeader yes
TestPublicKeys {dir}/keys
"""  # fmt: skip


@pytest.fixture
def dkim():
    """Two opendkim processes; gives the configuration of the filters."""
    opendkim = need("opendkim", "opendkim")
    genkey = need("opendkim-genkey", "opendkim-tools")
    place = reachable_dir("smx-dkim-")
    subprocess.run([genkey, "-D", place, "-s", "test", "-d", "client.example", "-b", "1024"],
                   check=True)  # fmt: skip
    key = "".join(re.findall(r'"([^"]*)"', (place / "test.txt").read_text()))
    (place / "keys").write_text(f"test._domainkey.client.example {key}\n")
    running = []
    try:
        for name, text in (("sign", SIGN), ("verify", VERIFY)):
            conf = place / f"{name}.conf"
            conf.write_text(text.format(dir=place, name=name))
            running.append(subprocess.Popen([opendkim, "-f", "-x", conf], stderr=subprocess.PIPE))
        for name, process in zip(("sign", "verify"), running, strict=True):
            wait_for(
                f"opendkim {name}",
                lambda path=place / f"{name}.sock", one=process: (
                    path.exists()
                    or (one.poll() is not None and pytest.fail(one.stderr.read().decode()))
                ),
            )
        yield "".join(
            f'milter {{ name = {name}; socket {{ type = unix; path = "{place}/{name}.sock"; }} '
            "on_failure = reject; } "
            for name in ("sign", "verify")
        )
    finally:
        for process in running:
            process.kill()
            process.wait()
            process.stderr.close()
        subprocess.run(["rm", "-r", place], check=True)


def body(sender):
    return (
        f"From: <{sender}>\r\nTo: <b@dest.example>\r\nSubject: signed\r\n"
        "Date: Mon, 1 Jan 2024 00:00:00 +0000\r\nMessage-ID: <1@client.example>\r\n\r\n"
        ".a line\r\n\r\nthe end\r\n"
    )


def test_what_one_filter_signs_the_next_one_verifies(smx, dkim):
    with Sink() as sink:
        system = smx(nexthop=f"127.0.0.1:{sink.port}", options={"smtps": dkim}).start()
        system.send("a@client.example", body=body("a@client.example"))
        system.send("a@other.example", body=body("a@other.example"))
        sink.wait(2)
        system.wait_empty()
    texts = {message.sender: message.data.decode() for message in sink.messages}
    signed, plain = texts["a@client.example"], texts["a@other.example"]
    assert "\r\nDKIM-Signature: v=1; a=rsa-sha256;" in signed
    assert re.search(r"Authentication-Results: mx\.smx\.test;[^.]*dkim=pass", signed)
    assert "DKIM-Signature:" not in plain
    assert "dkim=none" in plain
    for text in texts.values():
        assert text.endswith("\r\n\r\n.a line\r\n\r\nthe end\r\n")
        assert len(re.findall("^Received:", text, re.MULTILINE)) == 1
