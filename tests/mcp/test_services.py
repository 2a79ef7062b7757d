"""Sections of smx.conf as services."""

import pytest

from libsmx.errors import ConfigError
from libsmx.opttab import ListenSocket, ServiceConf
from mcp.services import Slot, make_services


def conf(**changes):
    values = {"start_action": "wait", "path": "/bin/sleep", "arguments": ("sleep", "9")} | changes
    return ServiceConf(**values)


def problems(*sections):
    with pytest.raises(ConfigError) as caught:
        make_services(sections)
    return "\n".join(caught.value.problems)


@pytest.mark.covers("X104", "X149")
def test_any_keyword_is_a_service():
    [made] = make_services([("foo", None, conf())])
    assert (made.label, made.path, made.copies, made.passes) == ("foo", "/bin/sleep", 1, False)
    assert made.command(Slot("foo", 0)) == ["sleep", "9"]


@pytest.mark.covers("X078", "X146")
def test_pass_id_comes_first_and_ids_differ():
    [made] = make_services([("smtpc", None, conf(pass_id="-i", min_processes=2, max_processes=4))])
    assert [made.command(slot) for slot in made.slots()] == [
        ["sleep", "-i", "0", "9"],
        ["sleep", "-i", "1", "9"],
    ]
    assert [str(slot) for slot in made.slots()] == ["smtpc/0", "smtpc/1"]


@pytest.mark.covers("X145")
def test_first_argument_is_the_name_of_the_program():
    [made] = make_services([("lda", None, conf(arguments=("local", "-x")))])
    assert made.command(Slot("lda", 0))[0] == "local"


def test_file_order_is_kept_with_qmgr_first():
    names = ["smtps", "SMTPC", "QMGR", "smar"]
    made = make_services([(name, None, conf()) for name in names])
    assert [service.label for service in made] == ["qmgr", "smtps", "smtpc", "smar"]


@pytest.mark.covers("X143")
def test_dependencies_mean_keyword_or_name_and_never_the_service_itself():
    rows = [
        ("qmgr", None, conf(restart_dependencies=("SMTPS", "extra", "qmgr"))),
        ("smtps", "MTA", conf()),
        ("smtps", "MSA", conf()),
        ("lda", "extra", conf()),
    ]
    made = make_services(rows)
    assert made[0].dependencies == {"smtps[MTA]", "smtps[MSA]", "lda[extra]"}


LISTEN = (ListenSocket(port=25),)
MISTAKES = [
    ({"start_action": ""}, "start_action is required"),
    ({"start_action": "accept"}, "accept needs a listen_socket"),
    ({"start_action": "nostartaccept"}, "nostartaccept needs a listen_socket"),
    ({"path": ""}, "path is required"),
    ({"arguments": ()}, "arguments is required"),
    ({"start_action": "pass", "pass_fd_socket": "s"}, "needs a listen_socket"),
    ({"start_action": "pass", "listen_socket": LISTEN}, "needs a pass_fd_socket"),
    (
        {"start_action": "pass", "listen_socket": LISTEN, "pass_fd_socket": "s"}
        | {"min_processes": 2, "max_processes": 2},
        "need a pass_id",
    ),
    ({"min_processes": 3}, "max_processes is below"),
    ({"listen_socket": (ListenSocket(type="unix"),)}, "type unix needs a path"),
    ({"listen_socket": (ListenSocket(type="inet6"),)}, "type inet6 needs a port"),
    ({"listen_socket": LISTEN * 65}, "more than 64"),
    ({"restart_dependencies": ("nobody",)}, "there is no service nobody"),
]


@pytest.mark.covers("X125", "X130", "X144", "X145", "X148")
@pytest.mark.parametrize(("changes", "text"), MISTAKES, ids=[text for _, text in MISTAKES])
def test_mistake_is_named_with_its_service(changes, text):
    found = problems(("foo", None, conf(**changes)))
    assert text in found
    assert found.startswith("foo")


def test_all_mistakes_are_told_at_once():
    found = problems(("a", None, conf(path="")), ("b", None, conf(start_action="")))
    assert "a: path" in found
    assert "b: start_action" in found


def test_section_that_stands_twice_is_refused():
    assert "stands twice" in problems(("a", None, conf()), ("A", None, conf()))


def test_configuration_without_services_is_refused():
    assert "no section" in problems()


ACTIONS = [
    ("wait", 2, 5, (2, 0, False)),
    ("accept", 2, 5, (2, 3, True)),
    ("accept", 1, 1, (1, 0, True)),
    ("accept", 0, 1, (0, 1, True)),
    ("nostartaccept", 1, 1, (0, 1, True)),
    ("nostartaccept", 2, 5, (0, 5, True)),
]


@pytest.mark.covers("X128", "X129", "X147", "X148")
@pytest.mark.parametrize(("action", "low", "high", "wanted"), ACTIONS)
def test_copies_are_kept_or_held_in_reserve_by_start_action(action, low, high, wanted):
    row = conf(start_action=action, min_processes=low, max_processes=high, listen_socket=LISTEN)
    [made] = make_services([("foo", None, row)])
    assert (made.copies, made.reserve, made.inherits) == wanted
    assert made.floor == max(1, low)
    assert [slot.index for slot in made.slots()] == list(range(sum(wanted[:2])))
    assert not made.passes
    assert made.listen == (LISTEN if made.inherits else ())


@pytest.mark.covers("X139")
def test_each_copy_with_an_id_has_its_own_fd_socket():
    row = conf(start_action="pass", listen_socket=LISTEN, pass_fd_socket="smtps/fd")
    [plain] = make_services([("smtps", None, row)])
    assert plain.fd_socket(Slot("smtps", 0)) == "smtps/fd"
    row = conf(start_action="pass", listen_socket=LISTEN, pass_fd_socket="s/fd", pass_id="-i")
    [numbered] = make_services([("smtps", None, row)])
    assert numbered.fd_socket(Slot("smtps", 3)) == "s/fd.3"
