"""The access map in the running system: who is refused, when, and with which words."""

import subprocess

import pytest

from smar.smxtest import run
from tests.dialogue import ask, dialogue, make_map, no_names, send
from tests.sink import Sink
from tests.system import wait_for

RULES = """\
cltaddr:127.0.0.2 error:551 5.7.1 No mail from you
cltaddr:127.0.0.3 relay
cltaddr:127.0.0.4 quick:relay
cltaddr:127.0.0.5 quick:ok
cltaddr:127.0.0.6 discard
cltaddr:127.0.0.7 quick:error:552 5.7.1 Go away
cltaddr:127.0.0.8 ok
from:@spam.test error:553 5.7.1 No spammers
from:dropped@far.test discard
to:root error:554 5.7.1 No mail to root
to:root@open.test error:554 5.7.1 No mail to root
to:abuse quick:ok
to:@open.test relay
to:gone@far.test discard
to:all@far.test quick:discard
"""


def system_with(smx, sink, dns, *, smtps="flags = { access };", smar=""):
    """A gateway whose domains all lie behind one sink; nobody may relay but by the map."""
    port = sink.port
    domains = ("far.test", "open.test", "spam.test", "loc.test")
    return smx(
        mt="".join(f"{domain} {port}^esmtp:[127.0.0.1]\n" for domain in domains),
        options={
            "smtps": f"relay_clients = {{ 192.0.2.1 }}; {smtps}",
            "smar": f'nameserver = "127.0.0.1:{dns}"; log_level = 14; {smar}',
        },
    )


def logged(system, text):
    """Tell whether the resolver's log has a text."""
    return any(text in line for line in system.log("smar"))


@pytest.mark.covers(
    "X221", "X273", "X274", "X275", "X276", "X293", "X295", "X297", "X302", "X303", "X304", "X305",
    "X306", "X307", "X337", "X338", "X454", "X455", "X462", "X465", "X468", "X469", "X471", "X478",
)  # fmt: skip
def test_rules_of_the_map_are_obeyed(smx):
    with Sink() as sink, no_names() as dns:
        system = system_with(smx, sink, dns, smar='access_map { file = "rules.db"; }')
        rules = make_map(system, "rules.db", RULES)
        system.options["smar"] = system.options["smar"].replace("rules.db", str(rules))
        system.write_conf()
        system.start()
        # a plain client: only what the map opens
        replies = ask(
            system, "127.0.0.9", "a@far.test", "b@far.test", "b@open.test", "root@open.test"
        )
        assert replies[0].startswith("250")
        assert replies[1].startswith("550 5.7.1")
        assert replies[2].startswith("250")
        assert replies[3] == "554 5.7.1 No mail to root"
        assert ask(system, "127.0.0.9", "a@spam.test")[0] == "553 5.7.1 No spammers"
        # clients that are refused, and the two that override senders
        assert "5.7.1 No mail from you" in " ".join(dialogue(system, "127.0.0.2", "EHLO c.test"))
        assert "552 5.7.1 Go away" in " ".join(dialogue(system, "127.0.0.7", "EHLO c.test"))
        allowed = ask(system, "127.0.0.3", "a@far.test", "b@far.test", "root@far.test")
        assert [reply[:3] for reply in allowed] == ["250", "250", "554"]
        quick = ask(system, "127.0.0.4", "a@spam.test", "root@far.test")
        assert [reply[:3] for reply in quick] == ["250", "250"]
        known = ask(system, "127.0.0.5", "a@spam.test", "b@far.test", "root@open.test")
        assert [reply[:3] for reply in known] == ["250", "550", "554"]
        assert [r[:3] for r in ask(system, "127.0.0.8", "a@spam.test")] == ["553"]
        # discarded: accepted and never seen again
        send(system, "127.0.0.6", "a@far.test", "b@open.test")
        send(system, "127.0.0.3", "dropped@far.test", "b@far.test")
        send(system, "127.0.0.3", "one@far.test", "gone@far.test", "b@far.test")
        send(system, "127.0.0.3", "none@far.test", "all@far.test", "b@far.test")
        send(system, "127.0.0.3", "two@far.test", "b@far.test")
        system.wait_empty()
        wait_for("the last message", lambda: len(sink.messages) >= 2)
        assert sorted((m.sender, m.rcpts) for m in sink.messages) == [
            ("one@far.test", ["b@far.test"]), ("two@far.test", ["b@far.test"]),
        ]  # fmt: skip
        wait_for("the trace", lambda: logged(system, "map access: to:root -> error:554"))
        # a new map is used without a restart, a broken one is not
        make_map(system, "rules.db", "cltaddr:127 relay\nto:x@far.test error:550 5.1.1 Moved\n")
        wait_for(
            "the new map",
            lambda: ask(system, "127.0.0.9", "a@far.test", "x@far.test")[-1] == "550 5.1.1 Moved",
        )
        rules.write_bytes(rules.read_bytes()[:-100])
        wait_for("a complaint", lambda: logged(system, "map_unread"))
        assert ask(system, "127.0.0.9", "a@far.test", "x@far.test")[-1] == "550 5.1.1 Moved"


