"""One message's way through five real processes."""

import email
import os
import re
import smtplib
import socket
import subprocess

import pytest

from tests.conftest import need
from tests.sink import Sink
from tests.system import free_port, wait_for

BODY = (
    b"From: a@client.example\r\nTo: b@dest.example\r\nSubject: road\r\n\r\n"
    b"first\r\n.dot\r\n..two dots\r\n\r\nlast without text\r\n"
)


@pytest.mark.covers("X001", "X016", "X017", "X020", "X132")
def test_a_message_goes_through_unchanged(smx):
    with Sink() as sink:
        system = smx(nexthop=sink.address).start()
        with smtplib.SMTP("127.0.0.1", system.port) as client:
            code, banner = client.docmd("NOOP")
            assert code == 250
            client.sendmail("a@client.example", ["b@dest.example", "c@dest.example"], BODY)
        (message,) = sink.wait(1)
        assert message.sender == "a@client.example"
        assert message.rcpts == ["b@dest.example", "c@dest.example"]
        head, _, rest = message.data.partition(b"From: a@client.example")
        assert b"From: a@client.example" + rest == BODY
        assert head.startswith(b"Received: from ")
        assert re.search(rb"\bid S[0-9A-F]{18}\b", head)
        assert head.count(b"Received:") == 1
        system.wait_empty()
        wait_for("the content file's removal", lambda: not system.contents())
        with smtplib.SMTP() as client:
            code, banner = client.connect("127.0.0.1", system.port)
        version = subprocess.run(
            [system.programs / "qmgr", "-V"], capture_output=True, text=True, check=True
        )
        assert version.stdout.split()[-1].encode() in banner


@pytest.mark.covers("X015")
def test_a_first_attempt_delivery_leaves_no_trace_in_defedb(smx):
    with Sink() as sink:
        system = smx(nexthop=sink.address).start()
        before = system.status()
        for _ in range(5):
            system.send()
        sink.wait(5)
        system.wait_empty()
        after = system.status()
        assert after["defedb_commits"] == before["defedb_commits"]


@pytest.mark.slow
@pytest.mark.covers("X007", "X009", "X010")
def test_without_the_resolver_mail_is_refused_for_now(smx):
    with Sink() as sink:
        system = smx(nexthop=sink.address).start()
        system.kill("smar", 19)  # SIGSTOP: it is there and does not answer
        try:
            with smtplib.SMTP("127.0.0.1", system.port, timeout=120) as client:
                client.ehlo()
                client.mail("a@client.example")
                assert 400 <= client.rcpt("b@dest.example")[0] < 500
        finally:
            system.kill("smar", 18)
        system.kill("smar")
        wait_for("mail to be taken again", lambda: taken(system))
        sink.wait(1)


def taken(system):
    try:
        return system.send() == {}
    except (smtplib.SMTPException, OSError):
        return False


