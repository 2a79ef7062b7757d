"""The parts behind AUTH: the guard, the protocol of Dovecot's service, the credentials file."""

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from libsmx.clock import SystemClock
from libsmx.errors import StartError
from libsmx.log import NullLog
from libsmx.logtab import CONFIG_WARNING
from libsmx.opt_auth import SmtpsAuthConf
from libsmx.opttab import SmtpsConf
from libsmx.saslkeys import KeyTable, UserKeys, derive_scram, format_keys
from libsmx.saslserver import Challenge, Derive, Failure, Lookup, Success
from smtps import authguard
from smtps.authdovecot import AuthServer
from smtps.authguard import Guard, net_of
from smtps.authsource import CHECK_S, AuthSource
from smtps.authsteps import Begin, Begun, End, Ended, Remote, RemoteCancel, RemoteReply
from smtps.authwire import AuthReader, AuthServerError, Ready, Told, go_on, hello, request
from smtps.policy import Policy

# --- the guard -----------------------------------------------------------------------------


def test_an_address_is_slowed_down_and_then_shut_out_for_a_while():
    guard = Guard(3, 600, 2)
    assert [guard.failed("192.0.2.1", at) for at in (0, 1)] == [(2, False), (4, False)]
    assert not guard.is_blocked("192.0.2.1", 1)
    assert guard.failed("192.0.2.1", 2) == (6, True)
    assert guard.is_blocked("192.0.2.1", 599)
    assert not guard.is_blocked("192.0.2.2", 599)
    assert not guard.is_blocked("192.0.2.1", 600)
    assert guard.failed("192.0.2.1", 600) == (2, False), "a new window begins"


def test_without_a_limit_nobody_is_shut_out():
    guard = Guard(0, 600, 2)
    for at in range(100):
        delay_s, blocked = guard.failed("192.0.2.1", at)
    assert (delay_s, blocked) == (16, False)
    assert not guard.is_blocked("192.0.2.1", 100)


def test_an_ipv6_net_is_one_address():
    assert net_of("2001:db8::1") == net_of("2001:db8::ffff:1") == "2001:db8::/64"
    assert net_of("2001:db8:0:1::1") != net_of("2001:db8::1")


def test_the_table_is_bounded(monkeypatch):
    monkeypatch.setattr(authguard, "MAX_ADDRESSES", 3)
    guard = Guard(1, 600, 0)
    for number in range(5):
        guard.failed(f"192.0.2.{number}", number)
    assert [guard.is_blocked(f"192.0.2.{n}", 5) for n in range(5)] == [False, False, *[True] * 3]


# --- the protocol of the service -----------------------------------------------------------

GREETING = (
    b"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tSCRAM-SHA-256\tdictionary\tactive\n"
    b"SPID\t7\nCUID\t1\nCOOKIE\tabc\nDONE\n"
)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_the_service_is_understood_however_its_words_are_cut(size):
    data = GREETING + b"CONT\t1\tZm9v\nOK\t1\tuser=a\tx\nFAIL\t2\tuser=b\nFAIL\t3\ttemp\n"
    reader = AuthReader()
    found = [one for at in range(0, len(data), size) for one in reader.feed(data[at : at + size])]
    assert found == [
        Ready(("PLAIN", "SCRAM-SHA-256")),
        Told(1, Challenge(b"foo")),
        Told(1, Success("a")),
        Told(2, Failure("b")),
        Told(3, None),
    ]


@pytest.mark.parametrize(
    "data",
    [b"VERSION\t2\t0\n", b"OK\n", b"OK\tx\n", b"CONT\t1\t!\n", b"x" * 20_000, b"MECH\tA\n" * 101],
)
def test_what_the_service_must_not_say(data):
    with pytest.raises(AuthServerError):
        AuthReader().feed(data)


@given(st.binary(max_size=300))
def test_no_word_of_the_service_breaks_the_reader(data):
    try:
        AuthReader().feed(data)
    except AuthServerError:
        pass


def test_what_is_asked():
    assert hello(5) == b"VERSION\t1\t1\nCPID\t5\n"
    asked = Remote("PLAIN", b"\0a\0b", secure=True, verified=False)
    assert request(9, asked, "192.0.2.1") == (
        b"AUTH\t9\tPLAIN\tservice=smtp\trip=192.0.2.1\tsecured\tresp=AGEAYg==\n"
    )
    asked = Remote("LOGIN", None, secure=False, verified=True)
    assert request(9, asked, "::1").endswith(b"\trip=::1\tvalid-client-cert\n")
    assert go_on(9, b"") == b"CONT\t9\t\n"


