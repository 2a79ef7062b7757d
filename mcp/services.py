"""Services: the sections of smx.conf as programs that mcp runs.

Kind: core. mcp knows no component: a section's MCP options say everything, whatever its
keyword. The one name that is known is qmgr's, because it has to be started first and to end
last (D03).
Limits: at most 256 copies of a service (options table) and 64 listening sockets.
Source: README of sendmail X, "Configuration for MCP"; SPEC rows X104, X125-X150, X078; D01-D03.
"""

from collections.abc import Iterable

import attrs

from libsmx.confload import label_of
from libsmx.errors import ConfigError
from libsmx.opt_shared import LimitsConf
from libsmx.opttab import ListenSocket, ServiceConf

FIRST = "qmgr"
MAX_LISTENERS = 64
"""Of one service: they travel in one message, see mcp/passfd.py."""
INHERITING = ("accept", "nostartaccept")
"""Start actions whose processes have their listening sockets from the start."""


@attrs.frozen
class Slot:
    """One copy of a service; index runs from 0 and is stable, it is the id that is passed."""

    label: str
    index: int
    copies: int = attrs.field(default=1, eq=False)

    def __str__(self) -> str:
        """Return ``smar``, or ``smtpc/1`` where there are several."""
        return self.label if self.copies == 1 else f"{self.label}/{self.index}"


@attrs.frozen(kw_only=True)
class Service:
    """A program that is to run in ``copies`` copies, and in up to ``reserve`` more on demand.

    Attributes:
        label: section keyword, and name if it has one: ``smtps[MTA]``; unique.
        argv: its first word is the name that the program sees of itself.
        pass_id: option in front of the copy's id, "" for none.
        copies: processes that are kept running.
        reserve: processes that connections may start in addition.
        floor: processes that the first connection finds or starts.
        inherits: the processes get the listening sockets at their start.
        user: name to run as; "" is the user who started mcp.
        group: "" is the user's own group.
        listen: sockets to bind before the start.
        pass_fd_socket: where the process takes them, "" when it needs none.
        dependencies: labels of the services to restart when this one was restarted.
        limits: what the kernel lets each process use.
    """

    label: str
    path: str
    argv: tuple[str, ...]
    pass_id: str = ""
    copies: int = 1
    reserve: int = 0
    floor: int = 1
    inherits: bool = False
    user: str = ""
    group: str = ""
    listen: tuple[ListenSocket, ...] = ()
    pass_fd_socket: str = ""
    dependencies: frozenset[str] = frozenset()
    limits: LimitsConf = attrs.field(factory=LimitsConf)

    @property
    def passes(self) -> bool:
        """Tell whether its processes take sockets over pass_fd_socket."""
        return bool(self.pass_fd_socket)

    def slots(self) -> list[Slot]:
        """Return the copies, those on demand last."""
        most = self.copies + self.reserve
        return [Slot(self.label, index, most) for index in range(most)]

    def command(self, slot: Slot) -> list[str]:
        """Return the argument vector of one copy: the id option comes first (X078)."""
        own = [self.pass_id, str(slot.index)] if self.pass_id else []
        return [self.argv[0], *own, *self.argv[1:]]

    def fd_socket(self, slot: Slot) -> str:
        """Return where this copy takes its sockets; copies with ids add theirs to the name."""
        return f"{self.pass_fd_socket}.{slot.index}" if self.pass_id else self.pass_fd_socket


def _label(keyword: str, name: str | None) -> str:
    return label_of(keyword.lower(), name)


def make_services(sections: Iterable[tuple[str, str | None, ServiceConf]]) -> list[Service]:
    """Return the services in start order: file order with qmgr first.

    Args:
        sections: keyword, name and MCP options of every section, in file order.

    Raises:
        ConfigError: with everything that is wrong.
    """
    rows = list(sections)
    problems: list[str] = []
    labels: list[str] = []
    for keyword, name, _conf in rows:
        label = _label(keyword, name)
        if label in labels:
            problems.append(f"section {label} stands twice; give each section its own name")
        labels.append(label)
    if not rows:
        problems.append("no section names a service to start; see smx.conf(5)")
    made = []
    for label, (_keyword, _name, conf) in zip(labels, rows, strict=True):
        problems += [f"{label}: {text}" for text in _mistakes(conf)]
        named, unknown = _resolve(conf.restart_dependencies, rows, label)
        problems += [
            f"{label}.restart_dependencies: there is no service {name}" for name in unknown
        ]
        made.append(_service(label, conf, named))
    if problems:
        raise ConfigError(problems)
    return sorted(made, key=lambda service: service.label.split("[")[0] != FIRST)


def _mistakes(conf: ServiceConf) -> list[str]:
    found = []
    if conf.start_action not in ("wait", "pass", *INHERITING):
        found.append("start_action is required: wait, pass, accept or nostartaccept")
    if not conf.path:
        found.append("path is required: the program to execute")
    if not conf.arguments:
        found.append("arguments is required; its first word is the program's name")
    if conf.start_action in ("pass", *INHERITING) and not conf.listen_socket:
        found.append(f"start_action = {conf.start_action} needs a listen_socket")
    if conf.start_action == "pass":
        if not conf.pass_fd_socket:
            found.append("start_action = pass needs a pass_fd_socket")
        if conf.min_processes > 1 and not conf.pass_id:
            found.append("several processes that take sockets need a pass_id to tell them apart")
    if conf.max_processes < conf.min_processes:
        found.append("max_processes is below min_processes")
    if len(conf.listen_socket) > MAX_LISTENERS:
        found.append(f"more than {MAX_LISTENERS} listen_socket sections")
    for listen in conf.listen_socket:
        if listen.type == "unix" and not listen.path:
            found.append("listen_socket of type unix needs a path")
        if listen.type != "unix" and not 0 < listen.port < 65536:
            found.append(f"listen_socket of type {listen.type} needs a port from 1 to 65535")
    return found


def _resolve(
    wanted: Iterable[str], rows: list[tuple[str, str | None, ServiceConf]], own: str
) -> tuple[frozenset[str], list[str]]:
    """Return the labels that the words mean, and the words that mean none.

    A word is a section's keyword, which means all sections of that keyword, or a name.
    """
    labels: set[str] = set()
    unknown = []
    for word in wanted:
        hits = [
            _label(keyword, name)
            for keyword, name, _conf in rows
            if keyword.lower() == word.lower() or name == word
        ]
        if not hits:
            unknown.append(word)
        labels.update(hits)
    return frozenset(labels - {own}), unknown


def _service(label: str, conf: ServiceConf, dependencies: frozenset[str]) -> Service:
    passes, inherits = conf.start_action == "pass", conf.start_action in INHERITING
    copies = 0 if conf.start_action == "nostartaccept" else conf.min_processes
    return Service(
        label=label,
        path=conf.path,
        argv=tuple(conf.arguments),
        pass_id=conf.pass_id,
        copies=copies,
        reserve=conf.max_processes - copies if inherits else 0,
        floor=max(1, conf.min_processes),
        inherits=inherits,
        user=conf.user,
        group=conf.group,
        listen=tuple(conf.listen_socket) if passes or inherits else (),
        pass_fd_socket=conf.pass_fd_socket if passes else "",
        dependencies=dependencies,
        limits=conf.resource_limits,
    )
