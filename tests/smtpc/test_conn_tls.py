"""Delivery sessions under TLS on real sockets: every policy against good and bad certificates."""

import datetime
import hashlib
import ssl
from pathlib import Path

import attrs
import pytest
import trio.testing

from libsmx.opt_smtpc import SourceConf
from libsmx.opt_tls import SmtpcTlsConf
from smtpc.logins import LoginTable
from smtpc.phases import TIMEOUT_S, Phase
from smtpc.plan import Login
from smtpc.sources import SourceTable
from smtpc.tlspolicy import PolicyTable, TlsPolicy, read_policies
from tests.libsmx.tlspair import Authority
from tests.smtpc.bench import Start, closed_port, outcomes
from tests.smtpc.peer import Peer

PAST = datetime.datetime(2021, 1, 1, tzinfo=datetime.UTC)
HOST = "peer.example"  # as bench.target names it


@attrs.frozen
class Certs:
    """Certificates of servers and what a client needs to judge them."""

    ca: Authority
    good: tuple
    wrong: tuple
    expired: tuple
    foreign: tuple
    client: tuple


@pytest.fixture(scope="module")
def certs(tmp_path_factory):
    place = tmp_path_factory.mktemp("certs")
    ca, other = Authority(place), Authority(place, "Foreign CA")
    (place / "foreign").mkdir()
    (place / "expired").mkdir()
    good = ca.issue(HOST)
    wrong = ca.issue("other.example")
    ca.directory, other.directory = place / "expired", place / "foreign"
    expired = ca.issue(HOST, end=PAST)
    ca.directory = place
    return Certs(ca, good, wrong, expired, other.issue(HOST), ca.issue("client.example"))


def server(cert, *, version=None, ask=None):
    """A context of module ssl; ``ask`` is the CA of clients' certificates."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*cert)
    if version is not None:
        context.maximum_version = version
    if ask is not None:
        context.load_verify_locations(ask.file)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def options(certs, **kwargs):
    return SmtpcTlsConf(cacert_file=str(certs.ca.file), **kwargs)


def policy(text):
    """The rules' policies with this one for everybody."""
    return PolicyTable(TlsPolicy(), read_policies([(".", text)], "map")[0])


def events(bench, name):
    return [fields for event, fields in bench.log.records if event.name == name]


@pytest.mark.covers("X424", "X426")
async def test_tls_is_used_where_it_is_offered(tmp_path, certs):
    async with Start(tmp_path, tls=options(certs)) as bench:
        peer = await Peer(tls=server(certs.good)).listen(bench.nursery)
        for _ in range(2):
            answer = await bench.deliver([peer])
            assert outcomes(answer) == [(0, 250, "2.0.0")]
            assert answer.open
            assert answer.tls.startswith("TLSv1.3 ")
            assert answer.tls.endswith(" verify=OK name=yes")
        assert peer.sessions == len(peer.handshakes) == 1
        (facts,) = events(bench, "tls_started")
        assert (facts["verify"], facts["host"]) == ("OK", HOST)
        assert "verify=OK" in events(bench, "rcpt_delivered")[0]["tls"]
        assert "mail:" in answer.took


@pytest.mark.covers("X426")
async def test_clear_text_where_it_is_not_offered(tmp_path, certs):
    async with Start(tmp_path, tls=options(certs)) as bench:
        peer = await Peer().listen(bench.nursery)
        answer = await bench.deliver([peer])
        assert outcomes(answer) == [(0, 250, "2.0.0")]
        assert answer.tls == ""
        assert events(bench, "tls_started") == []


VERDICTS = {
    "good": ("OK", "yes"),
    "wrong": ("OK", "no"),
    "expired": ("FAIL", "yes"),
    "foreign": ("FAIL", "yes"),
}


