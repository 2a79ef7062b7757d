"""The version of smx, in the one place that everything else reads it from.

Kind: table.

Versions are named X.a.b.c.d as sendmail X names them (SPEC row X484): a is the release
series, b counts feature releases, c repairs, d is non-zero for snapshots only. The leading X
belongs to the name; Python's packaging sees the four numbers.
"""

VERSION = "0.1.0.0"
PRODUCT = f"smX.{VERSION}"
