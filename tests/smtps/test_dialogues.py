"""The dialogues of the core over sockets, and any command in any state with everything on."""

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from libsmx.reply import Reply
from libsmx.wire import ConnVerdict, Verdict
from smtps.effects import Inspected, Said
from smtps.session import State
from tests.smtps.client import FULL, UNKNOWN_USER, Client, World
from tests.smtps.siblings import Siblings
from tests.smtps.test_conn import connected
from tests.smtps.test_extensions import CHUNKS
from tests.smtps.test_session import DIALOGUES

ENDING = ("421", "221")


async def codes_of(around, said):
    """Say something and hang up; return the codes of the replies."""
    async with connected(around) as (peer, _):
        try:
            await peer.say(said.encode())
            peer.sock.shutdown(trio.socket.SHUT_WR)
        except OSError:
            pass  # it had enough before
        lines = (await peer.rest()).splitlines()
    return " ".join(line[:3] for line in lines if line[3:4] == " ")


async def test_dialogues_are_the_same_over_sockets(tmp_path):
    siblings = Siblings(tmp_path)
    async with siblings.surroundings() as around:
        for said, codes in (*DIALOGUES, *CHUNKS):
            with trio.fail_after(60):
                assert await codes_of(around, said) == codes, said


# --- any command in any state --------------------------------------------------------------

NO = Said(Reply(550, "5.7.1", "no"))
LATER = Said(Reply(421, "4.7.1", "away"))
DROP = Said(discard=True)
COMMANDS = [
    b"EHLO c.test\r\n", b"HELO x\r\n", b"MAIL FROM:<s@a.test>\r\n", b"MAIL FROM:<>\r\n",
    b"MAIL FROM:<spam@a.test>\r\n", b"RCPT TO:<r@b.test>\r\n", b"RCPT TO:<x@b.test>\r\n",
    b"RCPT TO:<grey@b.test>\r\n", b"RCPT TO:<drop@b.test>\r\n", b"RCPT TO:<quick@b.test>\r\n",
    b"DATA\r\n", b".\r\n", b"Subject: x\r\n", b"BDAT 4\r\nab\r\n", b"BDAT 4 LAST\r\nab\r\n",
    b"BDAT 0 LAST\r\n", b"BDAT 2\r\na\r", b"RSET\r\n", b"NOOP\r\n", b"VRFY r@b.test\r\n",
    b"XCLIENT ADDR=203.0.113.5\r\n", b"QUIT\r\n", b"FOO\r\n", b"x\ny\r\n", b"STARTTLS\r\n",
]  # fmt: skip
CONNECT = [
    ConnVerdict(accept=True), ConnVerdict(accept=True, mark="quick:relay"),
    ConnVerdict(accept=True, discard=True),
    ConnVerdict(accept=False, code=550, status="5.7.1", text="no"), None,
]  # fmt: skip
RCPTS = {
    "x@b.test": UNKNOWN_USER,
    "grey@b.test": Verdict(accept=False, code=451, status="4.7.1", text="later", greylisted=True),
    "drop@b.test": Verdict(accept=True, discard=True),
    "quick@b.test": Verdict(accept=True, mark="quick:ok"),
}
MAILS = {"spam@a.test": Verdict(accept=False, code=551, status="5.7.1", text="no")}
STEPS = st.dictionaries(
    st.sampled_from([("connect", "[192.0.2.9]"), ("helo", "c.test"), ("mail", "<s@a.test>"),
                     ("rcpt", "<r@b.test>"), ("data",)]),
    st.sampled_from([NO, LATER, DROP, Said()]), max_size=3,
)  # fmt: skip
INSPECTED = st.sampled_from([
    Inspected(Said()), Inspected(NO), Inspected(LATER), Inspected(DROP),
    Inspected(Said(), hold="odd"), Inspected(Said(), deleted=frozenset({"r@b.test"})),
    Inspected(Said(), sender="n@a.test", added=("n@b.test",)),
])  # fmt: skip
FLAGS = ("access", "delay_checks", "delay_greylisting_error_until_data", "soft_bounce")


@settings(max_examples=200)
@given(
    st.lists(st.sampled_from(COMMANDS), max_size=30),
    st.sampled_from(CONNECT),
    st.sets(st.sampled_from(FLAGS)),
    st.booleans(),
    STEPS,
    INSPECTED,
    st.sampled_from([1, 3, 1000]),
    st.booleans(),
)
def test_any_command_in_any_state(said, conn, flags, filtered, steps, inspected, join, full):
    """No order of commands raises, loses a reply, or leaves content that nobody committed."""
    world = World(mail=MAILS, rcpt=RCPTS, conn=conn, steps=steps, inspected=inspected)
    if full:
        world.room = FULL
    client = Client(
        world=world,
        flags=frozenset({"8bitmime", *flags}),
        milter=("one",) if filtered else (),
        commands=frozenset({"vrfy"}),
        xclient_clients=(),
    )
    for at in range(0, len(said), join):
        client.talk(b"".join(said[at : at + join]))
        if not client.closed:
            assert client.session.state in {State.COMMAND, State.DATA, State.CHUNK}
            assert not client.session.dialogue.group
            assert not client.session.dialogue.out
    client._perform(client.session.lost("end"))
    assert client.session.state is State.CLOSED
    assert set(client.files) == {envelope.cdb_id for envelope in client.envelopes}
    for envelope in client.envelopes:
        assert envelope.rcpts
        assert [rcpt.idx for rcpt in envelope.rcpts] == list(range(len(envelope.rcpts)))
    # Whatever filters heard of, they were told to forget or saw the end of.
    assert not client.session.dialogue.heard


@pytest.mark.parametrize("filtered", [False, True])
def test_commands_cut_anywhere_bring_the_same_messages(filtered):
    said = b"".join(
        COMMANDS[:6] + COMMANDS[10:14] + COMMANDS[2:3] + COMMANDS[5:6] + COMMANDS[13:17]
    )
    results = set()
    for step in (1, 2, 5, 31, 4096):
        client = Client(milter=("one",) if filtered else (), commands=frozenset({"vrfy"}))
        for at in range(0, len(said), step):
            client.talk(said[at : at + step])
        results.add((len(client.envelopes), tuple(sorted(client.files.values()))))
    assert len(results) == 1
