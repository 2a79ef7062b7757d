"""What two runs of a plan show, with and without bad hosts: figures, and what is wrong."""

from itertools import pairwise

import attrs

from tests.simulation.gateway import KINDS, TIMEOUT_S, Gateway

MAX_RATIO = 1.2
"""Healthy destinations may be slower by this factor because of the others (I5)."""
MAX_TAIL_RATIO = 2.0
"""The same for the slowest hundredth of their mail, when sessions are scarce."""
SLACK_S = 5.0
"""Between the time at which a retry is due and its attempt."""


@attrs.frozen
class Outcome:
    """Figures as text, and every broken promise as a sentence."""

    lines: list
    wrong: list


def part(values, share):
    """The value below which this share of the values lies."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def mean(values):
    """Their mean."""
    return sum(values) / len(values)


def simulate(plan):
    """Run a plan with and without its bad hosts and judge."""
    good = Gateway(attrs.evolve(plan, bad=False)).run()
    gateway = Gateway(plan)
    bad = gateway.run()
    lines = [f"{plan.messages} messages to {plan.destinations} destinations in {plan.hours} hours"]
    lines.append("delay in s          mean      half       99%      last   mean without bad hosts")
    for kind in KINDS:
        found = bad.delays[kind]
        if found:
            figures = (mean(found), part(found, 0.5), part(found, 0.99), max(found))
            text = " ".join(f"{figure:9.3f}" for figure in figures)
            lines.append(f"  {kind:12} {text}  {mean(good.delays[kind]):9.3f}")
    gaps = [b - a for times in bad.attempts.values() for a, b in pairwise(times)]
    probes = [gap for times in bad.connects.values() for gap in spacing(times)]
    most = max((len(times) for times in bad.connects.values()), default=0)
    lines += [
        f"attempts after the first: {len(gaps)}, apart {min(gaps):.0f} to {max(gaps):.0f} s",
        f"delivery after the return of a dead host: last {max(bad.recoveries):.0f} s",
        f"failed connections: {sum(map(len, bad.connects.values()))}, to one address {most}",
        f"most sessions to one address: {max(bad.most_open.values())}",
        f"most recipients in the active queue: {bad.most_active}",
        f"last delivery {bad.ended_at / 3600:.1f} h after the first message",
    ]
    return Outcome(lines, list(judge(plan, good, bad, gaps, probes)))


def spacing(times):
    """Pauses between the waves of failed connections to one address."""
    return [b - a for a, b in pairwise(times) if b - a > 60]


def judge(plan, good, bad, gaps, probes):
    """Yield what is wrong."""
    limits = plan.limits
    for seen in (good, bad):
        counts = set(seen.delivered.values())
        if counts != {1}:
            yield f"recipients were delivered {counts} times"
        if seen.early:
            yield f"{seen.early} sessions were begun before slow start allows them"
        if max(seen.most_open.values()) > limits.out_max_connections:
            yield "an address had too many sessions"
    if len(good.delivered) != len(bad.delivered):
        yield "the runs do not have the same mail"
    for name, figure, most in (
        ("mean", mean, MAX_RATIO),
        ("99%", lambda values: part(values, 0.99), MAX_TAIL_RATIO),
    ):
        ratio = figure(bad.delays["healthy"]) / figure(good.delays["healthy"])
        if ratio > most:
            yield f"the {name} delay of healthy destinations is {ratio:.2f} times as long"
    if gaps and min(gaps) < limits.retry_min_s:
        yield f"a retry came after {min(gaps):.0f} s"
    if gaps and max(gaps) > limits.retry_max_s + SLACK_S:
        yield f"a retry came after {max(gaps):.0f} s only"
    if max(bad.recoveries) > limits.retry_max_s + TIMEOUT_S + SLACK_S:
        yield f"mail waited for {max(bad.recoveries):.0f} s for a host that was back"
    if probes and min(probes) < limits.retry_min_s:
        yield f"a dead address was tried again after {min(probes):.0f} s"
