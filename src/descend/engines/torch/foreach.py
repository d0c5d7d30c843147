"""The tensor engine, many tensors at a time: each operation of a rule's formula is one call for all of them.

On another device than the CPU a call takes longer than a small tensor's arithmetic, so PyTorch has operations on lists
of tensors, named ``torch._foreach_…``. `Tensors` is such a list with the operators of a tensor, and with NumPy's
protocols, through which `descend.rules.maths` reaches it: a formula cannot tell it from one tensor.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from descend.engines.torch.tensors import arithmetic, as_real
from descend.rules import Rule, maths
from descend.rules.formula import Formula, scale_of

__all__ = ["Tensors", "foreach_step"]


def foreach_step(
    rule: Rule,
    row: Any,
    params: Sequence[torch.Tensor],
    grads: Sequence[torch.Tensor],
    states: Sequence[Mapping[str, torch.Tensor]],
) -> None:
    """What `tensor_step` does to one tensor, to many at once; needs memory for copies of all of them.

    Nothing is changed if it raises.
    """
    formula = Formula.of(rule)
    states_in_order = [[state[name] for name in formula.kept] for state in states]
    found = list(map(as_real, params, grads, states_in_order))
    old = list(zip(*(arrays for arrays, _ in found), strict=True))
    wide = list(map(arithmetic, params))
    values, *kept = (Tensors(map(torch.Tensor.to, column, wide)) for column in old)
    g = Tensors(map(torch.Tensor.to, [g for _, g in found], wide))

    def scale(masks: Any) -> Tensors:
        counts = [torch.stack([t.count_nonzero() for t in mask]).tolist() for mask in masks]
        return Tensors(map(scale_of, map(sum, zip(*counts, strict=True)), [t.numel() for t in values]))

    row = formula.reduced(row, [(values, g, kept)], scale)
    for targets, value in zip(old, formula.step(values, g, kept, row, copy=_clone), strict=True):
        torch._foreach_copy_(targets, value)


class Tensors(tuple[Any, ...]):
    """Tensors, or one number for each of them, with a tensor's operators and those functions that `maths` has."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        return self.__array_function__(ufunc, (), inputs, options) if method == "__call__" else NotImplemented

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        known = _FUNCTIONS.get(function)
        return NotImplemented if known is None or options else known(*args)


def _clone(tensors: Tensors) -> Tensors:
    return Tensors(map(torch.clone, tensors))


def _each(function: Callable[..., Any]) -> Callable[..., Tensors]:
    """A function of tensors, called for one after the other; what is not `Tensors` is the same for all."""

    def call(*args: Any) -> Tensors:
        number = max(len(a) for a in args if isinstance(a, Tensors))
        columns = [a if isinstance(a, Tensors) else [a] * number for a in args]
        return Tensors(map(function, *columns))

    return call


def _at_once(function: Callable[..., Any], alone: Callable[..., Any]) -> Callable[..., Tensors]:
    """A function that PyTorch has for lists, whose first argument must be one; or else `alone`, for each."""
    each = _each(alone)

    def call(first: Any, *rest: Any) -> Tensors:
        tensors = isinstance(first, Tensors) and all(isinstance(t, torch.Tensor) for t in first)
        return Tensors(function(first, *rest)) if tensors else each(first, *rest)

    return call


_ARITHMETIC: dict[str, Callable[..., Tensors]] = {
    "add": _at_once(torch._foreach_add, operator.add),
    "sub": _at_once(torch._foreach_sub, operator.sub),
    "mul": _at_once(torch._foreach_mul, operator.mul),
    "truediv": _at_once(torch._foreach_div, operator.truediv),
    **{name: _each(getattr(operator, name)) for name in ("pow", "and_", "or_", "lt", "le", "gt", "ge", "eq", "ne")},
}
_FUNCTIONS: dict[Any, Callable[..., Tensors]] = {
    np.sqrt: _at_once(torch._foreach_sqrt, maths.sqrt),
    np.absolute: _at_once(torch._foreach_abs, maths.absolute),
    **{getattr(np, name): _each(getattr(maths, name)) for name in ("sign", "maximum", "minimum", "clip", "where")},
}


def _give_operators() -> None:
    """Let `Tensors` have its operators, from both sides."""
    for name, function in _ARITHMETIC.items():
        spelled = name.rstrip("_")
        setattr(Tensors, f"__{spelled}__", lambda x, y, function=function: function(x, y))
        setattr(Tensors, f"__r{spelled}__", lambda x, y, function=function: function(y, x))
    for name in ("neg", "abs", "invert"):
        setattr(Tensors, f"__{name}__", _each(getattr(operator, name)))


_give_operators()
