"""A task: one run that a comparison has to make."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

__all__ = ["Chosen", "Task"]

Chosen = Mapping[str, Any] | None
"""The hyperparameters that a study chose for an entry; None if every trial failed."""


@dataclasses.dataclass(frozen=True)
class Task:
    """One run to make: a descent of one entry, with some hyperparameters, from one seed.

    `entry` counts the reference pool's rules on from the last of the comparison's entries. `phase` is ``reference``,
    ``tuning``, ``final``, ``untuned`` (the entry's own hyperparameters, on the seeds of the final runs) or ``timing``
    (a final run again, with no other beside it).
    """

    entry: int
    hyperparameters: tuple[tuple[str, Any], ...]
    seed: int
    phase: str
    study: int = 0

    @property
    def reads_test(self) -> bool:
        """Whether the run may see the test data."""
        return self.phase not in ("reference", "tuning")
