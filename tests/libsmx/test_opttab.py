"""The options table, and files that are resolved with it."""

from functools import partial

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libsmx.confbuild import MAX_REPEAT
from libsmx.config import load, load_file, load_services, read_config
from libsmx.confload import Override
from libsmx.confrules import RELATIONS, describe_relations
from libsmx.errors import ConfigError, UsageError
from libsmx.kinds import Choice, Path
from libsmx.options import OptionRow, SectionRow, own_rows, walk
from libsmx.opttab import COMPONENTS, GlobalConf, QmgrConf, ServiceConf, SmtpsConf

CLASSES = [GlobalConf, ServiceConf, *COMPONENTS.values()]


def all_rows(conf):
    for attribute, row in own_rows(conf).items():
        yield conf, attribute, row
        if isinstance(row, SectionRow):
            yield from all_rows(row.conf)


ROWS = [one for conf in CLASSES for one in all_rows(conf)]
IDS = [f"{conf.__name__}.{attribute}" for conf, attribute, _row in ROWS]


@pytest.mark.parametrize(("conf", "attribute", "row"), ROWS, ids=IDS)
def test_a_row_is_complete(conf, attribute, row):
    shared = isinstance(row, SectionRow) and not row.name
    assert shared or row.name.lower() == attribute
    if isinstance(row, SectionRow):
        return
    assert row.doc.endswith(".")
    assert row.doc[0].isupper() or row.doc.startswith(("smtp", "qmgr"))
    assert all(len(number) == 4 and number[0] == "X" for number in row.rows)
    if isinstance(row.kind, Choice) and row.text == ("",):
        return  # not set, and nobody may write it
    parts = [row.kind.read(text) for text in row.text]
    assert row.kind.join(parts) == row.default == getattr(conf(), attribute)
    if not (attribute == "port" and row.default == 0):
        for text in row.text:
            row.check(text)


def test_every_name_in_a_section_is_there_once():
    for conf in CLASSES:
        names = [name.lower() for name, _row, _value in walk(conf())]
        assert len(names) == len(set(names))


def test_classes_are_frozen_and_hashable():
    for conf in CLASSES:
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            conf().anything = 1
        hash(conf())


@pytest.mark.covers("X079", "X080", "X081", "X082", "X119", "X367")
@pytest.mark.parametrize(
    ("component", "path", "value"),
    [
        ("qmgr", "queue_return_timeout", 5 * 86400),
        ("qmgr", "retry_min_delay", 900),
        ("qmgr", "retry_max_delay", 4 * 3600),
        ("qmgr", "aq_max_entries", 8192),
        ("qmgr", "smtpc.max_connections", 100),
        ("qmgr", "smtpc.initial_connections", 10),
        ("qmgr", "smtps.max_connection_rate", 100),
        ("qmgr", "smtps.max_connections", 100),
        ("qmgr", "min_disk_space", 100 * 1024),
        ("smtps", "io_timeout", 300),
        ("smtps", "max_hops", 25),
        ("smtps", "max_message_size", 32 * 1024),
        ("smtps", "max_recipients_per_transaction", 1000),
        ("smtps", "max_bad_commands_per_session", 10),
        ("smtps", "max_invalid_addresses_per_session", 20),
        ("smtps", "max_nop_commands_in_transaction", 50),
        ("smtps", "id", 0),
        ("smtpc", "io_timeout", 600),
        ("smar", "dns_timeout", 10),
        *((component, "log_level", 9) for component in COMPONENTS),
    ],
)
def test_defaults_are_those_that_were_decided(component, path, value):
    conf = load(None, None, component).conf
    for name in path.split("."):
        conf = getattr(conf, name)
    assert conf == value


GATEWAY = b"""
CDB_base_directory = "/srv/mail/queue/";

qmgr {
  AQ_max_entries = 4096;
  smtpc { initial_connections = 7; max_connections = 70; }
  smtps { max_connections = 9; max_connection_rate=90; }
  max_errors_per_DSN=12;
  wait_for_server = 3; wait_for_client = 3;
  start_action = wait; user = smxq;
  restart_dependencies = { smtps, smtpc, smar };
  path = "/opt/libexec/qmgr"; arguments = "qmgr -f /etc/smx/smx.conf";
}

smtps { flags = {8bitmime}; CDB_gid = 262; IO_timeout = 5m3s;
  listen_socket { type = inet; port = 25; }
  start_action = pass; pass_fd_socket = smtps/smtpsfd;
  user = smxs; path = /opt/libexec/smtps;
  arguments = "smtps -f /etc/smx/smx.conf"; }

smtpc {
  Log_Level = 13; IO_timeout = 7m; wait_for_server = 3;
  start_action = wait; user = smxc; path = "/opt/libexec/smtpc";
  arguments = "smtpc -f /etc/smx/smx.conf"; pass_id = "-i"; min_processes = 4; max_processes = 4; }

smar {
  Log_Level = 13;
  nameserver = {192.0.2.53, 127.0.0.1:5353};
  DNS_timeout = 6;
  start_action = wait; user = smxm; restart_dependencies = { smtps, qmgr };
  path = "/opt/libexec/smar"; arguments = "smar -f /etc/smx/smx.conf";
}

lda LMTP {
  start_action = wait; path = /opt/libexec/lda; arguments = "lda -l 'lmtp sock'";
}
"""
"""The shape of the example in the README of sendmail X, with other values and a service."""


