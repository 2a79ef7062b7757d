"""Explain: why a recipient has not gone, and what happens next.

Kind: core.

A pure function of facts: what is decisive stands first. The words are for operators.
Source: SPEC row X477; architecture.md.
"""

import attrs

from qmgr.ctltext import show_age

MAX_HOSTS = 8
"""Hosts of a destination that are told of; a route may have many."""


@attrs.frozen(kw_only=True)
class HostFacts:
    """One address of a destination."""

    name: str
    """Host and address."""
    window: int = 0
    open: int = 0
    blocked_s: float = 0.0
    """Seconds for which it is left alone; 0: it may be tried."""
    error: str = ""
    suspended: str = ""
    """Why, empty where it is not."""


@attrs.frozen(kw_only=True)
class Facts:
    """What is known of a recipient and of what it depends on; times in seconds from now."""

    place: str
    """incoming, routing, waiting, delivering, closing, deferred or held."""
    tries: int = 0
    due_s: float = 0.0
    """Until its next try (deferred)."""
    return_s: float = 0.0
    """Until it is old enough to be returned; negative: it is."""
    error: str = ""
    hold: str = ""
    """Why it was held at its acceptance, empty where it was not."""
    wish: str = ""
    """What an operator wants when its attempt has ended."""
    suspended: str = ""
    """Why its domain or destination is suspended, empty where it is not."""
    suspended_s: float = 0.0
    """Until the suspension ends; 0: no end."""
    resolver: bool = True
    """smar answers."""
    stopping: bool = False
    defedb: bool = True
    """The deferred queue is open."""
    aq_full: bool = False
    dest: str = ""
    dest_waiting: int = 0
    dest_sessions: int = 0
    hosts: tuple[HostFacts, ...] = ()
    busy: int = 0
    capacity: int = 1
    """Delivery sessions: in use and at most, of all smtpc processes."""


def explain(facts: Facts) -> tuple[list[str], str]:
    """Return the reasons why a recipient has not gone, and what happens next."""
    match facts.place:
        case "held":
            if facts.hold and not facts.tries:
                why = [f"it is held since its acceptance: {facts.hold}"]
            else:
                why = _with_error(facts, "an operator holds it")
            return why, "nothing until it is released"
        case "closing":
            return ["what became of it is being written to disk"], "it leaves the queue"
        case "deferred":
            return _deferred(facts)
        case "delivering":
            after = f"; then {facts.wish}, as an operator wants" if facts.wish else ""
            return (
                [f"it is being delivered to {facts.dest or 'its destination'} now"],
                f"the result of the attempt{after}",
            )
        case _:
            return _fresh(facts)


def _fresh(facts: Facts) -> tuple[list[str], str]:
    """It is in memory and not under delivery."""
    if facts.stopping:
        return ["the queue manager stops, nothing new is begun"], "it is tried after the next start"
    if facts.place == "incoming":
        if facts.aq_full:
            return ["the active queue is full"], "it becomes active when an active one has ended"
        return ["it was accepted just now"], "it becomes active at once"
    if facts.place == "routing":
        if not facts.resolver:
            return ["the address resolver is away"], "its route is asked for when smar is back"
        return ["its route is being asked for"], "smar answers or gives up within its time limits"
    return _waiting(facts)


def _with_error(facts: Facts, first: str) -> list[str]:
    return [first, f"last error: {facts.error}"] if facts.error else [first]


def _deferred(facts: Facts) -> tuple[list[str], str]:
    tries = f"{facts.tries} attempt{'s' if facts.tries != 1 else ''} did not succeed"
    why = _with_error(facts, tries if facts.tries else "it has not been tried yet")
    if facts.suspended:
        why.insert(0, facts.suspended)
    why += _hosts(facts)
    if not facts.defedb:
        return [*why, "the deferred queue is not open"], "it is tried when it has been opened"
    if facts.due_s > 0:
        following = f"next try in {show_age(facts.due_s)}"
    elif facts.aq_full:
        why.insert(0, "it is due, but half of the active queue holds deferred mail already")
        following = "it becomes active when an active one has ended"
    else:
        following = "it is due and is tried at once"
    if facts.suspended:
        end = f"ends in {show_age(facts.suspended_s)}" if facts.suspended_s else "is lifted"
        following = f"nothing is sent before the suspension {end}"
    if facts.return_s <= 0:
        return why, f"{following}; if that fails it is returned to its sender"
    return why, f"{following}; it is returned to its sender in {show_age(facts.return_s)}"


def _hosts(facts: Facts) -> list[str]:
    lines = []
    for host in facts.hosts[:MAX_HOSTS]:
        if host.suspended:
            lines.append(host.suspended)
        elif host.blocked_s > 0:
            error = f": {host.error}" if host.error else ""
            lines.append(f"{host.name} is left alone for {show_age(host.blocked_s)}{error}")
    return lines


def _waiting(facts: Facts) -> tuple[list[str], str]:
    """It has a route and waits for a session."""
    blocked = [host for host in facts.hosts if host.blocked_s > 0 or host.suspended]
    if facts.hosts and len(blocked) == len(facts.hosts):
        wait_s = min(host.blocked_s for host in blocked)
        return _hosts(facts), f"it is deferred until an address may be tried: {show_age(wait_s)}"
    if not facts.capacity:
        return ["no smtpc process is connected"], "it is delivered when one has started"
    why = []
    if facts.busy >= facts.capacity:
        why.append(f"all {facts.capacity} delivery sessions are in use")
    usable = [host for host in facts.hosts if host not in blocked]
    full = [host for host in usable if host.window and host.open >= host.window]
    if full and len(full) == len(usable):
        why += [f"{h.name} has all {h.window} sessions that it may have" for h in full[:MAX_HOSTS]]
    ahead = f"{facts.dest_waiting} recipients wait for {facts.dest}"
    why.append(f"{ahead}, which has {facts.dest_sessions} sessions")
    return [*why, *_hosts(facts)], "it is delivered when its turn comes"
