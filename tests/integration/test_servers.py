"""Several SMTP servers in one configuration; mail that a balancer or another server passes on."""

import concurrent.futures
import os
import smtplib
import socket
import subprocess

import pytest

from tests.conftest import need
from tests.sink import Sink
from tests.system import DEADLINE_S, free_port, reachable_dir, unprivileged_user, wait_for


def second_server(programs, base, port, options):
    """Section of another server."""
    user = unprivileged_user()
    return f"""
smtps MSA {{
  listen_socket {{ type = inet; address = "127.0.0.1"; port = {port}; }}
  start_action = pass; pass_fd_socket = smtps/msafd; {f"user = {user};" if user else ""}
  path = "{programs}/smtps"; arguments = "smtps -N MSA -f {base}/smx.conf";
  log {{ file = "{base}/log/msa.log"; }}
  {options}
}}
"""


@pytest.mark.covers("X369")
def test_threads_are_bounded_however_many_messages_come_together(smx):
    with Sink() as sink:
        options = {"smtps": "max_threads = 3;"}
        system = smx(nexthop=f"127.0.0.1:{sink.port}", options=options).start()
        (process,) = system.pids("smtps")
        most = 0
        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            sent = [pool.submit(system.send) for _ in range(60)]
            while not all(one.done() for one in sent):
                most = max(most, len(os.listdir(f"/proc/{process[1]}/task")))
                concurrent.futures.wait(sent, 0.01)
        assert [one.result() for one in sent] == [{}] * 60
        sink.wait(60)
    assert 1 < most <= 1 + 3


@pytest.mark.covers("X367", "X382", "X383", "X428", "X429", "X430")
def test_two_servers_have_their_own_options_and_numbers(smx, programs):
    base, port = reachable_dir(), free_port()
    options = """banner = "submission"; extensions_hidden = { chunking }; log_level = 12;
        max_message_size = 1KB; flags = { 8bitmime, require_auth };"""
    with Sink() as sink:
        system = smx(
            nexthop=f"127.0.0.1:{sink.port}",
            base=base,
            extra=second_server(programs, base, port, options),
        ).start()

        def greets():
            with socket.create_connection(("127.0.0.1", port), 5) as sock:
                return sock.recv(200)

        wait_for("the second server", lambda: _quietly(greets))
        assert b" ESMTP submission\r\n" in greets()
        with smtplib.SMTP("127.0.0.1", port, timeout=DEADLINE_S) as msa:
            msa.ehlo()
            assert msa.esmtp_features["size"] == "1024"
            assert "chunking" not in msa.esmtp_features
            assert msa.docmd("MAIL FROM:<a@client.example>")[0] == 530
            assert msa.docmd("FOO")[0] == 500
        with smtplib.SMTP("127.0.0.1", system.port, timeout=DEADLINE_S) as mta:
            mta.ehlo()
            assert "chunking" in mta.esmtp_features
            mta.sendmail("a@client.example", ["b@dest.example"], "Subject: x\r\n\r\nhi\r\n")
        sink.wait(1)
        wait_for("its log", lambda: any("command_refused" in line for line in system.log("msa")))
        assert not any("command_refused" in line for line in system.log("smtps"))
    (message,) = sink.messages
    assert b" id S" in message.data


def _quietly(function):
    try:
        return function()
    except OSError:
        return b""


def swaks(port, *words):
    """Run swaks; return its transcript."""
    done = subprocess.run(
        [need("swaks", "swaks"), "--server", f"127.0.0.1:{port}", "--from", "a@client.example",
         "--to", "b@dest.example", "--helo", "balancer.example", *words],
        capture_output=True, text=True, check=False, timeout=DEADLINE_S,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_swaks_speaks_for_other_clients_with_xclient_and_proxy(smx):
    need("swaks", "swaks")
    with Sink() as sink:
        options = {"smtps": "xclient_clients = 127.0.0.1;"}
        system = smx(nexthop=f"127.0.0.1:{sink.port}", options=options).start()
        said = swaks(system.port, "--xclient-addr", "127.9.9.9", "--xclient-name", "spike.example")
        assert "250-XCLIENT NAME" in said or "250 XCLIENT NAME" in said
        assert "accepted" in said, said
        # One that may not relay may not even when a trusted client speaks for it.
        assert "550 5.7.1" in swaks(system.port, "--xclient-addr", "203.0.113.5")
        sink.wait(1)
    assert b"(spike.example [127.9.9.9])" in sink.messages[0].data


def test_swaks_sends_a_proxy_header(smx):
    need("swaks", "swaks")
    with Sink() as sink:
        options = {"smtps": "proxy_clients = 127.0.0.1;"}
        system = smx(nexthop=f"127.0.0.1:{sink.port}", options=options)
        system.start(ready=False)

        def accepted(version, family):
            said = swaks(
                system.port, "--proxy-version", version, "--proxy-family", family,
                "--proxy-protocol", "STREAM", "--proxy-source", f"127.8.8.{version}",
                "--proxy-source-port", "4711", "--proxy-dest", "127.0.0.1",
                "--proxy-dest-port", "25",
            )  # fmt: skip
            return "accepted" in said

        wait_for("a message through the balancer", lambda: accepted("1", "TCP4"))
        wait_for("another message", lambda: accepted("2", "AF_INET"))
        sink.wait(2)
        with socket.create_connection(("127.0.0.1", system.port), DEADLINE_S) as sock:
            sock.sendall(b"EHLO nobody.example\r\n")
            assert _quietly(lambda: sock.recv(100)) == b""
    text = b"".join(message.data for message in sink.messages)
    assert b"([127.8.8.1])" in text
    assert b"([127.8.8.2])" in text