@pytest.mark.covers("X087", "X088", "X092", "X100", "X104", "X105", "X147", "X170")
def test_one_file_serves_all_components():
    qmgr = load("/etc/smx/smx.conf", GATEWAY, "qmgr")
    assert qmgr.globals.cdb_base_directory == "/srv/mail/queue/"
    assert qmgr.warnings == ()
    assert qmgr.conf.smtpc.max_connections == 70
    assert qmgr.conf.smtps.max_connection_rate == 90
    assert qmgr.conf.dsn_handling.max_errors_per_dsn == 12
    assert qmgr.conf.wait_for_client == 3
    smtps = load("/etc/smx/smx.conf", GATEWAY, "smtps").conf
    assert smtps.flags == {"8bitmime"}
    assert smtps.cdb_gid == "262"
    assert smtps.io_timeout == 303
    assert smtps.service.pass_fd_socket == "smtps/smtpsfd"
    assert [(one.type, one.port) for one in smtps.service.listen_socket] == [("inet", 25)]
    assert load("/etc/smx/smx.conf", GATEWAY, "smtpc").conf.io_timeout == 420
    smar = load("/etc/smx/smx.conf", GATEWAY, "smar").conf
    assert [str(one) for one in smar.nameserver] == ["192.0.2.53:53", "127.0.0.1:5353"]
    assert smar.log_level == 13


@pytest.mark.covers("X104", "X126", "X140", "X143", "X144", "X145", "X149", "X150")
def test_mcp_reads_its_options_of_every_section():
    warnings = []
    _globals, services = load_services("/etc/smx/smx.conf", GATEWAY, warnings=warnings)
    assert warnings == []
    assert [(one.keyword, one.name) for one in services] == [
        ("qmgr", None),
        ("smtps", None),
        ("smtpc", None),
        ("smar", None),
        ("lda", "LMTP"),
    ]
    assert services[0].conf.restart_dependencies == ("smtps", "smtpc", "smar")
    assert services[0].conf.user == "smxq"
    assert services[2].conf.min_processes == 4
    assert services[2].conf.pass_id == "-i"
    assert services[4].conf.arguments == ("lda", "-l", "lmtp sock")


@pytest.mark.covers("X105")
def test_a_component_leaves_the_mistakes_of_others_to_them():
    text = b"qmgr { log_level = 3; } smtps { wrong = 1; } foo { AQ_max_entries = 1; }"
    assert load("smx.conf", text, "qmgr").conf.log_level == 3
    with pytest.raises(ConfigError, match=r"smtps\.wrong: unknown option"):
        load("smx.conf", text, "smtps")
    with pytest.raises(ConfigError) as caught:
        load_services("smx.conf", text)
    assert len(caught.value.problems) == 2


@pytest.mark.covers("X085", "X102")
def test_a_global_mistake_and_bad_syntax_are_everybodys():
    with pytest.raises(ConfigError) as caught:
        load("smx.conf", b"hostnam = x;\nsmtps { a = ; }", "qmgr")
    assert caught.value.problems == [
        "smx.conf:1:1: hostnam: unknown option; did you mean hostname?",
        "smx.conf:2:13: found ';' instead of a value for a",
    ]


@pytest.mark.covers("X092")
def test_names_and_words_ignore_case():
    text = b"SMTPS { max_HOPS = 7; FLAGS = { SOFT_Bounce } Log { Facility = LOCAL0; } }"
    conf = load("smx.conf", text, "smtps").conf
    assert conf.max_hops == 7
    assert conf.flags == {"soft_bounce"}
    assert conf.log.facility == "local0"


@pytest.mark.covers("X114", "X115", "X116", "X117", "X383")
def test_log_is_a_section_of_each_module():
    text = (
        b"smtps A { id = 1; log { facility = daemon; ident = smX-MTA; options = ndelay; } }"
        b"smtps B { id = 2; log { ident = 'x'; options = { pid, cons }; file = \"-\"; } }"
    )
    first = load("smx.conf", text, "smtps", "A").conf.log
    assert (first.facility, first.ident, first.options) == ("daemon", "smX-MTA", {"ndelay"})
    second = load("smx.conf", text, "smtps", "B").conf.log
    assert (second.facility, second.options, second.file) == ("mail", {"pid", "cons"}, "-")


