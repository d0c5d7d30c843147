"""The errors of an answer of `minimize`: the function is taken for a negative log-likelihood."""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
import operator
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import optree

from descend.errors import ObjectiveError, UncertaintyError
from descend.minimization.options import MinimizeOptions
from descend.objectives.autodiff import AUTODIFF
from descend.objectives.calls import as_loss, call
from descend.objectives.differences import DIFFERENCES
from descend.objectives.objective import Objective
from descend.objectives.products import HessianProducts
from descend.parameters.memory import Array, Memory
from descend.rules import Rule
from descend.stopping import Reason
from descend.uncertainty.answer import Answer
from descend.uncertainty.covariance import Covariance, from_hessian
from descend.uncertainty.hessian import Hessian, of_function, of_gradient, scaled

if TYPE_CHECKING:
    from descend.minimization.run import Minimization

__all__ = ["LikelihoodAnswer"]


AGREES = 0.05
"""By how much, of their size, a Hessian and a difference of gradients may differ."""


class LikelihoodAnswer(Answer):
    """The errors of an answer of `minimize`, from the Hessian of its function, which is asked for again.

    `again` makes and runs a descent of the same function, with other options.
    """

    def __init__(
        self,
        fun: Callable[..., Any],
        options: MinimizeOptions,
        memory: Memory,
        sign: float,
        again: Callable[[Any, Any, MinimizeOptions], Minimization],
    ) -> None:
        super().__init__(memory, options.bounds, options.names)
        self.fun: Any = fun
        self.again, self.sign = again, sign
        self.options = dataclasses.replace(
            options, starts=None, vectorized=None, state=None, callback=None, history=False, check_gradient=False,
            fixed=None, tied=self.tied,
        )  # fmt: skip

    def portable(self, result: Any) -> Answer:
        """The same without the user's functions."""
        found = copy.copy(self)
        found.fun = found.tied = None
        found.options = MinimizeOptions()
        found.lost_ties = self.tied is not None
        return found

    lost_ties = False

    def of_function(self, fun: Any, jac: Any) -> Answer:
        """The same of a function, and a gradient, that are given again."""
        if self.lost_ties:
            raise UncertaintyError("the functions that tie parameters are lost with pickling: minimise again")
        found = copy.copy(self)
        found.fun, found.options = fun, dataclasses.replace(self.options, jac=jac, hess=None, hessp=None)
        found.forget()
        return found

    # ---- the covariance ---------------------------------------------------------------------------------------------

    def of_free(self, result: Any, memory: Memory, *, quick: bool) -> Covariance:
        """The inverse Hessian of the free numbers; those at a bound are taken as fixed there."""
        objective = self._objective(memory)
        size = memory.size
        lower, upper = objective.bounds or (np.full(size, -math.inf), np.full(size, math.inf))
        names, at_bound = self.free_names(memory), self.at_bound(memory)
        self.tell_bounds(names, at_bound)
        found = np.full((size, size), math.nan)
        inside = ~at_bound
        if inside.any():
            flat = FlatObjective(objective, self.options.arguments, self.sign, inside)
            hessian = self._hessian(flat, lower[inside], upper[inside])
            kept = [name for name, one in zip(names, inside, strict=True) if one]
            covariance = from_hessian(hessian.matrix, kept, basis=hessian.basis, error=hessian.error)
            self.require_minimum(flat.slope, covariance)
            found[np.ix_(inside, inside)] = covariance.matrix
        return Covariance(tuple(names), found)

    def _hessian(self, flat: FlatObjective, lower: Array, upper: Array) -> Hessian:
        objective = flat.objective
        exact = self._by_products(flat)
        if exact is not None:
            exact = exact[np.ix_(flat.inside, flat.inside)]
            if objective.source in DIFFERENCES or flat.confirms(exact):
                return scaled(exact, objective.resolution.eps)
        eps, loss = objective.resolution.eps, flat.loss
        if objective.source in DIFFERENCES and objective.source != "cs":
            noise = max(objective.resolution.error(loss), 4 * eps * abs(loss))
            return of_function(flat.value, flat.x, noise=noise, lower=lower, upper=upper)
        length = max(0.01, (2 * eps * max(1.0, abs(loss))) ** 0.2)
        return of_gradient(flat.gradient, flat.x, length=length, lower=lower, upper=upper)

    def _by_products(self, flat: FlatObjective) -> Array | None:
        """The Hessian from the user's own, or by automatic differentiation; None where there is neither."""
        hess, hessp = self.options.hess, self.options.hessp
        if self.tied is not None:  # of which the user's Hessian knows nothing
            hess = hessp = None
        given = callable(hess) or hessp is not None
        if not given and flat.objective.source not in AUTODIFF:
            return None
        try:
            products = HessianProducts(flat.objective, flat.args, hess if callable(hess) else None, hessp)
            columns = [products.multiply(axis) for axis in np.eye(flat.memory.size)]
        except ObjectiveError:
            if given:
                raise
            return None  # an operation without a second derivative
        return self.sign * np.stack(columns, axis=1)

    def _objective(self, memory: Memory) -> Objective:
        if self.fun is None:
            raise UncertaintyError(
                "the errors of the answer need the function, which a result loses when it is pickled or copied: "
                "result.covariance(fun), or result.covariance(fun, jac)"
            )
        objective = Objective(self.fun, self.options.jac, memory)
        if self.bounds is not None:
            objective.bounds = self.bounds_of(memory).ends
        return objective

    # ---- profiles ---------------------------------------------------------------------------------------------------

    def refit(self, result: Any, fixed: Mapping[str, float], x: Any) -> tuple[float, Any, bool]:
        """The least loss with those fixed; where nothing is left free, the loss there."""
        memory = self.memory(x)
        if memory.size == 1:
            objective = self._objective(memory)
            (name,) = fixed.keys() - (self.fixed or {}).keys()
            memory.vectors[0][...] = fixed[name]
            loss = self.sign * objective(memory.like(), self.options.arguments)
            return loss, memory.result(), True
        self._objective(memory)
        method = "auto" if isinstance(self.options.method, Rule) else self.options.method
        fun, jac = (self.fun, self.options.jac) if self.sign > 0 else _negative(self.fun, self.options.jac)
        options = dataclasses.replace(self.options, jac=jac, fixed=dict(fixed), method=method)
        run = self.again(fun, x, options).run()
        if run.reason is Reason.INTERRUPTED:
            raise KeyboardInterrupt
        return run.fun, run.x, run.reason.kind == "converged"

    def unit(self, result: Any) -> float:
        """Half a unit of log-likelihood is one standard error."""
        return 0.5

    def loss(self, result: Any) -> float:
        """The negative log-likelihood at the answer."""
        return self.sign * float(result.fun)

    def statistics(self, result: Any) -> list[tuple[str, Any]]:
        """What stands above the table."""
        free = self.roles(result.x).count("")
        return [
            ("free parameters", free),
            ("function evaluations", result.nfev),
            ("negative log-likelihood", self.loss(result)),
            ("Akaike's criterion (AIC)", 2 * self.loss(result) + 2 * free),
        ]


