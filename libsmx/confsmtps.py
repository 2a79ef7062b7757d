"""Rules of the sections of SMTP servers: numbers of servers, processes, filters.

Kind: core.

``finish_server`` checks one section by itself, ``number_servers`` gives the sections without an
id theirs. Both the server itself and mcp use them, so that they agree.
Source: SPEC rows X380, X385-X388, X393, X398, X428, X430; README 3.10.1, whose example of two
servers gives no ids.
"""

from collections.abc import Iterator, Sequence

import attrs

from libsmx.confbuild import Built, Where
from libsmx.conffile import Place
from libsmx.ids import MAX_SERVER_ID
from libsmx.opt_smtps import SmtpsConf
from libsmx.opt_smtps_parts import MilterSocket


def finish_server(conf: SmtpsConf, built: Built, label: str, origin: Place) -> SmtpsConf:
    """Check the options of one server; return them with ``processes`` carried out.

    Args:
        conf: its options.
        built: gets problems, has the places.
        label: of the section, for messages.
        origin: place for options that nobody wrote.
    """
    for where, text in _problems(conf):
        built.complain(_place(built, where, origin), f"{label}.{text}")
    if not conf.processes:
        return conf
    service = attrs.evolve(
        conf.service,
        min_processes=conf.processes,
        max_processes=conf.processes,
        pass_id=conf.service.pass_id or ("-i" if conf.processes > 1 else ""),
    )
    return attrs.evolve(conf, service=service)


def number_servers(given: Sequence[tuple[int | None, int]]) -> list[int]:
    """Return the id of each server, in the order of the file.

    A server without an id gets the first numbers that are free for all its processes. Where
    there is no such place it gets 0, which clashes and is complained about elsewhere.

    Args:
        given: (id, None where nobody wrote one; number of processes).
    """
    used = {
        number
        for first, count in given
        if first is not None
        for number in range(first, first + count)
    }
    found = []
    for first, count in given:
        number = first
        if number is None:
            number = next(
                (
                    at
                    for at in range(MAX_SERVER_ID + 2 - count)
                    if used.isdisjoint(range(at, at + count))
                ),
                0,
            )
            used.update(range(number, number + count))
        found.append(number)
    return found


def _place(built: Built, where: Where, origin: Place) -> Place:
    """Return the place of an option, or of what stands nearest around it."""
    for end in range(len(where), 0, -1):
        if where[:end] in built.places:
            return built.places[where[:end]]
    return origin


def _problems(conf: SmtpsConf) -> Iterator[tuple[Where, str]]:
    """Yield (where, name and what is wrong)."""
    if len(conf.policy_milter) > 1:
        yield ("policy_milter", 1), "policy_milter: only one is possible; use milter for others"
    for number, policy in enumerate(conf.policy_milter):
        if len(policy.flags) > 1:
            text = "policy_milter.flags: abort and accept_but_reconnect exclude each other"
            yield ("policy_milter", number, "flags"), text
        text = _socket_problem(policy.socket)
        if text:
            yield ("policy_milter", number, "socket"), f"policy_milter.socket: {text}"
    for number, milter in enumerate(conf.milter):
        text = _socket_problem(milter.socket)
        if text:
            yield ("milter", number, "socket"), f"milter.socket: {text}"
    if len(conf.protected_recipients) > 1:
        yield ("protected_recipients", 1), "protected_recipients: may be given once only"
    for number, protected in enumerate(conf.protected_recipients):
        if not protected.allow_by:
            text = "protected_recipients.allow_by: is required: sender, client_ip or both"
            yield ("protected_recipients", number), text
        elif "access" not in conf.flags:
            text = "protected_recipients: needs the access map: add access to flags"
            yield ("protected_recipients", number), text


def _socket_problem(sock: MilterSocket) -> str:
    if sock.type == "unix":
        return "" if sock.path else "path is required for type unix"
    if not sock.port:
        return f"port is required for type {sock.type}"
    if sock.address and (":" in sock.address) != (sock.type == "inet6"):
        return f"address {sock.address} is not of type {sock.type}"
    return ""
