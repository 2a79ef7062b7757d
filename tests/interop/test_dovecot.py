"""Local delivery through Dovecot's LMTP server, over a Unix socket and over TCP."""

import getpass
import grp
import os
import shutil
import subprocess

import pytest

from tests.conftest import need
from tests.system import free_port, reachable_dir, unprivileged_user, wait_for

CONF = """\
base_dir = {dir}/run
state_dir = {dir}/state
log_path = {dir}/dovecot.log
ssl = no
protocols = lmtp
mail_location = maildir:{dir}/mail/%n
mail_uid = {user}
mail_gid = {group}
first_valid_uid = 0
first_valid_gid = 0
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
passdb {{
  driver = static
  args = nopassword=y
}}
userdb {{
  driver = static
  args = uid={user} gid={group} home={dir}/mail/%n allow_all_users=yes
}}
service lmtp {{
  chroot =
  unix_listener {dir}/lmtpsock {{
    mode = 0666
  }}
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {port}
  }}
}}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
"""


@pytest.mark.covers("X006", "X317", "X318")
@pytest.mark.parametrize("over", ["unix", "inet"])
def test_dovecot_takes_local_mail(smx, over):
    dovecot = need("dovecot", "dovecot-lmtpd")
    if not os.path.exists("/usr/lib/dovecot/lmtp"):
        pytest.skip("dovecot's lmtp is not installed (Debian package dovecot-lmtpd)")
    place = reachable_dir()
    user = unprivileged_user() or getpass.getuser()
    group = "nogroup" if os.getuid() == 0 else grp.getgrgid(os.getgid()).gr_name
    port = free_port()
    for name in ("run", "state", "mail"):
        (place / name).mkdir()
        if os.getuid() == 0:
            shutil.chown(place / name, user)
    conf = place / "dovecot.conf"
    conf.write_text(CONF.format(dir=place, user=user, group=group, port=port))
    server = subprocess.Popen([dovecot, "-F", "-c", conf])
    try:
        wait_for("Dovecot", lambda: server.poll() is not None or (place / "lmtpsock").exists())
        mt = (
            "local.example lmtp:\n"
            if over == "unix"
            else f"local.example {port}^lmtp:[127.0.0.1]\n"
        )
        system = smx(
            mt=mt,
            aliases={"alice": "local:", "bob": "local:"},
            options={"smtpc": f'LMTP_socket = "{place}/lmtpsock";'},
        ).start()
        system.send(rcpts=["alice@local.example", "bob@local.example"])
        for name in ("alice", "bob"):
            new = place / "mail" / name / "new"
            (mail,) = wait_for(f"{name}'s mail", lambda: new.is_dir() and list(new.iterdir()))  # noqa: B023
            assert "by mx.smx.test" in mail.read_text()
        system.wait_empty()
    finally:
        server.terminate()
        server.wait()
        print((place / "dovecot.log").read_text() if (place / "dovecot.log").exists() else "")
        shutil.rmtree(place)
