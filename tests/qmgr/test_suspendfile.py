"""The file of suspensions: replaced as a whole, and refused when it is not ours."""

import pytest

from libsmx.errors import StoreError
from libsmx.wire_control import Suspension
from qmgr import suspendfile


def test_what_was_written_is_read(tmp_path):
    assert suspendfile.read(str(tmp_path)) == []
    some = [Suspension(name="x.org", since=1.0, reason='"\n'), Suspension(name="mx", since=2.0)]
    suspendfile.write(str(tmp_path), some)
    assert suspendfile.read(str(tmp_path)) == some
    suspendfile.write(str(tmp_path), [])
    assert suspendfile.read(str(tmp_path)) == []
    assert [path.name for path in tmp_path.iterdir()] == [suspendfile.NAME]


def test_a_file_that_is_not_understood_is_an_error_that_names_it(tmp_path):
    (tmp_path / suspendfile.NAME).write_text("[{]")
    with pytest.raises(StoreError, match=r"suspended\.json.*mend it"):
        suspendfile.read(str(tmp_path))


def test_a_failed_write_is_an_error(tmp_path):
    with pytest.raises(StoreError, match="No such file"):
        suspendfile.write(str(tmp_path / "none"), [])
