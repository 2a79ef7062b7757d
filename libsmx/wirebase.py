"""Message numbers: how a class becomes a message.

Kind: table.

libsmx/wire.py lists the messages between daemons and who may send which, libsmx/wire_control.py
those of qmgrctl; both register here.
"""

from collections.abc import Callable
from typing import TypeVar, dataclass_transform

import attrs

T = TypeVar("T")

TYPES: dict[int, type] = {}
"""Message class by number."""
NUMBERS: dict[type, int] = {}
"""Number by message class."""


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(attrs.field,))
def message(number: int) -> Callable[[type[T]], type[T]]:
    """Make a class a message with this number."""

    def register(cls: type[T]) -> type[T]:
        made = attrs.frozen(kw_only=True)(cls)
        if number in TYPES:
            raise ValueError(f"message number {number} is taken by {TYPES[number].__name__}")
        TYPES[number] = made
        NUMBERS[made] = number
        return made

    return register
