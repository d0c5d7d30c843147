"""The reference engine: the rule itself on NumPy arrays, the oracle of every other engine."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np

from descend.engines.arrays import Gradients, as_parameters
from descend.engines.protocol import Capabilities
from descend.parameters.memory import Array, Memory
from descend.rules import Rule
from descend.rules.formula import Formula, Part, check_state, scale_of, starting_state
from descend.rules.tracing import can_be_split

__all__ = ["Reference", "run"]

BLOCK = 16_384
"""Elements taken at a time: the temporaries of a step are this long at most, and stay in cache."""


class Reference:
    """Runs a rule over NumPy arrays, in place.

    Parameters
    ----------
    rule
        The rule to run. It may be replaced between steps by one with other numbers, such as another `lr`.
    params
        Arrays of float32 or float64, of any shape and layout, no two of which share memory. They are updated in place
        by `step`.

    Attributes
    ----------
    state
        For each parameter, the arrays that the rule keeps, by name; of the parameter's type and shape.
    carried
        The carried numbers of the rule.
    steps
        How many steps were done.

    Beside the state, a step needs memory for a few blocks of 16,384 numbers, however large the arrays are (for an array
    that is not contiguous: a few of its own size). A gradient of another type is first rounded to its parameter's.

    Examples
    --------
    >>> import numpy as np, descend
    >>> w = np.array([1.0, 2.0])
    >>> engine = descend.engines.Reference(descend.GD(lr=0.5), [w])
    >>> engine.step([np.array([2.0, -2.0])])
    >>> w
    array([0., 3.])
    """

    can: ClassVar[Capabilities] = Capabilities("NumPy", ("float32", "float64"))

    def __init__(self, rule: Rule, params: Sequence[Array]) -> None:
        self._rule, self._formula = rule, Formula.of(rule)
        self._splits = can_be_split(rule)
        """Whether the formula is known to be elementwise, whatever the numbers of a step are."""
        self.params = list(params)
        self._arrays = as_parameters(self.params)
        start = starting_state(rule)
        self.state: list[dict[str, Array]] = [
            {name: np.full_like(p, number) for name, number in start.items()} for p in self._arrays
        ]
        self.carried = dict(rule.starting())
        self.steps = 0
        self._gradients = self._reader()

    @property
    def rule(self) -> Rule:
        """The rule that the next step runs."""
        return self._rule

    @rule.setter
    def rule(self, rule: Rule) -> None:
        check_state(rule, self._formula.kept)
        if type(rule) is not type(self._rule) or rule.flags != self._rule.flags:
            self._splits = can_be_split(rule)
        self._adopt(rule)
        self._rule = rule

    def _adopt(self, rule: Rule) -> None:
        """Make ready to step by another rule that keeps the same state."""
        self._formula = Formula.of(rule)

    def step(self, grads: Sequence[Array]) -> None:
        """One step of every parameter along its gradient, in place; all of them or, on an error, none."""
        ready = self.ready(grads)
        row, after = self.rule.advance(self.steps + 1, self.carried)
        self.apply(ready, row)
        self.steps += 1
        self.carried = dict(after)

    def ready(self, grads: Sequence[Array]) -> list[Array]:
        """The gradients as `apply` takes them; raises `ParameterError` if they do not fit."""
        return self._gradients(grads)

    def apply(self, grads: Sequence[Array], row: Any) -> None:
        """Step by a row of scalars, as one of `Rule.advance`; the count and the carried numbers stay."""
        formula = self._formula
        splits = self._splits or can_be_split(self._rule, row)
        for p, g, state in zip(self._arrays, grads, self.state, strict=True):
            kept = [*state.values()]
            parts = _blocks(p, g, kept) if splits else [(p, g, kept)]
            mine = formula.reduced(row, parts, functools.partial(_scale, size=p.size)) if row.cautious else row
            for p_run, g_run, kept_run in parts:
                new = formula.step(p_run, g_run, kept_run, mine, copy=np.copy)
                for old, value in zip((p_run, *kept_run), new, strict=True):
                    old[...] = value

    def move(self, params: Sequence[Array]) -> None:
        """Go on with other arrays of the same shapes and types, which hold the parameters now."""
        self.params = list(params)
        self._arrays = as_parameters(self.params)
        self._gradients = self._reader()

    def _reader(self) -> Gradients:
        return Gradients(self._arrays, self._written())

    def _written(self) -> list[Array]:
        """All arrays that a step writes."""
        return [*self._arrays, *(array for state in self.state for array in state.values())]


def _blocks(p: Array, g: Array, kept: list[Array]) -> list[Part]:
    """A parameter, its gradient and its state in runs that stay in cache."""
    if p.size <= BLOCK or not all(a.flags.c_contiguous for a in (p, g, *kept)):
        return [(p, g, kept)]
    p, g, *kept = (a.reshape(-1) for a in (p, g, *kept))
    runs = [slice(start, start + BLOCK) for start in range(0, p.size, BLOCK)]
    return [(p[run], g[run], [array[run] for array in kept]) for run in runs]


def _scale(masks: Iterable[Any], size: int) -> Any:
    """What a cautious step of an array of so many entries multiplies by, from the masks of its blocks."""
    return scale_of(sum(map(np.count_nonzero, masks)), size)


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
