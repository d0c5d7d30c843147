"""The reference engine: the rule itself on NumPy arrays, the oracle of every other engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from descend.errors import ParameterError
from descend.parameters.memory import Array, Memory
from descend.rules import Rule, cautious_mask, cautious_scale, step

__all__ = ["Reference"]

BLOCK = 16_384
"""Elements taken at a time: the temporaries of a step are this long at most, and stay in cache."""


class Reference:
    """Runs a rule over NumPy arrays, in place.

    Parameters
    ----------
    rule
        The rule to run.
    params
        Arrays of float32 or float64, of any shape and layout. They are updated in place by `step`.

    State has the dtype and shape of its parameter. Beside the state, a step needs memory for a few blocks of
    16,384 numbers, however large the arrays are (for an array that is not contiguous: a few of its own size).

    Examples
    --------
    >>> import numpy as np, descend
    >>> w = np.array([1.0, 2.0])
    >>> engine = descend.engines.Reference(descend.GD(lr=0.5), [w])
    >>> engine.step([np.array([2.0, -2.0])])
    >>> w
    array([0., 3.])
    """

    def __init__(self, rule: Rule, params: Sequence[Array]) -> None:
        self.rule = rule
        self.params = list(params)
        for i, p in enumerate(self.params):
            if not isinstance(p, np.ndarray) or p.dtype not in (np.float32, np.float64) or not p.flags.writeable:
                raise ParameterError(f"params[{i}] is {p!r}: a writeable NumPy array of float32 or float64 is needed")
        self.state: list[dict[str, Array]] = [
            {name: np.full_like(p, rule.initial(name)) for name in rule.kept_state()} for p in self.params
        ]
        self.carried = dict(rule.starting())
        self.steps = 0

    def step(self, grads: Sequence[Array]) -> None:
        """One step of every parameter along its gradient, in place; all of them or, on a bad gradient, none."""
        self._check(grads)
        row, after = self.rule.advance(self.steps + 1, self.carried)
        self.steps += 1
        self.carried = dict(after)
        for p, g, state in zip(self.params, grads, self.state, strict=True):
            self._update(p, g, [state.get(name) for name in self.rule.state], row)

    def _check(self, grads: Sequence[Array]) -> None:
        if len(grads) != len(self.params):
            raise ParameterError(f"{len(grads)} gradients for {len(self.params)} parameters: give one for each")
        for p, g in zip(self.params, grads, strict=True):
            if p.shape != g.shape:
                raise ParameterError(f"a gradient of shape {g.shape} for a parameter of shape {p.shape}")

    def _update(self, p: Array, g: Array, state: list[Array | None], row: Any) -> None:
        blocks = [(p, g, state)]
        if p.size > BLOCK and all(a.flags.c_contiguous for a in (p, g, *state) if a is not None):
            p, g = p.reshape(-1), g.reshape(-1)
            state = [None if b is None else b.reshape(-1) for b in state]
            parts = [slice(start, start + BLOCK) for start in range(0, p.size, BLOCK)]
            blocks = [(p[part], g[part], [None if b is None else b[part] for b in state]) for part in parts]
        if row.cautious and p.size:
            moved = sum(
                np.count_nonzero(cautious_mask(type(self.rule), p, g, tuple(state), row)) for p, g, state in blocks
            )
            row = row._replace(cautious_scale=cautious_scale(moved / p.size))
        for block in blocks:
            self._write(*block, row)

    def _write(self, p: Array, g: Array, state: list[Array | None], row: Any) -> None:
        new_p, *new_state = step(type(self.rule), p, g, tuple(state), row)
        p[...] = new_p
        for old, new in zip(state, new_state, strict=False):
            if old is not None:
                old[...] = new


def run(rule: Rule, params: Any, grads: Sequence[Any]) -> Any:
    """Apply a rule to a container of parameters, once for each gradient in `grads`; returns the new container.

    `params` is an array, a number, or any nesting of dicts, lists and tuples of them; each gradient is built the same
    way. The parameters passed in are left as they are.

    >>> import descend
    >>> descend.engines.run(descend.GD(lr=0.5), {"w": [1.0, 2.0], "b": 0.0}, [{"w": [2.0, -2.0], "b": 1.0}])
    {'w': [0.0, 3.0], 'b': -0.5}
    """
    memory = Memory(params, "params")
    grad = memory.like()
    engine = Reference(rule, memory.vectors)
    for given in grads:
        memory.gather(given, grad, "grads")
        engine.step(grad)
    return memory.result()
