"""The configuration file as installed: every option with its meaning, and what mcp needs.

Kind: core.

``SETTINGS`` are the lines that are not commented out. ``@NAME@`` stands for a directory that
misc/sm.setup.sh fills in.
Source: SPEC rows X036-X062, X047.
"""

import textwrap
from collections.abc import Iterator, Mapping

from libsmx.kinds import Path
from libsmx.options import OptionRow, SectionRow, own_rows
from libsmx.opttab import COMPONENTS, GlobalConf, ServiceConf

Settings = Mapping[str, Mapping[str, str]]

_HEAD = """\
# smx.conf - the configuration of smx; every option is described in smx.conf(5).
#
# An option that is commented out is shown with its default. After a change:
#   smxconf check     finds all mistakes of this file at once
#   mcp.sh restart    makes the change effective
"""
_WIDTH = 88

SETTINGS: Settings = {
    "": {"CDB_base_directory": '"@SPOOL@/"'},
    "qmgr": {
        "start_action": "wait",
        "user": "smxq",
        "restart_dependencies": "{ smtps, smtpc, smar }",
        "path": '"@LIBEXEC@/qmgr"',
        "arguments": '"qmgr -f @SYSCONFDIR@/smx.conf"',
        "log.file": '"@LOGDIR@/qmgr.log"',
    },
    "smar": {
        "start_action": "wait",
        "user": "smxm",
        "restart_dependencies": "{ smtps, qmgr }",
        "path": '"@LIBEXEC@/smar"',
        "arguments": '"smar -f @SYSCONFDIR@/smx.conf"',
        "log.file": '"@LOGDIR@/smar.log"',
    },
    "smtps": {
        "start_action": "pass",
        "listen_socket": "type = inet; port = 25;\ntype = inet6; port = 25;",
        "pass_fd_socket": '"smtps/smtpsfd"',
        "user": "smxs",
        "path": '"@LIBEXEC@/smtps"',
        "arguments": '"smtps -f @SYSCONFDIR@/smx.conf"',
        "pass_id": '"-i"',
        "log.file": '"@LOGDIR@/smtps.log"',
    },
    "smtpc": {
        "start_action": "wait",
        "user": "smxc",
        "path": '"@LIBEXEC@/smtpc"',
        "arguments": '"smtpc -f @SYSCONFDIR@/smx.conf"',
        "pass_id": '"-i"',
        "min_processes": "2",
        "max_processes": "2",
        "log.file": '"@LOGDIR@/smtpc.log"',
    },
}


def sample(settings: Settings = SETTINGS, head: str = _HEAD) -> str:
    """Return a commented smx.conf.

    Args:
        settings: keyword ("" for the global options) -> dotted option name -> value in smx.conf
            syntax; for listen_socket the content of one section a line.
        head: comment at the top.
    """
    lines = [head]
    lines += _section(GlobalConf, settings.get("", {}), "", "")
    for keyword, conf in COMPONENTS.items():
        given = settings.get(keyword, {})
        lines += [f"{keyword} {{", "  # How mcp runs it:"]
        for name, value in given.items():
            if name == "listen_socket":
                lines += [f"  listen_socket {{ {one} }}" for one in value.splitlines()]
            elif "." not in name and name in own_rows(type(conf().service)):
                lines.append(f"  {name} = {_ended(value)}")
        lines += ["", *list(_section(conf, given, "", "  "))[:-1], "}", ""]
    return "\n".join(lines)


def _section(conf: type, given: Mapping[str, str], prefix: str, indent: str) -> Iterator[str]:
    for row in own_rows(conf).values():
        if isinstance(row, OptionRow):
            yield from _comment(row.doc, indent)
            value = given.get(prefix + row.name)
            mark = "#" if value is None else ""
            text = _default(row) if value is None else value
            yield f"{indent}{mark}{row.name} = {_ended(text)}"
            yield ""
        elif not row.name and row.conf is not ServiceConf:  # see options.shared
            yield from _section(row.conf, given, prefix, indent)
        elif row.name and not row.repeat:
            yield from _subsection(row, given, prefix, indent)


def _subsection(
    row: SectionRow, given: Mapping[str, str], prefix: str, indent: str
) -> Iterator[str]:
    yield from _comment(row.doc, indent)
    yield f"{indent}{row.name} {{"
    inside = list(_section(row.conf, given, f"{prefix}{row.name}.", indent + "  "))
    yield from inside[:-1]
    yield f"{indent}}}"
    yield ""


def _default(row: OptionRow) -> str:
    """Return the default as it has to be written to mean the same (D05)."""
    if isinstance(row.kind, Path) and row.kind.beside_conf:
        return f'"@SYSCONFDIR@/{row.text[0]}"'
    return row.default_text()


def _comment(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# "
    )


def _ended(text: str) -> str:
    """Return a value with its semicolon, which a list in braces does not need."""
    return text if text.startswith("{") else f"{text};"