class Service:
    """An auth service that answers as it is told."""

    def __init__(self, path):
        self.path = str(path)
        self.lines = []
        self.answers = {}
        self.streams = []

    async def serve(self, task_status=trio.TASK_STATUS_IGNORED):
        gate = trio.socket.socket(trio.socket.AF_UNIX)
        await gate.bind(self.path)
        gate.listen()
        task_status.started()
        with gate:
            async with trio.open_nursery() as nursery:
                while True:
                    peer, _ = await gate.accept()
                    nursery.start_soon(self.talk, trio.SocketStream(peer))

    async def talk(self, stream):
        self.streams.append(stream)
        try:
            await self.answer(stream)
        finally:
            with trio.CancelScope(shield=True):
                await stream.aclose()

    async def answer(self, stream):
        try:
            await stream.send_all(GREETING)
            buffer = b""
            while data := await stream.receive_some():
                *lines, buffer = (buffer + data).split(b"\n")
                for line in lines:
                    words = line.decode().split("\t")
                    self.lines.append(words)
                    answer = self.answers.get(words[0])
                    if answer is not None:
                        await stream.send_all(answer.format(*words).encode())
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass


async def until(condition):
    with trio.fail_after(60):
        while not condition():
            await trio.sleep(0.005)


async def test_an_exchange_with_the_service(tmp_path):
    service = Service(tmp_path / "auth")
    offered = []
    server = AuthServer(service.path, NullLog(), offered.append)
    async with trio.open_nursery() as nursery:
        await nursery.start(service.serve)
        await nursery.start(server.run)
        await until(lambda: offered)
        assert offered == [("PLAIN", "SCRAM-SHA-256")]
        exchange = server.exchange("192.0.2.1")
        service.answers = {
            "AUTH": "CONT\t{1}\tZm9v\n",
            "CONT": "CONT\t999\t\nOK\t{1}\tuser=alice\n",
        }
        asked = Remote("SCRAM-SHA-256", None, secure=True, verified=False)
        assert await exchange.begin(asked) == Challenge(b"foo")
        assert await exchange.reply(b"bar") == Success("alice")
        assert await exchange.reply(b"more") is None, "it is over"
        await exchange.begin(asked)
        await exchange.cancel()
        await until(lambda: service.lines[-1][0] == "CANCEL")
        assert service.lines[-1][1] == service.lines[-2][1] != service.lines[-3][1]
        # The service is started anew: what was open there is unknown.
        await exchange.begin(asked)
        await service.streams[-1].aclose()
        await until(lambda: len(offered) == 2)
        assert await exchange.reply(b"bar") is None
        service.answers = {"AUTH": "OK\t{1}\tuser=bob\n"}
        assert await exchange.begin(asked) == Success("bob")
        nursery.cancel_scope.cancel()


async def test_nobody_waits_for_a_service_that_is_gone(tmp_path):
    service = Service(tmp_path / "auth")
    server = AuthServer(service.path, NullLog(), lambda _: None)
    asked = Remote("PLAIN", b"x", secure=True, verified=False)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)  # nobody is there
        assert await server.exchange("192.0.2.1").begin(asked) is None
        await nursery.start(service.serve)
        await until(lambda: server.generation == 1)
        answers = []

        async def wait():
            answers.append(await server.exchange("192.0.2.1").begin(asked))

        nursery.start_soon(wait)
        await until(lambda: service.lines and service.lines[-1][0] == "AUTH")
        await service.streams[-1].aclose()
        await until(lambda: answers)
        assert answers == [None]
        nursery.cancel_scope.cancel()


# --- the source ----------------------------------------------------------------------------

KEYS = UserKeys({"SCRAM-SHA-256": derive_scram("SCRAM-SHA-256", "pencil", b"s" * 16, 4096)})
TEXT = format_keys(KeyTable(4096, b"x" * 16, {"alice": KEYS}))


class Clock(SystemClock):
    now_s = 1000.0

    def mono(self):
        return self.now_s


def make_source(tmp_path, clock=None, log=None, **options):
    conf = attrs.evolve(
        SmtpsAuthConf(),
        credentials_file=options.pop("credentials_file", str(tmp_path / "smtps_passwd")),
        sasl_conf=options.pop("sasl_conf", str(tmp_path / "sendmail.conf")),
        **options,
    )
    policy = Policy(attrs.evolve(SmtpsConf(), auth=conf), "mx.test")
    return policy, AuthSource(policy, str(tmp_path), log or NullLog(), clock or SystemClock())


def put(path, text):
    path.write_text(text)
    path.chmod(0o600)