@pytest.mark.parametrize("cert", VERDICTS)
@pytest.mark.parametrize("level", ["none", "may", "encrypt", "verify"])
async def test_every_level_against_every_certificate(tmp_path, certs, cert, level):
    rules = {"policies": policy(level)}
    async with Start(tmp_path, tls=options(certs), **rules) as bench:
        peer = await Peer(tls=server(getattr(certs, cert))).listen(bench.nursery)
        answer = await bench.deliver([peer])
        if level == "verify" and cert != "good":
            assert outcomes(answer) == [(0, 451, "4.7.5")]
            assert peer.messages == []
            assert "policy verify" in answer.results[0].text
            assert not answer.open
        else:
            assert outcomes(answer) == [(0, 250, "2.0.0")]
        if level == "none":
            assert peer.handshakes == []
        else:
            (facts,) = events(bench, "tls_started")
            assert (facts["verify"], facts["name"]) == VERDICTS[cert]


async def test_a_fingerprint_takes_the_place_of_chain_and_name(tmp_path, certs):
    pem = ssl.PEM_cert_to_DER_cert(Path(certs.foreign[0]).read_text())
    right = hashlib.sha256(pem).hexdigest()
    for text, status in ((right, "2.0.0"), ("00" * 32, "4.7.5")):
        rules = {"policies": policy(f"verify fingerprint={text}")}
        async with Start(tmp_path, tls=options(certs), **rules) as bench:
            peer = await Peer(tls=server(certs.foreign)).listen(bench.nursery)
            answer = await bench.deliver([peer])
            assert [one for *_, one in outcomes(answer)] == [status]


async def test_a_policy_may_name_other_cas_and_other_names(tmp_path, certs):
    foreign_ca = certs.ca.directory / "Foreign-CA.pem"
    rules = {"policies": policy(f"verify ca={foreign_ca}")}
    async with Start(tmp_path, tls=options(certs), **rules) as bench:
        peer = await Peer(tls=server(certs.foreign)).listen(bench.nursery)
        assert outcomes(await bench.deliver([peer])) == [(0, 250, "2.0.0")]
        peer = await Peer(tls=server(certs.good)).listen(bench.nursery)
        answer = await bench.deliver([peer], da_sess=2)
        assert outcomes(answer) == [(0, 451, "4.7.5")]
    rules = {"policies": policy("verify names=other.example")}
    async with Start(tmp_path, tls=options(certs), **rules) as bench:
        peer = await Peer(tls=server(certs.wrong)).listen(bench.nursery)
        assert outcomes(await bench.deliver([peer])) == [(0, 250, "2.0.0")]


async def test_a_missing_file_of_cas_keeps_the_mail(tmp_path, certs):
    rules = {"policies": policy(f"verify ca={tmp_path}/nothing.pem")}
    async with Start(tmp_path, tls=options(certs), **rules) as bench:
        peer = await Peer(tls=server(certs.good)).listen(bench.nursery)
        answer = await bench.deliver([peer])
        assert outcomes(answer) == [(0, 451, "4.7.5")]
        assert "nothing.pem" in answer.results[0].text


async def test_a_host_that_does_not_meet_the_policy_is_passed_over(tmp_path, certs):
    async with Start(tmp_path, tls=options(certs), policies=policy("verify")) as bench:
        clear = await Peer().listen(bench.nursery)
        wrong = await Peer(tls=server(certs.wrong)).listen(bench.nursery)
        good = await Peer(tls=server(certs.good)).listen(bench.nursery)
        answer = await bench.deliver([clear, wrong, good])
        assert outcomes(answer) == [(0, 250, "2.0.0")]
        assert [one.refused for one in answer.attempts] == [False, False]
        assert "does not offer STARTTLS" in answer.attempts[0].text
        assert "not for peer.example" in answer.attempts[1].text
        assert clear.messages == wrong.messages == []


