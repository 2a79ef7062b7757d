"""createmap and the files that it makes, in processes of their own."""

import os
import subprocess
import sys

import lmdb
import pytest

from libsmx import mapfile
from libsmx.errors import EX_DATAERR, EX_OK, EX_USAGE, StoreError
from libsmx.mapfile import MapFile, write_map

TEXT = "# limits\noci:127.0.0.1  5\nOCI: 1\nocto 1h 30m\n"


def createmap(*words, text=""):
    done = subprocess.run(
        [sys.executable, "-I", "-m", "libsmx.createmap", *map(str, words)],
        input=text, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.mark.covers("X209", "X329", "X476")
def test_a_map_is_made_and_asked(tmp_path):
    path = tmp_path / "qmgr_conf.db"
    assert createmap(path, text=TEXT) == (EX_OK, "", "")
    assert createmap("-q", "oci:127.0.0.1", path) == (EX_OK, "5\n", "")
    assert createmap("-q", "OCI:", path)[1] == "1\n"
    assert createmap("-q", "icr:", path) == (1, "", "")
    code, shown, _ = createmap("-s", path)
    assert (code, shown) == (EX_OK, "oci:\t1\noci:127.0.0.1\t5\nocto\t1h 30m\n")
    again = tmp_path / "again.db"
    source = tmp_path / "text"
    source.write_text(shown)
    assert createmap(again, source)[0] == EX_OK
    assert createmap("-s", again)[1] == shown
    with MapFile(str(again)) as found:
        assert (found.header.source, found.header.entries) == (str(source), 3)
    assert sorted(os.listdir(tmp_path)) == ["again.db", "qmgr_conf.db", "text"]


@pytest.mark.covers("X476")
def test_a_bad_line_leaves_the_old_map(tmp_path):
    path = tmp_path / "m.db"
    createmap(path, text="a 1\n")
    code, _, said = createmap(path, text="a 2\nb\nA 3\n")
    assert code == EX_DATAERR
    assert "stdin: line 2: key 'b' has no value" in said
    assert "line 3: key 'a' stands on line 1 already" in said
    assert createmap("-s", path)[1] == "a\t1\n"


def test_a_reader_of_the_old_map_is_not_disturbed_and_the_mode_stays(tmp_path):
    path = str(tmp_path / "m.db")
    write_map(path, {"a": "1"}, source="x", made_at=0)
    os.chmod(path, 0o640)
    with MapFile(path) as old:
        write_map(path, {"a": "2"}, source="x", made_at=0)
        assert old.get("a") == "1"
        with MapFile(path) as new:
            assert new.get("a") == "2"
            assert new.get("b") is None
            assert new.get("") is None
    assert os.stat(path).st_mode & 0o777 == 0o640


def test_what_is_no_map_is_refused(tmp_path):
    path = tmp_path / "m.db"
    assert createmap("-s", path)[0] == os.EX_NOINPUT
    path.write_text("oci: 1\n")
    assert createmap("-s", path)[0] == EX_DATAERR
    path.unlink()
    with lmdb.open(str(path), subdir=False, lock=False) as env, env.begin(write=True) as txn:
        txn.put(b"a", b"1")
    with pytest.raises(StoreError, match="no map made by createmap"):
        MapFile(str(path))


def test_a_newer_format_and_a_damaged_value_are_refused(tmp_path, monkeypatch):
    path = str(tmp_path / "m.db")
    write_map(path, {"a": "value"}, source="x", made_at=0)
    data = (tmp_path / "m.db").read_bytes()
    (tmp_path / "m.db").write_bytes(data.replace(b"value", b"valve"))
    with MapFile(path) as found, pytest.raises(StoreError, match="damaged at key"):
        found.get("a")
    monkeypatch.setattr(mapfile, "FORMAT", 2)
    write_map(path, {"a": "1"}, source="x", made_at=0)
    monkeypatch.undo()
    with pytest.raises(StoreError, match="format 2"):
        MapFile(path)


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    code, _, said = createmap(tmp_path / "none" / "m.db", text="a 1\n")
    assert code == os.EX_CANTCREAT
    assert "none" in said


def test_wrong_usage_is_told(tmp_path):
    for words in ([], ["-q", "k", "-s", "m"], ["-s", "m", "text"], ["-x", "m"]):
        assert createmap(*words)[0] == EX_USAGE
