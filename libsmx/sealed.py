"""Values with a checksum, as they stand in a store.

Kind: core.

A sealed value is the payload behind its CRC-32C, which covers table and key too: a value that
an error moved to another key does not verify.
Source: architecture.md.
"""

import struct

from libsmx.checksum import crc32c
from libsmx.errors import StoreError

_CRC = struct.Struct(">I")


class DamagedValue(StoreError):
    """One value does not verify.

    Attributes:
        table, key: where it stands.
    """

    def __init__(self, table: str, key: bytes) -> None:
        super().__init__(f"damaged value in table {table} at key {key!r}")
        self.table = table
        self.key = key


def seal(table: str, key: bytes, payload: bytes) -> bytes:
    """Return the value to store for a payload."""
    return _CRC.pack(_sum(table, key, payload)) + payload


def unseal(table: str, key: bytes, value: bytes) -> bytes | None:
    """Return the payload of a stored value, None where it is damaged."""
    payload = value[_CRC.size :]
    if len(value) < _CRC.size or _CRC.unpack_from(value)[0] != _sum(table, key, payload):
        return None
    return payload


def _sum(table: str, key: bytes, payload: bytes) -> int:
    return crc32c(b"%s\0%d\0%s%s" % (table.encode(), len(key), key, payload))
