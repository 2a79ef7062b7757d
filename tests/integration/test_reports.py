"""Reports to senders through the real processes: what a next hop and a sender get to see."""

import email
import smtplib

import pytest

from tests.sink import EXTENSIONS, Sink
from tests.system import wait_for

BODY = "Subject: told\r\n\r\nthe body of it\r\n"
QUICK = "retry_min_delay = 1s; retry_max_delay = 1s; "


def submit(system, *rcpts, sender="boss@client.example", mail=(), wishes=(), body=BODY):
    """Send one message with ESMTP parameters."""
    with smtplib.SMTP("127.0.0.1", system.port, timeout=60) as client:
        client.ehlo()
        assert client.has_extn("dsn")
        assert client.sendmail(sender, list(rcpts), body, list(mail), list(wishes)) == {}


def refuse(code):
    """A reply to RCPT: who begins with "no" is refused."""
    return lambda address: f"{code} not here" if address.startswith("no") else None


def facts(message):
    """A report's fields, one mapping for the message and one for each recipient."""
    report = email.message_from_bytes(message.data)
    assert report.get_content_type() == "multipart/report"
    (part,) = [p for p in report.walk() if p.get_content_type() == "message/delivery-status"]
    return part.get_payload()


@pytest.mark.covers("X182", "X181")
def test_a_delay_is_told_once_and_the_end_as_well(smx):
    options = {"qmgr": QUICK + "queue_delay_timeout = 2s; queue_return_timeout = 9s;"}
    with Sink(replies={"RCPT": refuse("451 4.2.1")}) as sink:
        system = smx(nexthop=sink.address, options=options).start()
        submit(system, "nobody@dest.example", mail=["ENVID=Q+2B1"])
        delayed, failed = sink.wait(2)
        system.wait_empty()
        assert len(sink.messages) == 2
    whole, rcpt = facts(delayed)
    assert (delayed.sender, delayed.rcpts) == ("", ["boss@client.example"])
    assert whole["Original-Envelope-Id"] == "Q+1"
    assert (rcpt["Action"], rcpt["Status"]) == ("delayed", "4.2.1")
    assert rcpt["Will-Retry-Until"]
    assert b"the body of it" not in delayed.data
    _, rcpt = facts(failed)
    assert (rcpt["Action"], rcpt["Status"]) == ("failed", "4.4.7")
    assert b"the body of it" in failed.data


@pytest.mark.covers("X183")
def test_a_delay_timeout_beyond_the_return_timeout_is_off(smx):
    options = {"qmgr": QUICK + "queue_delay_timeout = 5s; queue_return_timeout = 4s;"}
    with Sink(replies={"RCPT": refuse("451 4.2.1")}) as sink:
        system = smx(nexthop=sink.address, options=options).start()
        submit(system, "nobody@dest.example")
        sink.wait(1)
        system.wait_empty()
        (failed,) = sink.messages
    assert facts(failed)[1]["Action"] == "failed"


def test_wishes_travel_to_a_server_that_knows_them(smx):
    with Sink(extensions=(*EXTENSIONS, "DSN")) as sink:
        system = smx(nexthop=sink.address).start()
        submit(
            system, "b@dest.example", mail=["RET=HDRS", "ENVID=E1"],
            wishes=["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;old@dest.example"],
        )  # fmt: skip
        (message,) = sink.wait(1)
        system.wait_empty()
        assert "RET=HDRS ENVID=E1" in message.params
        assert sink.params == ["NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;old@dest.example"]
        assert len(sink.messages) == 1, "the next hop reports"


def test_reports_themselves_ask_for_no_report(smx):
    with Sink(extensions=(*EXTENSIONS, "DSN"), replies={"RCPT": refuse("550 5.1.1")}) as sink:
        system = smx(nexthop=sink.address).start()
        submit(system, "nobody@dest.example")
        sink.wait(1)
        assert sink.params == ["", "NOTIFY=NEVER"]


@pytest.mark.parametrize("lmtp", [False, True])
def test_success_is_told_where_the_next_hop_does_not(smx, lmtp):
    with Sink(lmtp=lmtp) as sink, Sink() as back:
        protocol = "lmtp" if lmtp else "esmtp"
        mt = f"dest.example {sink.port}^{protocol}:[127.0.0.1]\n. {back.port}^esmtp:[127.0.0.1]\n"
        system = smx(mt=mt).start()
        submit(
            system, "b@dest.example",
            wishes=["NOTIFY=SUCCESS", "ORCPT=rfc822;old+2Bone@dest.example"],
        )  # fmt: skip
        (report,) = back.wait(1)
        system.wait_empty()
        wait_for("the content file's removal", lambda: not system.contents())
        assert len(sink.messages) == 1
    _, rcpt = facts(report)
    assert rcpt["Action"] == ("delivered" if lmtp else "relayed")
    assert rcpt["Original-Recipient"] == "rfc822; old+one@dest.example"
    assert rcpt["Status"] == "2.0.0"
    assert b"the body of it" not in report.data


def test_who_wants_to_hear_nothing_hears_nothing(smx):
    with Sink(replies={"RCPT": refuse("550 5.1.1")}) as sink:
        system = smx(nexthop=sink.address).start()
        submit(system, "nobody@dest.example", wishes=["NOTIFY=NEVER"])
        wait_for(
            "the failure in the log",
            lambda: any("rcpt_unreported" in line for line in system.log("qmgr")),
        )
        system.wait_empty()
        wait_for("the content file's removal", lambda: not system.contents())
        assert sink.messages == []