def _negative(fun: Callable[..., Any], jac: Any) -> tuple[Callable[..., Any], Any]:
    """Minus a function, and minus its gradient."""

    def minus(function: Callable[..., Any]) -> Callable[..., Any]:
        return functools.wraps(function)(lambda *args: optree.tree_map(operator.neg, function(*args)))

    return minus(fun), minus(jac) if callable(jac) else jac


class FlatObjective:
    """Loss and gradient of an objective as functions of one vector: of those numbers of its memory that are `inside`.

    `x`, `loss` and `slope` are those of the memory's point when it was made. Beside it, what raises or is not a number
    is NaN.
    """

    def __init__(self, objective: Objective, args: tuple[Any, ...], sign: float, inside: Array) -> None:
        self.objective, self.args, self.sign, self.inside = objective, args, sign, inside
        self.memory = objective.memory
        self._whole = np.concatenate(self.memory.vectors).astype(float)
        self.x = self._whole[inside]
        self._grad = self.memory.like()
        self.loss = sign * objective(self._grad, args)
        self.slope = self._slope()
        if not (math.isfinite(self.loss) and np.all(np.isfinite(self.slope))):
            raise UncertaintyError("the loss or its gradient is not finite at the answer: there are no errors of it")

    def _slope(self) -> Array:
        found: Array = self.sign * np.concatenate(self._grad).astype(float)[self.inside]
        return found

    def _move(self, x: Array) -> None:
        self._whole[self.inside] = x
        parts = np.split(self._whole, np.cumsum([v.size for v in self.memory.vectors])[:-1])
        for vector, part in zip(self.memory.vectors, parts, strict=True):
            vector[...] = part

    def gradient(self, x: Array) -> Array:
        """The gradient at a point."""
        self._move(x)
        try:
            with np.errstate(all="ignore"):
                self.objective(self._grad, self.args)
        except ObjectiveError:
            return np.full(x.shape, math.nan)
        finally:
            self._move(self.x)
        return self._slope()

    def confirms(self, hessian: Array) -> bool:
        """Whether a difference of gradients agrees with a Hessian.

        A user's own may be wrong, and an operation of PyTorch that can be differentiated only once gives zeros.
        """
        signs = np.where(np.arange(self.x.size) % 2 == 0, 1.0, -1.0)
        step = self.objective.resolution.eps ** (1 / 3) * np.where(self.x != 0, np.abs(self.x), 1.0) * signs
        with np.errstate(all="ignore"):
            seen = (self.gradient(self.x + step) - self.gradient(self.x - step)) / 2
            gap = np.sum(np.abs(step * (seen - hessian @ step)))
            size = np.sum(np.abs(step) * (np.abs(hessian) @ np.abs(step))) + np.sum(np.abs(step * seen))
        return not gap > AGREES * size

    def value(self, x: Array) -> float:
        """The loss at a point."""
        self._move(x)
        try:
            with np.errstate(all="ignore"):
                name = self.objective.fun_name
                return self.sign * as_loss(call(self.objective.fun, name, self.memory.tree(), self.args), name)
        except ObjectiveError:
            return math.nan
        finally:
            self._move(self.x)
