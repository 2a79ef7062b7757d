"""The client's TLS against Postfix: every policy, every sort of certificate, the whole system."""

import datetime
import os
import shutil
import subprocess

import pytest

from libsmx.createmap import main as createmap
from tests.conftest import need
from tests.libsmx.tlspair import Authority
from tests.postfix import Postfix
from tests.secure import logged
from tests.sink import Sink
from tests.system import free_port, reachable_dir, unprivileged_user, wait_for

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(os.getuid() != 0, reason="needs root: Postfix's master does"),
]
NAME = "mx.good.test"
PAST = datetime.datetime(2021, 1, 1, tzinfo=datetime.UTC)
LEVELS = {
    "none": "none",
    "may": "may",
    "encrypt": "encrypt",
    "verify": f"verify names={NAME}",
}
SERVERS = ("good", "wrong", "expired", "self", "clear")
DELIVERED = {
    *(f"a@{level}.{server}.test" for level in ("none", "may") for server in SERVERS),
    *(f"a@encrypt.{server}.test" for server in SERVERS if server != "clear"),
    "a@verify.good.test",
}
WAITING = {
    "a@encrypt.clear.test": "does not offer STARTTLS",
    "a@verify.clear.test": "does not offer STARTTLS",
    "a@verify.wrong.test": "the certificate is for other.test, not for mx.good.test",
    "a@verify.expired.test": "not trusted: cert has expired",
    "a@verify.self.test": "not trusted: ",
}


def make_certificates(place):
    """Certificates of all sorts by name, and the authority that the client trusts."""
    authority = Authority(place)
    certs = {"good": authority.issue(NAME), "wrong": authority.issue("other.test")}
    authority.directory = place / "expired"
    authority.directory.mkdir()
    certs["expired"] = authority.issue(NAME, end=PAST)
    authority.directory = place
    certs["self"] = (str(place / "self.pem"), str(place / "self.key"))
    subprocess.run(
        [need("openssl", "openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes",
         "-keyout", certs["self"][1], "-out", certs["self"][0], "-days", "30",
         "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}"],
        check=True, capture_output=True,
    )  # fmt: skip
    return authority, certs


def add_server(postfix, port, cert=None):
    """Another port of a Postfix, with its own certificate or none."""
    level = "may" if cert else "none"
    lines = [f"127.0.0.1:{port} inet n - n - - smtpd", f"  -o smtpd_tls_security_level={level}"]
    if cert:
        lines += [f"  -o smtpd_tls_cert_file={cert[0]}", f"  -o smtpd_tls_key_file={cert[1]}"]
    with (postfix.dir / "conf/master.cf").open("a") as file:
        file.write("\n".join(lines) + "\n")


def hashed(place, authority):
    """A directory in which a CA lies under the name that OpenSSL looks for."""
    directory = place / "CAs"
    directory.mkdir()
    shutil.copy(authority.file, directory / "ca.pem")
    subprocess.run([need("openssl", "openssl"), "rehash", directory], check=True)
    return directory


@pytest.mark.covers("X424", "X425", "X426", "X436")
def test_postfix_with_good_and_bad_certificates_under_every_policy(smx):
    need("postfix", "postfix")
    place = reachable_dir()
    try:
        authority, certs = make_certificates(place)
        ports = {server: free_port() for server in SERVERS}
        (place / "policies").write_text(
            "".join(
                f"{level}.{server}.test {text}\n"
                for server in SERVERS
                for level, text in LEVELS.items()
            )
        )
        assert createmap([str(place / "policies.db"), str(place / "policies")]) == 0
        mailertable = "".join(
            f"{level}.{server}.test {ports[server]}^esmtp:[127.0.0.1]\n"
            for server in SERVERS
            for level in LEVELS
        )
        with Sink() as last:
            hop = Postfix(place / "postfix", free_port(), last.address)
            for server, port in ports.items():
                add_server(hop, port, certs.get(server))
            tls = f"""tls {{ CAcert_directory = "{hashed(place, authority)}";
                      policy_map = "{place}/policies.db"; }}"""
            with hop:
                system = smx(mt=mailertable, options={"smtpc": tls}, smtpc_processes=2).start()
                everybody = sorted(DELIVERED | set(WAITING))
                system.send(rcpts=everybody)
                wait_for(
                    "all that may be delivered",
                    lambda: {r for one in last.messages for r in one.rcpts} == DELIVERED,
                )
                waiting = wait_for("the rest", lambda: deferred(system, WAITING))
                for address, why in WAITING.items():
                    assert why in waiting[address], (address, waiting[address])
                for verdict in ("verify=OK name=no", "verify=FAIL name=no"):
                    assert logged(system, "tls_started", verdict, name="smtpc")
    finally:
        shutil.rmtree(place)


def deferred(system, wanted):
    """Address -> text of the last attempt in the client's log, once all are there."""
    found = {}
    for line in system.log("smtpc"):
        for address in wanted:
            if "rcpt_deferred" in line and f"rcpt={address} " in line:
                found[address] = line
    return found if found.keys() == set(wanted) else None


@pytest.mark.covers("X422", "X424", "X426")
def test_postfix_sees_the_clients_certificate_and_tls(smx):
    need("postfix", "postfix")
    place = reachable_dir()
    try:
        authority, certs = make_certificates(place)
        own = authority.issue("client.smx.test")
        shutil.chown(own[1], unprivileged_user())
        with Sink() as last:
            port = free_port()
            extra = (
                f"smtpd_tls_security_level = encrypt\nsmtpd_tls_cert_file = {certs['good'][0]}\n"
                f"smtpd_tls_key_file = {certs['good'][1]}\nsmtpd_tls_CAfile = {authority.file}\n"
                "smtpd_tls_ask_ccert = yes\nsmtpd_tls_received_header = yes\n"
            )
            with Postfix(place / "postfix", port, last.address, extra=extra):
                tls = f"""tls {{ cert_file = "{own[0]}"; key_file = "{own[1]}";
                          CAcert_file = "{authority.file}"; level = encrypt; }}"""
                system = smx(nexthop=f"127.0.0.1:{port}", options={"smtpc": tls}).start()
                system.send()
                (message,) = last.wait(1)
                system.wait_empty()
        assert b"TLSv1.3" in message.data
        assert b'Client CN "client.smx.test"' in message.data
        assert b"(verified OK)" in message.data
    finally:
        shutil.rmtree(place)


@pytest.mark.covers("X423")
def test_a_key_that_does_not_belong_to_the_certificate_stops_the_client(smx):
    place = reachable_dir()
    try:
        authority = Authority(place)
        cert, key = authority.issue("client.smx.test")[0], authority.issue("other.test")[1]
        shutil.chown(key, unprivileged_user())
        tls = f'tls {{ cert_file = "{cert}"; key_file = "{key}"; }}'
        system = smx(nexthop="127.0.0.1:9", options={"smtpc": tls}).start(ready=False)
        wait_for(
            "the complaint",
            lambda: any("start_failed" in line and key in line for line in system.log("smtpc")),
        )
    finally:
        shutil.rmtree(place)
