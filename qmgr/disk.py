"""Free disk space: when to stop accepting mail, and when to begin again.

Kind: core.

Below the floor on any of the file systems nothing is accepted until all of them have the
higher amount again, so that the state does not flutter.
Source: SPEC rows X178, X179; D17.
"""

from collections.abc import Mapping

import attrs


@attrs.define
class DiskGuard:
    """The hysteresis.

    Args:
        min_kb: free space below which mail is refused.
        ok_kb: free space from which it is accepted again.

    Attributes:
        problem: a sentence about the first file system that has too little, or "".
    """

    min_kb: int
    ok_kb: int
    problem: str = ""

    def check(self, free_kb: Mapping[str, int]) -> str:
        """Take the free space of each store; return ``problem`` as it is now."""
        floor = self.ok_kb if self.problem else self.min_kb
        low = sorted((free, name) for name, free in free_kb.items() if free < floor)
        self.problem = f"{low[0][1]} has {low[0][0]} KB free, {floor} KB are needed" if low else ""
        return self.problem
