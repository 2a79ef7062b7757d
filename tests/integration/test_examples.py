"""The shipped examples: each is free of mistakes and vain options, starts, and answers."""

import json
import os
import re
import smtplib
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from libsmx.config import load_file
from libsmx.mapfile import write_map
from tests.libsmx.tlspair import Authority
from tests.sink import Sink
from tests.system import ROOT, System, free_port, unprivileged_user, wait_for

EXAMPLES = sorted((ROOT / "conf/examples").glob("*.conf"))
PLACES = {
    "/usr/local/libexec/smx": "programs", "/etc/smx": "dir", "/var/spool/smx": "spool",
    "/var/log/smx": "log", "/var/run/dovecot": "dir",
}  # fmt: skip


def test_the_examples_are_there():
    assert [path.stem for path in EXAMPLES] == [
        "backup-mx", "gateway", "msa", "mx-filter", "outbound-relay",
    ]  # fmt: skip


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_has_no_mistakes_and_nothing_in_vain(path):
    assert load_file(str(path)).warnings == ()


class Example(System):
    """A system made of an example: other places, ports and users, everything else as shipped."""

    def __init__(self, programs, path, mt=""):
        self.example = path
        self.ports = {}
        super().__init__(programs, mt=mt)
        for name in ("smar", "dovecot"):
            (self.spool / name).mkdir(exist_ok=True)
            if os.getuid() == 0:
                os.chown(self.spool / name, self.spool.stat().st_uid, self.spool.stat().st_gid)
        self.port = self.ports.get(25, 0)

    def write_conf(self):
        """Write the example with what belongs to this machine."""
        text = self.example.read_text()
        where = {"programs": self.programs, "dir": self.dir, "spool": self.spool,
                 "log": self.dir / "log"}  # fmt: skip
        for place, name in PLACES.items():
            text = text.replace(place, str(where[name]))
        user = unprivileged_user()
        text = re.sub(r"user = smx[a-z];", f"user = {user};" if user else "", text)

        def another_port(match):
            if "inet6" in match[0]:
                return ""  # a machine of the tests may have no IPv6
            port = self.ports.setdefault(int(match[1]), free_port())
            return match[0].replace(f"port = {match[1]}", f"address = 127.0.0.1; port = {port}")

        text = re.sub(r"listen_socket \{ type = inet6?;.* port = (\d+); \}", another_port,
                      text.replace(" address = 127.0.0.1; port = 25;", " port = 25;"))  # fmt: skip
        text = text.replace(
            "implicit_ports = { 465 }", f"implicit_ports = {{ {self.ports.get(465)} }}"
        )
        # The certificates of CAs of Debian may not be there.
        text = text.replace("/etc/ssl/certs/ca-certificates.crt", str(self.dir / "ca.pem"))
        self.conf.write_text(text)


@pytest.fixture
def example(programs):
    """Start an example by its name; everything it names is there."""
    systems = []

    def start(name, mt="", access=()):
        system = Example(programs, ROOT / f"conf/examples/{name}.conf", mt)
        systems.append(system)
        authority = Authority(system.dir)
        cert, key = authority.issue("mx.example.org")
        (system.dir / "smtps_cert.pem").write_bytes(Path(cert).read_bytes())
        (system.dir / "smtps_key.pem").write_bytes(Path(key).read_bytes())
        os.replace(authority.file, system.dir / "ca.pem")
        subprocess.run(
            [programs / "smxpasswd", system.dir / "smtps_passwd", "user"],
            input=b"secret\n", check=True, capture_output=True,
        )  # fmt: skip
        (system.dir / "smtpc_logins").write_text("smtp.example.net user secret\n")
        write_map(str(system.dir / "access.db"), dict(access), source="access", made_at=0.0)
        owned = ("smtps_cert.pem", "smtps_key.pem", "smtps_passwd", "smtpc_logins", "access.db")
        for file in owned:
            (system.dir / file).chmod(0o600)
            if os.getuid() == 0:
                os.chown(system.dir / file, system.spool.stat().st_uid, system.spool.stat().st_gid)
        return system.start()

    yield start
    for system in systems:
        system.stop()


