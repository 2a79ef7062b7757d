"""Rules of the sections of SMTP servers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libsmx.confload import resolve_component, resolve_file
from libsmx.confsmtps import number_servers
from libsmx.errors import ConfigError
from libsmx.ids import MAX_SERVER_ID
from smtps.milterio import filters_of
from smtps.policy import Policy

README = b"""
smtps MTA {
  listen_socket { type=inet; port = 25; }
  start_action = pass; pass_fd_socket = smtps/mtafd; user = smxs; path = /usr/libexec/smtps;
  arguments = "smtps -N MTA -f /etc/smx/smx.conf"; log { facility = mail; ident=smX-MTA; }
}
smtps MSA {
  listen_socket { type=inet; port = 587; }
  start_action = pass; pass_fd_socket = smtps/msafd; user = smxs; path = /usr/libexec/smtps;
  arguments = "smtps -N MSA -f /etc/smx/smx.conf"; log { facility = mail; ident=smX-MSA; }
  processes = 3;
}
smtps OTHER {
  listen_socket { type=inet; port = 465; } id = 1;
  start_action = pass; pass_fd_socket = smtps/fd; path = /x; arguments = "smtps -N OTHER";
}
"""


@pytest.mark.parametrize(("given_", "ids"), [
    ([], []),
    ([(None, 1)], [0]),
    ([(None, 1), (None, 1)], [0, 1]),
    ([(None, 4), (None, 1)], [0, 4]),
    ([(None, 1), (0, 1)], [1, 0]),
    ([(3, 2), (None, 4), (None, 3)], [3, 5, 0]),
    ([(None, 256), (None, 1)], [0, 0]),
    ([(None, 300)], [0]),
])  # fmt: skip
def test_servers_without_an_id_get_the_first_free_numbers(given_, ids):
    assert number_servers(given_) == ids


@given(st.lists(st.tuples(st.none() | st.integers(0, 40), st.integers(1, 9)), max_size=12))
def test_numbers_given_never_overlap_with_others(servers):
    ids = number_servers(servers)
    blocks = [set(range(at, at + count)) for at, (_, count) in zip(ids, servers, strict=True)]
    for number, (written, _) in enumerate(servers):
        if written is not None:
            assert ids[number] == written
            continue
        assert max(blocks[number]) <= MAX_SERVER_ID
        for other, block in enumerate(blocks):
            assert other == number or blocks[number].isdisjoint(block)


@pytest.mark.covers("X428", "X430", "X380")
def test_server_and_supervisor_agree_on_numbers_and_processes():
    whole = resolve_file(README, "smx.conf")
    ids = [facts.conf.id for facts in whole.sections]
    assert ids == [0, 2, 1]
    for facts in whole.sections:
        own = resolve_component(README, "smx.conf", "smtps", facts.name)
        assert own.conf == facts.conf
    service = whole.sections[1].service
    assert (service.min_processes, service.max_processes, service.pass_id) == (3, 3, "-i")


SECTION = b"""
smtps { start_action = wait; path = /x; arguments = smtps; flags = { access };
  policy_milter { socket { type = unix; path = p; } timeout = 2m; flags = { abort }; }
  milter { name = one; socket { port = 8891; } }
  milter { name = two; socket { port = 8892; address = 192.0.2.1; } on_failure = quarantine;
    changes = { header }; }
  protected_recipients { allow_by = { allow_by_sender, client_ip }; match_type = generic_lookup; }
}
"""


@pytest.mark.covers("X384", "X385", "X386", "X387", "X388")
def test_filters_are_asked_in_the_order_of_the_file_behind_the_policy_filter():
    conf = resolve_component(SECTION, "smx.conf", "smtps", None).conf
    first, one, two = filters_of(conf.policy_milter, conf.milter)
    assert (first.name, first.socket.path, first.on_failure) == ("policy", "p", "abort")
    assert (first.connect_s, first.send_s, first.reply_s, first.end_s) == (120, 120, 120, 120)
    assert (one.name, one.socket.port, one.on_failure) == ("one", 8891, "tempfail")
    assert (one.connect_s, one.send_s, one.reply_s, one.end_s) == (30, 30, 30, 180)
    assert one.actions == 0xFF
    assert (two.on_failure, two.socket.address, two.actions) == ("quarantine", "192.0.2.1", 0x11)


@pytest.mark.covers("X394", "X395", "X396", "X397", "X400")
def test_protected_recipients_become_rules_for_the_resolver():
    conf = resolve_component(SECTION, "smx.conf", "smtps", None).conf
    assert Policy(conf, "mx.test").rules.split() == [
        "access", "allow_by_client_ip", "allow_by_sender", "generic_lookup",
    ]  # fmt: skip


BROKEN = [
    (b"policy_milter { socket { port = 1; } flags = { abort, accept_but_reconnect }; }", "exclude"),
    (b"policy_milter { socket { type = udp; port = 1; } }", "smx.conf:1:"),
    (b"policy_milter { }", "port is required"),
    (b"flags = { access }; protected_recipients { }", "allow_by: is required"),
]


@pytest.mark.covers("X385", "X393", "X398")
@pytest.mark.parametrize(("text", "told"), BROKEN)
def test_wrong_sections_are_refused_at_the_start(text, told):
    with pytest.raises(ConfigError, match=told):
        resolve_component(b"smtps { " + text + b" }", "smx.conf", "smtps", None)
