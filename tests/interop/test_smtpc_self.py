"""Our client at our own server: STARTTLS, SCRAM, BDAT, SMTPUTF8 and DSN over two systems."""

import smtplib

import pytest

from libsmx.createmap import main as createmap
from tests.libsmx.tlspair import write_secret
from tests.secure import STRANGERS, USERS, Site, logged
from tests.sink import EXTENSIONS, Sink

pytestmark = pytest.mark.slow
TRUSTED = "trusted_mechs = { SCRAM-SHA-256 };"


def gateway(smx, site, sink):
    """A system that relays for those who log in."""
    site.add_users()
    options = STRANGERS + site.tls() + site.auth(TRUSTED)
    return smx(nexthop=sink.address, options={"smtps": options}).start()


def inner(smx, site, hop, *, implicit=False):
    """A system that logs in at the gateway, which has to show who it is."""
    logins, policies = site.dir / "logins", site.dir / "policies"
    write_secret(logins, f"127.0.0.1 alice {USERS['alice']}\n".encode())
    site.own(logins)
    way = " on_connect" if implicit else ""
    policies.write_text(f"127.0.0.1 verify names=mx.smx.test minimum=TLSv1.3{way}\n")
    assert createmap([f"{policies}.db", str(policies)]) == 0
    options = f"""auth {{ credentials_file = "{logins}"; }}
                  tls {{ CAcert_file = "{site.ca.file}"; policy_map = "{policies}.db"; }}"""
    port = site.implicit_port if implicit else hop.port
    return smx(nexthop=f"127.0.0.1:{port}", options={"smtpc": options}).start()


@pytest.mark.covers("X017", "X424", "X426")
def test_a_message_with_everything_over_two_systems(smx):
    with Site() as site, Sink(extensions=(*EXTENSIONS, "DSN", "SMTPUTF8")) as sink:
        hop = gateway(smx, site, sink)
        system = inner(smx, site, hop)
        body = "Subject: Grüße\r\n\r\n.\r\n..\r\nÄpfel\r\n".encode()
        with smtplib.SMTP("127.0.0.1", system.port, timeout=60) as client:
            client.ehlo()
            client.sendmail(
                "sören@client.example",
                ["jürgen@far.example"],
                body,
                mail_options=["SMTPUTF8", "BODY=8BITMIME", "RET=HDRS", "ENVID=e+2B1"],
                rcpt_options=["NOTIFY=NEVER"],
            )
        (message,) = sink.wait(1)
        assert message.sender == "sören@client.example"
        assert message.rcpts == ["jürgen@far.example"]
        assert message.data.endswith(body)
        assert {"SMTPUTF8", "RET=HDRS", "ENVID=e+2B1"} <= set(message.params.split())
        assert sink.params == ["NOTIFY=NEVER"]
        (line,) = logged(system, "rcpt_delivered", name="smtpc")
        assert "TLSv1.3" in line
        assert "verify=OK" in line
        assert logged(hop, "alice", "SCRAM-SHA-256")
        assert b"UTF8SMTPSA" in message.data
        system.wait_empty()
        hop.wait_empty()


@pytest.mark.covers("X017")
def test_tls_from_the_first_byte_for_several_messages(smx):
    with Site() as site, Sink() as sink:
        hop = gateway(smx, site, sink)
        system = inner(smx, site, hop, implicit=True)
        for number in range(5):
            system.send(rcpts=[f"a{number}@far.example"])
        assert len(sink.wait(5)) == 5
        system.wait_empty()
        assert all("verify=OK" in line for line in logged(system, "tls_started", name="smtpc"))
