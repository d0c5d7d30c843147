"""Many runs stepped together, each by its own rule: by the reference engine, or in one call of machine code."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import ClassVar

from descend.engines.arrays import Gradients, as_parameters
from descend.engines.native.engine import ArraySpans
from descend.engines.native.layout import GRAD
from descend.engines.protocol import Capabilities
from descend.engines.reference import Reference
from descend.errors import ParameterError
from descend.parameters.memory import Array
from descend.rules import Rule

__all__ = ["FusedStack", "Stack", "difference"]


def difference(rules: Sequence[Rule]) -> str | None:
    """Why these rules cannot step in one stack: kind, flags or state differ; None if they can."""
    for first, rule in itertools.pairwise(rules):
        if type(rule) is not type(first):
            return f"the rules differ in kind: {type(first).__name__} and {type(rule).__name__}"
        for (name, one), (_, other) in zip(first.flags, rule.flags, strict=True):
            if one != other:
                return f"the rules differ in {name.replace('_', ' ')}: {one} and {other}"
        if rule.kept_state() != first.kept_state():
            kept = [", ".join(r.kept_state()) or "none" for r in (first, rule)]
            return f"the rules differ in the state that they keep: {kept[0]} and {kept[1]}"
    return None


class Stack:
    """Runs that step together, in place: row r of every array by ``rules[r]``.

    Parameters
    ----------
    rules
        One rule for each run, between which there is no `difference`.
    params
        Arrays of shape ``(runs, …)``, of float32 or float64; they are updated by `step`.
    grads
        Arrays of the same shapes, in which each step finds the gradients.

    Examples
    --------
    >>> import numpy as np, descend
    >>> from descend.engines.stacked import Stack
    >>> w, g = np.array([[1.0, 2.0], [1.0, 2.0]]), np.ones((2, 2))
    >>> Stack([descend.GD(lr=0.5), descend.GD(lr=1.0)], [w], [g]).step()
    >>> w
    array([[0.5, 1.5],
           [0. , 1. ]])
    """

    can: ClassVar[Capabilities] = Reference.can

    def __init__(self, rules: Sequence[Rule], params: Sequence[Array], grads: Sequence[Array]) -> None:
        differs = difference(rules)
        if differs is not None:
            raise ParameterError(f"rules: {differs}; runs in one stack differ in numbers alone")
        plain = as_parameters(params)
        self.runs = [Reference(rule, _rows(plain, r, len(rules), "params")) for r, rule in enumerate(rules)]
        self._find(grads)

    @property
    def steps(self) -> int:
        """How many steps were done."""
        return self.runs[0].steps if self.runs else 0

    @property
    def carried(self) -> list[dict[str, float]]:
        """The carried numbers of each run."""
        return [run.carried for run in self.runs]

    @property
    def state(self) -> list[list[dict[str, Array]]]:
        """For each run the state of its parameters, as `Reference` has it."""
        return [run.state for run in self.runs]

    def keep(self, rows: Sequence[int], params: Sequence[Array], grads: Sequence[Array]) -> None:
        """Go on with these runs alone, whose parameters and gradients are the rows of other arrays now."""
        self.runs = [self.runs[row] for row in rows]
        plain = as_parameters(params)
        for r, run in enumerate(self.runs):
            run.move(_rows(plain, r, len(self.runs), "params"))
        self._find(grads)

    def step(self) -> None:
        """One step of every run along its gradient; all of them or, on an error, none."""
        ready = iter(self._read(self.grads))
        found = [run.rule.advance(run.steps + 1, run.carried) for run in self.runs]
        for run, (row, _) in zip(self.runs, found, strict=True):
            run.apply(list(itertools.islice(ready, len(run.params))), row)
        for run, (_, after) in zip(self.runs, found, strict=True):
            run.steps += 1
            run.carried = dict(after)

    def _find(self, grads: Sequence[Array]) -> None:
        """Take note of where each run's parameters and gradients are: one after the other, run by run."""
        self.grads = [g for r in range(len(self.runs)) for g in _rows(grads, r, len(self.runs), "grads")]
        params = [p for run in self.runs for p in run.params]
        state = [array for run in self.runs for kept in run.state for array in kept.values()]
        self._read = Gradients(params, [*params, *state], packed=self.can.compiled)


