"""A real Postfix as the client of our server, with SMTPUTF8 and DSN."""

import os
import shutil
import smtplib

import pytest

from tests.conftest import need
from tests.postfix import Postfix
from tests.sink import Sink
from tests.system import DEADLINE_S, free_port, reachable_dir


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0, reason="needs root: Postfix's master does")
def test_postfix_hands_over_utf8_and_what_is_said_of_reports(smx):
    need("postfix", "postfix")
    place = reachable_dir()
    extensions = ("SMTPUTF8", "8BITMIME", "DSN", "SIZE 0")
    try:
        with Sink(extensions=extensions) as last:
            system = smx(nexthop=f"127.0.0.1:{last.port}").start()
            hop = f"127.0.0.1:{system.port}"
            with Postfix(place, free_port(), hop, extra="smtputf8_enable = yes") as postfix:
                with smtplib.SMTP("127.0.0.1", postfix.port, timeout=DEADLINE_S) as client:
                    client.ehlo("client.example")
                    client.sendmail(
                        "jörg@client.example",
                        ["用户@dest.example"],
                        "Subject: grüße\r\n\r\nhällo\r\n".encode(),
                        ["SMTPUTF8", "BODY=8BITMIME", "RET=HDRS", "ENVID=Q1"],
                        ["NOTIFY=FAILURE,DELAY", "ORCPT=rfc822;x@dest.example"],
                    )
                (message,) = last.wait(1)
            system.wait_empty()
    finally:
        shutil.rmtree(place)
    assert message.sender == "jörg@client.example"
    assert message.rcpts == ["用户@dest.example"]
    text = message.data.decode()
    assert "with UTF8SMTP id S" in text
    assert "\r\nSubject: grüße\r\n" in text
    assert text.endswith("\r\n\r\nhällo\r\n")
    (params,) = last.params
    assert "NOTIFY=FAILURE,DELAY" in params
    assert "ORCPT=rfc822;x@dest.example" in params
    assert "SMTPUTF8" in message.params
