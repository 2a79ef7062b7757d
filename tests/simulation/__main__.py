"""``python -m tests.simulation``: a gateway's day in virtual time, with a report."""

import argparse
import sys

from tests.simulation.gateway import Plan
from tests.simulation.report import simulate


def main():
    """Run the simulation; the exit status is 1 if a promise is broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--destinations", type=int, default=5000)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--sessions", type=int, default=100, help="delivery sessions")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    plan = Plan(
        messages=args.messages, destinations=args.destinations, seed=args.seed, hours=args.hours,
        capacity=args.sessions,
    )  # fmt: skip
    outcome = simulate(plan)
    print("\n".join(outcome.lines))
    for sentence in outcome.wrong:
        print(f"WRONG: {sentence}")
    return bool(outcome.wrong)


sys.exit(main())
