"""Content filters: a filter whose answers the test writes down, before the whole server shell."""

import contextlib

import pytest
import trio

from libsmx.opt_smtps_parts import MilterConf, MilterSocket, PolicyMilterConf
from libsmx.wire import TaCommit
from tests.milterfilter import (
    GO,
    HANG_UP,
    STALL,
    ScriptedFilter,
    change,
    header,
    hello,
    insert,
    packet,
    text,
)
from tests.smtps.siblings import Siblings
from tests.smtps.test_conn import connected

BEGIN = b"EHLO c.test\r\nMAIL FROM:<s@a.test>\r\nRCPT TO:<r@b.test>\r\n"
CONTENT = b"Subject: one\r\nX-Old: a\r\n\tb\r\nX-Old: c\r\n\r\n.body\r\n"
MESSAGE = BEGIN + b"DATA\r\n" + CONTENT.replace(b"\r\n.", b"\r\n..") + b".\r\n"
END = b"\r\n354 "


@contextlib.asynccontextmanager
async def system(tmp_path, *filters, wait=True, **more):
    """A server with scripted filters; gives siblings and the client's end."""
    confs = []
    for number, (answers, options) in enumerate(filters):
        path = str(tmp_path / f"f{number}")
        scripted = ScriptedFilter(answers).listen(path)
        sock = MilterSocket(type="unix", path=path)
        confs.append((scripted, MilterConf(name=f"f{number}", socket=sock, **options)))
    siblings = Siblings(tmp_path)
    options = {"milter": tuple(conf for _, conf in confs), **more}
    try:
        async with siblings.surroundings(**options) as around:
            async with connected(around, wait=wait) as (peer, _):
                yield siblings, peer, [scripted for scripted, _ in confs]
    finally:
        for scripted, _ in confs:
            scripted.close()


async def deliver(peer):
    """Send one message; return the reply to its end."""
    await peer.say(MESSAGE)
    await peer.expect(END)
    await peer.expect(b"\r\n")
    return await peer.expect(b"\r\n")


def stored(siblings):
    """Content of the one message that was committed, from our field on, and its envelope."""
    (commit,) = siblings.got(TaCommit)
    (content,) = siblings.contents().values()
    assert list(siblings.contents()) == [commit.envelope.cdb_id]
    assert commit.envelope.size == len(content)
    return content, commit.envelope


async def test_filter_that_says_go_on_sees_every_stage_and_changes_nothing(tmp_path):
    async with system(tmp_path, ({}, {})) as (siblings, peer, (one,)):
        assert (await deliver(peer)).startswith("250 2.0.0 S")
        content, envelope = stored(siblings)
        assert content.endswith(b"+0000\r\n" + CONTENT)
        assert envelope.ta_id == envelope.cdb_id
        assert one.stages() == [
            "hello", "connect", "helo", "mail", "rcpt", "data",
            "header", "header", "header", "eoh", "body", "end",
        ]  # fmt: skip
        assert one.words("connect")[0][0] == "[192.0.2.9]"
        assert one.words("mail") == [["<s@a.test>"]]
        assert one.words("rcpt") == [["<r@b.test>"]]
        # Without leading space: the blank behind the colon is the server's business.
        assert one.words("header") == [["Subject", "one"], ["X-Old", "a\n\tb"], ["X-Old", "c"]]
        assert dict(one.seen)["body"] == b".body\r\n"
        macros = [data.decode().split("\0") for stage, data in one.seen if stage == "macro"]
        assert ["Ei", envelope.ta_id, ""] in macros
        assert any(words[:2] == ["Cj", "mx.test"] for words in macros)
        assert any("{rcpt_addr}" in " ".join(words) for words in macros)


