"""How far a finite difference goes: from the size of each parameter and the error of what is differenced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from descend.checks import refuse

if TYPE_CHECKING:
    from descend.parameters.memory import Array

__all__ = ["SCHEMES", "exact_steps", "given_steps", "step_sizes", "typical_sizes"]

SCHEMES = {"2-point": 1 / 2, "3-point": 1 / 3}
"""Of each scheme, the power of the relative error of a value that its best step is, relative to the parameter.

It balances the error of a value, divided by the step, with what the scheme leaves out of Taylor's series (Gill, Murray
and Wright 1981, section 8.6.1)."""


def typical_sizes(x: Array, bounds: tuple[Array, Array] | None = None) -> Array:
    """How large each parameter is: its absolute value or, for a zero, what the others and its bounds suggest.

    A zero has no size of its own. It takes the median of the other entries, if that is below 1, or else 1, and no more
    than a tenth of the room between its bounds: a step that is too short can be seen to be, and one that is too long
    may lead anywhere.
    """
    sizes = np.abs(x).astype(np.float64)
    zero = sizes == 0.0
    if zero.any():
        others = sizes[~zero]
        sizes[zero] = min(1.0, float(np.median(others))) if others.size else 1.0
        if bounds is not None:
            room = 0.1 * (np.asarray(bounds[1], float) - np.asarray(bounds[0], float))
            sizes[zero] = np.minimum(sizes, np.where(room > 0.0, room, np.inf))[zero]
    return sizes


def step_sizes(x: Array, scale: Array | None = None, eps: float | None = None, scheme: str = "2-point") -> Array:
    """The steps of a finite difference in each parameter, positive and exact: (x + step) − x is the step.

    Parameters
    ----------
    x
        The point, a vector.
    scale
        The size of each parameter; `typical_sizes` of the point by default.
    eps
        The relative error of the values that are differenced; by default the spacing of the floats of `x`.
    scheme
        ``"2-point"`` (forward differences, whose step is √eps · scale) or ``"3-point"`` (central ones, ∛eps · scale).

    Returns
    -------
    ndarray
        A step for each parameter, in float64; no less than a few units in the last place of `x`.

    >>> import numpy as np
    >>> [f"{step:.1e}" for step in step_sizes(np.array([5e-4, 1e-9, -300.0]))]
    ['7.5e-12', '1.5e-17', '4.5e-06']
    """
    x = np.asarray(x)
    spacing = np.finfo(x.dtype if x.dtype.kind == "f" else np.float64).eps
    sizes = typical_sizes(x) if scale is None else scale
    steps = (spacing if eps is None else eps) ** SCHEMES[scheme] * sizes
    return exact_steps(x, np.maximum(steps, 4.0 * spacing * np.abs(x)))


def exact_steps(x: Array, steps: Array) -> Array:
    """Steps as the floats of `x` can make them."""
    rounded: Array = (x + steps.astype(x.dtype)) - x if x.dtype.kind == "f" else steps
    return rounded.astype(np.float64)


def given_steps(x: Array, scheme: str, relative: Any = None, absolute: Any = None) -> Array:
    """The steps that a user asks for as SciPy has them, with their signs: relative to each parameter, or absolute.

    A relative step is ``relative · |x|`` in the direction of x; where that does not change x, as at zero, it is the
    usual one of SciPy's, for max(1, |x|). Raises `OptionError` for steps that are zero or not finite, and for neither
    one number nor one for each parameter.
    """
    name, value = ("eps", absolute) if relative is None else ("finite_diff_rel_step", relative)
    try:
        steps = np.broadcast_to(np.ravel(np.asarray(value, dtype=np.float64)), x.shape)
    except (TypeError, ValueError):
        steps = np.zeros(1)
    if not np.all((steps != 0.0) & np.isfinite(steps)):
        raise refuse(name, value, "a number other than 0", otherwise=f"one for each of the {x.size} parameters")
    sign = np.where(x < 0.0, -1.0, 1.0)
    steps = steps * (1.0 if relative is None else sign * np.abs(x))
    usual = np.finfo(x.dtype).eps ** SCHEMES[scheme] * np.maximum(1.0, np.abs(x))
    return np.where(exact_steps(x, steps) == 0.0, sign * usual, steps)
