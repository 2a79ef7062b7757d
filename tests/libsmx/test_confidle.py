"""Options that can never take effect are named, with the place and the reason."""

import pytest

from libsmx.config import load_file

RUN = 'start_action = wait; path = "/x"; arguments = "x"; '
PASS = 'start_action = pass; path = "/x"; arguments = "x"; pass_fd_socket = p; '
ACCESS = f"smar {{ {RUN} access_map {{ file = x; }} }}"


def warnings(text):
    return [line.split(": ", 1) for line in load_file("f", text.encode()).warnings]


@pytest.mark.covers("X102", "X130")
@pytest.mark.parametrize(
    ("text", "name", "why"),
    [
        (f"foo {{ {RUN} listen_socket {{ port = 25; }} }}", "foo.listen_socket", "is wait"),
        (f"qmgr {{ {RUN} pass_fd_socket = x; }}", "qmgr.pass_fd_socket", "start_action pass"),
        (f"foo {{ {RUN} max_processes = 4; }}", "foo.max_processes", "just min_processes"),
        (f"smtps {{ {PASS} listen_socket {{ port = 25; umask = 0; }} }}",
         "smtps.listen_socket.umask", "for type unix"),
        (f"smtps {{ {PASS} listen_socket {{ type = unix; path = x; port = 25; }} }}",
         "smtps.listen_socket.port", "for type inet and inet6"),
        (f"smar {{ {RUN} log {{ facility = mail; file = x; }} }}", "smar.log.facility",
         "log.file is set"),
        (f"smar {{ {RUN} log {{ file = x; journal = true; }} }}", "smar.log.journal",
         "log.file is set"),
        (f"{ACCESS} smtps {{ {PASS} listen_socket {{ port = 25; }} }}", "smar.access_map",
         "no smtps section has access"),
    ],
)  # fmt: skip
def test_an_option_that_idles_is_named(text, name, why):
    ((place, said),) = warnings(text)
    assert place.startswith("f:1:")
    assert said.startswith(f"{name}: has no effect: ")
    assert why in said


@pytest.mark.parametrize(
    "text",
    [
        f"foo {{ {RUN} }}",
        f"smtps {{ {PASS} listen_socket {{ port = 25; address = 127.0.0.1; }} }}",
        f"{ACCESS} smtps {{ {PASS} listen_socket {{ port = 25; }} flags = {{ access }} }}",
        f"smar {{ {RUN} log {{ facility = local1; }} }}",
    ],
)
def test_what_works_is_not_named(text):
    assert warnings(text) == []


def test_lines_come_in_the_order_of_the_file():
    one = f"a {{ {RUN}\n max_processes = 2;\n pass_fd_socket = x; }}\n"
    two = f"b {{ {RUN}\n max_processes = 2; }}"
    assert [place for place, _said in warnings(one + two)] == ["f:2:2", "f:3:2", "f:5:2"]
