"""Servers that send what no server should: each fault is named, bounded, and costs one session."""

import pytest

from tests.smtpc.bench import Start, outcomes
from tests.smtpc.peer import Peer

FLOOD = b"250-more\r\n" * 100_000
LONG = b"250 " + b"x" * 500_000


@pytest.mark.parametrize(
    ("where", "what", "said"),
    [
        ("greeting", b"220-x\r\n" * 100_000, "reply longer than"),
        ("greeting", LONG, "reply line longer than"),
        ("greeting", b"HTTP/1.1 400 Bad Request\r\n", "no SMTP reply: HTTP/1.1 400"),
        ("greeting", b"220-one\r\n221 two\r\n", "begins with code 220 and goes on with 221"),
        ("EHLO", FLOOD, "reply longer than"),
        ("EHLO", b"250 x\r\n250 y\r\n", "unsolicited reply"),
        ("EHLO", b"354 go\r\n", "unexpected reply 354 go"),
        ("MAIL", LONG, "reply line longer than"),
        ("MAIL", b"\x00\x01\xff\r\n", "no SMTP reply: ???"),
        ("MAIL", b"334 VXNlcm5hbWU6\r\n", "unexpected reply 334"),
        ("RCPT", b"354 go\r\n", "unexpected reply 354"),
        ("DATA", b"250 thanks\r\n", "unexpected reply 250 thanks"),
        ("dot", FLOOD, "reply longer than"),
        ("dot", b"354 once more\r\n", "unexpected reply 354"),
    ],
)
async def test_nonsense_is_named_and_the_mail_is_kept(tmp_path, where, what, said):
    async with Start(tmp_path) as bench:
        peer = Peer(ehlo=b"250 peer\r\n")
        if where == "greeting":
            peer.greeting = what
        else:
            peer.replies[where] = [what]
        if where == "RCPT":
            peer.replies = {"a@example.net": what}
        await peer.listen(bench.nursery)
        answer = await bench.deliver([peer])
        assert [code for _, code, _ in outcomes(answer)] == [451]
        assert said in answer.results[0].text
        assert len(answer.results[0].text) <= 1000
        assert not answer.open
        assert answer.unknown == (where == "dot")


async def test_a_flood_behind_the_last_reply_takes_nothing_back(tmp_path):
    async with Start(tmp_path) as bench:
        peer = Peer()
        peer.replies["dot"] = [b"250 2.0.0 taken\r\n" + FLOOD]
        await peer.listen(bench.nursery)
        answer = await bench.deliver([peer])
        assert outcomes(answer) == [(0, 250, "2.0.0")]
        # it is noticed at once or when the next message wants the session
        answer = await bench.deliver([peer], da_sess=2)
        assert outcomes(answer) == [(0, 250, "2.0.0")]


@pytest.mark.parametrize("reply", [b"421 4.3.2 bye\r\n", None])
@pytest.mark.parametrize("where", ["greeting", "EHLO", "MAIL", "DATA", "dot"])
async def test_a_server_that_goes_away_at_any_point_leaves_one_result(tmp_path, where, reply):
    async with Start(tmp_path) as bench:
        peer = Peer(ehlo=b"250 peer\r\n")
        if where == "greeting":
            peer.greeting = reply
        else:
            peer.replies[where] = [reply]
        await peer.listen(bench.nursery)
        answer = await bench.deliver([peer])
        ((_, code, status),) = outcomes(answer)
        assert (code, status) == ((421, "4.3.2") if reply else (451, "4.4.2"))
        assert not answer.open
        # 421 is an answer: the server did not take the message
        assert answer.unknown == (where == "dot" and reply is None)
        assert bench.events().count("outcome_unknown") == answer.unknown
