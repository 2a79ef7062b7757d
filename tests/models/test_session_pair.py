"""Our client machine against our server machine, through a pipe that cuts anywhere."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libsmx.envelope import Recipient
from libsmx.lines import DotStuffer
from libsmx.tlsfacts import TlsFacts
from smtpc.effects import Close, Done, Send, SendContent, StartTls, Transaction
from smtpc.plan import Plan
from smtpc.session import Session
from smtpc.tlspolicy import Level, Secured, TlsPolicy
from tests.smtps.client import UNKNOWN_USER, World, make_policy
from tests.smtps.client import Client as Server

TLS = TlsFacts(version="TLSv1.3", cipher="C", bits=256)
BAD = [f"bad{i}@b.test" for i in range(4)]


class Pair:
    """Both machines and the bytes between them, in pieces of the drawn sizes."""

    def __init__(self, sizes, cut_after, block, tls):
        policy = make_policy()
        policy.tls_ready = tls
        world = World(rcpt=dict.fromkeys(BAD, UNKNOWN_USER), tls=TLS)
        self.server = Server(world, policy=policy)
        self.client = Session(Plan("client.test", starttls=True))
        self.sizes = sizes
        self.at = 0
        self.left = cut_after
        self.block = block
        self.to_server = b""
        self.to_client = self.server.greeting.encode()
        self.content = b""
        self.done = []
        self.closed = False

    def piece(self):
        size = self.sizes[self.at % len(self.sizes)]
        self.at += 1
        return size

    def obey(self, effects):
        for effect in effects:
            match effect:
                case Send(data):
                    self.to_server += data
                case SendContent(chunk=True):
                    self.to_server += b"BDAT %d LAST\r\n" % len(self.content) + self.content
                    self.client.content_sent()
                case SendContent():
                    stuffer = DotStuffer()
                    for at in range(0, len(self.content), self.block):
                        self.to_server += stuffer.encode(self.content[at : at + self.block])
                    self.to_server += stuffer.end()
                    self.client.content_sent()
                case StartTls():
                    # TLS itself is no matter of the machines: they are told when it stands
                    assert not self.to_client
                    self.obey(self.client.secured(Secured(TLS, "mx.test")))
                case Done():
                    self.done.append(effect)
                case Close():
                    self.closed = True

    def run(self, ta, content):
        """Carry one transaction as far as it goes; return its end."""
        self.content = content
        before = len(self.done)
        self.obey(self.client.start(ta))
        while len(self.done) == before:
            size = self.piece()
            self.left -= size
            if self.left < 0:
                self.obey(self.client.lost("connection cut"))
            elif self.to_client:
                data, self.to_client = self.to_client[:size], self.to_client[size:]
                self.obey(self.client.receive(data))
            elif self.to_server:
                data, self.to_server = self.to_server[:size], self.to_server[size:]
                self.to_client += self.server.talk(data).encode()
            else:
                pytest.fail("both sides wait for each other")
        return self.done[-1]


CONTENT = st.lists(
    st.sampled_from([b"", b".", b"..", b".x", b"x.", b"line", b"\x00\xff", b"y" * 300]), max_size=12
).map(lambda lines: b"".join(line + b"\r\n" for line in lines))
RCPTS = st.lists(
    st.sampled_from([*BAD, "a@b.test", "c@b.test", "d@b.test"]), min_size=1, max_size=6
)


@settings(deadline=None)
@given(
    st.lists(st.tuples(RCPTS, CONTENT), min_size=1, max_size=4),
    st.lists(st.sampled_from([1, 2, 3, 5, 17, 400, 5000]), min_size=1, max_size=8),
    st.one_of(st.just(10**9), st.integers(0, 3000)),
    st.sampled_from([1, 2, 7, 4096]),
    st.booleans(),
)
def test_what_the_client_calls_delivered_is_what_the_server_took(
    mails, sizes, cut_after, block, tls
):
    pair = Pair(sizes, cut_after, block, tls)
    for rcpts, content in mails:
        taken = len(pair.server.envelopes)
        ta = Transaction(
            sender="s@a.test",
            rcpts=[Recipient(idx=i, address=rcpt) for i, rcpt in enumerate(rcpts)],
            size=len(content),
            body8=True,
            policies=(TlsPolicy(Level.ENCRYPT),) * len(rcpts) if tls else (),
        )
        done = pair.run(ta, content)
        assert [result.idx for result in done.results] == list(range(len(rcpts)))
        delivered = [rcpts[r.idx] for r in done.results if r.code // 100 == 2]
        failed = [rcpts[r.idx] for r in done.results if r.code // 100 == 5]
        assert set(failed) <= set(BAD)
        assert not set(delivered) & set(BAD)
        new = pair.server.envelopes[taken:]
        assert (pair.client.secure is not None) == tls or not new
        if delivered:
            assert [rcpt.address for rcpt in new[0].rcpts] == delivered
            stored = pair.server.files[new[0].cdb_id]
            assert stored.endswith(b"\r\n" + content)
            assert stored[: -len(content) or None].startswith(b"Received:")
        if new and not delivered:
            assert done.unknown
        if not done.usable:
            assert pair.closed
            return
    assert pair.client.idle
    assert pair.server.session.idle or pair.server.session.dialogue.ta is not None