@pytest.mark.covers("X026")
async def test_without_a_file_there_is_no_auth_and_asking_for_it_is_reported(tmp_path):
    log = NullLog()
    policy, _ = make_source(tmp_path, log=log)
    assert policy.auth_mechanisms == ()
    assert not log.records
    make_source(tmp_path, log=log, trusted_mechs=("PLAIN",))
    ((event, fields),) = log.records
    assert event is CONFIG_WARNING
    assert fields["text"].endswith("smtps_passwd: AUTH is not offered")


async def test_a_file_that_was_named_must_be_there_and_right(tmp_path):
    with pytest.raises(StartError, match="make it with smxpasswd"):
        make_source(tmp_path, credentials_file=str(tmp_path / "other"))
    put(tmp_path / "smtps_passwd", "rubbish")
    with pytest.raises(StartError, match="line 1"):
        make_source(tmp_path)
    put(tmp_path / "smtps_passwd", TEXT)
    (tmp_path / "smtps_passwd").chmod(0o644)
    with pytest.raises(StartError, match="everybody may read it"):
        make_source(tmp_path)
    with pytest.raises(StartError, match=r"sasl_conf"):
        make_source(tmp_path, sasl_conf=str(tmp_path / "other"))


@pytest.mark.covers("X357")
async def test_a_file_outside_smx_conf_chooses_mechanisms(tmp_path):
    put(tmp_path / "smtps_passwd", TEXT)
    (tmp_path / "sendmail.conf").write_text(
        "pwcheck_method: auxprop\nmech_list: plain DIGEST-MD5\n"
    )
    policy, _ = make_source(tmp_path)
    assert policy.auth_mechanisms == ("PLAIN",)


async def test_questions_are_answered_from_the_file_as_it_is(tmp_path):
    put(tmp_path / "smtps_passwd", TEXT)
    clock = Clock()
    policy, source = make_source(tmp_path, clock)
    assert policy.auth_mechanisms == ("PLAIN", "LOGIN", "SCRAM-SHA-1", "SCRAM-SHA-256", "EXTERNAL")
    session = source.exchange("192.0.2.1")
    begun = await session.answer(Begin())
    assert isinstance(begun, Begun)
    assert begun.nonce != (await session.answer(Begin())).nonce
    assert (await session.answer(Lookup("alice"))).scram["SCRAM-SHA-256"].iterations == 4096
    assert len(await session.answer(Derive("sha256", "pencil", b"s" * 16, 4096))) == 32
    assert await session.answer(RemoteReply(b"")) is None
    # A broken file changes nothing, a whole one everything.
    put(tmp_path / "smtps_passwd", TEXT + "rubbish\n")
    clock.now_s += CHECK_S
    await session.answer(Begin())
    assert not (await session.answer(Lookup("alice"))).made_up - {"SCRAM-SHA-1", "CRAM-MD5"}
    put(tmp_path / "smtps_passwd", TEXT.replace("alice", "carol"))
    clock.now_s += CHECK_S
    await session.answer(Begin())
    assert "SCRAM-SHA-256" in (await session.answer(Lookup("alice"))).made_up
    (tmp_path / "smtps_passwd").unlink()
    source.reload()
    assert "SCRAM-SHA-256" not in (await session.answer(Lookup("carol"))).made_up


async def test_failures_are_counted_over_sessions(tmp_path):
    put(tmp_path / "smtps_passwd", TEXT)
    clock = Clock()
    _, source = make_source(
        tmp_path, clock, max_failures_per_address=2, failure_delay=1, failure_window=60
    )
    assert await source.exchange("192.0.2.1").answer(End(success=False)) == Ended(1)
    assert await source.exchange("192.0.2.1").answer(End(success=True)) == Ended(0)
    assert await source.exchange("192.0.2.1").answer(End(success=False)) == Ended(2)
    assert (await source.exchange("192.0.2.1").answer(Begin())).blocked
    assert not (await source.exchange("192.0.2.2").answer(Begin())).blocked
    clock.now_s += 60
    assert not (await source.exchange("192.0.2.1").answer(Begin())).blocked


async def test_a_service_is_asked_instead_of_the_file(tmp_path):
    policy, source = make_source(tmp_path, dovecot_socket=str(tmp_path / "none"))
    assert policy.auth_remote
    assert policy.auth_mechanisms == ()
    session = source.exchange("192.0.2.1")
    assert await session.answer(Remote("PLAIN", b"", secure=True, verified=False)) is None
    assert await session.answer(RemoteCancel()) is None
    assert source.server is not None