async def test_every_change_is_in_the_content_and_the_envelope_before_the_commit(tmp_path):
    changes = (
        header("X-New", "last")
        + insert(1, "X-First", "below ours")
        + change(2, "x-old", "changed")
        + change(1, "X-Old", "")
        + change(9, "X-Many", "added")
        + packet("b", b"new\nbody\r")
        + packet("b", b"\n.\r\nend")
        + text("+", "<t@c.test>")
        + text("+", "<r2@c.test>")
        + text("-", "<r@b.test>")
        + text("e", "<new@a.test>")
        + text("q", "looks odd")
        + packet("p")
        + GO
    )
    async with system(tmp_path, ({"end": changes}, {})) as (siblings, peer, _):
        assert (await deliver(peer)).startswith("250 2.0.0 S")
        content, envelope = stored(siblings)
        ours, _, rest = content.partition(b"+0000\r\n")
        assert ours.startswith(b"Received: ")
        assert rest == (
            b"X-First: below ours\r\nSubject: one\r\nX-Old: changed\r\nX-New: last\r\n"
            b"X-Many: added\r\n\r\nnew\r\nbody\r\n.\r\nend"
        )
        assert envelope.sender == "new@a.test"
        assert [(one.idx, one.address) for one in envelope.rcpts] == [
            (0, "t@c.test"), (1, "r2@c.test"),
        ]  # fmt: skip
        assert envelope.hold == "looks odd"
        assert envelope.ta_id == envelope.cdb_id


async def test_a_filter_sees_what_those_before_it_made(tmp_path):
    first = {"end": header("X-One", "1") + change(1, "Subject", "two") + packet("b", b"b") + GO}
    async with system(tmp_path, (first, {}), ({}, {})) as (siblings, peer, (_, two)):
        await deliver(peer)
        assert two.words("header")[0] == ["Subject", "two"]
        assert two.words("header")[-1] == ["X-One", "1"]
        assert dict(two.seen)["body"] == b"b"
        assert stored(siblings)[0].endswith(b"X-One: 1\r\n\r\nb")


@pytest.mark.parametrize(("stage", "answer", "reply"), [
    ("mail", packet("r"), "550 5.7.1"),
    ("mail", packet("t"), "451 4.7.1"),
    ("rcpt", text("y", "550 5.1.1 no %%such user"), "550 5.1.1 no %such user"),
    ("data", packet("r"), "554 5.7.1"),
    ("header", packet("r"), "554 5.7.1"),
    ("eoh", packet("t"), "451 4.7.1"),
    ("body", text("y", "451 come later"), "451 4.7.1 come later"),
    ("end", packet("r"), "554 5.7.1"),
    ("end", text("y", "554-5.6.0 one\r\n554 5.6.0 two"), "554-5.6.0 one"),
    ("end", text("y", "421 4.3.0 away"), "421 4.3.0 away"),
    ("helo", packet("r"), "550 5.7.1"),
])  # fmt: skip
async def test_refusals_reach_the_client_at_their_stage(tmp_path, stage, answer, reply):
    async with system(tmp_path, ({stage: [answer, GO]}, {})) as (siblings, peer, (one,)):
        await peer.say(MESSAGE + b"QUIT\r\n")
        said = await peer.rest()
        assert f"\r\n{reply}" in f"\r\n{said}"
        assert not siblings.got(TaCommit)
        assert siblings.contents() == {}
        assert one.sessions == 1


@pytest.mark.parametrize("answer", [packet("r"), text("y", "554 5.7.1 go away")])
async def test_filter_turns_a_client_away(tmp_path, answer):
    async with system(tmp_path, ({"connect": answer}, {}), wait=False) as (_, peer, _):
        assert (await peer.rest()).startswith("554 5.7.1 ")


@pytest.mark.parametrize("stage", ["mail", "rcpt", "data", "header", "body", "end"])
async def test_discarded_message_is_taken_and_dropped(tmp_path, stage):
    async with system(tmp_path, ({stage: packet("d")}, {})) as (siblings, peer, _):
        assert (await deliver(peer)).startswith("250 2.0.0 S")
        assert not siblings.got(TaCommit)
        assert siblings.contents() == {}


