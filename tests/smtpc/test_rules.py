"""The rules of a delivery: logins, own addresses, families, waits, and the files behind them."""

import os

import pytest

from libsmx.createmap import main as createmap
from libsmx.envelope import Envelope, Recipient
from libsmx.errors import EX_CONFIG, StartError
from libsmx.log import NullLog
from libsmx.opt_smtpc import AuthConf, SmtpcConf, SourceConf, TimeoutsConf
from libsmx.opt_tls import SmtpcTlsConf
from libsmx.wire import Target
from smtpc.logins import LoginTable, read_logins
from smtpc.phases import Phase
from smtpc.plan import Login
from smtpc.rulefiles import load_rules, reload_rules
from smtpc.rules import Rules, read_timeouts
from smtpc.sources import SourceTable, in_order
from smtpc.tlspolicy import Level, PolicyTable, TlsPolicy

# --- logins --------------------------------------------------------------------------------


def test_logins_are_found_by_host_and_sender():
    text = """
# smart hosts
smtp.example.org           all        "a b"  mechanisms=plain,scram-sha-1
smtp.example.org/@x.example  domain     two
SMTP.example.org/a@x.example one        'th"ree' clear
"""
    logins, problems = read_logins(text)
    assert problems == []
    table = LoginTable(logins)
    everybody = Login("all", "a b", frozenset({"PLAIN", "SCRAM-SHA-1"}))
    assert table.find("smtp.example.org", "b@y.example") == everybody
    assert table.find("SMTP.Example.Org", "") == everybody
    assert table.find("smtp.example.org", "B@X.example") == Login("domain", "two")
    assert table.find("smtp.example.org", "a@x.example") == Login("one", 'th"ree', clear=True)
    assert table.find("other.example.org", "a@x.example") is None


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("host user", "HOST USER PASSWORD"),
        ("/a@x user password", "neither HOST nor"),
        ("host user top secret", "behind the password"),
        ("host user secret mechanisms=NTLM", "behind the password"),
        ('host user "secret', "No closing quotation"),
        ("host user secret\nhost user secret", "stands there already"),
    ],
)
def test_a_wrong_line_is_named_and_its_secret_is_not(line, why):
    _, problems = read_logins(line)
    assert why in problems[0]
    assert "secret" not in problems[0]


# --- own addresses -------------------------------------------------------------------------

V4 = Target(host="mx.example.net", address="192.0.2.1", port=25)
V6 = Target(host="mx.example.net", address="2001:db8::1", port=25)
OTHER4 = Target(host="mx2.example.net", address="192.0.2.2", port=25)
OTHER6 = Target(host="mx2.example.net", address="2001:db8::2", port=25)


def test_the_first_source_that_fits_holds():
    table = SourceTable(
        (
            SourceConf(next_hop=(".example.net",), address="192.0.2.10", helo="out.example.org"),
            SourceConf(next_hop=("198.51.100.1", "relay.example"), address="192.0.2.11"),
            SourceConf(address6="2001:db8::10"),
        ),
        "mx.example.org",
    )
    assert table.find(V4).address == "192.0.2.10"
    assert table.find(V4).helo == "out.example.org"
    assert table.find(V6).address == ""
    relay = Target(host="RELAY.example", address="203.0.113.1", port=25)
    assert (table.find(relay).address, table.find(relay).helo) == ("192.0.2.11", "mx.example.org")
    far = Target(host="far.example", address="2001:db8::5", port=25)
    assert table.find(far).address == "2001:db8::10"
    assert SourceTable((), "mx.example.org").find(V4).helo == "mx.example.org"


@pytest.mark.parametrize(
    ("prefer", "order"),
    [
        ("any", [V4, V6, OTHER6, OTHER4]),
        ("inet", [V4, V6, OTHER4, OTHER6]),
        ("inet6", [V6, V4, OTHER6, OTHER4]),
    ],
)
def test_the_preferred_family_comes_first_within_each_host_only(prefer, order):
    assert in_order([V4, V6, OTHER6, OTHER4], prefer) == order


# --- rules ---------------------------------------------------------------------------------


def envelope(*addresses, sender="a@x.example"):
    rcpts = [Recipient(idx=i, address=a) for i, a in enumerate(addresses)]
    return Envelope(ta_id="", cdb_id="", sender=sender, rcpts=rcpts, size=1, received_at=0.0)


def plain_rules(**kwargs):
    return Rules(sources=SourceTable((), "mx.example.org"), **kwargs)


def test_without_anything_configured_nothing_is_asked_of_a_session():
    wishes = plain_rules().wishes(envelope("b@y.example"), V4)
    assert (wishes.policies, wishes.login, wishes.ca) == ((), None, "")
    plan = plain_rules().plan(V4, wishes, lmtp=False, nonce="", why_clear="")
    assert plan.starttls
    assert not plan.on_connect


