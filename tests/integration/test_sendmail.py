"""sendmail hands mail to smtps over a Unix socket, as an ordinary user."""

import os
import subprocess

import pytest

from tests.sink import Sink
from tests.system import ROOT, wait_for

MESSAGE = b"To: a@dest.example, B <b@dest.example>\nBcc: c@dest.example\nSubject: x\n\nhi\n.dot\n"
UNIX = 'listen_socket { type = unix; path = "submit"; umask = 0; }'


@pytest.fixture
def mail(smx):
    """A running system with a Unix socket; yields (system, sink, run)."""
    with Sink() as sink:
        system = smx(nexthop=sink.address, options={"smtps": UNIX})
        # A unix socket is named from where smtps runs; sendmail finds it in smx.conf.
        system.conf.write_text(
            f'CDB_base_directory = "{system.spool}/";\n' + system.conf.read_text()
        )
        system.start()

        def run(*words, data=b"", name="sendmail", user="nobody"):
            program = [system.programs / "sendmail"]
            if name != "sendmail":
                link = system.dir / name
                if not link.exists():
                    link.symlink_to(program[0])
                program = [link]
            if os.getuid() == 0:
                program = [
                    "setpriv",
                    f"--reuid={user}",
                    "--regid=65534",
                    "--clear-groups",
                    *program,
                ]
            return subprocess.run(
                [*program, "-C", system.conf, *words], input=data, capture_output=True,
                check=False, cwd="/", timeout=60,
            )  # fmt: skip

        yield system, sink, run


@pytest.mark.covers("X134", "X135", "X136", "X474")
def test_a_message_from_standard_input_reaches_all_of_its_recipients(mail):
    system, sink, run = mail
    done = run("-t", "-i", "-f", "me@client.example", data=MESSAGE)
    assert done.returncode == 0, done.stderr
    sink.wait(1)
    assert (system.spool / "submit").stat().st_mode & 0o777 == 0o777
    (message,) = sink.messages
    assert sorted(message.rcpts) == ["a@dest.example", "b@dest.example", "c@dest.example"]
    assert message.sender == "me@client.example"
    text = message.data
    assert b"\r\n\r\nhi\r\n.dot\r\n" in text
    assert b"Bcc" not in text
    assert all(
        text.count(name) == 1 for name in (b"\r\nDate: ", b"\r\nFrom: ", b"\r\nMessage-ID: ")
    )
    system.wait_empty()
    assert system.stop() == 0
    assert not (system.spool / "submit").exists()


def test_exit_codes_are_the_servers_answer(mail):
    system, sink, run = mail
    assert run("-bv", "a@dest.example").stdout == b"a@dest.example... deliverable\n"
    assert run(data=b"x\n").returncode == 64  # nobody is named
    assert run("-bd").returncode == 64
    refused = run("-f", "me@client.example", "a@" + "x" * 70 + ".example", data=b"x\n")
    assert refused.returncode in (65, 67, 69), refused.stderr
    assert b"recipient a@" in refused.stderr
    system.stop()
    away = run("a@dest.example", data=b"x\n")
    assert away.returncode == 75
    assert b"nothing was sent" in away.stderr
    assert sink.messages == []


def test_a_dialogue_on_standard_input(mail):
    _system, sink, run = mail
    talk = (b"EHLO x.example\r\nMAIL FROM:<a@client.example>\r\nRCPT TO:<b@dest.example>\r\n"
            b"DATA\r\nSubject: x\r\n\r\nhi\r\n.\r\nQUIT\r\n")  # fmt: skip
    done = run("-bs", data=talk)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"220 ")
    sink.wait(1)


def test_other_names_show_the_queue_and_make_aliases(mail):
    system, _sink, run = mail
    user = "root" if os.getuid() == 0 else ""
    if user:
        # Right after the start the deferred queue may not be open yet.
        wait_for("the queue", lambda: "is empty" in system.ctl("queue", check=False))
        done = run(name="mailq", user=user)
        assert done.stdout == b"the queue is empty\n", done.stderr
        assert b"0 recipients are tried now" in run("-q", user=user).stdout
    (system.dir / "aliases").write_text("root: admin@dest.example\n")
    done = run(name="newaliases", user=user)
    assert done.returncode == 0, done.stderr
    assert (system.dir / "aliases.db").exists()


def test_a_port_of_this_machine_will_do_where_there_is_no_unix_socket(smx):
    with Sink() as sink:
        system = smx(nexthop=sink.address).start()
        done = subprocess.run(
            [system.programs / "sendmail", "-C", system.conf, "-i", "b@dest.example"],
            input=b"hi\n", capture_output=True, check=False, cwd=ROOT,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        sink.wait(1)
        wait_for("the message", lambda: b"\r\n\r\nhi\r\n" in sink.messages[0].data)
