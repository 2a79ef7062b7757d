"""Rules between options: what a single option's bounds cannot say.

Kind: core.

``RELATIONS`` are comparisons inside a component's section, which the component itself checks at
its start; ``service_problems`` and ``file_problems`` concern mcp's options and several sections
at once, and are checked by mcp and smxconf, which read the whole file.
Source: SPEC rows X125, X130, X139, X144, X145, X160, X176, X179, X428, X429; D13.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import attrs

from libsmx.confbuild import Built, Where
from libsmx.conffile import Place, Problem
from libsmx.kinds import nearest
from libsmx.options import OptionRow, own_rows
from libsmx.opttab import COMPONENTS, ListenSocket, QmgrConf, ServiceConf, SmtpsConf

C = TypeVar("C")


@attrs.frozen
class Relation:
    """``left`` must be smaller than ``right``.

    Attributes:
        section: keyword of the component.
        left: attribute names of the smaller one.
        right: attribute names of the larger one.
        equal: whether both may be the same.
        clip: a left that is too large is cut to right, with a warning, instead of refused.
    """

    section: str
    left: tuple[str, ...]
    right: tuple[str, ...]
    equal: bool = False
    clip: bool = False


RELATIONS = (
    Relation("qmgr", ("iqdb", "max_cache_entries"), ("iqdb", "hash_table_entries")),
    Relation("qmgr", ("min_disk_space",), ("ok_disk_space",)),
    Relation("qmgr", ("retry_min_delay",), ("retry_max_delay",), equal=True),
    Relation(
        "qmgr",
        ("smtpc", "initial_connections"),
        ("smtpc", "max_connections"),
        equal=True,
        clip=True,
    ),
)


def apply_relations(keyword: str, conf: C, built: Built, label: str, origin: Place) -> C:
    """Check a component's relations and return its options, clipped where a relation says so.

    Args:
        keyword: of the component's section.
        conf: its options.
        built: gets problems and warnings, has the places.
        label: of the section, for messages.
        origin: place for options that nobody wrote.
    """
    for relation in RELATIONS:
        if relation.section != keyword:
            continue
        left, right = _get(conf, relation.left), _get(conf, relation.right)
        if left < right or (relation.equal and left == right):
            continue
        place = built.places.get(relation.left) or built.places.get(relation.right) or origin
        one = f"{_dotted(conf, label, relation.left)} ({_shown(conf, relation.left)})"
        two = f"{_dotted(conf, label, relation.right)} ({_shown(conf, relation.right)})"
        if relation.clip:
            built.warnings.append(f"{place}: {one} is larger than {two}, which is taken instead")
            conf = _put(conf, relation.left, right)
        else:
            verb = "must not be larger than" if relation.equal else "must be smaller than"
            built.complain(place, f"{one} {verb} {two}")
    return conf


def describe_relations(keyword: str) -> list[str]:
    """Return one sentence for the manual for each relation of a section."""
    found = []
    for relation in RELATIONS:
        if relation.section == keyword:
            conf = COMPONENTS[keyword]()
            left, right = (_dotted(conf, keyword, path) for path in (relation.left, relation.right))
            verb = "must not be larger than" if relation.equal else "must be smaller than"
            cut = " and is cut to it otherwise" if relation.clip else ""
            found.append(f"{left} {verb} {right}{cut}.")
    return found


def _get(conf: object, path: tuple[str, ...]) -> int:
    value: object = conf
    for name in path:
        value = getattr(value, name)
    return value if isinstance(value, int) else 0


def _put(conf: C, path: tuple[str, ...], value: int) -> C:
    first, rest = path[0], path[1:]
    inner = _put(getattr(conf, first), rest, value) if rest else value
    changed: C = attrs.evolve(conf, **{first: inner})  # type: ignore[misc]
    return changed


def _rows(conf: object, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for name in path:
        row = own_rows(type(conf))[name]
        yield row.name, row
        conf = getattr(conf, name)


def _dotted(conf: object, label: str, path: tuple[str, ...]) -> str:
    return ".".join([label, *(name for name, _row in _rows(conf, path))])


def _shown(conf: object, path: tuple[str, ...]) -> str:
    row = [row for _name, row in _rows(conf, path)][-1]
    return row.kind.show(_get(conf, path)) if isinstance(row, OptionRow) else ""


@attrs.frozen
class SectionFacts:
    """One section of a whole file, as the rules see it.

    Attributes:
        keyword: in lower case.
        name: of the section.
        label: for messages.
        place: of its keyword.
        conf: its options; for a service the ServiceConf itself.
        service: its MCP options.
        places: of its options.
    """

    keyword: str
    name: str | None
    label: str
    place: Place
    conf: object
    service: ServiceConf
    places: dict[Where, Place]

    def at(self, *path: str | int) -> Place:
        """Return the place of an MCP option, or of the section."""
        prefix: Where = () if self.conf is self.service else ("service",)
        return self.places.get((*prefix, *path), self.place)


_SERVICE_RULES: tuple[tuple[str, Callable[[ServiceConf], bool], str], ...] = (
    (
        "start_action",
        lambda c: c.start_action == "",
        "is required: wait, pass, accept or nostartaccept",
    ),
    ("path", lambda c: not c.path, "is required: the program to execute"),
    ("arguments", lambda c: not c.arguments, "is required: begins with the program's name"),
    (
        "listen_socket",
        lambda c: c.start_action not in ("", "wait") and not c.listen_socket,
        "is required unless start_action is wait",
    ),
    (
        "pass_fd_socket",
        lambda c: c.start_action == "pass" and not c.pass_fd_socket,
        "is required for start_action pass",
    ),
    (
        "max_processes",
        lambda c: c.max_processes < c.min_processes,
        "must not be smaller than min_processes",
    ),
    (
        "pass_id",
        lambda c: c.start_action == "pass" and c.max_processes > 1 and not c.pass_id,
        "is required for several processes with start_action pass",
    ),
)
_SINGLE = ("qmgr", "smar")
_NUMBERED = ("smtps", "smtpc")
_INHERITING = ("accept", "nostartaccept")


def service_problems(facts: SectionFacts) -> Iterator[Problem]:
    """Yield what is wrong in the MCP options of one section."""
    conf = facts.service
    for name, is_wrong, text in _SERVICE_RULES:
        if is_wrong(conf):
            yield Problem(facts.at(name), f"{facts.label}.{name}: {text}")
    if facts.keyword in COMPONENTS and conf.start_action in _INHERITING:
        remedy = "pass" if facts.keyword == "smtps" else "wait"
        text = f"{facts.keyword} does not look for inherited sockets: use {remedy}"
        yield Problem(facts.at("start_action"), f"{facts.label}.start_action: {text}")
    if facts.keyword in _SINGLE and conf.max_processes > 1:
        text = f"{facts.label}.max_processes: there is only one {facts.keyword}"
        yield Problem(facts.at("max_processes"), text)
    if facts.keyword in _NUMBERED and conf.max_processes > 1 and not conf.pass_id:
        text = f"{facts.label}.pass_id: is required for several processes"
        yield Problem(facts.place, text)
    for number, listen in enumerate(conf.listen_socket):
        text = _listen_problem(listen)
        if text:
            yield Problem(facts.at("listen_socket", number), f"{facts.label}.listen_socket: {text}")


def _listen_problem(listen: ListenSocket) -> str:
    if listen.type == "unix":
        return "" if listen.path else "path is required for type unix"
    if not listen.port:
        return f"port is required for type {listen.type}"
    if listen.address and (":" in listen.address) != (listen.type == "inet6"):
        return f"address {listen.address} is not of type {listen.type}"
    return ""


def file_problems(sections: Iterable[SectionFacts]) -> list[Problem]:
    """Return what is wrong between the sections of a file."""
    found: list[Problem] = []
    everything = list(sections)
    words = {facts.keyword for facts in everything}
    names = {facts.name for facts in everything if facts.name}
    seen: dict[object, SectionFacts] = {}
    for facts in everything:
        found += service_problems(facts)
        for word in facts.service.restart_dependencies:
            if word.lower() not in words and word not in names:
                text = f"there is no section {word}{nearest(word, words | names)}"
                found.append(
                    Problem(
                        facts.at("restart_dependencies"),
                        f"{facts.label}.restart_dependencies: {text}",
                    )
                )
        for key, place, text in _exclusive(facts):
            other = seen.setdefault(key, facts)
            if other is not facts:
                clash = f"{facts.label}: {text} is that of {other.label} already"
                found.append(Problem(place, clash))
    found += _queue_problems(everything)
    return found


def _exclusive(facts: SectionFacts) -> Iterator[tuple[object, Place, str]]:
    """Yield (key, place, what it is) of everything that no two sections may have."""
    conf = facts.service
    if conf.pass_fd_socket:
        key = ("fd", conf.pass_fd_socket)
        yield key, facts.at("pass_fd_socket"), f"pass_fd_socket {conf.pass_fd_socket}"
    for number, listen in enumerate(conf.listen_socket):
        place = facts.at("listen_socket", number)
        if listen.type == "unix" and listen.path:
            yield ("unix", listen.path), place, f"listen_socket {listen.path}"
        elif listen.type != "unix" and listen.port:
            where = f"{listen.address or 'any address'} port {listen.port}"
            yield (listen.type, listen.address, listen.port), place, f"listen_socket {where}"
    if isinstance(facts.conf, SmtpsConf):
        place = facts.places.get(("id",), facts.place)
        for number in range(facts.conf.id, facts.conf.id + conf.max_processes):
            yield ("id", number), place, f"id {number}"


def _queue_problems(sections: list[SectionFacts]) -> Iterator[Problem]:
    queues = [facts for facts in sections if isinstance(facts.conf, QmgrConf)]
    for facts in sections:
        conf = facts.conf
        if not isinstance(conf, SmtpsConf):
            continue
        if conf.id + conf.service.max_processes > 256:
            text = f"{facts.label}.id: id and max_processes together exceed 256"
            yield Problem(facts.places.get(("id",), facts.place), text)
        for queue in queues:
            if not isinstance(queue.conf, QmgrConf):
                continue
            room, rcpts = queue.conf.aq_max_entries, conf.max_recipients_per_transaction
            if room <= rcpts:
                place = queue.places.get(("aq_max_entries",)) or facts.places.get(
                    ("max_recipients_per_transaction",), facts.place
                )
                text = f"{queue.label}.AQ_max_entries ({room}) must be larger than"
                yield Problem(
                    place, f"{text} {facts.label}.max_recipients_per_transaction ({rcpts})"
                )
