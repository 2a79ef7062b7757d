"""Lists in the running system while the queue manager dies: every member gets it."""

import smtplib

import pytest

from tests.integration.test_crash import flushed_empty
from tests.load import NUMBER
from tests.sink import Sink
from tests.system import wait_for

MEMBERS = [f"m{number}@far{number % 3}.test" for number in range(12)]
ALIASES = {
    "many": " ".join(f"<{member}>" for member in MEMBERS),
    "pair": "<a@one.test> <b@one.test>",
}
ROUTES = "local.test lmtp:\nmx.smx.test lmtp:\n. {port}^esmtp:[127.0.0.1]\n"


def accepted(system, number):
    """Send a numbered message to the list; tell whether it was taken."""
    body = f"X-Number: {number}\r\n\r\nbody\r\n"
    try:
        system.send(sender="s@client.test", rcpts=["many@local.test"], body=body)
    except (smtplib.SMTPException, OSError):
        return False
    return True


@pytest.mark.slow
@pytest.mark.covers("X018")
def test_every_member_gets_it_although_the_queue_manager_dies(smx):
    count = 40
    with Sink() as sink:
        system = smx(mt=ROUTES.format(port=sink.port), aliases=ALIASES).start()
        for number in range(count):
            wait_for("acceptance", lambda: accepted(system, number))  # noqa: B023
            if number % 12 == 11:
                system.kill("qmgr")
        flushed_empty(system)
        got = {
            (int(NUMBER.search(message.data)[1]), rcpt)
            for message in sink.messages
            for rcpt in message.rcpts
        }
    assert got == {(number, member) for number in range(count) for member in MEMBERS}
    assert all(message.sender == "s@client.test" for message in sink.messages)


@pytest.mark.covers("X018")
def test_who_wants_to_hear_of_success_hears_that_a_name_stands_for_others(smx):
    with Sink() as sink:
        system = smx(mt=ROUTES.format(port=sink.port), aliases=ALIASES).start()
        with smtplib.SMTP("127.0.0.1", system.port, timeout=60) as client:
            client.ehlo()
            wishes = ["NOTIFY=SUCCESS,FAILURE"]
            assert (
                client.sendmail("s@client.test", ["pair@local.test"], "A: b\r\n\r\n", [], wishes)
                == {}
            )
        sink.wait(2)
        system.wait_empty()
    reports = [message for message in sink.messages if not message.sender]
    mail = [message for message in sink.messages if message.sender]
    assert sorted(rcpt for message in mail for rcpt in message.rcpts) == [
        "a@one.test",
        "b@one.test",
    ]
    assert [message.rcpts for message in reports] == [["s@client.test"]]
    assert b"\r\nAction: expanded\r\n" in reports[0].data
    assert b"\r\nFinal-Recipient: rfc822; pair@local.test\r\n" in reports[0].data
