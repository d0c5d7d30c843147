"""The tensor engine without an optimizer: a rule over PyTorch tensors, as the other engines run it over arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch

from descend.engines.memory import Intervals
from descend.engines.protocol import Capabilities
from descend.engines.torch.compiled import compiled_step
from descend.engines.torch.foreach import foreach_step
from descend.engines.torch.memory import alike, dense, extent, sharing
from descend.engines.torch.tensors import tensor_step
from descend.errors import OptionError, ParameterError
from descend.rules import Rule
from descend.rules.formula import check_state, starting_state

__all__ = ["WAYS", "Torch"]

Way = Literal["tensor", "foreach", "compiled"]


class Torch:
    """Runs a rule over PyTorch tensors, in place, on the device where they are.

    `descend.optim` is the same rule as an optimizer of PyTorch's, with its groups, hooks and checkpoints, and chooses
    the way itself. This engine is what it comes to for one rule, for experiments and tests.

    Parameters
    ----------
    rule
        The rule to run. It may be replaced between steps by one with other numbers, such as another `lr`.
    params
        Floating-point or complex tensors, no two of which share memory. They are updated in place by `step`.
    way
        How: ``"tensor"``, one tensor and one operation after the other; ``"foreach"``, each operation on all tensors at
        once; ``"compiled"``, by code of `torch.compile`, for real, dense tensors and rules that are not cautious.

    Attributes
    ----------
    state
        For each parameter, the tensors that the rule keeps, by name; of the parameter's type and shape, but of float32
        where that has 16 bits.
    carried
        The carried numbers of the rule.
    steps
        How many steps were done.

    Examples
    --------
    >>> import torch, descend
    >>> w = torch.tensor([1.0, 2.0])
    >>> engine = descend.engines.Torch(descend.GD(lr=0.5), [w])
    >>> engine.step([torch.tensor([2.0, -2.0])])
    >>> w
    tensor([0., 3.])
    """

    can: Capabilities
    """What this engine takes; it depends on the way."""

    def __init__(self, rule: Rule, params: Sequence[torch.Tensor], way: Way = "tensor") -> None:
        if way not in WAYS:
            raise OptionError(f"Torch(way={way!r}): way must be one of {', '.join(WAYS)}")
        self._step, self.can = WAYS[way]
        self.rule = rule
        self.params = list(params)
        for i, p in enumerate(self.params):
            if not isinstance(p, torch.Tensor) or str(p.dtype).removeprefix("torch.") not in self.can.dtypes:
                raise ParameterError(f"params[{i}] is {p!r}: a tensor of {', '.join(self.can.dtypes)} is needed")
            if self.can.layouts == "dense" and not dense(p):
                raise ParameterError(
                    f"params[{i}] has strides {p.stride()}: one without gaps is needed, or another way"
                )
        _check_apart(self.params)
        start = starting_state(rule)
        self.state: list[dict[str, torch.Tensor]] = [
            {name: _full_like(p, number) for name, number in start.items()} for p in self.params
        ]
        self.carried = dict(rule.starting())
        self.steps = 0

    def step(self, grads: Sequence[torch.Tensor]) -> None:
        """One step of every parameter along its gradient, in place; all of them or, on an error, none."""
        self._check(grads)
        row, after = self.rule.advance(self.steps + 1, self.carried)
        with torch.no_grad():
            self._step(self.rule, row, [p.detach() for p in self.params], self._apart(grads), self.state)
        self.steps += 1
        self.carried = dict(after)

    def _apart(self, grads: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The gradients, none of which is changed by an earlier parameter's step."""
        written = [*self.params, *(t for kept in self.state for t in kept.values())]
        intervals = Intervals(filter(None, map(extent, written)))
        found = [_outside(g, intervals) if g is not p else g for g, p in zip(grads, self.params, strict=True)]
        if self.can.layouts == "dense":
            found = [
                g if alike(g, p) else torch.empty_like(p).copy_(g) for g, p in zip(found, self.params, strict=True)
            ]
        return found

    def _check(self, grads: Sequence[torch.Tensor]) -> None:
        if self.rule.cautious and not self.can.cautious:
            raise ParameterError(
                f"{self.rule!r} is cautious, which this way cannot be: choose another, such as foreach"
            )
        if self.state:
            check_state(self.rule, self.state[0])
        if len(grads) != len(self.params):
            raise ParameterError(f"{len(grads)} gradients for {len(self.params)} parameters: give one for each")
        for i, (p, g) in enumerate(zip(self.params, grads, strict=True)):
            if not isinstance(g, torch.Tensor) or g.is_complex() > p.is_complex() or g.dtype is torch.bool:
                raise ParameterError(f"gradient {i} is {g!r}: a tensor of numbers like the parameter's is needed")
            if p.shape != g.shape:
                raise ParameterError(f"a gradient of shape {(*g.shape,)} for a parameter of shape {(*p.shape,)}")


def _outside(g: torch.Tensor, written: Intervals) -> torch.Tensor:
    lies = extent(g)
    return g.clone() if lies is not None and written.meets(*lies) else g


def _check_apart(params: Sequence[torch.Tensor]) -> None:
    """Raise `ParameterError` if two parameters may share memory."""
    if (pair := sharing(params)) is not None:
        raise ParameterError(f"params[{min(pair)}] and params[{max(pair)}] share memory: pass a copy of one of them")


def _full_like(p: torch.Tensor, number: float) -> torch.Tensor:
    dtype = torch.promote_types(p.dtype, torch.float32)  # averages of squares vanish in 16 bits
    return torch.full_like(p.detach(), complex(number, number) if p.is_complex() else number, dtype=dtype)


def _each(step: Callable[..., None]) -> Callable[..., None]:
    """A step of one tensor, made for one after the other."""

    def steps(rule: Rule, row: Any, params: Any, grads: Any, states: Sequence[Mapping[str, Any]]) -> None:
        for p, g, state in zip(params, grads, states, strict=True):
            step(rule, row, p, g, state)

    return steps


_ANY = Capabilities(
    "PyTorch", ("float16", "bfloat16", "float32", "float64", "complex64", "complex128"), devices="any", exact=False
)
WAYS: dict[str, tuple[Callable[..., None], Capabilities]] = {
    "tensor": (_each(tensor_step), _ANY),
    "foreach": (foreach_step, _ANY),
    "compiled": (
        _each(compiled_step),
        dataclasses.replace(_ANY, dtypes=_ANY.dtypes[:4], layouts="dense", compiled=True, cautious=False),
    ),
}
"""Each way: what steps lists of tensors, and what it can."""
