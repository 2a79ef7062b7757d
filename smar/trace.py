"""A trace: every lookup of a decision in order, and the rule that decided.

Kind: core.

Decisions get a Trace or None; None costs nothing. What the DNS was asked is added by
``traced``, which stands between a decision and whoever answers its questions.
Limits: MAX_LINES lines before the results, MAX_WIDTH characters each.
Source: SPEC rows X437, X454.
"""

from typing import TypeVar

from smar.records import Ahead, Answer, Outcome, Steps

T = TypeVar("T")

MAX_LINES = 350
MAX_WIDTH = 400


class Trace:
    """Lines of text, in the order of what happened."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.left_out = 0

    def add(self, text: str) -> None:
        """Add a line."""
        if len(self.lines) >= MAX_LINES:
            self.left_out += 1
            return
        self.lines.append(text if len(text) <= MAX_WIDTH else text[: MAX_WIDTH - 3] + "...")

    def result(self, text: str) -> None:
        """Add a line of the result, also where lookups had to be left out."""
        if self.left_out:
            self.lines.append(f"  ({self.left_out} more lookups)")
            self.left_out = 0
        self.lines.append(text[:MAX_WIDTH])

    def step(self, name: str) -> None:
        """Add the beginning of a check."""
        self.add(f"check {name}")

    def lookup(self, where: str, key: str, value: str | None) -> None:
        """Add a lookup in a map and what came of it."""
        self.add(f"  map {where}: {key} -> {'-' if value is None else value}")

    def note(self, text: str) -> None:
        """Add what follows from the lookups."""
        self.add(f"  {text}")


def step(trace: Trace | None, name: str) -> None:
    """Add the beginning of a check, where there is a trace."""
    if trace is not None:
        trace.step(name)


def traced(steps: Steps[T], trace: Trace | None) -> Steps[T]:
    """Run a decision and add what it asks the DNS to the trace."""
    if trace is None:
        return (yield from steps)
    try:
        asked = next(steps)
        while True:
            answers = yield asked
            for question, answer in zip(asked, answers, strict=True):
                if isinstance(question, Ahead):
                    trace.add(f"  dns {question.question.kind} {question.question.name} begun")
                elif question.kind != "MAP":
                    trace.add(f"  dns {question.kind} {question.name} -> {_said(answer)}")
            asked = steps.send(answers)
    except StopIteration as stop:
        result: T = stop.value
        return result


def _said(answer: Answer) -> str:
    """Return the records of an answer, or what came of the question."""
    if answer.outcome is not Outcome.FOUND:
        return str(answer.outcome.value) + (f": {answer.detail}" if answer.detail else "")
    said = [f"{preference} {host or '.'}" for preference, host in answer.mx]
    said += [*answer.addresses, *answer.names]
    return ", ".join(said) or "-"
