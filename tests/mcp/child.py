"""A child for the tests of mcp: stdlib only, run by any Python 3, never imported."""

import array
import json
import os
import select
import signal
import socket
import struct
import sys


def say(*words):
    print(*words, flush=True)


def stay(words):
    wanted = {signal.SIGTERM, signal.SIGHUP, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
    facts = {"pid": os.getpid(), "cwd": os.getcwd(), "uid": os.getresuid(), "gid": os.getresgid()}
    facts |= {"groups": os.getgroups(), "umask": os.umask(0o77), "argv": sys.argv[1:]}
    facts |= {"env": sorted(os.environ), "fds": sorted(os.listdir("/proc/self/fd"), key=int)}
    say("up", json.dumps(facts, sort_keys=True))
    while (signo := signal.sigwait(wanted)) == signal.SIGHUP:
        say("hup")
    say("got", signal.Signals(signo).name)
    sys.exit(int(words[0]) if words else 0)


def deaf(_words):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say("deaf")
    while True:
        signal.pause()


def leave(words):
    say("leaving")
    sys.exit(int(words[0]))


def talk(words):
    for number in range(int(words[0])):
        print("line", number)
    print("x" * 5000, flush=True)
    stay([])


def serve(words):
    """Take sockets as smtps does and say on the first connection of each who serves it."""
    path = words[0]
    if os.path.exists(path):
        os.unlink(path)
    door = socket.socket(socket.AF_UNIX)
    door.bind(path)
    door.listen()
    say("door")
    connection, _ = door.accept()
    uid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
    data, rights, _flags, _from = connection.recvmsg(1, socket.CMSG_SPACE(4 * 64))
    fds = array.array("i", rights[0][2])
    say("took", data[0], len(fds), uid)
    for fd in fds:
        listener = socket.socket(fileno=fd)
        listener.setblocking(True)
        client, _ = listener.accept()
        client.sendall(str(os.getpid()).encode())
        client.close()
    stay([])


def inherited():
    """Return the sockets that mcp, or systemd, has handed over."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        sys.exit(99)
    return [socket.socket(fileno=3 + n) for n in range(int(os.environ["LISTEN_FDS"]))]


def accepts(words):
    """Tell each client who serves it; leave after so many."""
    sockets = inherited()
    facts = {"pid": os.getpid(), "env": sorted(os.environ)}
    facts |= {"names": [sock.getsockname() for sock in sockets]}
    facts |= {"blocking": all(sock.getblocking() for sock in sockets)}
    facts |= {"fds": len(os.listdir("/proc/self/fd"))}
    say("up", json.dumps(facts))
    for _ in range(int(words[0])):
        for sock in select.select(sockets, [], [])[0]:
            client, _ = sock.accept()
            client.sendall(str(os.getpid()).encode())
            client.close()


def busy(_words):
    """Have sockets and take no connection."""
    _sockets = inherited()
    stay([])


# With pass_id mcp puts "-i N" before everything, that is, between "child" and "-I": Python
# itself takes "-i" as interactive, so the tests of ids use /bin/sh instead.
modes = {"stay": stay, "deaf": deaf, "leave": leave, "talk": talk, "serve": serve}
modes |= {"accepts": accepts, "busy": busy}
modes[sys.argv[1]](sys.argv[2:])
