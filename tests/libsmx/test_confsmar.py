"""Rules between the options of the address resolver's section."""

import pytest

from libsmx.confload import resolve_component
from libsmx.errors import ConfigError

README = """
smar {
  map localusers { type = hash; file = "/etc/smx/localusr.db"; }
  map otherusers { type = hash; file = "/etc/smx/otherusr.db"; }
  map password { type = passwd; }
  map seq1 { type = sequence; maps = { localusers, otherusers }; }
  map seq2 { type = sequence; maps = { password, otherusers }; }
  map far { type = socket; mapname = users; address = 192.0.2.1; port = 9000; }
  map near { type = socket; path = "/run/maps"; }
}
"""


@pytest.mark.covers("X208", "X210", "X211", "X212", "X218", "X220")
def test_the_maps_of_the_readme():
    conf = resolve_component(README.encode(), "f", "smar", None).conf
    assert [(one.name, one.type, one.maps) for one in conf.map] == [
        ("localusers", "hash", ()),
        ("otherusers", "hash", ()),
        ("password", "passwd", ()),
        ("seq1", "sequence", ("localusers", "otherusers")),
        ("seq2", "sequence", ("password", "otherusers")),
        ("far", "socket", ()),
        ("near", "socket", ()),
    ]
    assert (conf.map[5].address, conf.map[5].port, conf.map[5].mapname) == (
        "192.0.2.1", 9000, "users",
    )  # fmt: skip


@pytest.mark.covers("X208", "X213", "X215", "X216", "X217", "X219", "X222")
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("map m { type = socket; }", "m: give either path, or address and port"),
        (
            "map m { type = socket; path = p; port = 9; }",
            "m: give either path, or address and port",
        ),
        ("map m { type = socket; port = 9; }", "m: address and port are needed together"),
        ("map m { type = socket; address = 10.0.0.1; }", "address and port are needed together"),
        ("map m { type = hash; }", "m.file: is required for type hash"),
        ("map m { type = hash; file = f; maps = { m }; }", "maps: means nothing to a map of type"),
        ("map m { type = sequence; }", "maps: is required for type sequence"),
        ("map m { type = sequence; maps = { m }; }", "no map m is declared before"),
        ("map { type = passwd; }", "needs a name"),
        ("access_map { name = m; }", "access_map.name: no map m is declared"),
        ("map m { type = passwd; } access_map { name = m; file = f; }", "not both"),
        ('address_delimiter = "";', "one character is required"),
        ("address_delimiter = a;", "one character"),
        ('address_delimiter = "@";', "one character"),
    ],
)
def test_what_cannot_be(text, problem):
    with pytest.raises(ConfigError) as error:
        resolve_component(f"smar {{ {text} }}".encode(), "f", "smar", None)
    assert problem in str(error.value)
