"""The minimisers that `minimize.py` compares, each told one tolerance and stopped from outside."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.optimize
from problem_set import Function

import descend

Array = np.ndarray[Any, np.dtype[Any]]

GTOL, MOST = 1e-5, 2000
"""The gradient's largest entry at which a function is solved, and the evaluations after which it counts as missed."""


class Enough(Exception):
    """Ends a minimiser from outside."""


class Watch:
    """Counts the evaluations of a function, and ends its minimiser when it is solved or too expensive."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self.count = 0
        self.solved: int | None = None

    def __call__(self, x: Array) -> tuple[float, Array]:
        self.count += 1
        x = np.asarray(x, dtype=float)
        f, g = self.function.value_and_gradient(x)
        if self.solved is None and math.isfinite(f) and self._residual(x, g) <= GTOL:
            self.solved = self.count
            raise Enough
        if self.count >= MOST:
            raise Enough
        return f, g

    def _residual(self, x: Array, g: Array) -> float:
        """The gradient's largest entry or, with bounds, how far a step along it would lead within them."""
        if self.function.ends is None:
            return float(np.max(np.abs(g)))
        lower, upper = self.function.ends
        outside = np.any(x < lower) or np.any(x > upper)
        return math.inf if outside else float(np.max(np.abs(np.clip(-g, lower - x, upper - x))))


Contender = Callable[[Watch, Array], Any]


def by_descend(method: Any) -> Contender:
    """One of descend's methods."""
    return lambda fun, x0: descend.minimize(
        fun, x0, jac=True, method=method, gtol=GTOL, history=False, bounds=fun.function.ends
    )


def by_scipy(method: str, **options: Any) -> Contender:
    """One of SciPy's methods, told to stop at nothing but the gradient."""

    def run(fun: Watch, x0: Array) -> Any:
        return scipy.optimize.minimize(
            fun,
            x0,
            jac=True,
            method=method,
            options={"maxiter": 10**6, "gtol": GTOL} | options,
            bounds=None if fun.function.ends is None else scipy.optimize.Bounds(*fun.function.ends),
        )

    return run


def by_newton_cg(fun: Watch, x0: Array) -> Any:
    """SciPy's Newton-CG, whose products with the Hessian are differences of gradients."""
    return scipy.optimize.minimize(fun, x0, jac=True, method="Newton-CG", options={"maxiter": 10**6, "xtol": 1e-300})


def by_torch(fun: Watch, x0: Array) -> Any:
    """torch.optim.LBFGS with its strong Wolfe search."""
    import torch

    x = torch.tensor(x0, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [x], max_iter=10**6, max_eval=10**6, tolerance_grad=0.0, tolerance_change=0.0, history_size=30,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> torch.Tensor:
        f, g = fun(x.detach().numpy().copy())
        x.grad = torch.from_numpy(np.array(g))
        return torch.tensor(f, dtype=torch.float64)

    optimizer.step(closure)


def by_optimistix(solver: str) -> Contender:
    """One of optimistix's minimisers; looks that it makes twice at one point are counted once."""

    def run(fun: Watch, x0: Array) -> Any:
        import jax
        import optimistix

        at, found, ended = np.full_like(x0, np.nan), (np.float64(0.0), np.zeros_like(x0)), False

        def look(point: Any) -> tuple[Any, Array]:
            nonlocal found, ended
            x = np.asarray(point)
            if not np.array_equal(x, at) and not ended:
                at[...] = x
                try:
                    f, g = fun(x)
                    found = np.float64(f), np.asarray(g, dtype=float)
                except Enough:  # JAX would print what is raised in here
                    ended, found = True, (np.float64(0.0), np.zeros_like(x0))
            return found

        jax.config.update("jax_enable_x64", True)  # for the thread that calls back, too
        shapes = jax.ShapeDtypeStruct((), np.float64), jax.ShapeDtypeStruct(x0.shape, np.float64)

        @jax.custom_jvp
        def loss(x: Any) -> Any:
            return jax.pure_callback(look, shapes, x)[0]

        @loss.defjvp
        def _(primals: Any, tangents: Any) -> Any:
            f, g = jax.pure_callback(look, shapes, *primals)
            return f, jax.numpy.vdot(g, tangents[0])

        method = getattr(optimistix, solver)(rtol=1e-300, atol=1e-300)
        start = jax.numpy.asarray(x0)
        optimistix.minimise(lambda y, _: loss(y), method, start, max_steps=MOST, throw=False)

    return run


CONTENDERS: dict[str, Contender] = {
    "descend": by_descend("auto"),
    "descend lbfgs": by_descend("lbfgs"),
    "descend bfgs": by_descend("bfgs"),
    "descend newton": by_descend("truncatednewton"),
    "descend cg": by_descend("conjugategradient"),
    "descend bb": by_descend("barzilaiborwein"),
    "L-BFGS-B 10": by_scipy("L-BFGS-B", maxcor=10, ftol=0.0, maxfun=10**6),
    "L-BFGS-B 30": by_scipy("L-BFGS-B", maxcor=30, ftol=0.0, maxfun=10**6),
    "BFGS": by_scipy("BFGS"),
    "CG": by_scipy("CG"),
    "TNC": by_scipy("TNC", ftol=0.0, xtol=0.0, maxfun=10**6),
    "Newton-CG": by_newton_cg,
    "torch LBFGS": by_torch,
    "optimistix BFGS": by_optimistix("BFGS"),
    "optimistix LBFGS": by_optimistix("LBFGS"),
}
BOUNDED = ("descend", "descend lbfgs", "descend bb", "L-BFGS-B 10", "L-BFGS-B 30", "TNC")
"""Those that keep to bounds, and are asked where there are any."""
USUAL = [name for name in CONTENDERS if name.partition(" ")[0] not in ("torch", "optimistix")]
