"""Runs of memory by their addresses, whatever array's they are."""

from __future__ import annotations

import bisect
from collections.abc import Iterable

__all__ = ["Intervals"]


class Intervals:
    """Memory, as sorted intervals of addresses that do not touch each other."""

    def __init__(self, intervals: Iterable[tuple[int, int]] = ()) -> None:
        merged: list[list[int]] = []
        for start, end in sorted(intervals):
            if merged and start <= merged[-1][1]:
                merged[-1][1] = max(end, merged[-1][1])
            else:
                merged.append([start, end])
        self.starts, self.ends = [start for start, _ in merged], [end for _, end in merged]

    def meets(self, start: int, end: int) -> bool:
        """Whether some address from `start` on, before `end`, is among them."""
        i = bisect.bisect_right(self.ends, start)
        return i < len(self.ends) and self.starts[i] < end
