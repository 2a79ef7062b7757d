"""The whole smtps process but for the skeleton: links, sockets, limits, stop."""

import contextlib
import os
import pathlib
import socket

import attrs
import pytest
import trio

from libsmx.cdb import DIRECTORIES
from libsmx.clock import SystemClock
from libsmx.errors import StartError
from libsmx.log import NullLog
from libsmx.opttab import GlobalConf, ListenSocket, ServiceConf, SmtpsConf
from libsmx.process import Context
from libsmx.wire import Throttle
from smtps.daemon import DAEMON, find_group, pass_path, pick_server_id, serve
from tests.smtps.siblings import Siblings

MAIL = b"EHLO c.test\r\nMAIL FROM:<s@a.test>\r\nRCPT TO:<r@b.test>\r\nDATA\r\nx\r\n.\r\n"


@contextlib.asynccontextmanager
async def running(directory: pathlib.Path, number=0, **options):
    """Run smtps on a free port with fake siblings; give context, siblings and address."""
    siblings = Siblings(directory)
    for name in (*DIRECTORIES, "smtps"):
        (directory / name).mkdir()
    service = options.pop("service", None) or ServiceConf(
        listen_socket=(ListenSocket(type="inet", address="127.0.0.1", port=0),)
    )
    conf = attrs.evolve(SmtpsConf(), service=service, cdb_gid=str(os.getegid()), **options)
    ctx = Context(
        conf=conf,
        globals=GlobalConf(
            hostname="mx.test",
            cdb_base_directory=f"{directory}/",
            smtps_socket=siblings.qmgr_path,
            smar_socket=siblings.smar_path,
        ),
        log=NullLog(),
        clock=SystemClock(),
        id=number,
        name="smtps",
        config_dir="",
        stop=trio.Event(),
    )
    with contextlib.chdir(directory):
        async with siblings.running(), trio.open_nursery() as nursery:
            await nursery.start(serve, ctx)
            yield ctx, siblings
            ctx.stop.set()


async def address_of(ctx):
    """Return where the server listens."""
    while not (found := [f for event, f in ctx.log.records if event.name == "listening"]):
        await trio.sleep(0.001)
    return found[0]["address"], found[0]["port"]


async def talk(sock, said, until):
    """Send and read until this text."""
    text = b""
    await sock.send(said)
    while until not in text:
        data = await sock.recv(65536)
        assert data, text
        text += data
    return text.decode()


async def connect(ctx):
    sock = trio.socket.socket()
    await sock.connect(await address_of(ctx))
    return sock


@pytest.mark.covers("X367", "X431")
async def test_process_takes_mail_with_its_own_server_id(tmp_path):
    async with running(tmp_path, number=2, id=16) as (ctx, _):
        with await connect(ctx) as sock:
            assert (await talk(sock, b"", b"\r\n")).startswith("220 mx.test")
            text = await talk(sock, MAIL, b"accepted\r\n")
    (path,) = tmp_path.glob("?/S*")
    assert path.name.endswith("12")
    assert f"{path.name} accepted" in text


async def test_client_beyond_max_sessions_gets_421(tmp_path):
    async with running(tmp_path, max_sessions=1) as (ctx, _):
        with await connect(ctx) as first, await connect(ctx) as second:
            assert (await talk(first, b"", b"\r\n")).startswith("220")
            assert (await talk(second, b"", b"\r\n")).startswith("421 4.3.2")
            assert await second.recv(10) == b""
        names = [event.name for event, _ in ctx.log.records]
        assert names.count("too_many_sessions") == 1


