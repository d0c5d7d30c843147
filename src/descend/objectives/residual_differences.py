"""Jacobians of residuals by finite differences, which can be made more exact where the descent nears its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from descend.objectives.resolution import LossResolution
from descend.parameters.memory import Array

__all__ = ["COMPLEX_STEP", "SCHEMES", "Differences"]

SCHEMES = {"2-point": 1, "3-point": 2, "cs": 1}
"""SciPy's names of the schemes, and how many evaluations each takes for a group of parameters."""

COMPLEX_STEP = 1e-30
"""The imaginary step, relative to the size of a parameter: nothing is subtracted, so that it need not be large."""

BLIND = 64.0
"""A column that changes by no more than so many units in the last place of the residuals shows nothing."""

LONGER, LONGEST = 1024.0, 3
"""By how much a step is made longer where it shows nothing, and how often at most."""


class Differences:
    """Derivatives of residuals along groups of parameters, from evaluations around a point.

    Forward differences take an evaluation for each group. `complete` adds one on the other side, and knows the second
    derivatives along each parameter from then on; later forward differences allow for them, and are nearly as exact as
    central ones at half the price.

    Parameters
    ----------
    evaluate
        The residuals at a flat point.
    scheme
        ``"2-point"``, ``"3-point"`` or ``"cs"``.
    resolution
        Has the spacing of the floats on the way, relative to their size.
    relative
        Steps relative to each parameter's absolute value, as the user gives them. Default ∛eps.
    structure
        Where the Jacobian may have entries, as a sparse matrix; parameters that share no row are moved together.
        None: everywhere.
    held
        A flat point as the parameters' floats hold it.
    """

    def __init__(
        self,
        evaluate: Callable[[Array], Array],
        scheme: str,
        resolution: LossResolution,
        size: int,
        relative: Any = None,
        structure: Any = None,
        held: Callable[[Array], Array] = np.asarray,
    ) -> None:
        self.evaluate, self.scheme, self.resolution = evaluate, scheme, resolution
        self.relative, self.held = relative, held
        self.bounds: tuple[Array, Array] | None = None
        self.second: Array | None = None
        """The second derivative along each parameter, laid out as the entries of the Jacobian."""
        self.structure: Any = None
        self.groups: Array = np.arange(size)
        if structure is not None:
            self._group(structure)
        self.count = int(self.groups.max()) + 1
        self._forward: tuple[Array, Array, list[Array], Array] | None = None

    def _group(self, structure: Any) -> None:
        from scipy.optimize._numdiff import group_columns
        from scipy.sparse import csc_array

        self.structure = csc_array(structure)
        self.structure.eliminate_zeros()
        self.structure.sort_indices()
        self.groups = group_columns(self.structure)
        self._columns = np.repeat(np.arange(self.structure.shape[1]), np.diff(self.structure.indptr))

    @property
    def cost(self) -> int:
        """Evaluations of one Jacobian."""
        return self.count * SCHEMES[self.scheme]

    @property
    def eps(self) -> float:
        """The spacing of the floats on the way, relative to their size."""
        return self.resolution.eps

    @property
    def error(self) -> float:
        """The error of an entry relative to its column, about."""
        if self.scheme == "cs":
            return 0.0
        return float(self.eps ** (0.5 if self.scheme == "2-point" and self.second is None else 0.625))

    @property
    def can_refine(self) -> bool:
        """Whether `complete` would make the last Jacobian more exact."""
        return self.scheme == "2-point" and self.second is None and self._forward is not None

    def jacobian(self, x: Array, values: Array, left: float = np.inf) -> Any:
        """The Jacobian at x, where the residuals are `values`; `left` evaluations may be made beyond the usual ones."""
        if self.scheme == "cs":
            return self._matrix(self._by_complex_step(x, values))
        steps = self._steps(x)
        entries, moved = self._entries(values.size), []
        for group in range(self.count):
            chosen = self.groups == group
            ahead = self.evaluate(np.where(chosen, x + steps, x))
            if self.structure is None and not np.any(np.abs(ahead - values) > BLIND * self.eps * np.abs(values)):
                ahead, used = self._longer(x, values, steps, group, ahead, left)
                left -= used
            moved.append(ahead)
            self._put(entries, group, ahead - values, steps)
        self._forward = x.copy(), steps, moved, values.copy()
        if self.scheme == "3-point":
            return self.complete(keep=False)
        if self.second is not None:
            entries -= 0.5 * self._by_entry(steps) * self.second
        return self._matrix(entries)

    def complete(self, *, keep: bool = True) -> Any:
        """The last Jacobian again, by a second evaluation for each group; to `keep` what that tells of curvature."""
        assert self._forward is not None
        x, steps, moved, values = self._forward
        others = self._other_steps(x, steps)
        slope, second = self._entries(values.size), self._entries(values.size)
        a, b = np.where(steps != 0.0, steps, 1.0), np.where(steps != 0.0, others, -1.0)
        for group, ahead in enumerate(moved):
            chosen = self.groups == group
            beyond = self.evaluate(np.where(chosen, x + others, x))
            # Of the parabola through three points: its slope and its curvature in the first of them.
            for entries, of_first, of_second in (
                (slope, b / (a * (b - a)), -a / (b * (b - a))),
                (second, -2.0 / (a * (b - a)), 2.0 / (b * (b - a))),
            ):
                by_entry = self._of_group(group)
                near, far = self._rows(group, ahead - values), self._rows(group, beyond - values)
                entries[self._where(group)] = of_first[by_entry] * near + of_second[by_entry] * far
        self._forward = None
        if keep:
            self.second = second
        return self._matrix(slope)

    # ---- steps ------------------------------------------------------------------------------------------------------

    def _steps(self, x: Array) -> Array:
        """The step of each parameter, to the side where there is room."""
        sizes = np.where(x != 0.0, np.abs(x), 1.0)
        relative = self.eps ** (1.0 / 3.0) if self.relative is None else np.asarray(self.relative, dtype=float)
        steps = np.broadcast_to(relative, x.shape) * sizes
        if self.bounds is not None:
            lower, upper = self.bounds
            steps = _with_room(x, steps, lower, upper)
        return self._exact(x, steps)

    def _other_steps(self, x: Array, steps: Array) -> Array:
        """The steps to the other side or, where there is no room, twice as far to the same one."""
        others = -steps
        if self.bounds is not None:
            lower, upper = self.bounds
            outside = (x + others < lower) | (x + others > upper)
            others = np.where(outside, 2.0 * steps, others)
            beyond = (x + others < lower) | (x + others > upper)
            others = np.where(beyond, 0.5 * steps, others)
        return self._exact(x, others)

    def _exact(self, x: Array, steps: Array) -> Array:
        """Steps as the floats of the parameters can make them; none where bounds leave no room."""
        made: Array = self.held(x + steps) - x
        least = np.copysign(4.0 * self.eps * np.maximum(np.abs(x), np.finfo(np.float64).tiny), steps)
        return np.where((made == 0.0) & (steps != 0.0), self.held(x + least) - x, made)

    def _longer(
        self, x: Array, values: Array, steps: Array, group: int, ahead: Array, left: float
    ) -> tuple[Array, int]:
        """The residuals of a longer step, where the usual one has shown nothing; and how many evaluations that took."""
        used, first = 0, steps[group]
        while used < min(LONGEST, left) and self.relative is None:
            longer = steps[group] * LONGER
            if self.bounds is not None and not self.bounds[0][group] <= x[group] + longer <= self.bounds[1][group]:
                break
            if abs(longer) > max(1.0, abs(x[group])):
                break
            steps[group] = longer
            used += 1
            ahead = self.evaluate(np.where(self.groups == group, x + steps, x))
            if np.any(np.abs(ahead - values) > BLIND * self.eps * np.abs(values)):
                return ahead, used
        if used and np.array_equal(ahead, values):
            steps[group] = first
        return ahead, used

    def _by_complex_step(self, x: Array, values: Array) -> Array:
        entries = self._entries(values.size)
        steps = COMPLEX_STEP * np.where(x != 0.0, np.abs(x), 1.0)
        for group in range(self.count):
            moved = self.evaluate(x + 1j * np.where(self.groups == group, steps, 0.0))
            self._put(entries, group, moved.imag, steps)
        return entries

    # ---- entries ----------------------------------------------------------------------------------------------------

    def _entries(self, rows: int) -> Array:
        if self.structure is None:
            return np.empty((rows, self.count))
        return np.empty(self.structure.nnz)

    def _where(self, group: int) -> Any:
        """Where the entries of a group stand."""
        return (slice(None), group) if self.structure is None else self.groups[self._columns] == group

    def _of_group(self, group: int) -> Any:
        """The parameter of each of these entries."""
        return group if self.structure is None else self._columns[self._where(group)]

    def _rows(self, group: int, change: Array) -> Array:
        """Of a change of the residuals, what belongs to these entries."""
        return change if self.structure is None else change[self.structure.indices[self._where(group)]]

    def _put(self, entries: Array, group: int, change: Array, steps: Array) -> None:
        by_entry = steps[self._of_group(group)]
        entries[self._where(group)] = self._rows(group, change) / np.where(by_entry != 0.0, by_entry, 1.0)

    def _by_entry(self, steps: Array) -> Array:
        return steps if self.structure is None else steps[self._columns]

    def _matrix(self, entries: Array) -> Any:
        if self.structure is None:
            return entries
        from scipy.sparse import csc_array

        shape = self.structure.shape
        return csc_array((entries, self.structure.indices, self.structure.indptr), shape=shape).tocsr()


def _with_room(x: Array, steps: Array, lower: Array, upper: Array) -> Array:
    """Steps that stay within bounds: forwards, else backwards, else as far as the wider side has room."""
    ahead, behind = upper - x, x - lower
    turned = np.where(steps <= ahead, steps, np.where(steps <= behind, -steps, 0.0))
    wider = np.where(ahead >= behind, 0.5 * ahead, -0.5 * behind)
    return np.where(turned != 0.0, turned, wider)
