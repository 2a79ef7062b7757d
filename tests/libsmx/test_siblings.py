"""Roles are bound to the users that the configuration names."""

import os
import pwd

from libsmx.siblings import sibling_uids


def test_users_come_from_the_sections(tmp_path):
    name = pwd.getpwuid(1).pw_name
    conf = tmp_path / "smx.conf"
    common = 'start_action = wait; path = /bin/true; arguments = "x";'
    conf.write_text(f"smtps {{ user = {name}; {common} }} smtpc {{ user = 7; {common} }}")
    me = os.getuid()
    assert sibling_uids(str(conf)) == {
        "smtps": {1, me}, "smtpc": {7, me}, "qmgr": {me}, "smar": {me},
    }  # fmt: skip


def test_without_a_usable_file_only_our_own_user_counts(tmp_path):
    broken = tmp_path / "smx.conf"
    broken.write_text("smtps {")
    for path in (None, str(broken)):
        assert set(sibling_uids(path).values()) == {frozenset({os.getuid()})}