def test_swaks_delivers(smx):
    swaks = need("swaks", "swaks")
    with Sink() as sink:
        system = smx(nexthop=sink.address).start()
        done = subprocess.run(
            [swaks, "--server", f"127.0.0.1:{system.port}", "--to", "you@example.org",
             "--from", "me@example.net", "--header", "Subject: by swaks"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        (message,) = sink.wait(1)
        assert message.rcpts == ["you@example.org"]
        assert email.message_from_bytes(message.data)["Subject"] == "by swaks"


@pytest.mark.covers("X483")
def test_ipv6_in_and_out(smx):
    try:
        free_port("::1")
    except OSError:
        pytest.skip("this machine has no IPv6")
    with Sink(host="::1") as sink:
        system = smx(nexthop=f"::1:{sink.port}", listen=("::1",)).start()
        system.send()
        (message,) = sink.wait(1)
        assert b"[IPv6:::1]" in message.data


@pytest.mark.covers("X006", "X189")
def test_lmtp_results_count_for_each_recipient(smx):
    def dot(rcpt):
        return "552 5.2.2 mailbox full" if rcpt.startswith("full") else None

    with Sink(lmtp=True, replies={"DOT": dot}) as lmtp, Sink() as sink:
        mt = f"lists.example {lmtp.port}^lmtp:[127.0.0.1]\n. {sink.port}^esmtp:[127.0.0.1]\n"
        system = smx(mt=mt).start()
        system.send(rcpts=["ok@lists.example", "full@lists.example"])
        (delivered,) = lmtp.wait(1)
        assert delivered.rcpts == ["ok@lists.example"]
        (bounce,) = sink.wait(1)
        assert bounce.sender == ""
        assert bounce.rcpts == ["a@client.example"]
        report = email.message_from_bytes(bounce.data)
        assert report.get_content_type() == "multipart/report"
        text = bounce.data.decode()
        assert "full@lists.example" in text
        assert "552 5.2.2 mailbox full" in text
        assert "ok@lists.example" not in text
        system.wait_empty()


@pytest.mark.covers("X317")
def test_lmtp_over_a_unix_socket(smx):
    system = smx(mt="local.example lmtp:\n", aliases={"you": "local:"})
    path = str(system.dir / "lmtpsock")
    system.options["smtpc"] = f'LMTP_socket = "{path}";'
    system.write_conf()
    with Sink(lmtp=True, path=path) as lmtp:
        os.chmod(path, 0o666)
        system.start()
        system.send(rcpts=["you@local.example"])
        (message,) = lmtp.wait(1)
        assert message.helo.startswith("LHLO")


def test_a_refused_recipient_comes_back_to_the_sender(smx):
    def rcpt(address):
        return "550 5.1.1 no such user here" if address.startswith("no") else None

    with Sink(replies={"RCPT": rcpt}) as sink:
        system = smx(nexthop=sink.address).start()
        system.send(sender="boss@client.example", rcpts=["nobody@dest.example", "yes@dest.example"])
        messages = sink.wait(2)
        bounce = next(message for message in messages if message.sender == "")
        other = next(message for message in messages if message.sender)
        assert other.rcpts == ["yes@dest.example"]
        assert bounce.rcpts == ["boss@client.example"]
        assert b"550 5.1.1 no such user here" in bounce.data
        system.wait_empty()
        wait_for("the content file's removal", lambda: not system.contents())


def test_a_failed_bounce_is_not_bounced(smx):
    def rcpt(_):
        return "550 5.1.1 nobody here at all"

    with Sink(replies={"RCPT": rcpt}) as sink:
        system = smx(nexthop=sink.address).start()
        system.send()
        wait_for(
            "the dropped double bounce",
            lambda: any("double_bounce" in line for line in system.log("qmgr")),
        )
        system.wait_empty()
        wait_for("the content file's removal", lambda: not system.contents())
        assert sink.messages == []


def test_strangers_may_not_relay(smx):
    with Sink() as sink:
        system = smx(nexthop=sink.address, options={"smtps": "relay_clients = { 192.0.2.0/24 };"})
        system.start()
        with smtplib.SMTP("127.0.0.1", system.port) as client:
            client.ehlo()
            client.mail("a@[192.0.2.1]")
            code, text = client.rcpt("b@dest.example")
            assert code == 550
            assert text.startswith(b"5.7.1")
        assert sink.messages == []


def test_two_of_each_share_the_work(smx):
    with Sink() as sink:
        system = smx(nexthop=sink.address, smtps_processes=2, smtpc_processes=2).start()
        assert len({pid for _, pid in system.pids("smtps")}) == 2
        for _ in range(40):
            system.send()
        sink.wait(40)
        system.wait_empty()
        servers = {name.name[-2:] for name in system.contents()}
        assert servers <= {"00", "01"}


def test_smuggled_line_ends_are_refused(smx):
    with Sink() as sink:
        system = smx(nexthop=sink.address).start()
        for end in (b"\n.\n", b"\r\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\r"):
            with socket.create_connection(("127.0.0.1", system.port), 10) as sock:
                file = sock.makefile("rb")
                file.readline()
                sock.sendall(b"EHLO x\r\n")
                while file.readline()[3:4] == b"-":
                    pass
                for line in (b"MAIL FROM:<a@b.example>", b"RCPT TO:<c@d.example>", b"DATA"):
                    sock.sendall(line + b"\r\n")
                    file.readline()
                sock.sendall(b"Subject: x\r\n\r\nhi" + end + b"MAIL FROM:<evil@b.example>\r\n.\r\n")
                assert file.readline()[:1] == b"5"
                assert file.readline() == b""
        assert sink.messages == []
        assert system.queue() == []


def test_a_retry_comes_after_the_next_hop_returns(smx):
    refuse = [True]

    def rcpt(_):
        return "451 4.3.0 not now" if refuse[0] else None

    with Sink(replies={"RCPT": rcpt}) as sink:
        system = smx(nexthop=sink.address).start()
        system.send()
        (entry,) = wait_for(
            "the deferral",
            lambda: [e for e in system.queue() if e["rcpts"][0]["place"] == "deferred"],
        )
        (waiting,) = entry["rcpts"]
        assert waiting["tries"] == 1
        assert "451 4.3.0 not now" in waiting["error"]
        assert system.status()["defedb_rcpts"] == 1
        refuse[0] = False
        system.ctl("flush")
        sink.wait(1)
        system.wait_empty()
        wait_for("the content file's removal", lambda: not system.contents())


def test_qmgrctl_stop_stops_everything(smx):
    with Sink() as sink:
        system = smx(nexthop=sink.address).start()
        system.ctl("stop")
        assert system.mcp.wait(60) == 0
        assert not list((system.spool / "qmsmtps").iterdir())
