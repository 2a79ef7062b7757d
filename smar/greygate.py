"""Greylisting in the dialogue: whom it concerns, and what such a client is told.

Kind: core.

It is the last check of a recipient, done only when all others accepted it, for servers with the
flag greylisting, and not for sessions that may relay or that a rule of the access map marks as
ok or relay.
Source: README 3.9.4, 3.12.2; SPEC rows X266, X267, X269 to X271, X472; decision D29.
"""

from libsmx.wire import RcptAsk, Verdict

RULE = "greylisting"


def concerns(ask: RcptAsk) -> bool:
    """Tell whether a recipient that was accepted is to be greylisted."""
    facts = ask.facts
    return RULE in facts.rules.split() and not ask.relay and not facts.mark


def refusal(code: int) -> Verdict:
    """Return what a client that has to come again is told."""
    return Verdict(
        accept=False,
        code=code,
        status="4.7.1",
        text="you are greylisted, please try again later",
        greylisted=True,
    )
