"""The day of a gateway, shortened; by hand it runs in full: python -m tests.simulation."""

import pytest

from tests.simulation.gateway import Plan
from tests.simulation.report import simulate


@pytest.mark.covers("X185", "X186", "X188", "X195", "X196")
@pytest.mark.parametrize("seed", [1, 2])
def test_bad_hosts_delay_their_own_mail_only(seed):
    outcome = simulate(Plan(messages=5000, destinations=400, seed=seed, hours=2.0, capacity=60))
    assert not outcome.wrong, "\n".join(outcome.lines + outcome.wrong)


def test_slow_hosts_that_could_use_every_session_leave_some_to_others():
    plan = Plan(messages=4000, destinations=400, seed=3, hours=0.4, capacity=36)
    outcome = simulate(plan)
    assert not outcome.wrong, "\n".join(outcome.lines + outcome.wrong)
