"""A system with certificates and users, for tests of TLS and AUTH with foreign programs."""

import os
import shutil
import subprocess
import sys

from tests.libsmx.tlspair import Authority
from tests.system import free_port, reachable_dir, unprivileged_user, wait_for

STRANGERS = "relay_clients = { 192.0.2.1 };"
"""The tests' own address may not relay."""
USERS = {"alice": "pencil", "bob": "secret"}


class Site:
    """Certificates, a credentials file and the options that use them; a context manager."""

    def __init__(self, ca="Test CA"):
        self.dir = reachable_dir("smx-site-")
        self.ca = Authority(self.dir, ca)
        self.cert = self.issue("mx.smx.test")
        self.implicit_port = free_port()
        self.passwords = self.dir / "passwords"

    def issue(self, name, **kwargs):
        """Return (certificate, key), readable for the daemons."""
        pair = self.ca.issue(name, **kwargs)
        self.own(*pair)
        return pair

    def own(self, *paths):
        """Give files to the daemons' user."""
        if unprivileged_user():
            for path in paths:
                shutil.chown(path, unprivileged_user())

    def add_users(self, *words):
        """Make the credentials file with smxpasswd."""
        for user, password in USERS.items():
            subprocess.run(
                [sys.executable, "-I", "-m", "libsmx.smxpasswd", "-r", "4096", *words,
                 self.passwords, user],
                input=password, text=True, check=True,
            )  # fmt: skip
        self.own(self.passwords)

    def tls(self, more="", *, ca=True):
        """Return section tls and a listener on which TLS begins at once."""
        own = f'CAcert_file = "{self.ca.file}";' if ca else ""
        return f"""listen_socket {{ type = inet; address = "127.0.0.1";
                                    port = {self.implicit_port}; }}
            tls {{ cert_file = "{self.cert[0]}"; key_file = "{self.cert[1]}"; {own}
                   implicit_ports = {{ {self.implicit_port} }}; {more} }}"""

    def auth(self, more=""):
        """Return section auth."""
        return f'auth {{ credentials_file = "{self.passwords}"; {more} }}'

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.dir)


def openssl(*words, text="", check=True):
    """Run openssl and return what it prints."""
    try:
        done = subprocess.run(
            ["openssl", *map(str, words)], input=text, capture_output=True, text=True,
            check=False, timeout=120,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise AssertionError(f"openssl does not end: {error.stdout} {error.stderr}") from error
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def s_client(port, *words, text="QUIT\r\n", implicit=False, stay=True, check=True):
    """Speak through openssl s_client.

    Args:
        port: of the server.
        words: more options.
        text: what to say.
        implicit: TLS begins with the connection.
        stay: wait until the server closes; else letters at line starts are commands of openssl.
        check: it has to succeed.
    """
    how = [] if implicit else ["-starttls", "smtp"]
    how += ["-ign_eof"] if stay else []
    return openssl(
        "s_client", "-connect", f"127.0.0.1:{port}", *how, "-crlf", *words,
        text=text.replace("\r\n", "\n"), check=check,
    )  # fmt: skip


def logged(system, *words, name="smtps"):
    """The log lines with all these words, waiting for the first."""
    return wait_for(
        f"{words} in the log",
        lambda: [line for line in system.log(name) if all(word in line for word in words)],
    )


def is_root():
    """Tell whether the tests run as root."""
    return os.getuid() == 0
