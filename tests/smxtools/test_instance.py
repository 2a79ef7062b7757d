"""The texts of a quick-start instance."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from smxtools.instance import (
    Settings,
    configuration,
    is_untouched,
    mailertable,
    read_host_port,
    sealed,
)

from libsmx.config import load, load_services
from libsmx.errors import UsageError
from mcp.services import make_services
from smar.mailertable import read_mailertable


def settings(**changes):
    return Settings(**({"run_dir": "/tmp/a run", "bin_dir": "/opt/v env/bin"} | changes))


VARIANTS = [
    {},
    {"port": 2600, "next_hop": ("::1", 2700), "dns": ("127.0.0.1", 5353)},
    {"next_hop": ("mx.example.org", 25), "dns": ("::1", 53), "user": "nobody", "group": 65534},
    {"port": 65535, "run_dir": '/tmp/we"ird\\dir', "bin_dir": "/b{i}n;"},
]


@pytest.mark.covers("X047")
@pytest.mark.parametrize("changes", VARIANTS)
def test_configuration_is_valid_and_says_what_was_asked_for(changes):
    wanted = settings(**changes)
    text = sealed(configuration(wanted)).encode()
    whole, sections = load_services(wanted.run_dir + "/smx.conf", text)
    assert whole.cdb_base_directory == wanted.run_dir + "/spool/"
    services = {s.label: s for s in make_services((s.keyword, s.name, s.conf) for s in sections)}
    assert set(services) == {"qmgr", "smar", "smtps", "smtpc"} | (
        set() if wanted.next_hop else {"sink"}
    )
    for service in services.values():
        assert service.user == wanted.user
        assert service.path.startswith(wanted.bin_dir + "/")
    assert services["qmgr"].argv == ("qmgr", "-f", wanted.run_dir + "/smx.conf")
    [listen] = services["smtps"].listen
    assert (listen.port, listen.address) == (wanted.port, "127.0.0.1")
    smar = load(wanted.run_dir + "/smx.conf", text, "smar").conf
    assert smar.mailertable.file == wanted.run_dir + "/mt"
    assert [tuple(server) for server in smar.nameserver] == ([wanted.dns] if wanted.dns else [])


@pytest.mark.parametrize("changes", VARIANTS)
def test_mailertable_leads_everything_to_one_place(changes):
    wanted = settings(**changes)
    table = read_mailertable(sealed(mailertable(wanted)), "mt")
    entry = table.find("example.org")
    host, port = wanted.next_hop or ("127.0.0.1", wanted.sink_port)
    assert (entry.port, [h.name for h in entry.hosts]) == (port, [host])
    assert not entry.lmtp


def test_sink_has_a_port_of_its_own():
    assert settings().sink_port == 2526
    assert settings(port=65535).sink_port == 65534


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("127.0.0.1:2600", ("127.0.0.1", 2600)),
        ("[::1]:25", ("::1", 25)),
        ("localhost:25", ("127.0.0.1", 25)),
        ("mx.example.org:587", ("mx.example.org", 587)),
    ],
)
def test_host_and_port(text, wanted):
    assert read_host_port(text, "NEXTHOP") == wanted


@pytest.mark.parametrize("text", ["", "host", ":25", "h:0", "h:65536", "::1:25", "h:x", "a b:1"])
def test_what_is_no_host_and_port_is_refused_with_an_example(text):
    with pytest.raises(UsageError, match=r"NEXTHOP=.*127\.0\.0\.1:2600"):
        read_host_port(text, "NEXTHOP")


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])), st.text(min_size=1, max_size=3))
def test_an_edit_is_noticed(text, more):
    assert is_untouched(sealed(text))
    assert not is_untouched(sealed(text) + more)
    assert not is_untouched(text)
