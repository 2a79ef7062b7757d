"""smxmapd: our maps for others, asked by our own client, by bytes, and by Postfix."""

import contextlib
import os
import signal
import subprocess
from functools import partial

import pytest
import trio

from libsmx.log import NullLog
from libsmx.mapfile import write_map
from libsmx.opt_smar_maps import MapConf
from smar.mapbook import MapBook
from smar.mapremote import SocketAsker
from smar.mapserver import MapServer
from smar.records import Outcome
from smar.smxmapd import run
from smar.socketmap import netstring
from tests.conftest import need
from tests.system import reachable_dir, unprivileged_user, wait_for


@pytest.fixture
def book(tmp_path):
    """Users in a file, nets in a text, both as a sequence, and logins."""
    write_map(str(tmp_path / "users.db"), {"joe": "Joe Doe"}, source="x", made_at=0)
    (tmp_path / "nets").write_text("10.0.0.0/8 ten\n")
    found = MapBook(NullLog())
    found.declare(
        [
            MapConf(name="users", type="hash", file=str(tmp_path / "users.db")),
            MapConf(name="nets", type="cidr", file=str(tmp_path / "nets")),
            MapConf(name="logins", type="passwd"),
            MapConf(name="all", type="sequence", maps=("users", "nets", "logins")),
        ]
    )
    return found


@pytest.mark.covers("X210", "X211", "X212", "X220")
async def test_our_client_asks_our_server(book):
    server = MapServer(book, frozenset({"users", "all"}))
    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, server.serve, 0, host="127.0.0.1")
        (listener,) = await nursery.start(serve)
        port = listener.socket.getsockname()[1]

        async def answer(name, key):
            asker = SocketAsker(
                MapConf(name=name, type="socket", address="127.0.0.1", port=port, timeout=30)
            )
            found = await asker.ask(key)
            asker.close()
            return found.outcome, found.text or found.detail

        assert await answer("users", "JOE") == (Outcome.FOUND, "Joe Doe")
        assert await answer("users", "10.1.1.1") == (Outcome.NO_NAME, "")
        assert await answer("all", "10.1.1.1") == (Outcome.FOUND, "ten")
        assert (await answer("all", "root"))[0] is Outcome.FOUND
        assert await answer("all", "no-such-login-here") == (Outcome.NO_NAME, "")
        outcome, said = await answer("nets", "10.1.1.1")
        assert outcome is Outcome.FAILED
        assert "no such map here" in said
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("data", [b"x", b"5:users,", b"2:\xff ,", b"9999999:"])
async def test_whoever_talks_nonsense_is_cut_off_and_the_next_is_served(book, data):
    server = MapServer(book, frozenset({"users"}))
    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, server.serve, 0, host="127.0.0.1")
        (listener,) = await nursery.start(serve)
        port = listener.socket.getsockname()[1]
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(data)
            assert await stream.receive_some() == b""
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(netstring(b"users joe"))
            assert await stream.receive_some() == netstring(b"OK Joe Doe")
        nursery.cancel_scope.cancel()


def test_wrong_usage_is_told(tmp_path, capsys):
    conf = tmp_path / "smx.conf"
    conf.write_text("smar { map m { type = hash; file = none; } }\n")
    user = ["-u", unprivileged_user()] if unprivileged_user() else []
    assert run(["-f", str(conf)]) == os.EX_USAGE
    assert run(["-f", str(conf), "-p", "x"]) == os.EX_USAGE
    assert run(["-f", str(conf), "-p", "9", "-a", "localhost"]) == os.EX_USAGE
    assert run(["-f", str(tmp_path / "none"), "-p", "9"]) == os.EX_CONFIG
    if user:
        assert run(["-f", str(conf), "-p", "9"]) == os.EX_USAGE
        assert "does not run as root" in capsys.readouterr().err
    assert run(["-f", str(conf), "-p", "9", "-u", "no-such-user-here"]) == os.EX_NOUSER


@pytest.fixture
def served(programs):
    """A running smxmapd; yields the directory with its socket."""
    place = reachable_dir("smx-mapd-")
    conf = place / "smx.conf"
    conf.write_text(f'smar {{ map users {{ type = hash; file = "{place}/users.db"; }} }}\n')
    write_map(str(place / "users.db"), {"joe@a.test": "Joe"}, source="x", made_at=0)
    place.chmod(0o777)
    user = ["-u", unprivileged_user()] if unprivileged_user() else []
    process = subprocess.Popen(
        [programs / "smxmapd", "-f", conf, "-l", place / "maps", *user],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/",
    )  # fmt: skip
    try:
        wait_for("the socket", lambda: (place / "maps").exists() or process.poll() is not None)
        yield place
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=60)[0].decode()
        assert process.returncode == 0, said
        assert not (place / "maps").exists()
        assert "map_read map=users" in said
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.communicate()
        subprocess.run(["rm", "-rf", place], check=True)


@pytest.mark.covers("X211", "X214", "X216")
def test_postfix_asks_it_over_a_socket(served):
    postmap = need("postmap", "postfix")

    def asked(key):
        done = subprocess.run(
            [postmap, "-q", key, f"socketmap:unix:{served}/maps:users"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout

    assert asked("joe@a.test") == (0, "Joe\n")
    assert asked("sue@a.test") == (1, "")
    write_map(str(served / "users.db"), {"sue@a.test": "Sue"}, source="x", made_at=0)
    wait_for("the new map", lambda: asked("sue@a.test") == (0, "Sue\n"))
