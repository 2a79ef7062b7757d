"""AUTH of the server, used by swaks, msmtp, curl and smtplib; Dovecot knows the passwords."""

import getpass
import grp
import os
import shutil
import signal
import smtplib
import ssl
import subprocess

import pytest

from tests.conftest import need
from tests.secure import STRANGERS, USERS, Site, logged
from tests.sink import Sink
from tests.system import unprivileged_user, wait_for

TRUSTED = "trusted_mechs = { PLAIN, LOGIN, CRAM-MD5, SCRAM-SHA-1, SCRAM-SHA-256, DIGEST-MD5 };"
PLENTY = "failure_delay = 0s; max_failures_per_address = 0;"


def swaks(system, site, mechanism, user, password, *words):
    """Send a message; return exit code and output."""
    done = subprocess.run(
        [need("swaks", "swaks"), "--server", f"127.0.0.1:{system.port}", "--tls",
         "--from", "a@client.example", "--to", f"{mechanism.lower()}@far.example",
         "--auth", mechanism, "--auth-user", user, "--auth-password", password, *words],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def msmtp(system, site, mechanism, user, password, *words):
    """Send a message through msmtp; return exit code and output."""
    done = subprocess.run(
        [need("msmtp", "msmtp"), "--file=/dev/null", "--host=127.0.0.1", f"--port={system.port}",
         "--tls=on", "--tls-starttls=on", f"--tls-trust-file={site.ca.file}",
         "--tls-host-override=mx.smx.test", f"--auth={mechanism.lower()}", f"--user={user}",
         f"--passwordeval=echo {password}", "--from=a@client.example", *words,
         f"{mechanism.lower()}@far.example"],
        input="Subject: x\n\nhi\n", capture_output=True, text=True, check=False, timeout=120,
        env={"PATH": os.environ["PATH"], "HOME": str(site.dir)},
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.covers("X005", "X348", "X349", "X356", "X469", "X482")
def test_each_client_with_each_mechanism_from_the_file(smx):
    curl = need("curl", "curl")
    with Site() as site, Sink() as sink:
        site.add_users("-m")
        options = STRANGERS + site.tls() + site.auth(TRUSTED + PLENTY)
        system = smx(nexthop=sink.address, options={"smtps": options}).start()
        sent = 0
        for mechanism in ("PLAIN", "LOGIN", "CRAM-MD5"):
            code, said = swaks(system, site, mechanism, "alice", USERS["alice"])
            assert code == 0, said
            code, said = swaks(system, site, mechanism, "alice", "wrong")
            assert (code, "535 5.7.8" in said) == (28, True), said
            sent += 1
        for mechanism in ("PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256"):
            code, said = msmtp(system, site, mechanism, "bob", USERS["bob"])
            assert code == 0, said
            sent += 1
        code, said = msmtp(system, site, "SCRAM-SHA-256", "bob", "wrong")
        assert code == os.EX_NOPERM, said
        for mechanism in ("PLAIN", "LOGIN", "CRAM-MD5"):
            message = site.dir / "message"
            message.write_bytes(b"Subject: x\r\n\r\nhi\r\n")
            done = subprocess.run(
                [curl, "--silent", "--show-error", "--cacert", site.ca.file,
                 "--url", f"smtps://mx.smx.test:{site.implicit_port}",
                 "--resolve", f"mx.smx.test:{site.implicit_port}:127.0.0.1",
                 "--login-options", f"AUTH={mechanism}", "--user", f"alice:{USERS['alice']}",
                 "--mail-from", "a@client.example", "--mail-rcpt", "c@far.example",
                 "--upload-file", message],
                capture_output=True, text=True, check=False, timeout=120,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            sent += 1
        context = ssl.create_default_context(cafile=site.ca.file)
        context.check_hostname = False
        with smtplib.SMTP("127.0.0.1", system.port, timeout=120) as client:
            client.ehlo()
            assert client.esmtp_features["auth"].split() == [
                "SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5",
            ]  # fmt: skip
            client.mail("")
            assert client.rcpt("b@far.example")[0] == 550
            client.rset()
            client.starttls(context=context)
            client.login("alice", USERS["alice"])
            client.sendmail("a@client.example", ["b@far.example"], "Subject: x\r\n\r\nhi\r\n")
            sent += 1
        for message in sink.wait(sent):
            assert b"with ESMTPSA\r\n\t(version=TLSv1." in message.data
        assert "mech=DIGEST-MD5" in logged(system, "mech_unknown")[0]
        assert "user=alice" in logged(system, "auth_failed", "CRAM-MD5")[0]
        assert "pencil" not in "".join(system.log("smtps"))


DOVECOT = """\
base_dir = {dir}/run
state_dir = {dir}/state
log_path = {dir}/dovecot.log
ssl = no
protocols =
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
first_valid_uid = 0
auth_mechanisms = plain login cram-md5 scram-sha-1 scram-sha-256
auth_failure_delay = 0
passdb {{
  driver = passwd-file
  args = {dir}/users
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


class Dovecot:
    """Dovecot's auth service alone."""

    def __init__(self, site):
        self.program = need("dovecot", "dovecot-lmtpd")
        self.dir = site.dir / "dovecot"
        user = unprivileged_user() or getpass.getuser()
        group = "nogroup" if os.getuid() == 0 else grp.getgrgid(os.getgid()).gr_name
        for name in ("", "run", "state"):
            (self.dir / name).mkdir()
            site.own(self.dir / name)
        self.socket = self.dir / "auth"
        users = "".join(f"{user}:{{PLAIN}}{password}\n" for user, password in USERS.items())
        (self.dir / "users").write_text(users)
        site.own(self.dir / "users")
        self.conf = self.dir / "dovecot.conf"
        self.conf.write_text(DOVECOT.format(dir=self.dir, user=user, group=group))
        self.server = None

    def start(self):
        self.server = subprocess.Popen(
            [self.program, "-F", "-c", self.conf], start_new_session=True
        )
        wait_for("Dovecot", lambda: self.server.poll() is not None or self.socket.exists())
        return self

    def stop(self):
        """End all its processes: an orderly stop lets the children serve for half a minute."""
        if self.server is not None:
            os.killpg(self.server.pid, signal.SIGKILL)
            self.server.wait()
            self.server = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()
        log = self.dir / "dovecot.log"
        print(log.read_text() if log.exists() else "")
        shutil.rmtree(self.dir)


@pytest.mark.slow
@pytest.mark.covers("X005", "X348")
def test_dovecot_knows_the_passwords(smx):
    with Site() as site, Sink() as sink, Dovecot(site) as dovecot:
        auth = f'auth {{ dovecot_socket = "{dovecot.socket}"; {TRUSTED + PLENTY} }}'
        system = smx(nexthop=sink.address, options={"smtps": STRANGERS + site.tls() + auth}).start()
        logged(system, "auth_server_ready")
        for mechanism in ("PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256"):
            code, said = msmtp(system, site, mechanism, "bob", USERS["bob"])
            assert code == 0, said
        assert len(sink.wait(5)) == 5
        # The service goes away and comes back.
        dovecot.stop()
        logged(system, "auth_server_lost")
        code, said = msmtp(system, site, "PLAIN", "bob", USERS["bob"])
        assert code != 0
        assert "454 4.7.0" in said or "Temporary" in said, said
        dovecot.start()
        wait_for("the service", lambda: len(logged(system, "auth_server_ready")) == 2)
        wait_for("a login", lambda: msmtp(system, site, "PLAIN", "bob", USERS["bob"])[0] == 0)
        # Last, because Dovecot lets an address wait that has failed.
        code, said = msmtp(system, site, "SCRAM-SHA-1", "bob", "wrong")
        assert code == os.EX_NOPERM, said


@pytest.mark.slow
def test_guessing_from_one_address_ends(smx):
    with Site() as site:
        site.add_users()
        limits = "max_failures_per_address = 3; max_failures_per_session = 2; failure_delay = 0s;"
        auth = site.auth("flags = { }; " + limits)
        system = smx(mt="", options={"smtps": STRANGERS + auth}).start()
        codes = []
        for _ in range(2):
            with smtplib.SMTP("127.0.0.1", system.port, timeout=120) as client:
                client.ehlo()
                for _ in range(2):
                    codes.append(client.docmd("AUTH PLAIN", "AGFsaWNlAHdyb25n")[0])
        assert codes == [535, 535, 535, 454]
        with smtplib.SMTP("127.0.0.1", system.port, timeout=120) as client:
            client.ehlo()
            # Not even the right password is looked at now.
            assert client.docmd("AUTH PLAIN", "AGFsaWNlAHBlbmNpbA==")[0] == 454
        assert "client=127.0.0.1" in logged(system, "auth_blocked")[0]
