"""Callbacks of `minimize`: the point they are given, which is an array as in SciPy, and what their answers mean."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import optree

from descend.checks import function, shown
from descend.errors import ObjectiveError, OptionError
from descend.parameters.memory import Array
from descend.stopping import Reason

if TYPE_CHECKING:
    from descend.descent.loop import Descent

__all__ = ["Point", "asks_to_stop", "caller", "telling"]


class Counted(Protocol):
    """An objective that counts its evaluations."""

    nfev: int
    njev: int


class Point(np.ndarray):
    """What a callback of `minimize` is given: the parameters as an array, with what is known of the point.

    It is SciPy's ``xk``: for an array as `x0` the array of the parameters, for anything else all their numbers in one
    row. It is a copy, which may be kept; what is computed from it is a usual array.

    `x` and `jac` are parameters and gradient, built as `x0` was, `fun` is the loss, `gradient_norm` the gradient's
    Euclidean norm. `nit` counts steps, `nfev` and `njev` evaluations of the function and of its gradient; `seconds`
    have passed.
    """

    x: Any
    fun: float
    jac: Any
    gradient_norm: float
    nit: int
    nfev: int
    njev: int
    seconds: float

    def __new__(cls, x: Any, **known: Any) -> Point:
        point = _as_row(x).view(cls)
        vars(point).update(x=x, **known)
        return point

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """The same of usual arrays: what is computed from a point is none."""
        if "out" in options:
            options["out"] = tuple(_usual(one) for one in options["out"])
        return getattr(ufunc, method)(*(_usual(one) for one in inputs), **options)

    def __array_function__(self, function: Any, _types: Any, arguments: Any, options: Any) -> Any:
        """The same of usual arrays, for NumPy's other functions."""
        return function(*_usual(arguments), **_usual(options))

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, str):
            return _usual(self)[key]
        if key not in vars(self):
            raise KeyError(key)
        return vars(self)[key]

    def __float__(self) -> float:
        return float(self.item())

    def __repr__(self) -> str:
        known = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"Point({known or _usual(self)!r})"

    def copy(self, order: Any = "C") -> Any:
        """The parameters as a usual array."""
        return _usual(self).copy(order)

    def __copy__(self) -> Point:
        return Point(**vars(self)) if vars(self) else self.copy().view(Point)

    def __deepcopy__(self, memo: Any) -> Point:
        return Point(**copy.deepcopy(vars(self), memo)) if vars(self) else self.copy().view(Point)

    def __reduce__(self) -> Any:
        return (_point, (vars(self),)) if vars(self) else super().__reduce__()


def _point(known: dict[str, Any]) -> Point:
    return Point(**known)


def _usual(value: Any) -> Any:
    """A value with usual arrays in place of points, in lists, tuples and dicts, too."""
    if isinstance(value, Point):
        return value.view(np.ndarray)
    if type(value) in (list, tuple):
        return type(value)(_usual(one) for one in value)
    return {name: _usual(one) for name, one in value.items()} if type(value) is dict else value


def _as_row(x: Any) -> Array:
    """The numbers of parameters as an array: their own, or one row of all."""
    if type(x) is np.ndarray and x.ndim:
        return x
    return np.concatenate([np.ravel(np.asarray(leaf)) for leaf in optree.tree_leaves(x, none_is_leaf=True)])


def caller(callback: Callable[..., Any]) -> Callable[[Point], Any]:
    """What calls a callback with a point, as its parameters ask; raises `OptionError` if it can't be called so.

    As in SciPy, one whose only parameter is named ``intermediate_result`` is given a `scipy.optimize.OptimizeResult`.
    """
    function("callback", callback)
    try:
        signature = inspect.signature(callback)
    except (TypeError, ValueError):  # some that are written in C do not tell
        return callback
    if set(signature.parameters) == {"intermediate_result"}:
        return lambda point: callback(intermediate_result=_whole(point))
    try:
        signature.bind(None)
    except TypeError:
        raise OptionError(
            f"callback={shown(callback)} takes {signature}, and is called with one argument, the point; "
            "write callback(xk), which has xk.fun, xk.jac and xk.nit, too, or callback(*, intermediate_result)"
        ) from None
    return callback


def _whole(point: Point) -> Any:
    from scipy.optimize import OptimizeResult

    return OptimizeResult(vars(point))


def asks_to_stop(answer: Any) -> bool:
    """Whether a callback's answer asks to stop: True, also NumPy's or a tensor's. Any other value is not looked at."""
    if isinstance(answer, (bool, np.bool_)):
        return bool(answer)
    kind = str(getattr(answer, "dtype", "")).rpartition(".")[2]
    return kind == "bool" and math.prod(answer.shape) == 1 and bool(answer)


def telling(callback: Callable[..., Any], objective: Counted) -> Callable[[Descent], Reason | None]:
    """What tells a callback of each point, and asks it whether to stop."""
    call = caller(callback)

    def each(descent: Descent) -> Reason | None:
        point = Point(
            x=descent.memory.result(),
            fun=descent.point.loss,
            jac=descent.memory.gradient([g.copy() for g in descent.point.grad]),
            gradient_norm=descent.norm,
            nit=descent.steps,
            nfev=objective.nfev,
            njev=objective.njev,
            seconds=descent.seconds,
        )
        try:
            return Reason.CALLBACK if asks_to_stop(descent.interrupts.call(call, point)) else None
        except StopIteration:
            return Reason.CALLBACK
        except Exception as error:
            raise ObjectiveError(f"callback raised {type(error).__name__}: {error} (at step {point.nit})") from error

    return each
