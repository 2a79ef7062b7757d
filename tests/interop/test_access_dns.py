"""The access map and what a real name server says: names of clients, blacklists, mail hosts."""

import pytest

from tests.dialogue import ask, dialogue, make_map, send
from tests.interop.knot import running_knot
from tests.sink import Sink
from tests.system import wait_for

HEAD = (
    "$TTL 60\n@ SOA ns.good.test. hostmaster.good.test. 1 3600 600 86400 60\n@ NS ns.good.test.\n"
)
ZONES = {
    "0.0.127.in-addr.arpa": HEAD
    + "1 PTR ns.good.test.\n2 PTR host.good.test.\n3 PTR mail.spam.test.\n"
    "4 PTR mail.spam.test.\n7 PTR a.broken.test.\n8 PTR mail.spam.test.\n"
    "20 PTR fine.good.test.\n21 PTR ok.good.test.\n",
    "5.0.127.in-addr.arpa": None,
    "broken.test": None,
    "good.test": HEAD
    + "@ MX 10 host\nns A 127.0.0.1\nhost A 127.0.0.2\nfine A 127.0.0.20\nok A 127.0.0.21\n",
    "spam.test": HEAD + "mail A 127.0.0.3\n",
    "bad.test": HEAD + "@ MX 10 mx\nmx A 10.9.9.9\n",
    "bl.test": HEAD + "20.0.0.127 A 127.0.0.2\n21.0.0.127 A 127.0.0.2\n",
}
RULES = """\
cltaddr:127.0.0.8 ok
cltresolve:no error:450 4.7.1 No name
cltresolve:tempptr error:451 4.7.1 Name later
cltresolve:tempa error:452 4.7.1 Address later
cltname:.spam.test error:551 5.7.1 No spammers
cltname:ok.good.test ok
bl:127.0.0.2 error:553 5.7.1 Listed
mxbadip:10 error:554 5.7.1 Bad mail host
to:@far.test relay
"""


@pytest.mark.covers(
    "X230", "X231", "X232", "X233", "X239", "X277", "X278", "X279", "X283", "X288", "X289", "X290",
    "X291", "X292", "X366", "X456", "X457", "X458", "X459", "X460", "X466",
)  # fmt: skip
def test_what_the_dns_says_of_clients_and_senders(smx):
    with Sink() as sink, running_knot(ZONES) as port:
        system = smx(
            mt=f"far.test {sink.port}^esmtp:[127.0.0.1]\n",
            options={
                "smtps": "relay_clients = { 192.0.2.1 }; flags = { access };",
                "smar": f'nameserver = "127.0.0.1:{port}";'
                " dnsbl { domain = bl.test; tag = bl; } log_level = 14;",
            },
        )
        make_map(system, "access.db", RULES)
        system.start()
        for client, text in (
            ("127.0.0.3", "5.7.1 No spammers"),
            ("127.0.0.4", "4.7.1 No name"),
            ("127.0.0.5", "4.7.1 No name"),
            ("127.0.5.6", "4.7.1 Name later"),
            ("127.0.0.7", "4.7.1 Address later"),
            ("127.0.0.20", "5.7.1 Listed"),
        ):
            assert text in " ".join(dialogue(system, client, "EHLO c.test")), client
        assert ask(system, "127.0.0.2", "a@bad.test") == ["554 5.7.1 Bad mail host"]
        for client in ("127.0.0.2", "127.0.0.8", "127.0.0.21"):
            assert send(system, client, "a@good.test", "b@far.test") == {}
        messages = sink.wait(3)
        trace = {one.data.split(b"\r\n\r\n")[0].split(b"\r\nSubject:")[0] for one in messages}
        heads = b"\n".join(trace)
        assert b"host.good.test" in heads
        assert b"ok.good.test" in heads
        assert b"spam.test" not in heads  # the name of 127.0.0.8 leads elsewhere
        wait_for(
            "the trace",
            lambda: any("dns A 20.0.0.127.bl.test begun" in one for one in system.log("smar")),
        )
