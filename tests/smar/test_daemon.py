"""The process: start, questions over the socket, orderly stop."""

import os

import attrs
import dns.message
import dns.rdatatype
import pytest
import trio
import trio.socket

from libsmx.clock import FakeClock
from libsmx.errors import EX_CONFIG, StartError
from libsmx.link import Link
from libsmx.log import NullLog
from libsmx.mapfile import write_map
from libsmx.netkinds import Endpoint
from libsmx.opt_smar import MailertableConf
from libsmx.opt_smar_maps import MapConf
from libsmx.opt_smar_users import AliasesConf
from libsmx.opttab import GlobalConf, SmarConf
from libsmx.process import Context
from libsmx.wire import MailAsk, RcptAsk, RouteAsk
from smar.assembly import load_mailertable
from smar.daemon import SOCKET_MODE, serve
from tests.smar.test_dnsio import reply

TABLE = "loc.al lmtp:\nnext.hop 2525^[127.0.0.1]\n"


def make_context(place, nameserver):
    (place / "mt").write_text(TABLE)
    write_map(str(place / "aliases.db"), {"u": "local:"}, source="test", made_at=0)
    return Context(
        conf=SmarConf(
            nameserver=(Endpoint(*nameserver),),
            dns_timeout=1,
            mailertable=MailertableConf(file=str(place / "mt")),
            aliases=AliasesConf(file=str(place / "aliases.db")),
        ),
        globals=GlobalConf(hostname="GW.Example", smar_socket=str(place / "smarsock")),
        log=NullLog(),
        clock=FakeClock(),
        id=0,
        name="smar",
        config_dir=str(place),
        stop=trio.Event(),
    )


async def running(place, use, change=lambda ctx: ctx):
    """Run smar beside a name server that knows example.org, and use(ctx, connect)."""
    sock = trio.socket.socket(type=trio.socket.SOCK_DGRAM)
    await sock.bind(("127.0.0.1", 0))

    async def name_server():
        while True:
            query, client = await sock.recvfrom(4096)
            query = reply_to(query)
            if query is not None:
                await sock.sendto(query, client)

    async with trio.open_nursery() as nursery:
        ctx = change(make_context(place, sock.getsockname()))
        nursery.start_soon(name_server)
        async with trio.open_nursery() as daemon:

            async def connect(role):
                link = Link(ctx.globals.smar_socket, role, "smar", log=ctx.log)
                await nursery.start(link.run)
                return link

            await daemon.start(serve, ctx)
            await use(ctx, connect)
            ctx.stop.set()
        nursery.cancel_scope.cancel()
    sock.close()


def reply_to(data):
    """A response of the name server, None for names that it keeps silent about."""
    query = dns.message.from_wire(data)
    name = query.question[0].name.to_text().lower()
    if name.startswith("silent"):
        return None
    if query.question[0].rdtype == dns.rdatatype.A and name == "example.org.":
        return reply(query, "example.org. 60 A 192.0.2.1").to_wire()
    return reply(query).to_wire()


@pytest.mark.covers("X009", "X245", "X250")
async def test_both_clients_get_their_answers(tmp_path):
    async def use(ctx, connect):
        assert os.stat(ctx.globals.smar_socket).st_mode & 0o7777 == SOCKET_MODE
        smtps, qmgr = await connect("smtps"), await connect("qmgr")
        (tmp_path / "mt").write_text("")  # without effect until the next start
        sender, rcpt = await smtps.call_many(
            [
                MailAsk(sender="u@example.org", client="192.0.2.9"),
                RcptAsk(rcpt="u@loc.al", client="192.0.2.9", relay=False),
            ],
            5,
        )
        assert sender.accept
        assert rcpt.local
        rcpts = ["u@loc.al", "u@example.org", "u@next.hop", "u@silent.org"]
        answer = await qmgr.call(RouteAsk(rcpts=rcpts), 5)
        assert [route.dest for route in answer.routes] == [
            "lmtp:",
            "esmtp:25:example.org",
            "esmtp:2525:[127.0.0.1]",
            "esmtp:25:silent.org",
        ]
        assert [route.code for route in answer.routes] == [0, 0, 0, 451]

    await running(tmp_path, use)
    assert not os.path.exists(tmp_path / "smarsock")


async def test_questions_under_way_are_answered_before_the_stop(tmp_path):
    async def use(ctx, connect):
        qmgr = await connect("qmgr")
        answers = []
        qmgr.channel.request(RouteAsk(rcpts=["u@silent.org"]), answers.append, 5)
        smtps = await connect("smtps")  # its hello is answered after the question was read
        ctx.stop.set()
        del smtps
        with trio.fail_after(5):
            while not answers:
                await trio.lowlevel.checkpoint()
        assert [route.code for route in answers[0].routes] == [451]

    await running(tmp_path, use)


@pytest.mark.covers("X250")
def test_missing_mailertable_is_named(tmp_path):
    with pytest.raises(StartError, match=r"/none: No such file .* even if it is empty"):
        load_mailertable(str(tmp_path / "none"))


def test_mailertable_that_is_no_text_is_refused_not_crashed_on(tmp_path):
    (tmp_path / "mt").write_bytes(b"\xff\xfe\x00 a.b\n")
    with pytest.raises(StartError, match="mt:1:"):
        load_mailertable(str(tmp_path / "mt"))


@pytest.mark.covers("X250")
async def test_without_a_mailertable_it_does_not_start(tmp_path):
    ctx = make_context(tmp_path, ("127.0.0.1", 53))
    (tmp_path / "mt").unlink()
    with pytest.raises(StartError) as caught:
        await serve(ctx, trio.TASK_STATUS_IGNORED)
    assert caught.value.code == EX_CONFIG
    assert not os.path.exists(ctx.globals.smar_socket)


@pytest.mark.covers("X246", "X247", "X478")
async def test_mailertable_in_a_map_changes_while_the_process_runs(tmp_path):
    path = str(tmp_path / "routes.db")

    def put(value):
        write_map(path, {"next.hop": value}, source="test", made_at=0)

    put("2525^[127.0.0.1]")

    def with_map(ctx):
        routes = MapConf(name="routes", type="hash", file=path)
        table = MailertableConf(name="routes")
        ctx.conf = attrs.evolve(ctx.conf, map=(routes,), mailertable=table)
        return ctx

    async def use(ctx, connect):
        qmgr = await connect("qmgr")

        async def port():
            answer = await qmgr.call(RouteAsk(rcpts=["u@next.hop"]), 5)
            return answer.routes[0].targets[0].port

        assert await port() == 2525
        put("2626^[127.0.0.1]")
        with trio.fail_after(60):
            while await port() != 2626:
                ctx.reload[0]()  # what SIGHUP does

    await running(tmp_path, use, with_map)