@pytest.mark.covers("X165")
@pytest.mark.parametrize("window", ["1h", "0s"])
def test_failures_of_one_message_are_told_together_within_the_window(smx, window):
    """The second next hop refuses when the first one's refusal is known for sure."""
    options = {"qmgr": f"DSN_handling {{ merge_delay_max = {window}; }}"}
    with Sink(replies={"RCPT": refuse("550 5.1.1")}) as one, Sink() as back:

        def slowly(address):
            if address.startswith("no"):
                known = "rcpt_failed" if window == "1h" else "bounce_queued"
                daemon = "smtpc" if window == "1h" else "qmgr"
                wait_for(known, lambda: any(known in line for line in system.log(daemon)))
                return "550 5.1.1 not here either"
            return None

        with Sink(replies={"RCPT": slowly}) as two:
            mt = (
                f"one.example {one.port}^esmtp:[127.0.0.1]\n"
                f"two.example {two.port}^esmtp:[127.0.0.1]\n. {back.port}^esmtp:[127.0.0.1]\n"
            )
            system = smx(mt=mt, options=options)
            system.start()
            submit(system, "nobody@one.example", "none@two.example")
            reports = back.wait(1 if window == "1h" else 2)
            system.wait_empty()
            assert len(back.messages) == len(reports)
    failed = [len(facts(report)) - 1 for report in reports]
    assert failed == ([2] if window == "1h" else [1, 1])


@pytest.mark.covers("X167", "X169", "X170")
def test_the_first_report_brings_the_message_and_the_next_its_header(smx):
    with Sink(replies={"RCPT": refuse("550 5.1.1")}) as sink:
        system = smx(nexthop=sink.address, options={"qmgr": "max_errors_per_DSN = 1;"}).start()
        submit(system, "no1@dest.example", "no2@dest.example")
        reports = sink.wait(2)
        system.wait_empty()
    assert sorted(b"the body of it" in report.data for report in reports) == [False, True]
    assert all(b"Subject: told" in report.data for report in reports)


@pytest.mark.covers("X167")
@pytest.mark.parametrize(("most", "whole"), [("4MB", True), ("1MB", False)])
def test_a_large_message_comes_back_whole_up_to_a_bound(smx, most, whole):
    lines = "".join(f"{n:08d} a line of a large message\r\n" for n in range(50_000))
    options = {"qmgr": f"DSN_handling {{ flags = {{ MIME_Format }}; max_returned_size = {most}; }}"}
    with Sink(replies={"RCPT": refuse("550 5.1.1")}) as sink:
        system = smx(nexthop=sink.address, options=options).start()
        submit(system, "nobody@dest.example", mail=["RET=FULL"], body=BODY + lines)
        (message,) = sink.wait(1)
        system.wait_empty()
        wait_for("the content file's removal", lambda: not system.contents())
    assert facts(message)[1]["Final-Recipient"] == "rfc822; nobody@dest.example"
    assert (lines.encode() in message.data) is whole
    assert b"Subject: told" in message.data
    assert message.data.endswith(b"--\r\n")


@pytest.mark.covers("X167")
def test_a_later_report_has_no_body_when_it_is_made_in_the_deferred_queue(smx):
    told = []

    def rcpt(address):
        if address.startswith("later"):
            return "550 5.1.1 now it is known" if told else "451 4.2.1 not known yet"
        return refuse("550 5.1.1")(address)

    with Sink(replies={"RCPT": rcpt}) as sink:
        system = smx(nexthop=sink.address, options={"qmgr": QUICK}).start()
        submit(system, "nobody@dest.example", "later@dest.example")
        (first,) = sink.wait(1)
        told.append(first)
        _, second = sink.wait(2)
        system.wait_empty()
        wait_for("the content file's removal", lambda: not system.contents())
    assert b"the body of it" in first.data
    assert b"the body of it" not in second.data
    assert facts(second)[1]["Final-Recipient"] == "rfc822; later@dest.example"


@pytest.mark.covers("X166", "X168")
def test_flags_choose_the_form(smx):
    options = {"qmgr": "DSN_handling { flags = { header_only }; }"}
    with Sink(replies={"RCPT": refuse("550 5.1.1")}) as sink:
        system = smx(nexthop=sink.address, options=options).start()
        submit(system, "nobody@dest.example")
        (message,) = sink.wait(1)
    report = email.message_from_bytes(message.data)
    assert report.get_content_type() == "text/plain"
    assert "550 5.1.1 not here" in report.get_payload()
    assert "Subject: told" in report.get_payload()
    assert "the body of it" not in report.get_payload()


def test_a_report_that_fails_goes_to_the_double_bounce_address(smx):
    options = {"qmgr": 'DSN_handling { double_bounce_address = "dbl@ops.example"; }'}
    with Sink(replies={"RCPT": refuse("550 5.1.1")}) as sink:
        system = smx(nexthop=sink.address, options=options).start()
        submit(system, "nobody@dest.example", sender="nosuch@client.example")
        (message,) = sink.wait(1)
        system.wait_empty()
        wait_for("the content file's removal", lambda: not system.contents())
    assert (message.sender, message.rcpts) == ("", ["dbl@ops.example"])
    assert facts(message)[1]["Final-Recipient"] == "rfc822; nosuch@client.example"
