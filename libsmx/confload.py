"""From the text of smx.conf to the options of one component, or of the whole file.

Kind: core.

A component validates the syntax of the file, its own section and the global options, and leaves
the sections of the others alone (D59); ``resolve_file`` validates everything, for mcp and
smxconf. Command-line settings take part in the order of the command line: those before -f give
way to what the file sets, those behind it win (SPEC row X071).
Source: SPEC rows X071, X077, X104, X105, X428; D59.
"""

import posixpath
from collections.abc import Iterable

import attrs

from libsmx.confbuild import Built, Dirs, build
from libsmx.conffile import Entry, Option, Place, Problem, Section, Value, parse
from libsmx.confidle import idle_warnings
from libsmx.confrules import SectionFacts, apply_relations, file_problems
from libsmx.confsmar import finish_resolver
from libsmx.confsmtps import finish_server, number_servers
from libsmx.errors import ConfigError, UsageError
from libsmx.kinds import nearest
from libsmx.opttab import COMPONENTS, ComponentConf, GlobalConf, ServiceConf, SmarConf, SmtpsConf

_NO_FILE = "built-in defaults"


@attrs.frozen
class Override:
    """A setting of the command line.

    Attributes:
        path: component, subsections, option, as in ``("qmgr", "smtpc", "max_connections")``.
        text: its value.
        flag: the option that gave it, for messages (``-C``).
        early: it stood before -f, so that the file wins.
    """

    path: tuple[str, ...]
    text: str
    flag: str
    early: bool = False


@attrs.frozen
class Loaded:
    """What a component needs to know.

    Attributes:
        component: keyword of its section.
        name: name of its section, None without one.
        globals: the global options.
        conf: the options of the section; mcp's options in ``conf.service``.
        config_dir: directory of the file, "" for the working directory.
        warnings: finished lines.
        set_globals: attribute paths of the global options that somebody set.
        set_options: attribute paths of the section's options that somebody set.
    """

    component: str
    name: str | None
    globals: GlobalConf
    conf: ComponentConf
    config_dir: str
    warnings: tuple[str, ...]
    set_globals: frozenset[tuple[str | int, ...]]
    set_options: frozenset[tuple[str | int, ...]]


@attrs.frozen
class Service:
    """One section of the file for mcp."""

    keyword: str
    name: str | None
    conf: ServiceConf


@attrs.frozen
class WholeFile:
    """A validated file.

    Attributes:
        globals: the global options.
        sections: all sections in the order of the file.
        warnings: finished lines.
    """

    globals: GlobalConf
    sections: tuple[SectionFacts, ...]
    warnings: tuple[str, ...]


def resolve_component(
    data: bytes,
    origin: str,
    component: str,
    name: str | None,
    overrides: Iterable[Override] = (),
    queue_dir: str = "",
) -> Loaded:
    """Return the options of one component.

    Args:
        data: content of the configuration file, empty for the built-in defaults.
        origin: its name, "" for none.
        component: qmgr, smtps, smtpc or smar.
        name: section name chosen with -N, None for the only or the unnamed section.
        overrides: settings of the command line.
        queue_dir: see Dirs.queue.

    Raises:
        ConfigError: with everything that is wrong.
        UsageError: -N names no section, or several sections need one.
    """
    dirs = Dirs(posixpath.dirname(origin), queue_dir)
    entries, problems = parse(data, origin or _NO_FILE)
    own = _choose(entries, component, name, origin)
    start = Place(origin or _NO_FILE)
    given = list(overrides)
    own_entries = (
        *(_as_entry(one) for one in given if one.early),
        *(own.entries if own else ()),
        *(_as_entry(one) for one in given if not one.early),
    )
    options = tuple(entry for entry in entries if isinstance(entry, Option))
    conf_class: type[ComponentConf] = COMPONENTS[component]
    global_conf, global_built = build(GlobalConf, options, "", dirs)
    _check_globals(global_conf, global_built, start)
    conf, built = build(conf_class, own_entries, component, dirs)
    place = own.place if own else start
    conf = apply_relations(component, conf, built, component, place)
    if isinstance(conf, SmtpsConf):
        conf = finish_server(conf, built, component, place)
        if own is not None and ("id",) not in built.places:
            conf = attrs.evolve(conf, id=_own_number(entries, own, dirs))
    if isinstance(conf, SmarConf):
        finish_resolver(conf, built, component, place)
    _raise(problems + global_built.problems + built.problems)
    return Loaded(
        component,
        own.name if own else None,
        global_conf,
        conf,
        dirs.conf,
        tuple(global_built.warnings + built.warnings),
        frozenset(global_built.places),
        frozenset(built.places),
    )


