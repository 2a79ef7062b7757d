"""The whole road with a real authoritative server: smx follows MX records to the next hop."""

import smtplib

import pytest

from tests.interop.knot import running_knot
from tests.sink import Sink
from tests.system import wait_for

ZONE = """\
$ORIGIN route.test.
$TTL 60
@ SOA ns hostmaster 1 3600 600 86400 60
@ NS ns
ns A 127.0.0.1
client A 127.0.0.1
hop MX 20 second
hop MX 10 first
first A 127.0.0.9
second A 127.0.0.1
null MX 0 .
"""


@pytest.mark.covers("X312", "X313", "X316", "X320")
def test_mail_follows_mx_records_and_the_next_host_is_tried(smx):
    with Sink() as sink, running_knot({"route.test": ZONE}) as port:
        system = smx(
            mt=f". {sink.port}^esmtp:hop.route.test\n",
            options={"smar": f'nameserver = {{ "127.0.0.1:{port}" }};'},
        ).start()
        system.send(sender="a@client.route.test")
        (message,) = sink.wait(1)
        assert message.rcpts == ["b@dest.example"]
        system.wait_empty()


def test_a_recipient_whose_domain_takes_no_mail_is_bounced(smx):
    with Sink() as sink, running_knot({"route.test": ZONE}) as port:
        system = smx(
            mt=f"client.route.test {sink.port}^esmtp:[127.0.0.1]\n",
            options={"smar": f'nameserver = {{ "127.0.0.1:{port}" }};'},
        ).start()
        system.send(sender="a@client.route.test", rcpts=["b@null.route.test", "c@none.route.test"])
        found = []

        def both():
            found[:] = b"".join(message.data for message in sink.messages).split(b"\r\n")
            text = b"\n".join(found)
            return b"b@null.route.test" in text and b"c@none.route.test" in text

        wait_for("the bounces", both)
        assert all(message.sender == "" for message in sink.messages)
        system.wait_empty()


@pytest.mark.covers("X463")
def test_a_strangers_sender_must_have_a_domain(smx):
    with running_knot({"route.test": ZONE}) as port:
        system = smx(
            mt="local.test lmtp:\n",
            aliases={"b": "local:"},
            options={
                "smar": f'nameserver = {{ "127.0.0.1:{port}" }};',
                "smtps": "relay_clients = { 192.0.2.0/24 };",
            },
        ).start()
        with smtplib.SMTP("127.0.0.1", system.port) as client:
            client.ehlo()
            assert client.mail("a@nowhere.route.test")[0] == 553
            assert client.mail("a@client.route.test")[0] == 250
            assert client.rcpt("b@local.test")[0] == 250
            assert client.rcpt("b@elsewhere.test")[0] == 550
