"""Stretches: where learning rates are searched for beyond the usual range, if that holds no good one for an entry.

Which entries need one is known when the tuning runs are. How far a stretch goes, how many trials it has, and that every
entry gets as many more, is settled here, before the first run.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

from descend.comparison.phrases import listed
from descend.comparison.planning.spaces import LEARNING_RATES, LogUniform

__all__ = ["ROUNDS", "Stretch", "further_trials", "searched_further"]

ROUNDS = 3
"""How often the range is extended, at most."""
FACTOR = 1e3
"""How much lower, or higher, the range goes with each stretch."""


@dataclasses.dataclass(frozen=True)
class Stretch:
    """The learning rates that an entry is searched in beyond what was tried before, in one study.

    `number` counts the stretches below the usual range, or above it if `up`.
    """

    entry: str
    study: int
    up: bool
    number: int

    @property
    def lr(self) -> LogUniform:
        """The learning rates, from the end of the range, or of the last stretch, on."""
        near, far = self.number - 1, self.number
        if self.up:
            return LogUniform(_beyond(LEARNING_RATES.high, near), _beyond(LEARNING_RATES.high, far))
        return LogUniform(_beyond(LEARNING_RATES.low, -far), _beyond(LEARNING_RATES.low, -near))

    def settings(self) -> dict[str, Any]:
        """The stretch as JSON holds it."""
        return {"entry": self.entry, "study": self.study, "low": self.lr.low, "high": self.lr.high}


def _beyond(end: float, number: int) -> float:
    """An end of the usual range, so many stretches on; without what rounding adds: 1e-07, and not 9.999e-08."""
    return float(f"{end * FACTOR**number:.12g}")


def further_trials(trials: int) -> int:
    """The trials that each entry gets for a stretch, as close to one another as those of the usual range."""
    usual = math.log(LEARNING_RATES.high / LEARNING_RATES.low)
    return math.ceil(trials * math.log(FACTOR) / usual - 1e-9)


def searched_further(stretches: Iterable[Stretch]) -> list[tuple[str, str]]:
    """Whose learning rates were searched for further on, and how far: ("GD and Momentum", "down to 1e-07")."""
    told, known = [], list(stretches)
    for up, way, furthest in ((False, "down", min), (True, "up", max)):
        found = [s for s in known if s.up == up]
        if found:
            whose = listed(list(dict.fromkeys(s.entry for s in found)))
            told.append((whose, f"{way} to {furthest(s.lr.high if up else s.lr.low for s in found):g}"))
    return told
