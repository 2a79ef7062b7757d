"""Fuzz targets: every parser of what strangers send, with a corpus in tests/corpus.

    python -m tests.fuzz                 # every target for a minute
    python -m tests.fuzz milter 600      # one target for ten minutes

A target gets bytes and may raise nothing but what its parser documents. ``mutations`` makes
new input from the corpus; with the same seed it makes the same, so that the tests repeat
themselves. An input that breaks a target is printed; put it into the corpus with the repair.
"""

import random
import sys
import time
from pathlib import Path

from libsmx.address import AddressError, parse_mailbox, parse_path
from libsmx.sasl import SaslError, decode64, read_attributes, read_text
from smtps.arguments import read_mail, read_rcpt
from smtps.draft import Draft, LineEnds
from smtps.milter import Filter
from smtps.milterwire import MilterError, Options, PacketReader
from smtps.proxy import ProxyError, read_proxy
from smtps.xclient import read_xclient
from tests.smtps.client import Client, make_policy

CORPUS = Path(__file__).parent / "corpus"
POLICY = make_policy()
TOKENS = [
    b"\r\n", b"\n", b"\r", b"\0", b".", b"\r\n.\r\n", b"BDAT 5\r\n", b"BDAT 3 LAST\r\n",
    b"DATA\r\n",
    b"MAIL FROM:<a@b.test> SMTPUTF8\r\n", b"RCPT TO:<a@b.test>\r\n", b"RSET\r\n", b"\xc3\xbc",
    b"\xff", b"<", b">", b'"', b"@", b"\\", b" ", b"=", b"+2B", b"[IPv6:", b"]", b"n=,r=", b"p=",
    b"PROXY TCP4 ", b"\0\0\0\1c", b"\0\0\0\5q", b"99999999999999999999",
]  # fmt: skip


def session(data, pieces=7):
    """A whole session, cut into pieces: no input may raise or leave anything behind."""
    client = Client(max_message_size=1, xclient_clients=(), commands=frozenset({"vrfy", "help"}))
    for at in range(0, len(data), max(1, len(data) // pieces)):
        client.talk(data[at : at + max(1, len(data) // pieces)])
    client._perform(client.session.lost("end"))
    assert set(client.files) == {envelope.cdb_id for envelope in client.envelopes}
    return len(client.envelopes)


def command(data):
    """A session, in which however the bytes come the same messages result."""
    assert session(data, 1) == session(data, 50)


def address(data):
    """Arguments of MAIL and RCPT; what was read prints as what reads the same."""
    read_mail(b"FROM:" + data, POLICY)
    read_rcpt(b"TO:" + data, POLICY, utf8=True)
    try:
        found, _ = parse_path(data, "RCPT", utf8=True)
    except AddressError:
        return
    assert str(parse_mailbox(found, utf8=True)) == found


def bdat(data):
    """Content in chunks."""
    session(b"EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\n" + data)


def milter(data):
    """Replies of a filter at the end of a message, and what they do to a header."""
    for stage in ("negotiation", "mail", "body", "end"):
        machine = Filter(0xFF, Options(6, 0xFF, 0x400), stage)
        try:
            for packet in PacketReader().feed(data):
                machine.take(packet)
                assert len(machine.changes) <= 10_000
                packet.words()
        except MilterError:
            continue


def header(data):
    """A header: shown and encoded it is what came; a change never makes a body of it."""
    draft = Draft(data, 0)
    assert draft.encode() + data[draft.body_at :] == data
    text = data.decode("utf-8", "surrogateescape")
    before = len(list(draft.shown()))
    draft.add("X-New", text)
    draft.insert(0, text[:20], "x")
    draft.change(1, "X-New", text[::-1])
    encoded = draft.encode()
    assert len(list(Draft(encoded, 0).shown())) <= before + 2
    ends = LineEnds()
    clean = b"".join(ends.feed(data[at : at + 3]) for at in range(0, len(data), 3)) + ends.end()
    assert clean.count(b"\r\n") == clean.count(b"\n") == clean.count(b"\r")


def proxy(data):
    """The header of a load balancer, and XCLIENT."""
    try:
        found = read_proxy(data)
        assert found is None or 0 < found.length <= len(data)
    except ProxyError:
        pass
    read_xclient(data)


def scram(data):
    """A message of SASL mechanisms."""
    try:
        read_attributes(read_text(data))
    except SaslError:
        pass
    try:
        decode64(data)
    except SaslError:
        pass


TARGETS = {
    "command": command, "address": address, "bdat": bdat, "milter": milter, "header": header,
    "proxy": proxy, "scram": scram,
}  # fmt: skip


def seeds(name):
    """The corpus of a target."""
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]


def mutate(data, others, chance):
    """Return something like data."""
    for _ in range(chance.randint(1, 4)):
        at = chance.randint(0, len(data))
        end = min(len(data), at + chance.choice((0, 1, 1, 2, 8, 40)))
        what = chance.randint(0, 4)
        if what == 0:
            data = data[:at] + data[end:]
        elif what == 1:
            data = data[:at] + bytes([chance.randint(0, 255)]) + data[end:]
        elif what == 2:
            data = data[:at] + chance.choice(TOKENS) + data[end:]
        elif what == 3:
            other = chance.choice(others)
            cut = chance.randint(0, len(other))
            data = data[:at] + other[cut : cut + 60]
        else:
            data = data[:at] + data[at:end] * chance.randint(2, 30) + data[end:]
    return data[:8000]


def mutations(name, seed, count=None):
    """Yield the corpus, then what is like it, for ever or so often."""
    corpus, chance = seeds(name), random.Random(seed)
    yield from corpus
    while count is None or count > 0:
        yield mutate(chance.choice(corpus), corpus, chance)
        count = None if count is None else count - 1


def try_one(name, data):
    """Run a target; an exception names the input."""
    try:
        TARGETS[name](data)
    except Exception as error:
        raise AssertionError(f"{name}: {data!r}") from error


def main():
    """Fuzz until the time is over."""
    names = [sys.argv[1]] if len(sys.argv) > 1 else list(TARGETS)
    limit_s = float(sys.argv[2]) if len(sys.argv) > 2 else 60.0
    for name in names:
        end, count = time.monotonic() + limit_s, 0
        for data in mutations(name, time.time_ns()):
            try_one(name, data)
            count += 1
            if time.monotonic() > end:
                break
        print(f"{name}: {count} inputs, no fault")


if __name__ == "__main__":
    main()
