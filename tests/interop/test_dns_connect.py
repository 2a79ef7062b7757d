"""Names of clients and DNS blacklists from a real authoritative server, in the running system."""

import smtplib
import time

import pytest

from libsmx.mapfile import write_map
from tests.interop.knot import running_knot
from tests.sink import Sink
from tests.system import wait_for

HEAD = (
    "$TTL 60\n@ SOA ns.conn.test. hostmaster.conn.test. 1 3600 600 86400 60\n@ NS ns.conn.test.\n"
)
ZONES = {
    "conn.test": HEAD
    + "ns A 127.0.0.1\nclient A 127.0.0.1\nforged A 192.0.2.1\nthree A 127.0.0.3\n"
    + "five A 127.0.0.5\nsix A 127.0.0.6\nself MX 5 mx.smx.test.\nself MX 1 loop\n"
    + "loop A 127.0.0.1\nbad MX 1 badhost\nbadhost A 198.51.100.66\n",
    "0.0.127.in-addr.arpa": HEAD
    + "1 PTR client.conn.test.\n2 PTR forged.conn.test.\n3 PTR three.conn.test.\n"
    + "5 PTR five.conn.test.\n6 PTR six.conn.test.\n",
    "one.bl": HEAD + "1.0.0.127 A 127.0.0.2\n3.0.0.127 A 127.0.0.2\n6.0.0.127 A 127.0.0.77\n",
    "two.bl": HEAD + "6.0.0.127 A 127.0.0.9\n",
    "broken.bl": None,
}
ACCESS = {
    "cltresolve:no": "error:550 5.7.1 no name leads to you",
    "cltname:client.conn.test": "ok",
    "first:127.0.0.2": "error:550 5.7.1 listed at one",
    "second:127.0.0.9": "error:451 4.7.1 suspicious",
    "third:temp": "error:450 4.7.1 try again when the list answers",
    "mxbadip:198.51.100.66": "error:551 5.7.1 bad host",
}
SMAR = """
nameserver = {{ "127.0.0.1:{port}" }};
dnsbl {{ domain = one.bl; tag = first; }}
dnsbl {{ domain = two.bl; tag = second; }}
dnsbl {{ domain = broken.bl; tag = third; }}
"""


@pytest.fixture
def system(smx):
    """A running system with the zones, the access map, and a sink for relayed mail."""
    with Sink() as sink, running_knot(ZONES) as port:
        made = smx(
            mt=f"dest.example {sink.port}^esmtp:[127.0.0.1]\n",
            options={
                "smar": SMAR.format(port=port),
                "smtps": "flags = { access }; relay_clients = { 127.0.0.0/8 };",
            },
        )
        write_map(str(made.dir / "access.db"), ACCESS, source="a test", made_at=time.time())
        made.sink = sink
        yield made.start()


def verdict(system, client, sender="a@client.conn.test"):
    """The first refusal that a client at this address gets, else 250."""
    with smtplib.SMTP(timeout=60, source_address=(client, 0)) as smtp:
        try:
            code, text = smtp.connect("127.0.0.1", system.port)
            if code == 220:
                smtp.ehlo()
                code, text = smtp.mail(sender)
            if code == 250:
                code, text = smtp.rcpt("b@dest.example")
        except smtplib.SMTPConnectError as error:
            code, text = error.smtp_code, error.smtp_error
    return code, text.decode()


@pytest.mark.covers(
    "X230", "X231", "X233", "X234", "X236", "X237", "X239", "X288", "X289", "X292", "X457",
    "X458", "X459", "X460",
)  # fmt: skip
@pytest.mark.slow
def test_clients_are_judged_by_their_names_and_by_the_lists(system):
    assert verdict(system, "127.0.0.1")[0] == 250  # listed, but its name is ok
    for client, code, told in (
        ("127.0.0.2", 5, "no name leads to you"),
        ("127.0.0.4", 5, "no name leads to you"),
        ("127.0.0.3", 5, "listed at one"),
        ("127.0.0.6", 4, "suspicious"),  # one.bl said what no entry is for
        ("127.0.0.5", 4, "when the list answers"),
    ):
        found, text = verdict(system, client)
        assert (found // 100, told in text) == (code, True), (client, found, text)


@pytest.mark.covers("X292", "X466", "X481")
@pytest.mark.slow
def test_name_is_recorded_and_bad_mail_hosts_are_refused(system):
    assert verdict(system, "127.0.0.1", "a@bad.conn.test")[1].endswith("bad host")
    system.send(sender="a@client.conn.test")
    (message,) = system.sink.wait(1)
    assert b"client.conn.test" in message.data.split(b"\r\n\r\n")[0].replace(b"a@client", b"")
    (line,) = wait_for(
        "the line of the accepted message",
        lambda: [line for line in system.log("smtps") if "ta_accepted" in line],
    )
    assert "client=127.0.0.1 client_name=client.conn.test " in line


@pytest.mark.slow
def test_mail_that_would_come_back_to_this_host_is_returned_with_the_reason(system):
    system.send(sender="c@dest.example", rcpts=["b@self.conn.test"])
    report = wait_for(
        "the report",
        lambda: [m.data.decode() for m in system.sink.messages if m.sender == ""],
    )[0]
    assert "self.conn.test: its best mail exchanger is this host" in " ".join(report.split())
    assert "5.3.5" in report