@pytest.mark.covers("X273", "X251", "X461")
def test_without_the_flag_the_map_is_not_looked_at(smx):
    with Sink() as sink, no_names() as dns:
        system = system_with(smx, sink, dns, smtps="flags = { 8bitmime };")
        make_map(system, "access.db", RULES)
        system.start()
        replies = ask(system, "127.0.0.2", "a@spam.test", "b@open.test", "root@far.test")
        assert [reply[:3] for reply in replies] == ["250", "550", "550"]
        wait_for("the trace", lambda: logged(system, "decision"))
        assert not logged(system, "cltaddr")
        assert not logged(system, "PTR")


@pytest.mark.covers("X360", "X300", "X301", "X473")
def test_delayed_rejections_and_what_cancels_them(smx):
    with Sink() as sink, no_names() as dns:
        system = system_with(smx, sink, dns, smtps="flags = { access, delay_checks };")
        make_map(system, "access.db", RULES + "to:postmaster@open.test quick:relay\n")
        system.start()
        replies = ask(system, "127.0.0.2", "a@far.test", "b@open.test", "postmaster@open.test")
        assert replies[0].startswith("250")
        assert replies[1] == "551 5.7.1 No mail from you"
        assert replies[2].startswith("250")
        assert "552 5.7.1 Go away" in " ".join(dialogue(system, "127.0.0.7", "EHLO c.test"))


@pytest.mark.covers(
    "X394", "X395", "X396", "X398", "X400", "X402", "X403", "X404", "X405", "X407", "X470"
)
def test_protected_recipients(smx):
    protected = (
        "flags = { access };"
        " protected_recipients { allow_by = { sender, client_ip }; match_type = generic_lookup; }"
    )
    with Sink() as sink, no_names() as dns:
        system = system_with(smx, sink, dns, smtps=protected)
        make_map(
            system,
            "access.db",
            "to:@open.test relay\n"
            "protectedrcpt:staff@open.test from:boss@far.test cltaddr:127.0.1\n"
            "protectedrcpt:talk list:talkers\n",
        )
        members = {"talkers": "<ann@far.test> <inner@far.test>", "inner": "<x@far.test>"}
        system.write_aliases(members)
        system.start()
        for sender, code in (("ann@far.test", "250"), ("x@far.test", "550")):
            replies = ask(system, "127.0.0.9", sender, "talk@open.test")
            assert [reply[:3] for reply in replies] == ["250", code]
        for client, sender, code in (
            ("127.0.0.9", "boss@far.test", "250"),
            ("127.0.0.9", "other@far.test", "550"),
            ("127.0.1.9", "other@far.test", "250"),
        ):
            replies = ask(system, client, sender, "staff@open.test", "others@open.test")
            assert [reply[:3] for reply in replies] == ["250", code, "250"]


@pytest.mark.covers("X437", "X438", "X439", "X454")
def test_smxtest_tells_beforehand_and_why(smx, capsys):
    with Sink() as sink, no_names() as dns:
        system = system_with(smx, sink, dns, smar="map nets { type = cidr; file = nets; }")
        make_map(system, "access.db", RULES)
        nets = system.dir / "nets"
        nets.write_text("10.0.0.0/8 ten\n")
        system.options["smar"] = system.options["smar"].replace("= nets;", f'= "{nets}";')
        system.write_conf()
        system.start()

        def smxtest(*words, offline):
            where = ["-f", system.conf] if offline else ["-s", system.spool / "qmsmar/smarsock"]
            code = run([str(word) for word in (*where, *words)])
            said = capsys.readouterr()
            return code, said.out, said.err

        done = subprocess.run(
            [system.programs / "smxtest", "-f", system.conf, "map", "nets", "10.1.1.1"],
            capture_output=True, text=True, check=True, cwd="/",
        )  # fmt: skip
        assert done.stdout.endswith("10.1.1.1 is in the map: ten\n")
        for offline in (False, True):
            code, said, err = smxtest("route", "b@sub.far.test", offline=offline)
            assert "map mailertable: sub.far.test, .far.test, .test, . -> -" in said
            assert "no route: 550" in said
            assert code == 1
            code, said, err = smxtest("route", "b@far.test", offline=offline)
            assert (code, err) == (0, "")
            assert f"1. 127.0.0.1 [127.0.0.1]:{sink.port}" in said
            words = ("rcpt", "--client", "127.0.0.8", "--from", "a@far.test", "--rules", "access")
            code, said, err = smxtest(*words, "--to", "root@open.test", offline=offline)
            assert code == 1
            assert "map access: cltaddr:127.0.0.8 -> ok\n" in said
            assert "MAIL: accepted\n" in said
            assert "map access: to:root@open.test -> error:554" in said
            assert said.endswith("RCPT: refused: 554 5.7.1 No mail to root\n")
            assert smxtest(*words, "--to", "b@open.test", offline=offline)[0] == 0
            assert smxtest("map", "nets", "10.1.1.1", offline=offline)[1].endswith("map: ten\n")
            assert smxtest("map", "none", "x", offline=offline)[0] == 64