def test_the_local_socket_is_never_asked_for_tls():
    rules = plain_rules(policies=PolicyTable(TlsPolicy(Level.VERIFY)))
    target = Target(host="", address="", port=0)
    wishes = rules.wishes(envelope("b@y.example"), target)
    assert wishes.policies == ()
    assert not rules.plan(target, wishes, lmtp=True, nonce="", why_clear="").starttls


def test_the_level_none_does_not_try_tls():
    rules = plain_rules(policies=PolicyTable(TlsPolicy(Level.NONE)))
    plan = rules.plan(V4, rules.wishes(envelope("b@x"), V4), lmtp=False, nonce="", why_clear="")
    assert not plan.starttls
    assert plan.why_clear


def test_a_login_asks_who_the_server_is_unless_told_otherwise():
    logins = LoginTable({V4.host: Login("u", "p"), OTHER4.host: Login("u", "p", clear=True)})
    rules = plain_rules(logins=logins)
    (policy,) = rules.wishes(envelope("b@y.example"), V4).policies
    assert (policy.level, policy.names) == (Level.VERIFY, (V4.host,))
    assert [one.level for one in rules.wishes(envelope("b@y"), OTHER4).policies] == [Level.MAY]
    mapped = {V4.host: TlsPolicy(Level.ENCRYPT, source="map")}
    rules = plain_rules(logins=logins, policies=PolicyTable(TlsPolicy(), mapped))
    (policy,) = rules.wishes(envelope("b@y.example"), V4).policies
    assert policy.level is Level.ENCRYPT


@pytest.mark.covers("X432")
def test_each_phase_has_its_own_wait_and_io_timeout_caps_them():
    conf = TimeoutsConf(initial=7, helo=8, lhlo=9, datafinal=700, quit=1)
    waits = read_timeouts(conf, 600, lmtp=False)
    assert waits[Phase.GREETING] == 7
    assert waits[Phase.HELLO] == 8
    assert waits[Phase.DOT] == 600
    assert waits[Phase.QUIT] == 1
    assert read_timeouts(conf, 600, lmtp=True)[Phase.HELLO] == 9
    assert set(waits) == set(Phase)


# --- files ---------------------------------------------------------------------------------


def conf_of(policies="", logins="", **kwargs):
    tls = SmtpcTlsConf(policy_map=str(policies))
    return SmtpcConf(tls=tls, auth=AuthConf(credentials_file=str(logins)), **kwargs)


def make_map(tmp_path, text):
    (tmp_path / "policies").write_text(text)
    assert createmap([str(tmp_path / "policies.db"), str(tmp_path / "policies")]) == 0
    return tmp_path / "policies.db"


async def test_files_are_read_and_read_again(tmp_path):
    log = NullLog()
    path = make_map(tmp_path, "a.example encrypt\nb.example verfy\n")
    logins = tmp_path / "logins"
    logins.write_text("h u p\n")
    logins.chmod(0o600)
    conf = conf_of(path, logins)
    rules = await load_rules(conf, "mx.example.org", log)
    assert rules.policies.find("x@a.example", "").level is Level.ENCRYPT
    assert rules.policies.find("x@b.example", "").level is Level.VERIFY
    assert rules.logins.find("h", "") == Login("u", "p")
    assert [event.name for event, _ in log.records] == ["policy_bad", "rules_read", "rules_read"]

    make_map(tmp_path, "a.example none\n")
    logins.write_text("h u other\n")
    rules = await reload_rules(rules, conf, log)
    assert rules.policies.find("x@a.example", "").level is Level.NONE
    assert rules.logins.find("h", "") == Login("u", "other")

    # what cannot be used changes nothing
    logins.chmod(0o640)
    assert await reload_rules(rules, conf, log) is rules
    assert log.records[-1][0].name == "rules_bad"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o602])
async def test_logins_that_others_may_touch_stop_the_start(tmp_path, mode):
    path = tmp_path / "logins"
    path.write_text("h u p\n")
    path.chmod(mode)
    with pytest.raises(StartError, match="chmod 600") as caught:
        await load_rules(conf_of(logins=path), "mx.example.org", NullLog())
    assert caught.value.code == EX_CONFIG


@pytest.mark.parametrize("content", [b"h u\n", b"\xff\xfe\n", None])
async def test_a_bad_file_of_logins_stops_the_start(tmp_path, content):
    path = tmp_path / "logins"
    if content is not None:
        path.write_bytes(content)
        path.chmod(0o600)
    with pytest.raises(StartError, match="logins"):
        await load_rules(conf_of(logins=path), "mx.example.org", NullLog())


@pytest.mark.parametrize("damage", ["missing", "text", "short"])
async def test_a_map_that_is_none_stops_the_start(tmp_path, damage):
    path = make_map(tmp_path, "a.example encrypt\n")
    if damage == "missing":
        path.unlink()
    elif damage == "text":
        path.write_text("a.example encrypt\n")
    else:
        os.truncate(path, 5000)
    with pytest.raises(StartError, match=r"policies\.db"):
        await load_rules(conf_of(path), "mx.example.org", NullLog())
