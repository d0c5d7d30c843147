"""The errors of an answer, for the result that it belongs to: covariance, intervals and the printed table, by name."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from descend.checks import real
from descend.errors import OptionError, UncertaintyError, did_you_mean
from descend.parameters.bounds import Bounds
from descend.parameters.free import FreeMemory, memory_of
from descend.parameters.memory import Array, Memory
from descend.parameters.names import container_order, names_of
from descend.parameters.roles import Roles
from descend.uncertainty.covariance import Covariance
from descend.uncertainty.profile import Profile, profile_interval
from descend.uncertainty.table import Row, table

__all__ = ["AWAY", "Answer"]

AWAY = 0.1
"""How many standard errors an answer may be from the minimum of the parabola that its gradient and curvature tell."""

FEW = 1000
"""Of how many parameters at most the start is kept, for the table."""


class Answer:
    """What a door knows of the errors of its result; subclasses say what a covariance and a refit are.

    It keeps the names and roles of the parameters and their bounds, but nothing of the descent. `freedom` is the
    number of degrees of freedom that the residual variance has, infinite where that is known.
    """

    freedom = math.inf

    def __init__(self, memory: Memory, bounds: Any = None, names: Sequence[str] | None = None) -> None:
        roles = memory.roles if isinstance(memory, FreeMemory) else None
        self.fixed: dict[str, float] | None = None if roles is None else roles.held
        self.tied = None if roles is None else {tie.label: tie.function for tie in roles.ties} or None
        self.bounds, self.given_names = bounds, names
        self.names: tuple[str, ...] = ()
        """The names of all parameters, in the order of the container; once they are asked for."""
        self.order = np.zeros(0, dtype=int)
        """Where they stand in the vectors of a memory."""
        self.start: Array | None = None
        if memory.whole.size <= FEW:
            filled = memory.all_of() if isinstance(memory, FreeMemory) else memory.vectors
            self.start = np.concatenate(filled).astype(float)
        self._covariance: Covariance | None = None

    def learn_names(self, x: Any) -> None:
        """Find the names of the parameters, if that is not done."""
        if not self.names:
            whole = Memory(x, "x")
            self.order = container_order(whole)
            labels = names_of(whole, self.given_names)
            self.names = tuple(labels[i] for i in self.order)

    def forget(self) -> None:
        """Compute the covariance anew when it is asked for."""
        self._covariance = None

    # ---- what subclasses say ----------------------------------------------------------------------------------------

    def of_free(self, result: Any, memory: Memory, *, quick: bool) -> Covariance:
        """The covariance of the free numbers that the memory holds; `quick` for four digits, without more evaluations.

        Where there is none without evaluations, `quick` changes nothing.
        """
        raise NotImplementedError

    def refit(self, result: Any, fixed: Mapping[str, float], x: Any) -> tuple[float, Any, bool]:
        """The least loss with those fixed, from a start: loss, point, and whether it is known to be a minimum."""
        raise NotImplementedError

    def of_function(self, fun: Any, jac: Any) -> Answer:
        """The same with the user's function, which is given again."""
        raise UncertaintyError(f"fun={fun!r}: the errors of this result come from its Jacobian; leave fun out")

    def portable(self, result: Any) -> Answer:
        """The same without what cannot be pickled: functions of the user's."""
        raise NotImplementedError

    def unit(self, result: Any) -> float:
        """By how much the loss rises at a distance of one standard error."""
        raise NotImplementedError

    def loss(self, result: Any) -> float:
        """The loss at the answer, as `refit` has it."""
        return float(result.fun)

    def statistics(self, result: Any) -> list[tuple[str, Any]]:
        """What stands above the table: names and values."""
        raise NotImplementedError

    # ---- what results offer -----------------------------------------------------------------------------------------

    def memory(self, x: Any) -> Memory:
        """The memory of the free numbers at a point."""
        return memory_of(x, "x", fixed=self.fixed, tied=self.tied, names=self.given_names)

    def covariance(self, result: Any) -> Covariance:
        """The covariance of all parameters: zero for what is fixed, by the delta method for what is tied."""
        if self._covariance is None:
            self._covariance = self._computed(result, quick=False)
        return self._covariance

    def _computed(self, result: Any, *, quick: bool) -> Covariance:
        self.learn_names(result.x)
        memory = self.memory(result.x)
        found = self.of_free(result, memory, quick=quick)
        if isinstance(memory, FreeMemory):
            found = found.expanded(memory.expand(), memory.roles.names)
        return Covariance(self.names, found.matrix[np.ix_(self.order, self.order)])

    def standard_errors(self, result: Any) -> Any:
        """The standard errors, in a container built like `x`."""
        whole = self.memory(result.x).whole
        flat = np.empty(whole.size)
        flat[self.order] = self.covariance(result).standard_errors
        errors = np.split(flat, np.cumsum([v.size for v in whole.vectors])[:-1])
        return whole.result([e.astype(v.dtype) for e, v in zip(errors, whole.vectors, strict=True)])

    def intervals(self, result: Any, level: float) -> dict[str, tuple[float, float]]:
        """The interval of each parameter by its standard error and a quantile of t or, where σ is known, the normal."""
        away = self.quantile(level) * self.covariance(result).standard_errors
        values = self.numbers(result.x)
        return {name: (v - d, v + d) for name, v, d in zip(self.names, values.tolist(), away.tolist(), strict=True)}

    def profile_intervals(
        self, result: Any, level: float, names: str | Iterable[str] | None
    ) -> dict[str, tuple[float, float]]:
        """The profile interval of the free parameters, or of those that are named."""
        self.learn_names(result.x)
        quantile = self.quantile(level)
        free = [name for name, role in zip(self.names, self.roles(result.x), strict=True) if not role]
        wanted = free if names is None else [names] if isinstance(names, (str, int)) else list(names)
        for name in wanted:
            if name not in free:
                raise OptionError(f"names holds {name!r}, which is no free parameter; {did_you_mean(str(name), free)}")
        return {name: self._profile(result, name, quantile) for name in wanted}

    def summary(self, result: Any, *further: tuple[str, Any]) -> str:
        """The printed table; what cannot be said of the errors is said below it."""
        self.learn_names(result.x)
        found, notes = self._for_table(result)
        errors = [None] * len(self.names) if found is None else found.standard_errors.tolist()
        starts = [None] * len(self.names) if self.start is None else self.start[self.order].tolist()
        roles = self.roles(result.x)
        limits = zip(*(end.tolist() for end in self.ends(result.x)), strict=True)
        columns = zip(self.names, self.numbers(result.x).tolist(), errors, starts, roles, limits, strict=True)
        rows = [Row(*column) for column in columns]
        return table(str(result.message), [*self.statistics(result), *further], rows, found, notes)

    def _for_table(self, result: Any) -> tuple[Covariance | None, list[str]]:
        """The covariance for the table, and what is said of it."""
        if len(self.names) > FEW:
            return None, [f"Errors of more than {FEW:,} parameters are computed by covariance() alone."]
        if self._covariance is not None:
            return self._covariance, []
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                found = self._computed(result, quick=True)
            except UncertaintyError as error:
                return None, [f"There are no standard errors: {error}"]
        return found, [str(warning.message) for warning in said]

    # ---- parts ------------------------------------------------------------------------------------------------------

    def quantile(self, level: float) -> float:
        """The two-sided quantile of t with the degrees of freedom; the normal one where they are infinite."""
        from scipy.stats import norm, t

        level = real("level", level, above=0.0, below=1.0, remedy="try 0.95")
        known = math.isinf(self.freedom)  # without a degree of freedom, standard errors are infinite, or 0 if fixed
        found = norm.ppf((1 + level) / 2) if known else t.ppf((1 + level) / 2, max(self.freedom, 1))
        return float(found)

    def numbers(self, x: Any) -> Array:
        """All numbers of a point, in the order of `names`."""
        found: Array = np.concatenate(Memory(x, "x").vectors).astype(float)[self.order]
        return found

    def roles(self, x: Any) -> list[str]:
        """The role of each parameter: "fixed", "tied" or, for a free one, nothing."""
        found = Roles(Memory(x, "x"), self.fixed, self.tied, self.given_names)
        words = np.where(found.fixed, "fixed", np.where(found.tied, "tied", ""))
        return [str(word) for word in words[self.order]]

    def free_names(self, memory: Memory) -> list[str]:
        """The names of the free numbers that a memory holds, in its order."""
        labels = np.empty(len(self.names), dtype=object)
        labels[self.order] = self.names
        return [str(name) for name in (labels[memory.roles.free] if isinstance(memory, FreeMemory) else labels)]

    def ends(self, x: Any) -> tuple[Array, Array]:
        """Lower and upper bound of each parameter, infinite where there is none."""
        whole = Memory(x, "x")
        if self.bounds is None:
            return np.full(whole.size, -math.inf), np.full(whole.size, math.inf)
        low, high = self.bounds_of(whole).ends
        return low[self.order], high[self.order]

    def at_bound(self, memory: Memory) -> Array:
        """Which of the free numbers of a memory lie at a bound."""
        x = np.concatenate(memory.vectors).astype(float)
        if self.bounds is None:
            return np.zeros(x.size, dtype=bool)
        lower, upper = self.bounds_of(memory).ends
        found: Array = (x <= lower) | (x >= upper)
        return found

    def bounds_of(self, memory: Memory) -> Bounds:
        """The bounds, of a memory of all numbers or of the free ones."""
        return Bounds(memory, self.bounds)

    @staticmethod
    def tell_bounds(names: Sequence[str], at_bound: Array) -> None:
        """Warn of parameters that lie at a bound."""
        if at_bound.any():
            listed = ", ".join(name for name, at in zip(names, at_bound, strict=True) if at)
            warnings.warn(
                f"{listed} at a bound: taken as fixed there, so that the errors of the others are those beside it",
                RuntimeWarning,
                stacklevel=6,
            )

    @staticmethod
    def require_minimum(slope: Array, covariance: Covariance, unit: float = 1.0) -> None:
        """Raise `UncertaintyError` where the gradient of the loss, in units of `unit`, tells of another minimum."""
        if unit == 0.0:  # all residuals are zero, and no loss is lower
            return
        told = np.isfinite(np.diag(covariance.matrix))
        matrix = covariance.matrix[np.ix_(told, told)]
        away = math.sqrt(max(float(slope[told] @ matrix @ slope[told]), 0.0)) / unit
        if away > AWAY:
            raise UncertaintyError(
                f"the answer is no minimum: by its gradient and curvature the minimum is {away:.3g} standard errors "
                "away; go on descending, with a smaller gtol, or from result.state"
            )

    def _profile(self, result: Any, name: str, quantile: float) -> tuple[float, float]:
        at = self.names.index(name)
        estimate = float(self.numbers(result.x)[at])
        error = self.covariance(result).standard_errors[at]
        if not (math.isfinite(error) and error > 0):
            error = abs(estimate) or 1.0  # where the data do not tell it, or it lies at a bound: a first step

        def refit(value: float, start: Any) -> tuple[float, Any, bool]:
            return self.refit(result, (self.fixed or {}) | {name: value}, start)

        profile = Profile(refit, estimate, self.loss(result), result.x, self.unit(result))
        low, high = (float(end[at]) for end in self.ends(result.x))
        found = profile_interval(profile, error, quantile, low, high)
        if profile.lower is not None:
            warnings.warn(
                f"a lower minimum was found on the way along {name}: the loss is {profile.lower[0]:.10g} there, "
                f"{profile.best:.10g} at the answer; go on from {profile.lower[1]!r}",
                RuntimeWarning,
                stacklevel=4,
            )
        if profile.unsure:
            warnings.warn(
                f"the profile interval of {name} rests on {profile.unsure} descents of the other parameters that ended "
                "before they had converged: it may be too narrow",
                RuntimeWarning,
                stacklevel=4,
            )
        return found