@pytest.mark.parametrize("level", ["may", "encrypt"])
@pytest.mark.parametrize("how", ["454", "drop", "junk", "old"])
async def test_broken_tls_falls_back_only_where_it_may(tmp_path, certs, level, how):
    conf = options(certs, min_protocol="tlsv1.3")
    async with Start(tmp_path, tls=conf, policies=policy(level)) as bench:
        old = ssl.TLSVersion.TLSv1_2 if how == "old" else None
        peer = Peer(tls=server(certs.good, version=old))
        if how == "454":
            peer.replies["STARTTLS"] = [b"454 4.7.0 no randomness left\r\n"]
        elif how == "drop":
            peer.replies["STARTTLS"] = [None]
        elif how == "junk":
            peer.replies["STARTTLS"] = [b"220 go\r\nThis is no TLS record at all\r\n"]
        await peer.listen(bench.nursery)
        answer = await bench.deliver([peer])
        if level == "may" and how != "junk":
            assert outcomes(answer) == [(0, 250, "2.0.0")]
            assert peer.sessions == (1 if how == "454" else 2)
            assert answer.tls == ""
        else:
            assert [code for _, code, _ in outcomes(answer)] == [451]
            assert peer.messages == []
        assert peer.handshakes == []
        if how in {"drop", "old"}:
            (failed,) = events(bench, "tls_failed")
            assert (failed["next"] == "clear text") == (level == "may")


async def test_a_host_with_broken_tls_costs_the_second_connection_once(tmp_path, certs):
    table = PolicyTable(TlsPolicy(), read_policies([("b@example.net", "encrypt")], "map")[0])
    async with Start(tmp_path, tls=options(certs), policies=table) as bench:
        peer = Peer(tls=server(certs.good), replies={"STARTTLS": [None]})
        await peer.listen(bench.nursery)
        for number, sessions in ((1, 2), (2, 3)):
            answer = await bench.deliver([peer], da_sess=number)
            assert outcomes(answer) == [(0, 250, "2.0.0")]
            assert answer.tls == ""
            assert peer.sessions == sessions
        # mail that needs TLS asks again, and finds that it works now
        answer = await bench.deliver([peer], bench.envelope(rcpts=("b",)), da_sess=3)
        assert outcomes(answer) == [(0, 250, "2.0.0")]
        assert "verify=OK" in answer.tls


@pytest.mark.parametrize("level", ["may", "encrypt"])
@pytest.mark.parametrize("how", ["handshake", "reply"])
async def test_a_handshake_that_does_not_go_on_has_an_end(tmp_path, certs, level, how):
    waits = TIMEOUT_S | {Phase.TLS: 0.1}
    rules = {"policies": policy(level), "timeouts": waits}
    async with Start(tmp_path, tls=options(certs), **rules) as bench:
        peer = Peer(tls=server(certs.good), deaf_to_tls=how == "handshake")
        peer.replies["STARTTLS"] = [...] if how == "reply" else []
        await peer.listen(bench.nursery)
        answer = await bench.deliver([peer])
        assert outcomes(answer) == [(0, 250, "2.0.0") if level == "may" else (0, 451, "4.7.5")]
        (failed,) = events(bench, "tls_failed")
        assert "time-out" in failed["reason"]


async def test_a_silent_authentication_has_an_end(tmp_path, certs):
    logins = LoginTable({HOST: Login("alice", "secret")})
    rules = {"logins": logins, "timeouts": TIMEOUT_S | {Phase.AUTH: 0.1}}
    ehlo = b"250-peer\r\n250 AUTH PLAIN\r\n"
    async with Start(tmp_path, tls=options(certs), **rules) as bench:
        peer = Peer(tls=server(certs.good), ehlo=ehlo, replies={"AUTH": [...]})
        await peer.listen(bench.nursery)
        answer = await bench.deliver([peer])
        assert outcomes(answer) == [(0, 451, "4.4.2")]
        assert "reply to AUTH" in answer.results[0].text


