"""Postfix's test programs as clients and servers, and a real Postfix as the next hop."""

import os
import shutil
import subprocess

import pytest

from tests.conftest import need
from tests.postfix import Postfix
from tests.sink import Sink
from tests.system import free_port, reachable_dir, wait_for


@pytest.mark.slow
@pytest.mark.parametrize("reuse", [True, False])
def test_smtp_source_to_smtp_sink(smx, reuse):
    source = need("smtp-source", "postfix")
    sink = need("smtp-sink", "postfix")
    port = free_port()
    count = 400
    place = reachable_dir()
    user = ["-u", "nobody"] if os.getuid() == 0 else []
    os.chmod(place, 0o777)
    receiver = subprocess.Popen([sink, *user, "-d", "m-", f"127.0.0.1:{port}", "500"], cwd=place)
    try:
        system = smx(nexthop=f"127.0.0.1:{port}").start()
        subprocess.run(
            [source, "-s", "20", "-m", str(count), "-l", "4096", "-f", "a@client.example",
             "-t", "b@dest.example", *(["-d"] if reuse else []), f"127.0.0.1:{system.port}"],
            check=True, timeout=120,
        )  # fmt: skip
        system.wait_empty()
        wait_for("all messages", lambda: len(list(place.iterdir())) == count)
    finally:
        receiver.terminate()
        receiver.wait()
        shutil.rmtree(place)


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0, reason="needs root: Postfix's master does")
def test_a_postfix_next_hop_takes_and_passes_on(smx):
    need("postfix", "postfix")
    place = reachable_dir()
    try:
        with Sink() as last, Postfix(place, free_port(), last.address) as hop:
            system = smx(nexthop=f"127.0.0.1:{hop.port}").start()
            body = "Subject: two hops\r\n\r\n" + ".leading dot\r\n" * 50
            for _ in range(10):
                system.send(body=body)
            messages = last.wait(10)
            assert all(message.data.endswith(b".leading dot\r\n" * 50) for message in messages)
            system.wait_empty()
    finally:
        shutil.rmtree(place)
