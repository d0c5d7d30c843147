"""Performance profiles: how entries compare over many problems, without averaging costs over problems."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

__all__ = ["ENOUGH", "Profile", "profiles"]

ENOUGH = 5
"""Problems from which on a profile says anything."""


@dataclasses.dataclass(frozen=True)
class Profile:
    """One entry's performance profile (Dolan and Moré 2002, eq. 2.2).

    `ratios` has, for each problem, the entry's cost to the target over that of the best entry there, 1 for the best
    itself and ∞ where it did not reach the target in the median.
    """

    label: str
    ratios: tuple[float, ...]

    def within(self, factor: float) -> float:
        """ρ(τ): the share of the problems on which the entry's cost is at most `factor` times that of the best one."""
        return sum(ratio <= factor for ratio in self.ratios) / len(self.ratios)

    @property
    def solved(self) -> float:
        """The share of the problems whose target the entry reached."""
        return sum(map(math.isfinite, self.ratios)) / len(self.ratios)

    def steps(self) -> tuple[list[float], list[float]]:
        """The profile as a function of the factor: where it rises, and to which share."""
        factors = sorted({1.0, *filter(math.isfinite, self.ratios)})
        return factors, [self.within(factor) for factor in factors]


def profiles(costs: Sequence[Mapping[str, float]]) -> list[Profile]:
    """The profiles of the entries that took part in every problem, best first.

    Parameters
    ----------
    costs
        For each problem, the cost of each entry by its label; ∞ for a miss. A problem that no entry solved
        ranks none of them, and lowers the profiles of all.

    Examples
    --------
    >>> from descend.comparison.judging.profiles import profiles
    >>> found = profiles([{"a": 10.0, "b": 20.0}, {"a": 30.0, "b": float("inf")}])
    >>> [(p.label, p.ratios, p.within(2.0)) for p in found]
    [('a', (1.0, 1.0), 1.0), ('b', (2.0, inf), 0.5)]
    """
    if not costs:
        return []
    common = [label for label in costs[0] if all(label in cost for cost in costs)]
    found = []
    for label in common:
        ratios = []
        for cost in costs:
            best = min(cost.values())
            ratios.append(math.inf if math.isinf(cost[label]) else 1.0 if cost[label] == best else cost[label] / best)
        found.append(Profile(label, tuple(ratios)))
    return sorted(found, key=lambda p: (-_area(p), p.label))


def _area(profile: Profile) -> float:
    """Under the profile, on a logarithmic axis up to a factor of 100: near the best on many problems counts most."""
    return sum(max(0.0, 1 - math.log(ratio) / math.log(100.0)) for ratio in profile.ratios if math.isfinite(ratio))
