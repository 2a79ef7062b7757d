"""Aliases and local users in the running system."""

import os
import smtplib

import pytest

from tests.sink import Sink
from tests.system import wait_for

ALIASES = {
    "user": "local:",
    "user++": "local:",
    "joe": "user",
    "list": "<a@one.test> <b@two.test> <user@local.test>",
    "owner-list": "<user@local.test>",
    "all": "<a@one.test> <c@three.test> <joe@local.test> <list@local.test>",
    "a1": "<a2@local.test>", "a2": "<a3@local.test>", "a3": "<a4@local.test>",
    "a4": "<a5@local.test>", "a5": "<a6@local.test>", "a6": "<user@local.test>",
    "ping": "<pong@local.test>", "pong": "<ping@local.test>",
}  # fmt: skip


class Place:
    """A system with a mailbox behind LMTP and a next hop for the rest."""

    def __init__(self, smx, sink, relay="127.0.0.0/8"):
        mt = f"local.test lmtp:\nmx.smx.test lmtp:\n. {sink.port}^esmtp:[127.0.0.1]\n"
        self.system = smx(mt=mt, aliases=ALIASES)
        self.path = str(self.system.dir / "lmtpsock")
        self.system.options["smtpc"] = f'LMTP_socket = "{self.path}";'
        self.system.options["smtps"] = f"relay_clients = {{ {relay} }};"
        self.system.write_conf()

    def start(self):
        os.chmod(self.path, 0o666)
        return self.system.start()


def delivered(*sinks):
    """(sender, recipient) of everything that came, sorted."""
    return sorted(
        (message.sender, rcpt)
        for sink in sinks
        for message in sink.messages
        for rcpt in message.rcpts
    )


@pytest.mark.covers("X224", "X323", "X324", "X325", "X330", "X331", "X467")
@pytest.mark.slow
def test_members_get_the_mail_and_a_list_has_an_owner(smx):
    with Sink() as sink:
        place = Place(smx, sink)
        with Sink(lmtp=True, path=place.path) as lmtp:
            system = place.start()
            system.send(sender="s@client.test", rcpts=["all@local.test", "user+x@local.test"])
            owner = "owner-list@local.test"
            wanted = sorted([
                ("s@client.test", "a@one.test"), ("s@client.test", "c@three.test"),
                ("s@client.test", "user@mx.smx.test"), ("s@client.test", "user+x@local.test"),
                (owner, "a@one.test"), (owner, "b@two.test"), (owner, "user@local.test"),
            ])  # fmt: skip
            wait_for("all members' mail", lambda: len(delivered(sink, lmtp)) >= len(wanted))
            assert delivered(sink, lmtp) == wanted
            system.wait_empty()
            assert system.contents() == []


def answers(system, *addresses, sender="s@client.test"):
    with smtplib.SMTP("127.0.0.1", system.port, timeout=60) as client:
        client.ehlo()
        if client.mail(sender)[0] != 250:
            return client.mail(sender)
        return [(code, text.split(b" ")[0].decode()) for code, text in map(client.rcpt, addresses)]


@pytest.mark.covers("X326", "X327", "X328", "X332", "X333", "X334", "X335", "X464", "X467")
@pytest.mark.slow
def test_local_addresses_must_exist_for_strangers_too(smx):
    with Sink() as sink:
        place = Place(smx, sink, relay="192.0.2.0/24")
        with Sink(lmtp=True, path=place.path):
            system = place.start()
            known = ["user", "joe", "list", "a2", "POSTMASTER", "user+any"]
            found = answers(system, *(f"{name}@local.test" for name in known), "postmaster")
            assert [code for code, _ in found] == [250] * 7
            wrong = ["nobody", "user1", "joe+x", "a1", "ping"]
            assert answers(system, *(f"{name}@local.test" for name in wrong)) == [
                (550, "5.1.1"), (550, "5.1.1"), (550, "5.1.1"), (550, "5.4.6"), (550, "5.4.6"),
            ]  # fmt: skip
            assert answers(system, "x@one.test") == [(550, "5.7.1")]
            code, text = answers(system, sender="nobody@local.test")
            assert (code, text.split(b" ")[0]) == (550, b"5.1.0")
            assert answers(system, "user@local.test", sender="joe@local.test") == [(250, "2.1.5")]
            system.write_aliases({**ALIASES, "new": "local:"})
            wait_for("the new map", lambda: answers(system, "new@local.test") == [(250, "2.1.5")])