async def test_recipients_of_one_message_are_judged_one_by_one(tmp_path, certs):
    entries = [("a@example.net", "may"), ("b@example.net", "encrypt"), ("c@example.net", "verify")]
    table = PolicyTable(TlsPolicy(), read_policies(entries, "map")[0])
    async with Start(tmp_path, tls=options(certs), policies=table) as bench:
        peer = await Peer(tls=server(certs.wrong)).listen(bench.nursery)
        envelope = bench.envelope(rcpts=("a", "b", "c"))
        answer = await bench.deliver([peer], envelope)
        assert outcomes(answer) == [(0, 250, "2.0.0"), (1, 250, "2.0.0"), (2, 451, "4.7.5")]
        assert peer.messages[0].rcpts == ["a@example.net", "b@example.net"]
        assert answer.open
        clear = await Peer().listen(bench.nursery)
        envelope = bench.envelope(rcpts=("a", "b", "c"))
        answer = await bench.deliver([clear], envelope, da_sess=2)
        assert outcomes(answer) == [(0, 250, "2.0.0"), (1, 451, "4.7.4"), (2, 451, "4.7.4")]


async def test_a_kept_session_in_clear_text_is_left_for_mail_that_needs_tls(tmp_path, certs):
    table = PolicyTable(TlsPolicy(), read_policies(
        [("a@example.net", "none"), ("b@example.net", "encrypt")], "map")[0])  # fmt: skip
    async with Start(tmp_path, tls=options(certs), policies=table) as bench:
        peer = await Peer(tls=server(certs.good)).listen(bench.nursery)
        answer = await bench.deliver([peer], bench.envelope(rcpts=("a",)))
        assert (answer.tls, answer.open) == ("", True)
        answer = await bench.deliver([peer], bench.envelope(rcpts=("b",)))
        assert outcomes(answer) == [(0, 250, "2.0.0")]
        assert answer.tls
        assert peer.sessions == 2


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_the_next_session_resumes_the_last_one(tmp_path, certs, version):
    rules = {"policies": policy("verify"), "longest_session_s": 0.0}
    async with Start(tmp_path, tls=options(certs), **rules) as bench:
        peer = await Peer(tls=server(certs.good, version=version)).listen(bench.nursery)
        for number in range(3):
            answer = await bench.deliver([peer], da_sess=number)
            assert outcomes(answer) == [(0, 250, "2.0.0")]
            assert not answer.open
            while bench.events().count("da_session_closed") <= number:
                await trio.testing.wait_all_tasks_blocked(0.01)
        assert [resumed for _, resumed, _ in peer.handshakes] == [False, True, True]
        assert answer.tls.endswith("verify=OK name=yes resumed")


@pytest.mark.covers("X422")
async def test_the_client_shows_its_certificate_where_it_is_asked_for(tmp_path, certs):
    conf = options(certs, cert_file=certs.client[0], key_file=certs.client[1])
    async with Start(tmp_path, tls=conf) as bench:
        peer = await Peer(tls=server(certs.good, ask=certs.ca)).listen(bench.nursery)
        await bench.deliver([peer])
        assert peer.handshakes[0][2]["subject"] == ((("commonName", "client.example"),),)


async def test_tls_on_connect(tmp_path, certs):
    rules = {"policies": policy("verify on_connect")}
    async with Start(tmp_path, tls=options(certs), **rules) as bench:
        peer = await Peer(tls=server(certs.good), implicit=True).listen(bench.nursery)
        answer = await bench.deliver([peer])
        assert outcomes(answer) == [(0, 250, "2.0.0")]
        assert len(peer.helos) == 1
        clear = await Peer().listen(bench.nursery)
        answer = await bench.deliver([clear], da_sess=2)
        assert [code for _, code, _ in outcomes(answer)] == [451]
        assert clear.messages == []


async def test_a_connection_cut_before_the_last_reply_is_the_unknown_case_under_tls_too(
    tmp_path, certs
):
    async with Start(tmp_path, tls=options(certs)) as bench:
        peer = Peer(tls=server(certs.good))
        peer.replies["dot"] = [None]
        await peer.listen(bench.nursery)
        answer = await bench.deliver([peer])
        assert outcomes(answer) == [(0, 451, "4.4.2")]
        assert answer.unknown
        assert bench.events().count("outcome_unknown") == 1


