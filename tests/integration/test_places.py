"""Other places for the content and for the sockets between the processes."""

import os
import shutil
from pathlib import Path

import pytest

from tests.sink import Sink
from tests.system import reachable_dir, wait_for


def listening_inodes():
    """Inodes of listening TCP sockets of this machine."""
    found = set()
    for name in ("tcp", "tcp6"):
        with open(f"/proc/net/{name}") as file:
            rows = [line.split() for line in file.read().splitlines()[1:]]
        found |= {row[9] for row in rows if row[3] == "0A"}
    return found


def sockets_of(pid):
    """Inodes of the sockets that a process has open."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(entry)
        except OSError:
            continue
        if target.startswith("socket:["):
            found.add(target[8:-1])
    return found


@pytest.mark.covers("X108", "X110", "X111", "X112")
def test_content_and_sockets_lie_where_smx_conf_says(smx):
    elsewhere = reachable_dir("smx-else-")
    try:
        with Sink() as sink:
            names = {"SMAR": "a/r", "SMTPC": "b/c", "SMTPS": "c/s"}
            options = f'CDB_base_directory = "{elsewhere}/cdb/";\n' + "".join(
                f'{name}_socket = "{elsewhere}/{path}";\n' for name, path in names.items()
            )
            system = smx(nexthop=sink.address, options={"": options})
            for path in ("a", "b", "c", *(f"cdb/{digit}" for digit in "0123456789ABCDEF")):
                (elsewhere / path).mkdir(parents=True)
            if os.getuid() == 0:
                owner = system.spool.stat()
                for path in elsewhere.rglob("*"):
                    os.chown(path, owner.st_uid, owner.st_gid)
            system.start()
            for path in names.values():
                assert (elsewhere / path).is_socket()
            wait_for(
                "a suspension",
                lambda: "suspended" in system.ctl("suspend", "dest.example", check=False),
            )
            system.send()
            assert len([path for path in (elsewhere / "cdb").rglob("*") if path.is_file()]) == 1
            assert system.contents() == []
            system.ctl("resume", "dest.example")
            sink.wait(1)
            system.wait_empty()
    finally:
        system.stop()
        shutil.rmtree(elsewhere)


@pytest.mark.covers("X113")
def test_only_the_smtp_port_listens_on_the_network(smx):
    with Sink() as sink:
        system = smx(nexthop=sink.address).start()
        system.send()
        sink.wait(1)
        listening = listening_inodes()
        pids = dict(system.pids()) | {"mcp": system.mcp.pid}
        wait_for("all processes", lambda: len(system.pids()) == 4)
        owners = {name for name, pid in pids.items() if sockets_of(pid) & listening}
        assert owners == {"mcp", "smtps"}
        ports = {inode for name in owners for inode in sockets_of(pids[name]) & listening}
        assert len(ports) == 1  # the same socket, handed over


@pytest.mark.covers("X150", "X475", "X129")
def test_a_delivery_agent_is_a_section_like_any_other(smx):
    """An LMTP server that mcp starts when smtpc connects for the first time."""
    user = "user = nobody;" if os.getuid() == 0 else ""
    system = smx(mt="dest.example lmtp:\n", aliases={"b": "local:"},
                 options={"smtpc": 'LMTP_socket = "lmtpsock";'})  # fmt: skip
    agent = system.dir / "agent.py"
    agent.write_text(AGENT)
    agent.chmod(0o755)
    system.extra = f"""
lda {{
  start_action = nostartaccept; {user} max_processes = 2;
  listen_socket {{ type = unix; path = "lmtpsock"; umask = 0; }}
  path = "/usr/bin/env"; arguments = "env python3 {agent} {system.spool}/";
}}
"""
    system.write_conf()
    system.start()
    assert not any("child_started service=lda" in line for line in system.mcp_lines())
    system.send(rcpts=["b@dest.example"])
    box = system.spool / "b@dest.example"
    wait_for("the message in the mailbox", lambda: box.exists() and b"hi\r\n" in box.read_bytes())
    system.wait_empty()
    assert any("child_started service=lda" in line for line in system.mcp_lines())


AGENT = """
import os, socket, sys

door = socket.socket(fileno=3)
door.setblocking(True)
while True:
    client, _ = door.accept()
    with client, client.makefile("rwb") as talk:
        def say(text):
            talk.write(text + b"\\r\\n")
            talk.flush()
        say(b"220 lda LMTP")
        rcpts = []
        for line in talk:
            verb = line.strip().upper()
            if verb.startswith(b"LHLO"):
                say(b"250-lda\\r\\n250 PIPELINING")
            elif verb.startswith(b"RCPT"):
                rcpts.append(line.split(b"<")[1].split(b">")[0].decode())
                say(b"250 ok")
            elif verb == b"DATA":
                say(b"354 go")
                data = []
                for line in talk:
                    if line == b".\\r\\n":
                        break
                    data.append(line)
                for rcpt in rcpts:
                    with open(sys.argv[1] + rcpt, "ab") as box:
                        box.write(b"".join(data))
                    say(b"250 " + rcpt.encode())
                rcpts = []
            elif verb == b"QUIT":
                say(b"221 bye")
                break
            else:
                say(b"250 ok")
"""
