"""PROXY protocol and XCLIENT: who a client is said to be. Also how long it may take."""

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from libsmx.netkinds import IpNetwork
from libsmx.wire import RcptAsk, SessionClose, SessionOpen, TaCommit
from smtps.content import Content
from smtps.pace import GRACE_S, Pace
from smtps.proxy import MAX_HEADER, Proxied, ProxyError, read_proxy
from smtps.transaction import Transaction
from smtps.xclient import Introduction, read_xclient
from tests.smtps.client import Client, make_policy
from tests.smtps.siblings import Siblings
from tests.smtps.test_conn import WHOLE, connected

V2 = b"\r\n\r\n\0\r\nQUIT\n"
V4 = bytes((192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x34, 0, 25))
NETS = (IpNetwork().read("192.0.2.0/24"),)


def v2(command=0x21, family=0x11, data=V4, length=None):
    """A header of version 2."""
    size = len(data) if length is None else length
    return V2 + bytes((command, family)) + size.to_bytes(2, "big") + data


GOOD = [
    (b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 25\r\n", "192.0.2.7"),
    (b"PROXY TCP6 2001:DB8::7 ::1 4660 25\r\n", "2001:db8::7"),
    (b"PROXY UNKNOWN\r\n", ""),
    (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", ""),
    (v2(), "192.0.2.7"),
    (v2(data=V4 + b"\x04\0\1x"), "192.0.2.7"),
    (v2(family=0x21, data=b"\x20\x01\x0d\xb8" + b"\0" * 11 + b"\7" + b"\0" * 20), "2001:db8::7"),
    (v2(command=0x20, family=0, data=b""), ""),
    (v2(family=0x31, data=b"\0" * 216), ""),
]
BAD = [
    b"EHLO x\r\n", b"proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n", b"PROXY TCP4 192.0.2.7 ::1 1 2\r\n",
    b"PROXY TCP4 192.0.2.300 10.0.0.1 1 2\r\n", b"PROXY TCP4 192.0.2.7 10.0.0.1 1 99999\r\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.1 01 2\r\n", b"PROXY TCP4  192.0.2.7 10.0.0.1 1 2\r\n",
    b"PROXY " + b"x" * 200, b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\n" + b"x" * 100,
    v2(command=0x11), v2(command=0x22), v2(data=V4[:-1]), v2(length=MAX_HEADER), b"\0",
]  # fmt: skip


@pytest.mark.parametrize(("header", "client"), GOOD)
def test_header_tells_the_client_however_it_arrives(header, client):
    assert read_proxy(header + b"EHLO x\r\n") == Proxied(client, len(header))
    for at in range(len(header)):
        assert read_proxy(header[:at]) is None


@pytest.mark.parametrize("header", BAD)
def test_what_is_no_header_is_refused(header):
    with pytest.raises(ProxyError):
        read_proxy(header)


@given(st.binary(max_size=300) | st.sampled_from([b"PROXY ", V2]).flatmap(
    lambda head: st.binary(max_size=200).map(lambda rest: head + rest)))  # fmt: skip
def test_any_bytes_are_a_header_or_none_or_wait_for_more(data):
    try:
        found = read_proxy(data)
    except ProxyError:
        return
    assert found is None or 0 < found.length <= len(data)


@pytest.mark.parametrize("early", [b"", b"EHLO early.test\r\n"])
async def test_balancer_tells_the_client(tmp_path, early):
    siblings = Siblings(tmp_path)
    async with siblings.surroundings(proxy_clients=NETS) as around:
        async with connected(around, wait=False) as (peer, _):
            await peer.say(b"PROXY TCP4 203.0.113.5 192.0.2.9 999 25\r\n" + early)
            await peer.expect(b"220 ")
            await peer.expect(b"\r\n")
            if early:
                await peer.expect(b"250 ")
            await peer.say(WHOLE)
            await peer.expect(b"accepted\r\n")
        (opened,) = siblings.got(SessionOpen)
        (commit,) = siblings.got(TaCommit)
        assert opened.client == commit.envelope.client == "203.0.113.5"
        assert {ask.client for ask in siblings.got(RcptAsk)} == {"203.0.113.5"}


@pytest.mark.parametrize("said", [b"EHLO c.test\r\n", b"PROXY TCP4 nonsense\r\n"])
async def test_balancer_without_a_header_is_left(tmp_path, said):
    siblings = Siblings(tmp_path)
    async with siblings.surroundings(proxy_clients=NETS) as around:
        async with connected(around, wait=False) as (peer, _):
            await peer.say(said)
            assert await peer.rest() == ""
        assert not siblings.got(SessionOpen)
        assert "proxy_refused" in [event.name for event, _ in siblings.log.records]


async def test_silent_balancer_is_left_in_time(tmp_path, autojump_clock):
    siblings = Siblings(tmp_path)
    async with siblings.surroundings(proxy_clients=NETS) as around:
        async with connected(around, wait=False) as (peer, _):
            assert await peer.rest() == ""


# --- XCLIENT -------------------------------------------------------------------------------


@pytest.mark.parametrize(("said", "meant"), [
    (b"ADDR=203.0.113.5", Introduction("203.0.113.5")),
    (b"NAME=spike.test ADDR=IPV6:2001:DB8::5", Introduction("2001:db8::5", "spike.test")),
    (b"name=[UNAVAILABLE] addr=[TEMPUNAVAIL]", Introduction()),
    (b"HELO=x+2By PROTO=ESMTP LOGIN=me@x PORT=25 DESTADDR=10.0.0.1 DESTPORT=25",
     Introduction(helo="x+y", esmtp=True, login="me@x")),
    (b"ADDR=::ffff:203.0.113.5", Introduction("203.0.113.5")),
    (b"ADDR", None), (b"FOO=x", None), (b"ADDR=1 ADDR=2", None), (b"ADDR=x.test", None),
    (b"PORT=70000", None), (b"PORT=-1", None), (b"PROTO=LMTP", None), (b"NAME=a+20b", None),
    (b"HELO=+0D+0A", None), (b"HELO=a=b", None), (b"HELO=+ZZ", None), (b"LOGIN=\xff", None),
    (b"HELO=" + b"x" * 2000, None),
])  # fmt: skip
def test_attributes_of_xclient(said, meant):
    assert read_xclient(said) == meant


@given(st.binary(max_size=100))
def test_any_attributes_are_read_or_refused(said):
    found = read_xclient(said)
    assert found is None or found.helo.isprintable()


def test_trusted_client_speaks_for_another_one():
    client = Client(xclient_clients=NETS, relay_clients=NETS)
    assert "250 XCLIENT NAME ADDR" in client.talk("EHLO c.test\r\n")
    assert client.session.dialogue.relay
    assert client.talk("XCLIENT ADDR=203.0.113.5 NAME=spike.test\r\n").startswith("220 mx.test ")
    assert client.codes("MAIL FROM:<s@a.test>\r\n") == "503"
    client.talk("EHLO d.test\r\nMAIL FROM:<s@a.test>\r\nRCPT TO:<r@b.test>\r\nDATA\r\n.\r\n")
    (envelope,) = client.envelopes
    assert envelope.client == "203.0.113.5"
    assert {ask.relay for group in client.asks for ask in group.questions
            if isinstance(ask, RcptAsk)} == {False}  # fmt: skip
    content = client.files[envelope.cdb_id]
    assert content.startswith(b"Received: from d.test (spike.test [203.0.113.5])")
    # The trust is that of the connection.
    assert client.codes("XCLIENT ADDR=198.51.100.1\r\n") == "220"
    assert client.codes(
        "EHLO c.test\r\nMAIL FROM:<s@a.test>\r\nXCLIENT ADDR=[UNAVAILABLE]\r\n"
    ) == ("250 250 503")


def test_xclient_is_for_trusted_clients_only():
    client = Client()
    assert "XCLIENT" not in client.talk("EHLO c.test\r\n")
    assert client.talk("XCLIENT ADDR=203.0.113.5\r\n").startswith("550 5.7.0")
    assert Client(xclient_clients=NETS).codes("XCLIENT\r\nXCLIENT FOO=x\r\n") == "501 501"


async def test_xclient_opens_the_session_anew_at_the_queue_manager(tmp_path):
    siblings = Siblings(tmp_path)
    async with siblings.surroundings(xclient_clients=NETS) as around:
        async with connected(around) as (peer, _):
            await peer.say(b"XCLIENT ADDR=203.0.113.5\r\n" + WHOLE)
            await peer.expect(b"220 ")
            await peer.expect(b"accepted\r\n")
    assert [message.client for message in siblings.got(SessionOpen)] == [
        "192.0.2.9", "203.0.113.5",
    ]  # fmt: skip
    assert len(siblings.got(SessionClose)) >= 1
    assert siblings.got(TaCommit)[0].envelope.client == "203.0.113.5"


# --- how long a client may take ------------------------------------------------------------


def test_deadline_moves_with_signs_of_life_until_that_of_the_transaction():
    pace = Pace(100.0, 300.0, 0)
    assert pace.deadline(0.0, float("inf"), None) == 100.0
    assert pace.deadline(5.0, 100.0, None) == 100.0, "a small step is not worth its cost"
    assert pace.deadline(50.0, 100.0, None) == 150.0
    ta = Transaction("s@a.test", body8=False)
    assert pace.deadline(100.0, 150.0, ta) == 200.0
    assert not pace.limited
    assert pace.deadline(350.0, 400.0, ta) == 400.0
    assert pace.deadline(390.0, 400.0, ta) == 400.0
    assert pace.limited
    assert pace.deadline(391.0, 400.0, None) == 491.0
    assert not pace.limited


def test_content_has_to_come_at_its_rate_after_the_grace():
    pace = Pace(100.0, 3000.0, 10)
    ta = Transaction("s@a.test", body8=False)
    pace.deadline(0.0, 0.0, ta)
    assert not pace.is_slow(0.0)
    ta.content = Content(0, make_policy().conf)
    assert not pace.is_slow(1.0)
    assert not pace.is_slow(1.0 + GRACE_S)
    assert pace.is_slow(1.1 + GRACE_S)
    ta.content.size = 1000
    assert not pace.is_slow(90.0)
    assert pace.is_slow(102.0)


async def test_client_that_sends_a_byte_a_minute_is_cut_off(tmp_path, autojump_clock):
    siblings = Siblings(tmp_path)
    async with siblings.surroundings() as around:
        async with connected(around) as (peer, _):
            await peer.say(WHOLE[:-20])
            await peer.expect(b"354 ")
            with trio.fail_after(3600):
                try:
                    while "421 4.4.2" not in peer.text.decode():
                        await peer.say(b"x")
                        with trio.move_on_after(50):
                            peer.text += await peer.sock.recv(1000)
                except OSError:
                    pass
            assert "you send too slowly" in peer.text.decode()
        assert siblings.contents() == {}


async def test_transaction_has_a_time_limit_of_its_own(tmp_path, autojump_clock):
    siblings = Siblings(tmp_path)
    async with siblings.surroundings(transaction_timeout=600, io_timeout=300) as around:
        async with connected(around) as (peer, _):
            await peer.say(b"EHLO c.test\r\nMAIL FROM:<s@a.test>\r\n")
            await peer.expect(b"Sender ok\r\n")
            started = trio.current_time()
            for _ in range(2):
                await trio.sleep(200)
                await peer.say(b"NOOP\r\n")
                await peer.expect(b"250 2.0.0 Ok\r\n")
            # Heard 200 s ago, and yet the end: 600 s are over.
            await peer.expect(b"421 4.4.2 ")
            assert 590 < trio.current_time() - started < 610


async def test_early_talker_is_turned_away_and_a_patient_client_served(tmp_path, autojump_clock):
    siblings = Siblings(tmp_path)
    async with siblings.surroundings(greeting_delay=5) as around:
        async with connected(around, wait=False) as (peer, _):
            await peer.say(b"EHLO c.test\r\n")
            assert (await peer.rest()).startswith("554 5.5.1 ")
        async with connected(around) as (peer, _):
            await peer.say(WHOLE)
            await peer.expect(b"accepted\r\n")


def test_errors_are_answered_slowly_after_some():
    client = Client(errors_before_delay=2, error_delay=3, max_bad_commands_per_session=0)
    client.talk("EHLO c.test\r\nFOO\r\nFOO\r\n")
    assert client.delays == []
    client.talk("FOO\r\n")
    client.talk("NOOP\r\nNOOP\r\n")
    assert client.delays == [3]
    client.talk("FOO\r\nFOO\r\nFOO\r\n")
    assert client.delays == [3, 3], "one delay for errors that come together"


async def test_slow_answers_are_bounded_in_number(tmp_path, autojump_clock):
    siblings = Siblings(tmp_path)
    options = {"errors_before_delay": 0, "error_delay": 30, "max_sessions": 10}
    async with siblings.surroundings(**options) as around:
        async with connected(around) as (one, _), connected(around) as (two, _):
            started = trio.current_time()
            await one.say(b"FOO\r\n")
            await trio.testing.wait_all_tasks_blocked()
            await two.say(b"FOO\r\n")
            await two.expect(b"500 ")
            assert trio.current_time() - started < 30
            await one.expect(b"500 ")
            assert trio.current_time() - started >= 30
