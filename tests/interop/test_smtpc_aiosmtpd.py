"""The client against aiosmtpd: another hand's reading of the RFCs, with STARTTLS and SMTPUTF8."""

import email.header
import mailbox
import socket
import subprocess

import attrs
import pytest

from libsmx.opt_tls import SmtpcTlsConf
from smtpc.tlspolicy import PolicyTable, TlsPolicy, read_policies
from tests.conftest import need
from tests.libsmx.tlspair import Authority
from tests.smtpc.bench import Start, outcomes
from tests.system import free_port, wait_for

CONTENT = "Subject: Grüße\r\n\r\n.\r\n..\r\nÄpfel\r\n".encode()


@attrs.frozen
class Place:
    """Where a server listens, and its mailbox."""

    address: tuple
    box: str

    def messages(self):
        return list(mailbox.Maildir(self.box))


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), 10).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.fixture
def aiosmtpd(tmp_path):
    """Start servers: aiosmtpd(flag, ...) returns the place; all end with the test."""
    program = need("aiosmtpd", "python3-aiosmtpd")
    running = []

    def start(*flags):
        port, box = free_port(), str(tmp_path / f"box{len(running)}")
        command = [program, "-n", *flags, "-l", f"127.0.0.1:{port}",
                   "-c", "aiosmtpd.handlers.Mailbox", box]  # fmt: skip
        running.append(subprocess.Popen(command))
        wait_for("aiosmtpd", lambda: answers(port))
        return Place(("127.0.0.1", port), box)

    yield start
    for process in running:
        process.kill()
        process.wait()


def body_of(message):
    """The body as bytes, with the line ends that travelled."""
    text = message.get_payload(decode=True)
    return text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


@pytest.mark.covers("X017", "X426")
@pytest.mark.parametrize("tls", [False, True])
async def test_what_was_stored_arrives(aiosmtpd, tmp_path, tls):
    authority = Authority(tmp_path)
    cert, key = authority.issue("peer.example")
    flags = ("--tlscert", cert, "--tlskey", key) if tls else ()
    place = aiosmtpd("-u", *flags)
    conf = SmtpcTlsConf(cacert_file=str(authority.file))
    entries = [(".", "verify" if tls else "none")]
    table = PolicyTable(TlsPolicy(), read_policies(entries, "map")[0])
    async with Start(tmp_path, tls=conf, policies=table) as bench:
        for _ in range(2):
            envelope = bench.envelope(CONTENT, ("jürgen", "b"), smtputf8=True, body8=True)
            answer = await bench.deliver([place], envelope)
            assert [code for _, code, _ in outcomes(answer)] == [250, 250]
            assert answer.open
            assert ("verify=OK" in answer.tls) == tls
        assert bench.events().count("da_session_opened") == 1
    one, two = place.messages()
    assert body_of(one) == body_of(two) == CONTENT.partition(b"\r\n\r\n")[2]
    named = email.header.make_header(email.header.decode_header(one["X-RcptTo"]))
    assert str(named) == "jürgen@example.net, b@example.net"


async def test_without_smtputf8_only_what_needs_it_fails(aiosmtpd, tmp_path):
    place = aiosmtpd()
    content = b"Subject: x\r\n\r\nplain\r\n"
    async with Start(tmp_path) as bench:
        envelope = bench.envelope(content, ("jürgen", "b"), smtputf8=True)
        answer = await bench.deliver([place], envelope)
        assert outcomes(answer)[0] == (0, 553, "5.6.7")
        assert outcomes(answer)[1][1] == 250
        answer = await bench.deliver([place], bench.envelope(CONTENT, smtputf8=True))
        assert outcomes(answer) == [(0, 554, "5.6.9")]
        assert answer.open
    assert len(place.messages()) == 1


async def test_a_message_over_its_size_is_not_sent(aiosmtpd, tmp_path):
    place = aiosmtpd("-s", "500")
    async with Start(tmp_path) as bench:
        answer = await bench.deliver([place], bench.envelope(b"Subject: x\r\n\r\n" + b"x" * 600))
        assert outcomes(answer) == [(0, 552, "5.3.4")]
        assert "size limit 500" in answer.results[0].text
        assert answer.open
    assert place.messages() == []
