"""Rules of the sections of SMTP servers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libsmx.confload import resolve_component, resolve_file
from libsmx.confsmtps import number_servers
from libsmx.ids import MAX_SERVER_ID

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