async def test_filter_is_spared_what_it_does_not_want(tmp_path):
    # No connect, helo, mail, body, eoh; no answers to header and rcpt; skip and leading space.
    spared = 0x1 | 0x2 | 0x4 | 0x10 | 0x40 | 0x80 | 0x8000 | 0x100000
    answers = {"hello": hello(protocol=spared), "header": b"", "rcpt": b""}
    async with system(tmp_path, (answers, {})) as (siblings, peer, (one,)):
        assert (await deliver(peer)).startswith("250 ")
        assert one.stages() == ["hello", "rcpt", "data", "header", "header", "header", "end"]
        assert one.words("header")[0] == ["Subject", " one"]
        assert len(siblings.got(TaCommit)) == 1


async def test_accept_ends_the_stages_of_the_message_or_of_the_session(tmp_path):
    answers = {"mail": [packet("a"), GO]}
    async with system(tmp_path, (answers, {}), ({"helo": packet("a")}, {})) as (
        siblings, peer, (one, two),
    ):  # fmt: skip
        await deliver(peer)
        await deliver(peer)
        assert one.stages()[:5] == ["hello", "connect", "helo", "mail", "helo"]
        assert one.stages().count("end") == 1
        assert two.stages() == ["hello", "connect", "helo"]
        assert len(siblings.got(TaCommit)) == 2


async def test_skip_ends_the_body_only(tmp_path):
    answers = {"hello": hello(protocol=0x400), "body": packet("s")}
    large = BEGIN + b"DATA\r\nA: b\r\n\r\n" + b"0123456789abcdef\r\n" * 20_000 + b".\r\n"
    async with system(tmp_path, (answers, {})) as (siblings, peer, (one,)):
        await peer.say(large)
        await peer.expect(b"accepted\r\n")
        assert one.stages().count("body") == 1
        assert one.stages()[-1] == "end"
        assert len(siblings.got(TaCommit)) == 1


async def test_reset_tells_the_filter_to_forget(tmp_path):
    async with system(tmp_path, ({}, {})) as (_, peer, (one,)):
        await peer.say(BEGIN + b"RSET\r\n")
        await peer.expect(b"250 2.0.0 Ok\r\n")
        await deliver(peer)
        await peer.say(b"QUIT\r\n")
        await peer.rest()
        with trio.fail_after(60):
            while "quit" not in one.stages():
                await trio.sleep(0.01)
        assert one.stages().count("abort") == 1


# --- what a hostile or broken filter does ----------------------------------------------------

BAD = [
    ("hello", packet("O", b"\0\0\0\6")),
    ("hello", hello(version=9)),
    ("hello", hello(protocol=1 << 30)),
    ("hello", HANG_UP),
    ("connect", packet("d")),
    ("mail", b"\xff\xff\xff\xffxx"),
    ("mail", b"\0\0\0\0"),
    ("mail", packet("h", b"X\0y\0")),
    ("mail", packet("Z")),
    ("rcpt", text("y", "250 fine")),
    ("rcpt", HANG_UP),
    ("header", packet("s")),
    ("body", HANG_UP),
    ("end", HANG_UP),
    ("end", packet("b", b"x" * 1_000_000) * 3 + GO),
    ("end", header("X", "y") * 10_001 + GO),
]


@pytest.mark.parametrize(("stage", "answer"), BAD)
@pytest.mark.parametrize(("on_failure", "reply"), [
    ("accept", "250 2.0.0 S"), ("tempfail", "451 4.7.1"), ("reject", "550 5.7.1"),
    ("quarantine", "250 2.0.0 S"),
])  # fmt: skip
async def test_broken_filter_costs_what_its_option_says(tmp_path, stage, answer, on_failure, reply):
    options = {"on_failure": on_failure}
    async with system(tmp_path, ({stage: answer}, options), max_message_size=1024) as (
        siblings, peer, _,
    ):  # fmt: skip
        await peer.say(MESSAGE + b"QUIT\r\n")
        said = await peer.rest()
        assert f"\r\n{reply}" in said
        assert len(siblings.contents()) == len(siblings.got(TaCommit)) == reply.startswith("250")
        if reply.startswith("250"):
            content, envelope = stored(siblings)
            assert content.endswith(b"+0000\r\n" + CONTENT)
            assert bool(envelope.hold) == (on_failure == "quarantine")


