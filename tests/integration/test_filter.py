"""A content filter in the running system: what it changes is delivered, what it holds is held."""

import os
import smtplib

import pytest

from tests.milterfilter import GO, HANG_UP, ScriptedFilter, change, header, packet, text
from tests.sink import Sink
from tests.system import reachable_dir, wait_for


@pytest.fixture
def place():
    """A directory for the filter's socket."""
    base = reachable_dir("smx-filter-")
    yield base
    for path in base.iterdir():
        path.unlink()
    base.rmdir()


def listen(place, answers):
    """A filter that every user can connect to."""
    path = str(place / "filter")
    if os.path.exists(path):
        os.unlink(path)
    scripted = ScriptedFilter(answers).listen(path)
    os.chmod(path, 0o666)
    return scripted


def code(function):
    """The reply code of a client's message."""
    try:
        function()
    except smtplib.SMTPResponseException as error:
        return error.smtp_code
    except smtplib.SMTPRecipientsRefused as error:
        return next(iter(error.recipients.values()))[0]
    return 250


@pytest.mark.slow
@pytest.mark.covers("X388")
def test_filter_changes_holds_and_fails(smx, place):
    changes = (
        header("X-Seen", "yes") + change(1, "Subject", "new") + packet("b", b"other body\r\n")
        + text("+", "<third@dest.example>") + text("-", "<b@dest.example>")
        + text("e", "<changed@client.example>") + GO
    )  # fmt: skip
    scripted = listen(place, {"end": changes})
    with Sink() as sink:
        options = f"""milter {{ name = test; reply_timeout = 5m;
            socket {{ type = unix; path = "{place}/filter"; }} }}"""
        system = smx(nexthop=f"127.0.0.1:{sink.port}", options={"smtps": options}).start()
        system.send(rcpts=("b@dest.example", "c@dest.example"))
        (message,) = sink.wait(1)
        assert message.sender == "changed@client.example"
        assert sorted(message.rcpts) == ["c@dest.example", "third@dest.example"]
        assert message.data.endswith(b"\r\nSubject: new\r\nX-Seen: yes\r\n\r\nother body\r\n")
        system.wait_empty()
        assert not system.contents()

        # Held at its acceptance, until somebody releases it.
        scripted.answers["end"] = text("q", "looks odd") + GO
        system.send(body="Subject: held\r\n\r\nhi\r\n")
        (queued,) = system.queue()
        assert "looks odd" in system.ctl("explain", queued["ta_id"])
        scripted.answers["end"] = GO
        system.send(body="Subject: passes\r\n\r\nhi\r\n")
        assert b"Subject: passes" in sink.wait(2)[1].data
        assert len(system.queue()) == 1
        system.ctl("release", queued["ta_id"])
        assert b"Subject: held" in sink.wait(3)[2].data
        system.wait_empty()

        # Without the filter mail has to wait outside; with it back it comes in at once.
        scripted.answers["end"] = HANG_UP
        assert code(system.send) == 451
        scripted.close()
        assert code(system.send) == 451
        scripted = listen(place, {"rcpt": [packet("r"), GO]})
        assert code(system.send) == 550
        assert code(system.send) == 250
        sink.wait(4)
        system.wait_empty()
        scripted.close()
        wait_for("no content", lambda: not system.contents())
    assert any("filter_failed" in line for line in system.log("smtps"))
