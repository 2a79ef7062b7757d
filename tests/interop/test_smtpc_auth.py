"""Smart hosts that want to know who we are: Postfix with Dovecot's authentication."""

import os
import re
import shutil
import subprocess

import pytest

from tests.conftest import need
from tests.libsmx.tlspair import Authority, write_secret
from tests.postfix import Postfix
from tests.sink import Sink
from tests.system import free_port, reachable_dir, unprivileged_user, wait_for

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(os.getuid() != 0, reason="needs root: Postfix's master does"),
]
MECHANISMS = ("PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256")
DOVECOT = """\
base_dir = {dir}/run
state_dir = {dir}/state
log_path = {dir}/dovecot.log
ssl = no
protocols =
default_internal_user = {user}
default_internal_group = nogroup
default_login_user = {user}
auth_mechanisms = plain login cram-md5 scram-sha-1 scram-sha-256
passdb {{
  driver = passwd-file
  args = {dir}/passwords
}}
service auth {{
  chroot =
  unix_listener {dir}/auth {{
    mode = 0666
  }}
}}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
"""
POSTFIX = """\
smtpd_tls_security_level = may
smtpd_tls_cert_file = {cert[0]}
smtpd_tls_key_file = {cert[1]}
smtpd_tls_auth_only = yes
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {dir}/auth
smtpd_sasl_authenticated_header = yes
smtpd_sasl_security_options = noanonymous
smtpd_relay_restrictions = permit_sasl_authenticated, reject
mynetworks = 192.0.2.1/32
"""


def domain(mechanism):
    return f"{mechanism.lower()}.example"


def mechanisms_of(log, user):
    """The mechanisms by which Postfix saw a user log in."""
    return sorted(re.findall(rf"sasl_method=(\S+), sasl_username={user}$", log, re.MULTILINE))


@pytest.mark.covers("X017")
def test_each_sender_logs_in_at_the_smart_host_as_the_file_says(smx):
    need("postfix", "postfix")
    dovecot = need("dovecot", "dovecot-lmtpd")
    place = reachable_dir()
    owner = unprivileged_user()
    server = None
    try:
        for name in ("run", "state"):
            (place / name).mkdir()
            shutil.chown(place / name, owner)
        users = [one.lower() for one in MECHANISMS]
        (place / "passwords").write_text("".join(f"{one}:{{PLAIN}}pw of {one}\n" for one in users))
        (place / "dovecot.conf").write_text(DOVECOT.format(dir=place, user=owner))
        server = subprocess.Popen([dovecot, "-F", "-c", place / "dovecot.conf"])
        wait_for("Dovecot", lambda: server.poll() is not None or (place / "auth").exists())
        authority = Authority(place)
        cert = authority.issue("127.0.0.1")
        lines = [
            f'127.0.0.1/@{domain(one)} {one.lower()} "pw of {one.lower()}" mechanisms={one}\n'
            for one in MECHANISMS
        ]
        lines.append('127.0.0.1/@best.example plain "pw of plain"\n')
        lines.append('127.0.0.1/@wrong.example plain "pw of somebody else"\n')
        write_secret(place / "logins", "".join(lines).encode())
        shutil.chown(place / "logins", owner)
        port = free_port()
        extra = POSTFIX.format(dir=place, cert=cert)
        with Sink() as last, Postfix(place / "postfix", port, last.address, extra=extra) as hop:
            options = f"""auth {{ credentials_file = "{place}/logins"; }}
                          tls {{ CAcert_file = "{authority.file}"; }}"""
            system = smx(nexthop=f"127.0.0.1:{port}", options={"smtpc": options}).start()
            for one in MECHANISMS:
                system.send(sender=f"a@{domain(one)}")
            system.send(sender="a@best.example")
            system.send(sender="a@wrong.example")
            system.send(sender="a@unknown.example")
            messages = last.wait(len(MECHANISMS) + 1)
            who = {
                one.sender: re.search(rb"Authenticated sender: ([a-z0-9-]+)", one.data)[1].decode()
                for one in messages
            }
            assert who == {f"a@{domain(one)}": one.lower() for one in MECHANISMS} | {
                "a@best.example": "plain"
            }
            wait_for(
                "the refusals",
                lambda: (
                    any("status=4.7.8" in line for line in system.log("smtpc"))
                    and any("rcpt_failed" in line for line in system.log("smtpc"))
                ),
            )
            seen = {one.lower(): [one] for one in MECHANISMS} | {
                "plain": ["PLAIN", "SCRAM-SHA-256"]
            }
            log = hop.dir / "log/mail.log"  # another process writes it
            wait_for(
                "the log of Postfix",
                lambda: {user: mechanisms_of(log.read_text(), user) for user in users} == seen,
            )
            waiting = [line for line in system.log("smtpc") if "status=4.7.8" in line]
            assert all("535" in line for line in waiting)
            assert "somebody" not in "".join(system.log("smtpc"))
    finally:
        if server is not None:
            server.terminate()
            server.wait()
            print((place / "dovecot.log").read_text())
        shutil.rmtree(place)
