"""``make bench-smar``: how many questions the address resolver answers, on one core.

The resolver's parts run in this process, as the daemon puts them together; questions and
answers pass the codec of the channels. Figures are per second of processor time of this process,
so that other processes of the machine disturb them little; the name server is a process of its
own, Knot DNS.
"""

import os
import tempfile
import time
from pathlib import Path

import attrs
import trio

from libsmx import wire
from libsmx.clock import SystemClock
from libsmx.config import load
from libsmx.log import NullLog
from libsmx.mapfile import write_map
from libsmx.process import Context
from libsmx.rcb import FrameReader, encode
from smar.assembly import assemble, open_tables
from smar.desk import Desk
from smar.greydoor import open_door
from tests.interop.knot import running_knot

DOMAINS = 5_000
OUTSTANDING = 100
CLIENTS = 20_000
HEAD = "$TTL 3600\n@ SOA ns root 1 3600 600 86400 60\n@ NS ns\nns A 127.0.0.1\n"
FACTS = wire.Facts(rules="access")
CONF = """
hostname = "mx.smx.test";
smar {{
  nameserver = {{ "127.0.0.1:{port}" }};
  mailertable {{ file = "{dir}/mt"; }}
  aliases {{ file = "{dir}/aliases.db"; }}
  access_map {{ file = "{dir}/access.db"; }}
}}
"""


class Answers:
    """The other end of a channel: encodes as a channel would, and counts."""

    def __init__(self):
        self.count = 0
        self.more = trio.Event()

    def post(self, message, rid=0):
        encode(message, rid)
        self.count += 1
        self.more.set()


def zone():
    """Domains that share a mail host, and domains that have one each."""
    lines = [HEAD, "mx A 192.0.2.1"]
    lines += [f"shared{n} MX 10 mx" for n in range(DOMAINS)]
    lines += [f"own{n} MX 10 host.own{n}\nhost.own{n} A 192.0.2.2" for n in range(DOMAINS)]
    return "\n".join(lines) + "\n"


def make_context(place, port):
    """The context of a resolver with 20,000 access rules and 20,000 users."""
    (place / "mt").write_text("local.test lmtp:\n")
    (place / "smx.conf").write_text(CONF.format(dir=place, port=port))
    users = {f"user{n}": "local:" for n in range(CLIENTS)}
    write_map(str(place / "aliases.db"), users, source="bench", made_at=0)
    rules = {f"from:@spam{n}.example": "error:551 5.7.1 no" for n in range(CLIENTS // 2)}
    rules |= {f"to:user{n}@local.test": "ok" for n in range(0, CLIENTS, 2)}
    write_map(str(place / "access.db"), rules, source="bench", made_at=0)
    loaded = load(str(place / "smx.conf"), None, "smar")
    return Context(
        conf=loaded.conf, globals=loaded.globals, log=NullLog(), clock=SystemClock(), id=0,
        name="smar", config_dir=str(place), stop=trio.Event(),
    )  # fmt: skip


async def measure(desk, questions):
    """Ask all questions, OUTSTANDING at a time; return (seconds of processor, of the clock)."""
    answers = Answers()
    reader = FrameReader(frozenset({wire.RouteAsk, wire.MailAsk, wire.RcptAsk}))
    frames = [encode(question, rid) for rid, question in enumerate(questions, 1)]
    used, began = time.process_time(), time.monotonic()
    for asked, frame in enumerate(frames):
        while asked - answers.count >= OUTSTANDING:
            answers.more = trio.Event()
            await answers.more.wait()
        for message, rid in reader.feed(frame):
            desk.handle(answers, message, rid)
    while answers.count < len(frames):
        answers.more = trio.Event()
        await answers.more.wait()
    return time.process_time() - used, time.monotonic() - began


async def run(place, port):
    """Measure everything and print the table."""
    ctx = make_context(place, port)
    tables = open_tables(ctx)
    async with trio.open_nursery() as nursery:
        parts = assemble(ctx, nursery, tables)
        door = await open_door(ctx, nursery)
        desk = Desk(
            parts.checks, parts.router, parts.flights, ctx.log, ctx.clock, door, parts.connect,
            parts.tryout,
        )  # fmt: skip

        def rcpt(n, facts):
            name = f"user{n % CLIENTS}@local.test"
            return wire.RcptAsk(rcpt=name, client="192.0.2.9", relay=False, facts=facts)

        def sender(n):
            address = f"u@shared{n % DOMAINS}.bench.test"
            return wire.MailAsk(sender=address, client="192.0.2.9", facts=FACTS)

        def route(n, kind):
            return wire.RouteAsk(rcpts=[f"u@{kind}{n % DOMAINS}.bench.test"])

        plain = attrs.evolve(FACTS, rules="")
        works = [
            ("MX routes, uncached, hosts shared", [route(n, "shared") for n in range(DOMAINS)]),
            ("MX routes, uncached, a host each", [route(n, "own") for n in range(DOMAINS)]),
            ("MX routes, cached", [route(n, "own") for n in range(2 * DOMAINS)]),
            ("local recipients, aliases only", [rcpt(n, plain) for n in range(CLIENTS)]),
            ("local recipients, access map", [rcpt(n, FACTS) for n in range(CLIENTS)]),
            ("senders, cached, access map", [sender(n) for n in range(CLIENTS)]),
        ]
        print(f"{'':36} {'answers/s of CPU':>16} {'us CPU each':>12} {'answers/s':>10}")
        for name, questions in works:
            used, took = await measure(desk, questions)
            count = len(questions)
            print(f"{name:36} {count / used:16.0f} {used / count * 1e6:12.1f} {count / took:10.0f}")
        nursery.cancel_scope.cancel()


def main():
    """Run the benchmark."""
    print(f"{os.cpu_count()} processors; one is used by the resolver")
    with tempfile.TemporaryDirectory(prefix="smx-bench-") as place:
        with running_knot({"bench.test": zone()}) as port:
            trio.run(run, Path(place), port)


if __name__ == "__main__":
    main()
