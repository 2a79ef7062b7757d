"""Messages between smxtest and the address resolver.

Kind: table.

Source: SPEC rows X437, X454.
"""

from typing import Annotated

from msgspec import Meta

from libsmx.envelope import Text
from libsmx.wirebase import message

MAX_LINES = 600
Words = Annotated[list[Text], Meta(max_length=16)]


@message(37)
class TryAsk:
    """What would be decided? Nothing is changed by it. Answer: TryAnswer."""

    words: Words
    """Subject and its arguments, see smar/tryout.py."""


@message(38)
class TryAnswer:
    """Answer to TryAsk."""

    lines: Annotated[list[Text], Meta(max_length=MAX_LINES)]
    """Every lookup in order, then the results."""
    found: bool = True
    """There is a route, the recipient would be accepted, the key is in the map."""


REQUESTS: frozenset[type] = frozenset({TryAsk})
ANSWERS: frozenset[type] = frozenset({TryAnswer})
