"""The command line of a component, and the texts of -h and -V."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libsmx.cmdline import parse_command_line, row_of, usage_text
from libsmx.config import load
from libsmx.confload import Override
from libsmx.confshow import version_text
from libsmx.errors import UsageError
from libsmx.opttab import COMPONENTS
from libsmx.version import PRODUCT

FLAGS = {
    "-C": ("qmgr", "smtpc", "max_connections"),
    "-c": ("qmgr", "smtpc", "initial_connections"),
    "-O R": ("qmgr", "smtps", "max_connection_rate"),
    "-O O=": ("qmgr", "smtps", "max_connections"),
}


def parse(text):
    return parse_command_line(text.split(), FLAGS)


@pytest.mark.covers("X070", "X077", "X078")
def test_common_options_are_read():
    assert parse("").action == "run"
    assert parse("").config is None
    line = parse("-i 3 -f /etc/smx/smx.conf -N MTA")
    assert (line.config, line.section, line.id) == ("/etc/smx/smx.conf", "MTA", 3)
    assert parse("-f/x -NMTA -i7") == parse("-f /x -N MTA -i 7")


@pytest.mark.covers("X071", "X079", "X080", "X081", "X082")
def test_settings_keep_their_order_to_the_file():
    line = parse("-C 5 -O R=3 -f x -c 2 -O O=4")
    assert line.overrides == (
        Override(FLAGS["-C"], "5", "-C", early=True),
        Override(FLAGS["-O R"], "3", "-O R", early=True),
        Override(FLAGS["-c"], "2", "-c"),
        Override(FLAGS["-O O="], "4", "-O O"),
    )


@pytest.mark.covers("X071", "X079")
@pytest.mark.parametrize(
    ("words", "value"), [("-C 5 -f x", 9), ("-f x -C 5", 5), ("-f x -C 5 -C 6", 6)]
)
def test_the_later_of_file_and_option_holds(words, value):
    line = parse(words)
    text = b"qmgr { smtpc { max_connections = 9; initial_connections = 1; } }"
    loaded = load("x", text, "qmgr", line.section, line.overrides)
    assert loaded.conf.smtpc.max_connections == value


@pytest.mark.covers("X072", "X073", "X074")
@pytest.mark.parametrize(
    ("words", "action", "level"),
    [
        ("-h", "help", 0),
        ("-V", "version", 1),
        ("-VVVVV", "version", 5),
        ("-V -VV -f x -V", "version", 4),
        ("-VVVVVVVVV", "version", 6),
        ("-V -h", "help", 1),
    ],
)
def test_texts_are_asked_for(words, action, level):
    line = parse(words)
    assert (line.action, line.version_level) == (action, level)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("-x", "unknown option '-x'; -h lists the options"),
        ("-", "unknown option '-'; -h lists the options"),
        ("--", "unknown option '--'; -h lists the options"),
        ("-Vx", "unknown option '-Vx'; -h lists the options"),
        ("--help", "unknown option '--help'; -h lists the options"),
        ("smx.conf", "unexpected argument 'smx.conf'; -h lists the options"),
        ("-f", "option -f needs a value"),
        ("-f x -f y", "option -f is given twice"),
        ("-i x", "option -i: 'x' is not a number (digits, 0x and hexadecimal, 0 and octal)"),
        ("-i 256", "option -i: 256 is above the maximum 255"),
        ("-C 0", "option -C: 0 is below the minimum 1 (number)"),
        ("-O R", "option -O R: expected -O R=N, -O O=N"),
        ("-O X=3", "option -O X: expected -O R=N, -O O=N"),
        ("-O R=x", "option -O R: 'x' is not a number (digits, 0x and hexadecimal, 0 and octal)"),
        ("x " * 101, "more than 100 arguments"),
    ],
)
def test_a_bad_command_line_is_refused(words, message):
    with pytest.raises(UsageError) as caught:
        parse(words)
    assert str(caught.value) == message


@given(
    st.lists(
        st.one_of(st.sampled_from(["-V", "-f", "-O", "-C", "5", "R=5"]), st.text()), max_size=8
    )
)
def test_any_words_give_a_result_or_a_usage_error(words):
    try:
        line = parse_command_line(words, FLAGS)
    except UsageError:
        return
    assert line.action in ("run", "help", "version")


@pytest.mark.covers("X072", "X079", "X080", "X081", "X082")
def test_usage_lists_options_with_defaults():
    text = usage_text("qmgr", "Queue manager.", FLAGS)
    assert "-C N       qmgr.smtpc.max_connections [default: 100]" in text
    assert "-c N       qmgr.smtpc.initial_connections [default: 10]" in text
    assert "-O R=N     qmgr.smtps.max_connection_rate [default: 100]" in text
    assert "-O O=N     qmgr.smtps.max_connections [default: 100]" in text
    assert "qmgr.queue_return_timeout = 5d" in text
    assert "usage: other [options]" in usage_text("other", "Something else.")


def test_flags_name_options_of_the_table():
    assert row_of(FLAGS["-C"]).default == 100
    with pytest.raises(KeyError):
        row_of(("qmgr", "smtpc", "nothing"))


@pytest.mark.covers("X020", "X073", "X074", "X075", "X076")
@pytest.mark.parametrize("component", COMPONENTS)
def test_each_level_shows_more(component):
    loaded = load(None, None, component)
    facts = [(2, "two"), (3, "three"), (4, "four")]
    texts = [version_text(level, component, facts, loaded) for level in range(1, 7)]
    assert texts[0] == f"{component} {PRODUCT}\n"
    for less, more in itertools.pairwise(texts):
        assert more.startswith(less)
        assert len(more) > len(less)
    for name in ("hostname", "log_level", "log.facility", "start_action", "user"):
        assert f"{name} = " in texts[4]


@pytest.mark.covers("X076", "X359", "X364", "X365")
def test_level_six_lists_flags():
    text = version_text(6, "smtps", (), load(None, None, "smtps"))
    for flag in ("8bitmime", "soft_bounce", "strict_ehlo_checks"):
        assert f"smtps.flags: {flag} - " in text


@pytest.mark.covers("X075", "X090", "X091", "X097", "X098", "X099", "X100", "X101")
@pytest.mark.parametrize(
    ("component", "text", "line"),
    [
        ("smtps", 'log { ident = "a;b{c"; }', 'smtps.log.ident = "a;b{c"  # default ""'),
        ("smtps", 'log { ident = "ab"\n"cd"; }', 'smtps.log.ident = abcd  # default ""'),
        ("smtpc", "io_timeout = 1h 5m 12s;", "smtpc.IO_timeout = 3912 s  # default 10m"),
        ("smtpc", "io_timeout = 300;", "smtpc.IO_timeout = 300 s  # default 10m"),
        (
            "qmgr",
            "queue_return_timeout = 1w;",
            "qmgr.queue_return_timeout = 604800 s  # default 5d",
        ),
        ("qmgr", "IBDB { size = 2MB; }", "qmgr.IBDB.size = 2097152 B  # default 16MB"),
        ("qmgr", "min_disk_space = 100;", "qmgr.min_disk_space = 100 KB  # default 100MB"),
        ("smtps", "max_message_size = 10MB;", "smtps.max_message_size = 10240 KB  # default 32MB"),
        ("smtps", "max_hops = 3;", "smtps.max_hops = 3  # default 25, fields"),
        ("smtps", "flags = {};", "smtps.flags = { }  # default { 8bitmime }"),
        ("smar", "DNS_timeout = 6;", "smar.mailertable.file = /c/mt  # default mt"),
        ("smar", "mailertable { file = x; }", "smar.mailertable.file = /q/x  # default mt"),
    ],
)
def test_level_five_shows_effective_values(component, text, line):
    loaded = load("/c/smx.conf", f"{component} {{ {text} }}".encode(), component)
    shown = version_text(5, component, (), loaded, "/q").splitlines()
    assert line in shown


@pytest.mark.covers("X093")
def test_the_layout_of_a_file_does_not_show():
    text = b"smtps {\n  flags = { soft_bounce,\n 8bitmime };\n  id = 3;\n}\n"
    flat = text.replace(b"\n", b" ")
    one, two = (version_text(5, "smtps", (), load("f", t, "smtps")) for t in (text, flat))
    assert one == two
