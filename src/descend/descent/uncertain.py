"""What a result offers on the errors of its answer, through what its door has handed it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from descend.errors import UncertaintyError

if TYPE_CHECKING:
    from descend.uncertainty.answer import Answer
    from descend.uncertainty.covariance import Covariance, NamedMatrix

__all__ = ["Uncertain"]


class Uncertain:
    """A result whose parameters have errors: from its Jacobian, or from the Hessian of a negative log-likelihood.

    Nothing is computed before it is asked for. Parameters have names: the path in their container (``rate``, ``w[0]``;
    ``x[2]`` in a bare array), or those that were given.
    """

    _errors: Answer | None = None

    def _answer(self) -> Answer:
        if self._errors is None:
            raise UncertaintyError(
                f"this {type(self).__name__} has no errors of its answer: minimise a negative log-likelihood by "
                "descend.minimize, or fit by descend.least_squares or descend.curve_fit"
            )
        return self._errors

    def covariance(self, fun: Callable[..., Any] | None = None, jac: Any = None) -> Covariance:
        """Compute the covariance of the parameters, by name: ``result.covariance()["a", "b"]``.

        Of a least-squares fit it is s² (JᵀJ)⁻¹. Of `minimize` it is the inverse Hessian of the function, which must be
        a negative log-likelihood up to a constant. The Hessian comes from `hess` or `hessp` where they were given, from
        automatic differentiation where the gradient does, and else from central differences of the gradient that is
        given. Without one it is of second differences of the function, about 6 n² evaluations. Differences go in
        directions and steps that the curvature scales. What is fixed has zeros, what is tied follows by the delta
        method. A parameter that lies at a bound is taken as fixed there, which a warning says, and its own variance is
        NaN.

        Parameters
        ----------
        fun, jac
            The function and its gradient again: a result that was pickled has lost them.

        Returns
        -------
        Covariance
            `matrix`, an array of shape (parameters, parameters) in the order of `names`; `standard_errors`,
            `correlations`.

        Raises
        ------
        UncertaintyError
            The answer is no minimum, by its gradient or by its curvature; or there is nothing to compute it from.

        Examples
        --------
        >>> import numpy as np
        >>> import descend
        >>> waits = np.array([0.5, 1.5, 2.0, 4.0])
        >>> def minus_log_likelihood(p):
        ...     return -np.sum(np.log(p["rate"]) - p["rate"] * waits)
        >>> result = descend.minimize(minus_log_likelihood, {"rate": 1.0}, bounds=(1e-9, None))
        >>> round(result.x["rate"], 4), round(result.standard_errors["rate"], 4)
        (0.5, 0.25)
        """
        answer = self._answer()
        return answer.covariance(self) if fun is None else answer.of_function(fun, jac).covariance(self)

    @property
    def standard_errors(self) -> Any:
        """The standard error of each parameter, in a container built like `x`; from `covariance`."""
        return self._answer().standard_errors(self)

    @property
    def correlations(self) -> NamedMatrix:
        """The correlation of each two parameters, by name: ``result.correlations["a", "b"]``; from `covariance`."""
        return self.covariance().correlations

    def intervals(self, level: float = 0.95) -> dict[str, tuple[float, float]]:
        """The interval of each parameter by its standard error: name → (low, high).

        Its quantile is that of Student's t for a least-squares fit whose variance is estimated, else the normal
        distribution's.
        """
        return self._answer().intervals(self, level)

    def profile_intervals(
        self, level: float = 0.95, names: str | Iterable[str] | None = None
    ) -> dict[str, tuple[float, float]]:
        """The interval of each free parameter, or of those named, by its profile: name → (low, high).

        All other parameters are fitted again at each value that is tried, beginning from the nearest one. An interval
        ends where the loss has risen by what t (a fit) or χ² (a likelihood) has as its quantile: s² t² / 2 of half a
        sum of squares, z² / 2 of a negative log-likelihood (Bates and Watts 1988, section 6.1; Venzon and Moolgavkar
        1988). An end is infinite where the loss never rises so far, and a bound where it is reached before. A lower
        minimum that is found on the way is told by a warning.
        """
        return self._answer().profile_intervals(self, level, names)

    def summary(self, *further: tuple[str, Any]) -> str:
        """The answer as a table: values, standard errors, starts, roles, bounds, and correlations above 0.1.

        `further` are statistics beside its own: a name and a value each.
        """
        return self._answer().summary(self, *further)

    def summary_statistics(self) -> list[tuple[str, Any]]:
        """What stands above the table, as names and values: how many data and parameters, and how well they fit."""
        return self._answer().statistics(self)
