"""Messages between smxgrey and the address resolver.

Kind: table.

Source: SPEC rows X252 to X272.
"""

from typing import Annotated

import attrs
from msgspec import Meta

from libsmx.envelope import Address, Short, Text
from libsmx.wirebase import message

MAX_PAGE = 1000
Count = Annotated[int, Meta(ge=0, le=1 << 62)]


@attrs.frozen(kw_only=True)
class GreyClient:
    """One client of the greylist; times are of the wall clock, seconds."""

    client: Address
    """Address, or the first one of its net."""
    state: Short
    """waiting, confirming, white or expired."""
    first: Count
    last: Count
    mails: Count
    """Recipients that were accepted from it."""


@message(35)
class GreyAsk:
    """Look into the greylist or change it. Answer: GreyAnswer or Refusal."""

    action: Short
    """list, show, remove or expire."""
    client: Address = ""
    """For show and remove."""
    after: Short = ""
    """For list: ``next`` of the answer before."""
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = MAX_PAGE
    """For list."""


@message(36)
class GreyAnswer:
    """Answer to GreyAsk."""

    clients: Annotated[list[GreyClient], Meta(max_length=MAX_PAGE)]
    next: Short = ""
    """For list: there are more from here on."""
    count: Count = 0
    """For list and show: entries in all; else entries that were removed."""
    text: Text = ""


REQUESTS: frozenset[type] = frozenset({GreyAsk})
ANSWERS: frozenset[type] = frozenset({GreyAnswer})
