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


def test_a_newer_format_is_refused(tmp_path, monkeypatch):
    path = str(tmp_path / "m.db")
    monkeypatch.setattr(mapfile, "FORMAT", 2)
    write_map(path, {"a": "1"}, source="x", made_at=0)
    monkeypatch.undo()
    with pytest.raises(StoreError, match="format 2"):
        MapFile(path)


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("harm", ["value", "cut", "page", "empty", "more"])
def test_whatever_happened_to_the_file_it_is_refused_before_it_is_mapped(tmp_path, harm, private):
    path = tmp_path / "m.db"
    write_map(str(path), {f"k{n}": "value" for n in range(500)}, source="x", made_at=0)
    data = path.read_bytes()
    path.write_bytes(
        {
            "value": data.replace(b"value", b"valve", 1),
            "cut": data[: len(data) // 2],
            "page": data[:8192] + bytes(4096) + data[12288:],
            "empty": b"",
            "more": data + b"x",
        }[harm]
    )
    with pytest.raises(StoreError, match=r"damaged|no map made by createmap"):
        MapFile(str(path), private=private)


def test_a_private_copy_does_not_see_what_happens_to_the_file(tmp_path):
    path = tmp_path / "m.db"
    write_map(str(path), {f"k{n}": "v" * 100 for n in range(5000)}, source="x", made_at=0)
    with MapFile(str(path), private=True) as found:
        path.write_bytes(b"")  # would be the end of a process that has mapped this file
        assert all(found.get(f"k{n}") == "v" * 100 for n in range(5000))
        assert found.starts("k49")
        assert not found.starts("m")


@pytest.mark.covers("X293", "X299", "X476")
def test_right_hand_sides_of_an_access_map_are_checked(tmp_path):
    path = tmp_path / "access.db"
    text = "to:a@b relay\nto:c@d nonsense\nfrom:x@y relay\nnotag ok\n"
    code, _, said = createmap(path, text=text)
    assert code == EX_DATAERR
    assert "stdin: line 2: 'nonsense' is none of relay, ok" in said
    assert "warning: stdin: line 3: from: cannot permit relaying" in said
    assert "stdin: line 4: key 'notag' needs a tag" in said
    assert not path.exists()
    assert createmap("-t", "plain", path, text=text)[0] == EX_OK
    assert createmap("-t", "access", tmp_path / "other.db", text=text)[0] == EX_DATAERR


@pytest.mark.slow
def test_a_large_map_tells_its_progress(tmp_path):
    path = tmp_path / "m.db"
    text = "".join(f"user{n}@domain{n % 977}.example value{n}\n" for n in range(250_000))
    code, _, said = createmap(path, text=text)
    assert (code, said) == (EX_OK, "createmap: 200000 lines\n")
    assert createmap("-q", "user123456@domain354.example", path)[1] == "value123456\n"


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    code, _, said = createmap(tmp_path / "none" / "m.db", text="a 1\n")
    assert code == os.EX_CANTCREAT
    assert "none" in said


def test_wrong_usage_is_told(tmp_path):
    for words in ([], ["-q", "k", "-s", "m"], ["-s", "m", "text"], ["-x", "m"], ["-t", "x", "m"]):
        assert createmap(*words)[0] == EX_USAGE