async def test_throttle_stops_new_transactions_until_it_is_lifted(tmp_path):
    async with running(tmp_path) as (ctx, siblings):
        with await connect(ctx) as sock:
            await talk(sock, b"EHLO c.test\r\n", b"ENHANCEDSTATUSCODES\r\n")
            for stop, code in ((True, "452 4.3.1"), (False, "250 2.1.0")):
                for channel in siblings.channels:
                    if channel.peer == "smtps" and not channel.closed:
                        with contextlib.suppress(KeyError):
                            channel.post(Throttle(stop=stop, reason="disk is full"))
                names = "throttled" if stop else "unthrottled"
                while not any(event.name == names for event, _ in ctx.log.records):
                    await trio.sleep(0.001)
                assert code in await talk(sock, b"MAIL FROM:<>\r\n", b"\r\n")


async def test_stop_ends_idle_sessions_and_returns(tmp_path):
    async with running(tmp_path) as (ctx, _):
        with await connect(ctx) as sock:
            await talk(sock, b"", b"\r\n")
            ctx.stop.set()
            assert (await talk(sock, b"", b"\r\n")).startswith("421 4.3.2")


async def test_stop_does_not_wait_for_ever_for_data(tmp_path):
    async with running(tmp_path, shutdown_timeout=0.01) as (ctx, _):
        with await connect(ctx) as sock:
            await talk(sock, MAIL.replace(b".\r\n", b""), b"354 ")
            ctx.stop.set()
            assert "421 4.3.2" in await talk(sock, b"", b"421 4.3.2 mx.test shutting")
    assert list(tmp_path.glob("?/S*")) == []


async def test_lost_queue_manager_ends_sessions_at_their_next_mail(tmp_path):
    async with running(tmp_path) as (ctx, siblings):
        with await connect(ctx) as sock:
            await talk(sock, b"EHLO c.test\r\n", b"ENHANCEDSTATUSCODES\r\n")
            for channel in siblings.channels:
                channel.close("crash")
            while not any(event.name == "link_lost" for event, _ in ctx.log.records):
                await trio.sleep(0.001)
            assert "421 4.3.0" in await talk(sock, b"MAIL FROM:<>\r\n", b"421 4.3.0")


async def test_sockets_come_over_pass_fd_socket(tmp_path):
    service = ServiceConf(pass_fd_socket="smtps/fd", pass_id="-i")
    async with running(tmp_path, number=1, service=service) as (ctx, _):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(tmp_path / "smtps" / "fd.1"))
                socket.send_fds(sock, [b"\x01"], [listener.fileno()])
            with await connect(ctx) as sock:
                assert (await talk(sock, b"", b"\r\n")).startswith("220")
    assert (tmp_path / "smtps" / "lease.01").exists()


@pytest.mark.covers("X429")
def test_each_process_has_its_own_pass_fd_socket():
    service = ServiceConf(pass_fd_socket="smtps/fd")
    conf = attrs.evolve(SmtpsConf(), service=service)
    assert pass_path(conf, 0) == "smtps/fd"
    conf = attrs.evolve(conf, service=attrs.evolve(service, pass_id="-i"))
    assert pass_path(conf, 0) == "smtps/fd.0"
    assert pass_path(conf, 3) == "smtps/fd.3"
    assert pass_path(SmtpsConf(), 3) == ""


@pytest.mark.covers("X367")
def test_server_id_that_does_not_fit_is_refused():
    assert pick_server_id(attrs.evolve(SmtpsConf(), id=250), 5) == 255
    with pytest.raises(StartError, match="set a smaller id"):
        pick_server_id(attrs.evolve(SmtpsConf(), id=250), 6)


@pytest.mark.covers("X358")
def test_group_of_content_is_taken_by_number_or_name_if_we_are_in_it():
    log = NullLog()
    assert find_group(str(os.getegid()), log) == os.getegid()
    assert log.records == []
    assert find_group("no-such-group", log) is None
    stranger = next(gid for gid in range(60_000, 61_000) if gid not in os.getgroups())
    assert find_group(str(stranger), log) is None
    assert [event.name for event, _ in log.records] == ["cdb_group_skipped"] * 2


def test_declaration_names_the_program():
    assert DAEMON.name == "smtps"