@pytest.mark.covers("X077", "X428")
def test_a_section_is_chosen_by_name():
    text = b"smtps MTA { id = 1; } smtps MSA { id = 2; }"
    assert load("smx.conf", text, "smtps", "MSA").conf.id == 2
    with pytest.raises(UsageError, match="with -N: MTA, MSA"):
        load("smx.conf", text, "smtps")
    with pytest.raises(UsageError, match="did you mean MSA"):
        load("smx.conf", text, "smtps", "MSAA")
    assert load("smx.conf", text + b"smtps { id = 3; }", "smtps").conf.id == 3
    assert load("smx.conf", b"smtps MTA { id = 1; }", "smtps").name == "MTA"
    with pytest.raises(ConfigError, match=r"stands at smx\.conf:1:1 already"):
        load("smx.conf", b"smtps { }\nsmtps { }", "smtps")


@pytest.mark.covers("X120", "X121", "X122", "X123", "X124")
@pytest.mark.parametrize(
    ("path", "text", "queue_dir", "wanted"),
    [
        (None, b"", "", "mt"),
        ("/etc/smx/smx.conf", b"", "", "/etc/smx/mt"),
        ("/tmp/c/smx.conf", b"", "/var/spool/smx", "/tmp/c/mt"),
        ("smx.conf", b"", "/var/spool/smx", "mt"),
        ("/tmp/c/smx.conf", b"smar { mailertable { file = x; } }", "", "x"),
        ("/tmp/c/smx.conf", b"smar { mailertable { file = x; } }", "/q", "/q/x"),
        ("/tmp/c/smx.conf", b"smar { mailertable { file = /a/x; } }", "/q", "/a/x"),
    ],
)
def test_the_default_of_a_map_lies_beside_the_file_a_written_name_does_not(
    path, text, queue_dir, wanted
):
    loaded = load(path, text, "smar", queue_dir=queue_dir)
    assert loaded.conf.mailertable.file == wanted


@pytest.mark.covers("X110", "X111", "X112", "X122")
def test_sockets_and_databases_lie_in_the_queue_directory():
    loaded = load("/etc/smx/smx.conf", b"SMAR_socket = s; SMTPC_socket = /c;", "qmgr")
    assert loaded.globals.smar_socket == "s"
    assert loaded.globals.smtpc_socket == "/c"
    assert loaded.globals.smtps_socket == "qmsmtps/smtpssock"
    assert loaded.conf.defedb.base_directory == "defedb"
    loaded = load("/etc/smx/smx.conf", b"SMAR_socket = s;", "qmgr", queue_dir="/q")
    assert loaded.globals.smar_socket == "/q/s"
    assert loaded.conf.control_socket == "/q/qmgrctl/control"


@pytest.mark.covers("X108")
def test_the_base_of_the_content_database_ends_with_a_slash():
    assert load("f", b"CDB_base_directory = /x/;", "smtps").globals.cdb_base_directory == "/x/"
    with pytest.raises(ConfigError, match="write /x/"):
        load("f", b"CDB_base_directory = /x;", "smtps")


def test_the_only_paths_beside_the_configuration_are_known():
    found = {
        attribute
        for _conf, attribute, row in ROWS
        if isinstance(row, OptionRow) and isinstance(row.kind, Path) and row.kind.beside_conf
    }
    assert found == {
        *("conf", "file", "cert_file", "key_file", "cacert_file", "cacert_directory"),
        *("credentials_file", "sasl_conf"),
    }


@pytest.mark.covers("X169", "X170")
@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"max_errors_per_DSN = 5;", 5),
        (b"DSN_handling { max_errors_per_DSN = 6; }", 6),
        (b"max_errors_per_DSN = 5; DSN_handling { max_errors_per_DSN = 6; }", 6),
        (b"DSN_handling { max_errors_per_DSN = 6; } max_errors_per_DSN = 5;", 6),
        (b"max_errors_per_DSN = 4; max_errors_per_DSN = 5;", 5),
    ],
)
def test_an_alias_gives_way_to_the_subsection(text, value):
    conf = load("f", b"qmgr { " + text + b" }", "qmgr").conf
    assert conf.dsn_handling.max_errors_per_dsn == value


def test_the_later_of_two_settings_holds_with_a_warning():
    loaded = load(
        "f", b"qmgr {\n log_level = 3;\n log_level = 4; log { } log { ident = x; } }", "qmgr"
    )
    assert loaded.conf.log_level == 4
    assert loaded.conf.log.ident == "x"
    assert loaded.warnings == ("f:3:2: qmgr.log_level: given before at f:2:2; this one holds",)


