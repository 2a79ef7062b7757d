"""Options that somebody wrote and that can never take effect.

Kind: core.

They are no mistakes: the file works. But whoever writes an option expects something of it, so
``smxconf check`` and the daemons' logs say what it waits for.
Source: SPEC rows X102, X130; D59.
"""

from collections.abc import Callable, Iterable, Iterator

from libsmx.confbuild import Where
from libsmx.conffile import Problem
from libsmx.confrules import SectionFacts
from libsmx.opttab import LogConf, QmgrConf, ServiceConf, SmarConf, SmtpsConf

Rule = tuple[tuple[str, ...], Callable[[ServiceConf], bool], str]
"""Path of an option, whether it idles, why."""

_SERVICE: tuple[Rule, ...] = (
    (("listen_socket",), lambda c: c.start_action == "wait",
     "start_action is wait, so mcp opens no socket"),
    (("pass_fd_socket",), lambda c: c.start_action != "pass",
     "only start_action pass hands sockets over"),
    (("max_processes",),
     lambda c: c.start_action in ("wait", "pass") and c.max_processes > c.min_processes,
     "with this start_action just min_processes run"),
)  # fmt: skip
_OF_TYPE = {
    "port": ("inet", "inet6"), "address": ("inet", "inet6"),
    "path": ("unix",), "umask": ("unix",), "user": ("unix",), "group": ("unix",),
}  # fmt: skip
"""Option of listen_socket -> types that it is for."""


def idle_warnings(sections: Iterable[SectionFacts]) -> list[str]:
    """Return a finished line for each option that idles, in the order of the file."""
    everything = list(sections)
    found = [
        problem
        for facts in everything
        for problem in (*_service(facts), *_listen(facts), *_log(facts), *_own(facts, everything))
    ]
    return [str(problem) for problem in sorted(found, key=_position)]


def _position(problem: Problem) -> tuple[int, int]:
    return problem.place.line, problem.place.column


def _line(facts: SectionFacts, where: Where, name: str, why: str) -> Problem:
    return Problem(facts.places[where], f"{facts.label}.{name}: has no effect: {why}")


def _under(facts: SectionFacts, path: Where) -> Where:
    """Return the path of one of mcp's options in the places of a section."""
    return path if facts.conf is facts.service else ("service", *path)


def _service(facts: SectionFacts) -> Iterator[Problem]:
    for path, idles, why in _SERVICE:
        where = _under(facts, path)
        if path == ("listen_socket",):
            where = (*where, 0)
        if where in facts.places and idles(facts.service):
            yield _line(facts, where, ".".join(path), why)


def _listen(facts: SectionFacts) -> Iterator[Problem]:
    for number, listen in enumerate(facts.service.listen_socket):
        for name, types in _OF_TYPE.items():
            where = _under(facts, ("listen_socket", number, name))
            if where in facts.places and listen.type not in types:
                why = f"it is for type {' and '.join(types)}, and this one is {listen.type}"
                yield _line(facts, where, f"listen_socket.{name}", why)


def _log(facts: SectionFacts) -> Iterator[Problem]:
    log = getattr(facts.conf, "log", None)
    if not isinstance(log, LogConf) or not log.file:
        return
    for name in ("facility", "options", "journal"):
        if ("log", name) in facts.places:
            yield _line(facts, ("log", name), f"log.{name}", "log.file is set and goes before")


def _own(facts: SectionFacts, everything: list[SectionFacts]) -> Iterator[Problem]:
    conf = facts.conf
    servers = [one.conf for one in everything if isinstance(one.conf, SmtpsConf)]
    if isinstance(conf, SmarConf) and servers:
        for name, flag in (("access_map", "access"), ("dnsbl", "access"),
                           ("greylisting", "greylisting")):  # fmt: skip
            written = [where for where in facts.places if where[0] == name]
            if written and not any(flag in server.flags for server in servers):
                why = f"no smtps section has {flag} in its flags"
                yield _line(facts, written[0], name, why)
    if isinstance(conf, QmgrConf):
        where = ("queue_delay_timeout",)
        if where in facts.places and conf.queue_delay_timeout > conf.queue_return_timeout:
            why = "mail is returned before (queue_return_timeout)"
            yield _line(facts, where, "queue_delay_timeout", why)