def deferred(system):
    """Transactions that were tried."""
    lines = system.ctl("queue", "--json", check=False).splitlines()
    return [entry for entry in map(json.loads, lines) if entry["rcpts"][0]["error"]]


def said(reply):
    code, text = reply
    return f"{code} {text.decode()}"


def test_the_gateway_takes_mail_for_its_domains_and_hands_it_inside(example):
    with Sink() as sink:
        mt = f"example.org {sink.port}^esmtp:[127.0.0.1]\n"
        system = example("gateway", mt, {"to:example.org": "relay"})
        system.send(rcpts=["user@example.org"])
        sink.wait(1)
        assert (system.spool / "submit").is_socket()


def test_the_backup_takes_mail_for_its_domains_and_keeps_it(example):
    port = free_port()  # nobody is there
    mt = f"example.org {port}^esmtp:[127.0.0.1]\n"
    system = example("backup-mx", mt, {"to:example.org": "relay"})
    system.send(rcpts=["user@example.org"])
    wait_for(
        "its place in the queue", lambda: [e for e in system.queue() if e["rcpts"][0]["error"]]
    )


def test_the_outbound_relay_sends_no_login_without_a_good_certificate(example):
    with Sink() as sink:
        system = example("outbound-relay", f". {sink.port}^esmtp:[127.0.0.1]\n")
        system.send()
        wait_for("the refusal", lambda: deferred(system))
        assert sink.messages == []


def test_the_mail_exchanger_takes_nothing_while_its_filter_is_away(example):
    system = example("mx-filter", "example.org lmtp:\n")
    with smtplib.SMTP("127.0.0.1", system.port, timeout=60) as client:
        client.ehlo()
        assert client.has_extn("8bitmime")
        # Filters are not there: rspamd's absence is temporary, wherever it shows first.
        code, _text = client.mail("a@client.example")
        if code == 250:
            code, _text = client.rcpt("user@example.org")
        if code == 250:
            code, _text = client.data("Subject: x\r\n\r\nhi\r\n")
        assert 400 <= code < 500


@pytest.mark.covers("X482")
def test_the_submission_server_wants_tls_and_a_login(example):
    system = example("msa", "example.org lmtp:\n", {"to:example.org": "relay"})
    context = ssl.create_default_context(cafile=system.dir / "ca.pem")
    with smtplib.SMTP("127.0.0.1", system.ports[587], timeout=60) as client:
        client.ehlo()
        assert said(client.docmd("MAIL", "FROM:<a@client.example>")).startswith("530")
        client._host = "mx.example.org"
        client.starttls(context=context)
        client.ehlo()
        assert said(client.docmd("MAIL", "FROM:<a@client.example>")).startswith("530")
        assert client.has_extn("auth")
    raw = socket.create_connection(("127.0.0.1", system.ports[465]), 60)
    with context.wrap_socket(raw, server_hostname="mx.example.org") as sock:
        assert sock.recv(100).startswith(b"220 mx.example.org")
    with smtplib.SMTP("127.0.0.1", system.port, timeout=60) as client:
        client.ehlo()
        assert client.has_extn("starttls")
        assert client.mail("a@client.example")[0] == 250


@pytest.mark.covers("X482")
def test_a_user_who_has_logged_in_sends_everywhere(example):
    with Sink() as sink:
        system = example("msa", f". {sink.port}^esmtp:[127.0.0.1]\n")
        context = ssl.create_default_context(cafile=system.dir / "ca.pem")
        with smtplib.SMTP("127.0.0.1", system.ports[587], timeout=60) as client:
            client._host = "mx.example.org"
            client.starttls(context=context)
            client.login("user", "secret")
            client.sendmail("user@example.org", ["b@elsewhere.example"], "Subject: x\r\n\r\nhi\r\n")
        sink.wait(1)