def _rows(arrays: Sequence[Array], r: int, runs: int, what: str) -> list[Array]:
    """Row r of each array, as an array of one row."""
    for i, array in enumerate(arrays):
        if len(array) != runs:
            raise ParameterError(f"{what}[{i}] has {len(array)} rows for {runs} runs: give one for each")
    return [array[r : r + 1] for array in arrays]


class FusedStack(Stack):
    """A `Stack` whose runs step in one call of machine code made from the rule; raises `Unavailable` without.

    Gives the same numbers, bit for bit, but that numbers below the normal range are flushed to zero.
    """

    can: ClassVar[Capabilities] = Capabilities("NumPy", ("float32", "float64"), compiled=True)
    _carried: Sequence[Mapping[str, float]]
    """The carried numbers of each row of scalars."""
    _row: list[int]
    """Which row is each run's."""
    _spans: list[tuple[ArraySpans, list[int]]]
    """What steps the parameters of each dtype, and their places among all."""
    _pointed: list[Array]
    """The gradients that the spans point to."""

    def step(self) -> None:
        """One step of every run along its gradient; all of them or, on an error, none."""
        ready = self._read(self.grads)
        if ready is not self._pointed:
            self._point(ready)
        after = self._carried
        for spans, _ in self._spans:
            after = spans.fill(self._steps + 1, self._carried)
        for spans, _ in self._spans:
            spans.run()
        self._steps += 1
        self._carried = after

    @property
    def steps(self) -> int:
        """How many steps were done."""
        return self._steps

    @property
    def carried(self) -> list[dict[str, float]]:
        """The carried numbers of each run."""
        return [dict(self._carried[row]) for row in self._row]

    def keep(self, rows: Sequence[int], params: Sequence[Array], grads: Sequence[Array]) -> None:
        """Go on with these runs alone, whose parameters and gradients are the rows of other arrays now."""
        for run, carried in zip(self.runs, self.carried, strict=True):
            run.steps, run.carried = self.steps, carried
        super().keep(rows, params, grads)

    def _find(self, grads: Sequence[Array]) -> None:
        super()._find(grads)
        # Runs that differ in their seed alone share a row of scalars.
        firsts: list[Reference] = []
        self._row = []
        for run in self.runs:
            row = next((k for k, first in enumerate(firsts) if first.rule == run.rule), len(firsts))
            firsts += [run] if row == len(firsts) else []
            self._row.append(row)
        self._steps = super().steps
        self._carried = [first.carried for first in firsts]
        params = self.runs[0].params
        groups = [
            [i for i, p in enumerate(params) if p.dtype == dtype] for dtype in dict.fromkeys(p.dtype for p in params)
        ]
        self._spans = [self._lay_out([first.rule for first in firsts], group) for group in groups]
        self._point(self._read(self.grads))

    def _lay_out(self, rules: Sequence[Rule], group: Sequence[int]) -> tuple[ArraySpans, list[int]]:
        """The spans of some parameters of every run, and their places among those of all."""
        which = [(r, i) for r in range(len(self.runs)) for i in group]
        params = [self.runs[r].params[i] for r, i in which]
        kept = [[self.runs[r].state[i][name] for r, i in which] for name in rules[0].kept_state()]
        many = len(self.runs[0].params)
        return ArraySpans(rules, [self._row[r] for r, _ in which], params, kept), [r * many + i for r, i in which]

    def _point(self, ready: list[Array]) -> None:
        """Let the spans find the gradients."""
        for spans, places in self._spans:
            spans.point(GRAD, [ready[place] for place in places])
        self._pointed = ready