@pytest.mark.covers("X071")
def test_the_command_line_and_the_file_are_processed_in_order():
    path = ("qmgr", "smtpc", "max_connections")
    text = b"qmgr { smtpc { max_connections = 9; initial_connections = 1; } }"
    early, late = Override(path, "5", "-C", early=True), Override(path, "5", "-C")
    assert load("f", text, "qmgr", overrides=[early]).conf.smtpc.max_connections == 9
    loaded = load("f", text, "qmgr", overrides=[late])
    assert loaded.conf.smtpc.max_connections == 5
    assert loaded.conf.smtpc.initial_connections == 1
    assert loaded.warnings == ()
    assert load("f", b"qmgr { }", "qmgr", overrides=[early]).conf.smtpc.max_connections == 5
    assert load(None, None, "qmgr", overrides=[early]).conf.smtpc.max_connections == 5
    with pytest.raises(ConfigError, match=r"^option -C: qmgr\.smtpc\.max_conn.*'x' is not"):
        load(None, None, "qmgr", overrides=[Override(path, "x", "-C")])


@pytest.mark.covers("X176", "X179")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            b"IQDB { max_cache_entries = 30; hash_table_entries = 30; }",
            (
                "f:1:15: qmgr.IQDB.max_cache_entries (30) must be smaller than"
                " qmgr.IQDB.hash_table_entries (30)"
            ),
        ),
        (
            b"min_disk_space = 200MB;",
            (
                "f:1:8: qmgr.min_disk_space (204800 KB) must be smaller than"
                " qmgr.ok_disk_space (131072 KB)"
            ),
        ),
        (
            b"retry_max_delay = 5;",
            (
                "f:1:8: qmgr.retry_min_delay (900 s) must not be larger than"
                " qmgr.retry_max_delay (5 s)"
            ),
        ),
    ],
)
def test_options_that_contradict_each_other_are_refused(text, message):
    with pytest.raises(ConfigError) as caught:
        load("f", b"qmgr { " + text + b" }", "qmgr")
    assert caught.value.problems == [message]


def test_initial_connections_are_cut_to_the_maximum():
    loaded = load("f", b"qmgr { smtpc { initial_connections = 5; max_connections = 3; } }", "qmgr")
    assert loaded.conf.smtpc.initial_connections == 3
    assert "which is taken instead" in loaded.warnings[0]
    assert load("f", b"qmgr { retry_min_delay = 4h; }", "qmgr").warnings == ()


def test_every_relation_compares_two_numbers_and_is_described():
    sentences = [text for keyword in COMPONENTS for text in describe_relations(keyword)]
    assert len(sentences) == len(RELATIONS)
    for relation in RELATIONS:
        for path in (relation.left, relation.right):
            value = COMPONENTS[relation.section]()
            for name in path:
                value = getattr(value, name)
            assert isinstance(value, int)


def test_a_file_that_cannot_be_read_is_a_configuration_error(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_file(str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_config(str(tmp_path))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config("a\0b")


def test_what_somebody_set_is_known():
    loaded = load("f", b"hostname = x; qmgr { smtpc { max_idle = 5; } user = u; }", "qmgr")
    assert loaded.set_globals == {("hostname",)}
    assert loaded.set_options == {("smtpc", "max_idle"), ("service", "user")}


def test_repeated_sections_have_a_limit():
    text = b"x { " + b"listen_socket { port = 1; } " * (MAX_REPEAT + 1) + b"}"
    with pytest.raises(ConfigError, match=r"x\.listen_socket: given more than 64 times"):
        load_file("f", text)


NAMES = sorted({row.name for _conf, _attribute, row in ROWS if row.name} | set(COMPONENTS))
VALUES = ["1", "5m", "2MB", "{ }", "{ pid, 8bitmime }", "x/y", '"a b"', "wait", "192.0.2.1", "0"]
ENTRY = st.one_of(
    st.builds("{} = {};".format, st.sampled_from(NAMES), st.sampled_from(VALUES)),
    st.builds("{} {{".format, st.sampled_from(NAMES)),
    st.just("}"),
)


@given(st.lists(ENTRY, max_size=12).map(" ".join))
def test_any_file_gives_options_or_finished_problems(text):
    for resolve in (load_file, *(partial(load, component=name) for name in COMPONENTS)):
        problems = []
        try:
            resolve("f", text.encode())
        except ConfigError as error:
            problems = error.problems
        except UsageError:
            continue
        assert all(line.startswith("f:1:") for line in problems)


def test_components_can_be_told_apart_by_type():
    assert isinstance(load(None, None, "qmgr").conf, QmgrConf)
    assert isinstance(load(None, None, "smtps").conf, SmtpsConf)
