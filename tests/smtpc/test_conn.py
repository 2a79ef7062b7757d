"""Delivery sessions against real sockets: addresses, reuse, content, results."""

import os
import socket

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from libsmx.envelope import DsnReport, ReportedRcpt
from libsmx.ids import content_path, format_ta_id
from libsmx.wire import Refusal, SessionEnd, SessionLost, Target
from smtpc.content import BLOCK, SMALL
from tests.smtpc.bench import Start, closed_port, outcomes, target
from tests.smtpc.peer import Peer


@pytest.mark.covers("X017")
async def test_message_arrives_as_stored_and_the_session_stays_open(tmp_path):
    async with Start(tmp_path) as bench:
        peer = await Peer().listen(bench.nursery)
        data = b"Subject: dots\r\n\r\n.\r\n..two\r\n.three\r\n"
        for count in (1, 2, 3):
            answer = await bench.deliver([peer], bench.envelope(data))
            assert answer.open
            assert (answer.da_sess, answer.da_ta) == (1, count)
            assert (answer.host, answer.address) == ("peer.example", "127.0.0.1")
            assert outcomes(answer) == [(0, 250, "2.0.0")]
            assert answer.attempts == []
        assert peer.sessions == 1
        stuffed = b"Subject: dots\r\n\r\n..\r\n...two\r\n..three\r\n"
        assert [m.data for m in peer.messages] == [stuffed] * 3
        assert bench.events().count("rcpt_delivered") == 3
        event = next(f for e, f in bench.log.records if e.name == "rcpt_delivered")
        assert event["delay"] == 2.0
        assert event["text"] == "250 2.0.0 taken"