def resolve_file(data: bytes, origin: str, queue_dir: str = "") -> WholeFile:
    """Validate a whole file.

    Args:
        data: its content.
        origin: its name.
        queue_dir: see Dirs.queue.

    Raises:
        ConfigError: with everything that is wrong.
    """
    dirs = Dirs(posixpath.dirname(origin), queue_dir)
    entries, problems = parse(data, origin)
    options = tuple(entry for entry in entries if isinstance(entry, Option))
    global_conf, built = build(GlobalConf, options, "", dirs)
    _check_globals(global_conf, built, Place(origin))
    problems += built.problems
    warnings = list(built.warnings)
    sections: list[SectionFacts] = []
    seen: dict[tuple[str, str | None], Place] = {}
    for entry in entries:
        if isinstance(entry, Option):
            continue
        key = (entry.keyword.lower(), entry.name)
        if key in seen:
            problems.append(Problem(entry.place, _twice(entry, seen[key])))
        seen.setdefault(key, entry.place)
        facts, built = _one_section(entry, dirs)
        problems += built.problems
        warnings += built.warnings
        sections.append(facts)
    sections = _number(sections)
    if not problems:  # a rule between options says nothing sensible about wrong ones
        problems = file_problems(sections)
    _raise(problems)
    warnings += idle_warnings(sections)
    return WholeFile(global_conf, tuple(sections), tuple(warnings))


def label_of(keyword: str, name: str | None) -> str:
    """Return how messages call a section: ``smtps`` or ``smtps[MTA]``."""
    return f"{keyword}[{name}]" if name else keyword


def _one_section(entry: Section, dirs: Dirs) -> tuple[SectionFacts, Built]:
    keyword = entry.keyword.lower()
    label = label_of(keyword, entry.name)
    if keyword in COMPONENTS:
        conf_class: type[ComponentConf] = COMPONENTS[keyword]
        conf, built = build(conf_class, entry.entries, label, dirs)
        conf = apply_relations(keyword, conf, built, label, entry.place)
        if isinstance(conf, SmtpsConf):
            conf = finish_server(conf, built, label, entry.place)
        if isinstance(conf, SmarConf):
            finish_resolver(conf, built, label, entry.place)
        service = conf.service
        return (
            SectionFacts(keyword, entry.name, label, entry.place, conf, service, built.places),
            built,
        )
    hint = f" of a service; components are {', '.join(COMPONENTS)}{nearest(keyword, COMPONENTS)}"
    service, built = build(ServiceConf, entry.entries, label, dirs, hint)
    return (
        SectionFacts(keyword, entry.name, label, entry.place, service, service, built.places),
        built,
    )


def _number(sections: list[SectionFacts]) -> list[SectionFacts]:
    """Return the sections with an id for every SMTP server (SPEC row X428)."""
    servers = [facts for facts in sections if isinstance(facts.conf, SmtpsConf)]
    given = []
    for facts in servers:
        written = facts.conf.id if isinstance(facts.conf, SmtpsConf) else 0
        given.append((written if ("id",) in facts.places else None, facts.service.max_processes))
    ids = iter(number_servers(given))
    return [
        attrs.evolve(facts, conf=attrs.evolve(facts.conf, id=next(ids)))
        if isinstance(facts.conf, SmtpsConf)
        else facts
        for facts in sections
    ]


def _own_number(entries: tuple[Entry, ...], own: Section, dirs: Dirs) -> int:
    """Return the id of a server whose section gives none: depends on the others' sections."""
    servers = [
        entry
        for entry in entries
        if isinstance(entry, Section) and entry.keyword.lower() == own.keyword.lower()
    ]
    numbered = _number([_one_section(entry, dirs)[0] for entry in servers])
    conf = numbered[servers.index(own)].conf
    return conf.id if isinstance(conf, SmtpsConf) else 0


def _twice(entry: Section, first: Place) -> str:
    what = label_of(entry.keyword, entry.name)
    return f"section {what} stands at {first} already; give each section a name of its own"


def _choose(
    entries: tuple[Entry, ...], component: str, name: str | None, origin: str
) -> Section | None:
    """Return the component's section: the one named, the unnamed one, or the only one."""
    mine = [
        entry
        for entry in entries
        if isinstance(entry, Section) and entry.keyword.lower() == component
    ]
    names = [entry.name for entry in mine if entry.name]
    if name is not None:
        chosen = [entry for entry in mine if entry.name == name]
        if not chosen:
            hint = nearest(name, names)
            raise UsageError(f"-N {name}: {origin or 'no file'} has no such {component}{hint}")
    else:
        chosen = [entry for entry in mine if entry.name is None]
        if not chosen and len(mine) > 1:
            raise UsageError(f"choose a section of {origin} with -N: {', '.join(names)}")
        chosen = chosen or mine
    if len(chosen) > 1:
        raise ConfigError([f"{chosen[1].place}: {_twice(chosen[1], chosen[0].place)}"])
    return chosen[0] if chosen else None


def _as_entry(override: Override) -> Entry:
    place = Place(f"option {override.flag}")
    value = Value(override.text, place)
    entry: Entry = Option(override.path[-1], (value,), braced=False, place=place)
    for keyword in reversed(override.path[1:-1]):
        entry = Section(keyword, None, (entry,), place)
    return entry


def _check_globals(conf: GlobalConf, built: Built, start: Place) -> None:
    base = conf.cdb_base_directory
    if base and not base.endswith("/"):
        place = built.places.get(("cdb_base_directory",), start)
        built.complain(place, f"CDB_base_directory: {base} must end with a slash: write {base}/")


def _raise(problems: list[Problem]) -> None:
    if problems:
        problems.sort(key=lambda problem: (problem.place.line, problem.place.column))
        raise ConfigError([str(problem) for problem in problems])