@pytest.mark.parametrize("chunking", [True, False])
async def test_a_large_message_arrives_whole_under_tls(tmp_path, certs, chunking):
    data = b"Subject: large\r\n\r\n" + (b"." * 70 + b"\r\n") * 30_000
    async with Start(tmp_path, tls=options(certs), chunking=chunking) as bench:
        peer = Peer(tls=server(certs.good), ehlo=b"250-peer\r\n250-PIPELINING\r\n250 CHUNKING\r\n")
        await peer.listen(bench.nursery)
        answer = await bench.deliver([peer], bench.envelope(data))
        assert outcomes(answer) == [(0, 250, "2.0.0")]
        stuffed = data if chunking else data.replace(b"\r\n.", b"\r\n..")
        assert peer.messages[0].data == stuffed
        assert answer.open


@pytest.mark.parametrize("size", [0, 10, 70_000, 600_000])
async def test_chunks_of_any_size(tmp_path, size):
    data = (b"." * 62 + b"\r\n") * (size // 64 + 1)
    data = data[: len(data) - 64] if not size else data
    async with Start(tmp_path) as bench:
        peer = Peer(ehlo=b"250-peer\r\n250-PIPELINING\r\n250 CHUNKING\r\n")
        await peer.listen(bench.nursery)
        for _ in range(2):
            answer = await bench.deliver([peer], bench.envelope(data))
            assert outcomes(answer) == [(0, 250, "2.0.0")]
        assert [one.data for one in peer.messages] == [data] * 2
        assert peer.sessions == 1


async def test_a_login_needs_a_server_that_shows_who_it_is(tmp_path, certs):
    logins = LoginTable({HOST: Login("alice", "secret")})
    ehlo = b"250-peer\r\n250 AUTH PLAIN\r\n"
    async with Start(tmp_path, tls=options(certs), logins=logins) as bench:
        wrong = await Peer(tls=server(certs.wrong), ehlo=ehlo).listen(bench.nursery)
        answer = await bench.deliver([wrong])
        assert [code for _, code, _ in outcomes(answer)] == [451]
        assert wrong.messages == []


async def test_the_name_and_address_of_a_source_are_used(tmp_path):
    sources = SourceTable(
        (SourceConf(next_hop=(HOST,), address="127.0.0.7", helo="out.example"),), "in.example"
    )
    async with Start(tmp_path, sources=sources) as bench:
        peer = await Peer().listen(bench.nursery)
        await bench.deliver([peer])
        assert peer.clients[0][0] == "127.0.0.7"
        assert peer.helos == ["EHLO out.example"]


async def test_an_own_address_that_is_not_ours_keeps_the_mail(tmp_path):
    sources = SourceTable((SourceConf(address="192.0.2.77"),), "in.example")
    async with Start(tmp_path, sources=sources) as bench:
        peer = await Peer().listen(bench.nursery)
        answer = await bench.deliver([peer])
        assert outcomes(answer) == [(0, 451, "4.4.1")]
        assert "own address 192.0.2.77" in answer.results[0].text


async def test_an_old_session_takes_no_further_message(tmp_path):
    async with Start(tmp_path, longest_session_s=0.0) as bench:
        peer = await Peer().listen(bench.nursery)
        answer = await bench.deliver([peer])
        assert outcomes(answer) == [(0, 250, "2.0.0")]
        assert not answer.open


async def test_the_times_of_the_phases_are_told(tmp_path):
    async with Start(tmp_path) as bench:
        peer = await Peer().listen(bench.nursery)
        answer = await bench.deliver([closed_port(), peer])
        words = [word.partition(":")[0] for word in answer.took.split()]
        assert words[:1] == ["connect"]
        assert {"greeting", "hello", "mail", "dot"} <= set(words)
        answer = await bench.deliver([peer])
        assert "connect" not in answer.took