@pytest.mark.parametrize("size", [0, 1, SMALL, SMALL + 1, BLOCK, BLOCK * 5 + 7])
async def test_content_of_any_size_arrives_whole(tmp_path, size):
    line = b"." + b"x" * 62 + b"\n"
    data = (line * (size // 64 + 1))[:size].replace(b"\n", b"\r\n")
    async with Start(tmp_path) as bench:
        peer = await Peer().listen(bench.nursery)
        await bench.deliver([peer], bench.envelope(data))
        end = b"" if not data or data.endswith(b"\r\n") else b"\r\n"
        stuffed = (b"\r\n" + data).replace(b"\r\n.", b"\r\n..")[2:]
        assert peer.messages[0].data == stuffed + end
        assert b"SIZE=%d" % len(data) in peer.messages[0].mail


@pytest.mark.covers("X483")
async def test_ipv6_target(tmp_path):
    async with Start(tmp_path) as bench:
        try:
            peer = await Peer().listen(bench.nursery, "::1", socket.AF_INET6)
        except OSError:
            pytest.skip("no IPv6 here")
        answer = await bench.deliver([peer])
        assert answer.address == "::1"
        assert answer.open


@pytest.mark.covers("X006", "X433")
@pytest.mark.parametrize("kind", ["unix", "inet"])
async def test_lmtp_gives_each_recipient_its_own_result(tmp_path, kind):
    async with Start(tmp_path) as bench:
        peer = Peer(lmtp=True)
        peer.replies = {
            "b@example.net": b"550 5.1.1 unknown\r\n",
            "dot": [b"250 2.0.0 a\r\n", b"552 5.2.2 c is full\r\n"],
        }
        if kind == "unix":
            await peer.listen(bench.nursery, str(tmp_path / "lmtp"), socket.AF_UNIX)
        else:
            await peer.listen(bench.nursery)
        envelope = bench.envelope(rcpts=("a", "b", "c"))
        answer = await bench.deliver([peer], envelope, lmtp=True)
        assert outcomes(answer) == [(0, 250, "2.0.0"), (1, 550, "5.1.1"), (2, 552, "5.2.2")]
        assert answer.open
        assert bench.events().count("rcpt_failed") == 2


async def test_missing_lmtp_socket_is_a_temporary_failure(tmp_path):
    async with Start(tmp_path) as bench:
        answer = await bench.deliver([Target(host="", address="", port=0)], lmtp=True)
        assert outcomes(answer) == [(0, 451, "4.4.1")]


async def test_next_address_is_tried_and_the_failed_ones_are_listed(tmp_path):
    async with Start(tmp_path) as bench:
        busy = await Peer(greeting=b"421 4.7.0 busy\r\n").listen(bench.nursery)
        rude = await Peer(greeting=b"554 5.7.1 no\r\n").listen(bench.nursery)
        deaf = await Peer(greeting=None).listen(bench.nursery)
        good = await Peer().listen(bench.nursery)
        answer = await bench.deliver([closed_port(), busy, rude, deaf, good])
        assert outcomes(answer) == [(0, 250, "2.0.0")]
        assert [a.refused for a in answer.attempts] == [True] * 4
        assert "refused" in answer.attempts[0].text
        assert "421 4.7.0 busy" in answer.attempts[1].text
        assert bench.events().count("connect_failed") == 4


async def test_all_addresses_dead_is_temporary(tmp_path):
    async with Start(tmp_path) as bench:
        answer = await bench.deliver([closed_port(), closed_port()])
        assert outcomes(answer) == [(0, 451, "4.4.1")]
        assert not answer.open
        assert len(answer.attempts) == 2


@pytest.mark.parametrize(
    ("hosts", "code"), [("55", 554), ("54", 421), ("45", 421), ("5d", 451), ("d5", 451)]
)
async def test_permanent_only_if_every_host_says_so(tmp_path, hosts, code):
    async with Start(tmp_path) as bench:
        targets = []
        for host in hosts:
            if host == "d":
                targets.append(closed_port())
            else:
                greeting = b"554 no\r\n" if host == "5" else b"421 busy\r\n"
                targets.append(await Peer(greeting=greeting).listen(bench.nursery))
        answer = await bench.deliver(targets)
        assert answer.results[0].code == code


async def test_nonsense_targets_are_a_temporary_failure(tmp_path):
    async with Start(tmp_path) as bench:
        answer = await bench.deliver([Target(host="x", address="mx.example", port=25)])
        assert outcomes(answer) == [(0, 451, "4.4.1")]
        assert outcomes(await bench.deliver([], da_sess=2)) == [(0, 451, "4.4.4")]


async def test_refusal_of_the_message_is_not_tried_elsewhere(tmp_path):
    async with Start(tmp_path) as bench:
        first = await Peer(replies={"MAIL": [b"550 5.7.1 no\r\n"]}).listen(bench.nursery)
        second = await Peer().listen(bench.nursery)
        answer = await bench.deliver([first, second])
        assert outcomes(answer) == [(0, 550, "5.7.1")]
        assert answer.open
        assert second.sessions == 0


async def test_loss_at_mail_goes_to_the_next_address_but_is_no_refusal(tmp_path):
    async with Start(tmp_path) as bench:
        first = await Peer(replies={"MAIL": [None]}).listen(bench.nursery)
        second = await Peer().listen(bench.nursery)
        answer = await bench.deliver([first, second])
        assert outcomes(answer) == [(0, 250, "2.0.0")]
        assert [a.refused for a in answer.attempts] == [False]


@pytest.mark.parametrize("how", [None, b"421 4.3.2 idle too long\r\n"])
async def test_dead_kept_session_is_replaced_without_a_trace_in_the_result(tmp_path, how):
    async with Start(tmp_path) as bench:
        peer = await Peer().listen(bench.nursery)
        await bench.deliver([peer])
        peer.replies["MAIL"] = [how]
        answer = await bench.deliver([peer])
        assert outcomes(answer) == [(0, 250, "2.0.0")]
        assert answer.open
        assert answer.attempts == []
        assert peer.sessions == 2
        assert "da_session_stale" in bench.events()


async def test_kept_session_is_replaced_once_only(tmp_path):
    async with Start(tmp_path) as bench:
        peer = await Peer().listen(bench.nursery)
        await bench.deliver([peer])
        peer.replies["MAIL"] = [None, None]
        answer = await bench.deliver([peer])
        assert outcomes(answer) == [(0, 451, "4.4.2")]
        assert not answer.open


async def test_idle_session_closed_by_the_server_is_reported(tmp_path):
    async with Start(tmp_path) as bench:
        peer = await Peer(close_after=1).listen(bench.nursery)
        assert (await bench.deliver([peer])).open
        assert await bench.qmgr.next() == SessionLost(da_sess=1)
        await bench.deliver([peer])
        assert peer.sessions == 2


async def test_lost_reply_to_the_dot_is_temporary_and_logged(tmp_path):
    async with Start(tmp_path) as bench:
        first = await Peer(replies={"dot": [None]}).listen(bench.nursery)
        second = await Peer().listen(bench.nursery)
        answer = await bench.deliver([first, second])
        assert outcomes(answer) == [(0, 451, "4.4.2")]
        assert "after end of data" in answer.results[0].text
        assert second.sessions == 0
        assert "outcome_unknown" in bench.events()


@pytest.mark.covers("X432")
@pytest.mark.parametrize("phase", ["greeting", "EHLO", "MAIL", "DATA", "dot"])
async def test_silence_ends_after_io_timeout(tmp_path, phase):
    async with Start(tmp_path, io_timeout_s=0.05) as bench:
        peer = await Peer(replies={phase: [...]}).listen(bench.nursery)
        answer = await bench.deliver([peer])
        assert outcomes(answer) == [(0, 451, "4.4.2")]
        assert "time-out" in answer.results[0].text
        assert not answer.open


async def test_transaction_as_a_whole_has_an_end(tmp_path, monkeypatch):
    monkeypatch.setattr("smtpc.job.LONGEST_S", 0.05)
    async with Start(tmp_path) as bench:
        peer = await Peer(replies={"dot": [...]}).listen(bench.nursery)
        assert outcomes(await bench.deliver([peer])) == [(0, 451, "4.4.2")]


async def test_server_that_stops_reading_a_large_message_times_out(tmp_path):
    async with Start(tmp_path, io_timeout_s=0.1) as bench:

        class Stuck(Peer):
            async def _read_until(self, sock, end):
                if end == b"\r\n.\r\n":
                    await trio.sleep_forever()
                return await super()._read_until(sock, end)

        peer = await Stuck().listen(bench.nursery)
        answer = await bench.deliver([peer], bench.envelope((b"x" * 998 + b"\r\n") * 16_000))
        assert outcomes(answer) == [(0, 451, "4.4.2")]
        assert "to take the message" in answer.results[0].text


async def test_refusal_in_the_middle_of_a_large_message_is_heard(tmp_path):
    async with Start(tmp_path) as bench:

        class Early(Peer):
            async def _read_until(self, sock, end):
                if end == b"\r\n.\r\n":
                    await sock.recv(1000)
                    await self._say(sock, "early", b"552 5.3.4 that is too much\r\n")
                    await sock.recv(100000)
                    raise EOFError
                return await super()._read_until(sock, end)

        peer = await Early().listen(bench.nursery)
        answer = await bench.deliver([peer], bench.envelope(b"line\r\n" * 5_000_000))
        assert outcomes(answer) == [(0, 552, "5.3.4")]


async def test_content_shorter_than_its_envelope_is_never_sent(tmp_path):
    async with Start(tmp_path) as bench:
        peer = await Peer().listen(bench.nursery)
        envelope = attrs.evolve(bench.envelope(), size=10_000)
        answer = await bench.deliver([peer], envelope)
        assert outcomes(answer) == [(0, 451, "4.3.0")]
        assert peer.sessions == 0
        assert "content_bad" in bench.events()


async def test_missing_content_leaves_an_open_session_open(tmp_path):
    async with Start(tmp_path) as bench:
        peer = await Peer().listen(bench.nursery)
        await bench.deliver([peer])
        envelope = bench.envelope()
        os.unlink(bench.base + content_path(envelope.cdb_id))
        answer = await bench.deliver([peer], envelope)
        assert outcomes(answer) == [(0, 451, "4.3.0")]
        assert answer.open
        assert (await bench.deliver([peer])).results[0].code == 250
        assert peer.sessions == 1


async def test_large_content_cut_while_it_is_sent_is_not_ended(tmp_path):
    async with Start(tmp_path) as bench:
        envelope = bench.envelope(b"line\r\n" * 500_000)
        path = bench.base + content_path(envelope.cdb_id)

        class Cutter(Peer):
            async def _say(self, sock, verb, default):
                if verb == "DATA":
                    os.truncate(path, 1_000_000)
                return await super()._say(sock, verb, default)

        peer = await Cutter().listen(bench.nursery)
        answer = await bench.deliver([peer], envelope)
        assert outcomes(answer) == [(0, 451, "4.3.0")]
        assert peer.messages == []


def report(bench, data=b"Subject: orig\r\n\r\n\xe4\r\n"):
    dsn = DsnReport(
        ta_id=format_ta_id(7, 1), sender="s@example.org", received_at=1.7e9,
        reporter="mx.example",
        rcpts=[ReportedRcpt(address="x@example.net", status="5.1.1", text="550 no", remote="r")],
    )  # fmt: skip
    return attrs.evolve(bench.envelope(data), sender="", size=0, dsn=dsn)


async def test_report_is_composed_around_the_original(tmp_path):
    async with Start(tmp_path) as bench:
        peer = await Peer().listen(bench.nursery)
        await bench.deliver([peer], report(bench))
        message = peer.messages[0]
        assert message.mail.startswith(b"MAIL FROM:<> SIZE=")
        assert message.mail.endswith(b" BODY=8BITMIME")
        assert b"multipart/report" in message.data
        assert b"Subject: orig\r\n\r\n\xe4\r\n" in message.data
        assert f"SIZE={len(message.data)} ".encode() in message.mail


async def test_report_goes_out_without_an_original_that_is_gone(tmp_path):
    async with Start(tmp_path) as bench:
        peer = await Peer().listen(bench.nursery)
        envelope = report(bench)
        os.unlink(bench.base + content_path(envelope.cdb_id))
        answer = await bench.deliver([peer], envelope)
        assert outcomes(answer) == [(0, 250, "2.0.0")]
        assert b"not available any more" in peer.messages[0].data


async def test_session_end_says_quit(tmp_path):
    async with Start(tmp_path) as bench:
        peer = await Peer().listen(bench.nursery)
        await bench.deliver([peer])
        bench.dispatcher.handle(bench.qmgr, SessionEnd(da_sess=1), 0)
        bench.dispatcher.handle(bench.qmgr, SessionEnd(da_sess=99), 0)
        await bench.deliver([peer])
        assert peer.sessions == 2
        bench.dispatcher.stop()
        await bench.dispatcher.drained()
        assert peer.quits == 2
        assert bench.qmgr.posted == []


async def test_stop_lets_a_transaction_finish_and_takes_no_other(tmp_path):
    async with Start(tmp_path) as bench:
        gate = trio.Event()

        class Gated(Peer):
            async def _say(self, sock, verb, default):
                if verb == "dot":
                    await gate.wait()
                return await super()._say(sock, verb, default)

        peer = await Gated().listen(bench.nursery)
        bench.order([peer])
        while not peer.messages:
            await wait_all_tasks_blocked(0.01)
        bench.dispatcher.stop()
        bench.order([peer], da_sess=2)
        assert isinstance(await bench.qmgr.next(), Refusal)
        gate.set()
        answer = await bench.qmgr.next()
        assert outcomes(answer) == [(0, 250, "2.0.0")]
        assert not answer.open
        await bench.dispatcher.drained()
        assert peer.quits == 1


async def test_more_orders_than_sessions_are_refused(tmp_path):
    async with Start(tmp_path, capacity=1) as bench:
        peer = await Peer(replies={"greeting": [...]}).listen(bench.nursery)
        bench.order([peer], da_sess=1)
        bench.order([peer], da_sess=2)
        refusal = await bench.qmgr.next()
        assert (refusal.code, refusal.status) == (451, "4.3.2")
        bench.order([peer], da_sess=1)
        assert "busy" in (await bench.qmgr.next()).text
        bench.order([peer], attrs.evolve(bench.envelope(), rcpts=[]), da_sess=3)
        assert isinstance(await bench.qmgr.next(), Refusal)


async def test_lost_queue_manager_closes_idle_sessions_and_drops_late_results(tmp_path):
    async with Start(tmp_path) as bench:
        gate = trio.Event()

        class Gated(Peer):
            async def _say(self, sock, verb, default):
                if verb == "dot" and len(self.messages) > 1:
                    await gate.wait()
                return await super()._say(sock, verb, default)

        peer = await Gated().listen(bench.nursery)
        await bench.deliver([peer], da_sess=1)
        bench.order([peer], da_sess=2)
        while len(peer.messages) < 2:
            await wait_all_tasks_blocked(0.01)
        bench.qmgr.closed = True
        bench.dispatcher.lost(bench.qmgr)
        # the next queue manager may use the same numbers at once
        bench.dispatcher.opened(bench.qmgr)
        other = await Peer().listen(bench.nursery)
        assert (await bench.deliver([other], da_sess=2)).open
        gate.set()
        while peer.quits < 2:
            await wait_all_tasks_blocked(0.01)
        assert "result_dropped" in bench.events()
        bench.qmgr.posted.clear()
        await bench.deliver([other], da_sess=2)
        assert other.sessions == 1


async def test_the_other_family_of_a_host_is_tried_before_the_next_host(tmp_path):
    async with Start(tmp_path, prefer="inet") as bench:
        try:
            peer = await Peer().listen(bench.nursery, "::1", socket.AF_INET6)
        except OSError:
            pytest.skip("no IPv6 here")
        other = await Peer().listen(bench.nursery)
        six = target(peer)
        four = attrs.evolve(six, address="127.0.0.66")  # nobody listens there
        answer = await bench.deliver([six, four, target(other)])
        assert answer.address == "::1"
        assert [one.address for one in answer.attempts] == ["127.0.0.66"]
        assert other.sessions == 0