@pytest.mark.parametrize("stage", ["hello", "mail", "end"])
async def test_silent_filter_is_given_up_in_time(tmp_path, stage):
    options = {"reply_timeout": 1, "end_timeout": 1}
    async with system(tmp_path, ({stage: STALL}, options)) as (_, peer, _):
        await peer.say(MESSAGE + b"QUIT\r\n")
        assert "\r\n451 4.7.1" in await peer.rest()


async def test_changes_that_are_not_allowed_or_make_no_sense_are_left_out(tmp_path):
    changes = (
        text("+", "<t@c.test>")
        + text("e", "nonsense")
        + header("Bad Name", "x")
        + header("X-Lines", "a\r\n\r\nSubject: evil\nb\0c")
        + packet("m", b"\0")
        + GO
    )
    options = {"changes": frozenset({"header", "sender"})}
    async with system(tmp_path, ({"hello": hello(0x51), "end": changes}, options)) as (
        siblings, peer, _,
    ):  # fmt: skip
        assert (await deliver(peer)).startswith("250 ")
        content, envelope = stored(siblings)
        assert [one.address for one in envelope.rcpts] == ["r@b.test"]
        assert envelope.sender == "s@a.test"
        assert content.endswith(
            b"X-Old: c\r\nX-Lines: a\r\n\tSubject: evil\r\n\tb\r\n\r\n.body\r\n"
        )
        assert "filter_odd" in [event.name for event, _ in siblings.log.records]


@pytest.mark.covers("X390", "X391", "X392")
@pytest.mark.parametrize(("flags", "reply"), [
    (frozenset(), "220 "), (frozenset({"accept_but_reconnect"}), "220 "),
    (frozenset({"abort"}), "421 4.3.0"),
])  # fmt: skip
async def test_policy_filter_that_is_away(tmp_path, flags, reply):
    path = str(tmp_path / "policy")
    conf = PolicyMilterConf(socket=MilterSocket(type="unix", path=path), flags=flags)
    siblings = Siblings(tmp_path)
    async with siblings.surroundings(policy_milter=(conf,)) as around:
        async with connected(around, wait=False) as (peer, _):
            assert (await peer.expect(b"\r\n")).startswith(reply)
            if reply == "220 ":
                assert (await deliver(peer)).startswith("250 2.0.0 S")
        # The next session finds it again.
        scripted = ScriptedFilter({"rcpt": packet("r")}).listen(path)
        try:
            async with connected(around, wait=False) as (peer, _):
                await peer.say(BEGIN + b"QUIT\r\n")
                assert "\r\n550 5.7.1" in await peer.rest()
        finally:
            scripted.close()


@pytest.mark.covers("X386", "X387", "X388", "X389")
@pytest.mark.parametrize("kind", ["inet", "unix"])
@pytest.mark.parametrize(("answers", "timeout", "reply"), [
    ({"end": packet("r")}, 300, "554 5.7.1 "), ({"hello": STALL}, 1, "250 2.0.0 S"),
])  # fmt: skip
async def test_policy_filter_on_either_kind_of_socket(tmp_path, kind, answers, timeout, reply):
    scripted = ScriptedFilter(answers)
    if kind == "inet":
        scripted.listen(("127.0.0.1", 0))
        sock = MilterSocket(port=scripted.port, address="127.0.0.1")
    else:
        scripted.listen(str(tmp_path / "policy"))
        sock = MilterSocket(type="unix", path=str(tmp_path / "policy"))
    conf = PolicyMilterConf(socket=sock, timeout=timeout)
    siblings = Siblings(tmp_path)
    try:
        async with siblings.surroundings(policy_milter=(conf,)) as around:
            async with connected(around) as (peer, _):
                assert (await deliver(peer)).startswith(reply)
    finally:
        scripted.close()
