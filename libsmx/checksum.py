"""CRC-32C (Castagnoli), the checksum of everything smx stores.

Kind: core. The only import of google_crc32c, which uses the processor's instruction.
"""

import google_crc32c


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of data, 0 <= result < 2**32."""
    return int(google_crc32c.value(data))
