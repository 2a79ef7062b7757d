"""The page of all log events, made from the tables in the code.

Kind: core. Reads the tables of events that every package declares.
"""

import importlib
import pkgutil
from collections.abc import Iterator

from libsmx.logtab import EVENTS, Event

PAGE = "misc/doc/events.md"
_SHARED = "libsmx.logtab"
_PACKAGES = ("mcp", "smtps", "qmgr", "smar", "smtpc")
_SUFFIX = "events"
"""A module that declares events has a name that ends so."""

_HEAD = """\
# Log events

Every line of the logs is one event. This page is generated from the code (`make docs`); the
fields stand in a line in the order in which they are named here. `log_format` in smx.conf(5)
chooses the style of the lines: `text`, `json`, or `postfix`, which writes the common events as
Postfix would and all others as here.

Levels follow sendmail's scale: 0 to 4 an operator must act, 5 to 8 an operator may want to know,
9 is the normal record of the work done, 10 and more is detail. `log_level` of a section says up
to which level its daemon logs (9); `qmgrctl loglevel` changes that of the queue manager while it
runs.

One message is followed through the logs by its transaction id (`ss_ta`, `ta`), which is also the
name of its content file; a session of a client by `ss_sess`, a delivery session by `da_sess`.
"""


def tables() -> list[str]:
    """Return the modules that declare events, in the order of the page, and load them."""
    found = [_SHARED]
    for package in _PACKAGES:
        paths = importlib.import_module(package).__path__
        names = sorted(info.name for info in pkgutil.iter_modules(paths))
        found += [f"{package}.{name}" for name in names if name.endswith(_SUFFIX)]
    for module in found:
        importlib.import_module(module)
    return found


def render() -> str:
    """Return the page."""
    lines = [_HEAD]
    for module in tables():
        title = "Every daemon" if module == _SHARED else module.removesuffix(".events")
        lines += [f"## {title}", "", "| level | event | meaning | fields |", "|---|---|---|---|"]
        lines += _rows(module)
        lines.append("")
    return "\n".join(lines)


def _rows(module: str) -> Iterator[str]:
    rows = [event for (where, _name), event in EVENTS.items() if where == module]
    for event in sorted(rows, key=lambda row: (row.level, row.name)):
        yield _row(event)


def _row(event: Event) -> str:
    fields = ", ".join(f"`{name}`" for name in event.fields) or "-"
    return f"| {event.level} | `{event.name}` | {event.meaning.replace('|', '/')} | {fields} |"
